// Checks that the simulation catches mutations: each is applied to a copy of the sources in a temporary directory, whose
// own worker process runs seeds until one fails that passes without the mutation.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MUTATIONS, type Mutation } from './mutations.js';
import { runSeed, type SeedReport, type SeedsTask } from './seed-report.js';
import { findSystem } from './systems.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = ['config', 'gateway', 'pfa', 'replication', 'test/sim', 'package.json', 'tsconfig.json'];
const CHUNK = 10;
const OPTIONS = { operations: 200, sessions: 3, faults: 5, verbose: false };

type Verdict = { caught: true; seed: number; seeds: number; violation: string } | { caught: false; reason: string };

/** `which`: a mutation's name, the number of a rule, or `all`. Prints a line each; true when all were caught. */
export async function checkMutations(which: string, workers: number): Promise<boolean> {
  const chosen = MUTATIONS.filter(({ name }) => which === 'all' || name === which || name.startsWith(`${which}-`));
  if (chosen.length === 0) {
    process.stderr.write(`no mutation ${which}: there are all, ${MUTATIONS.map(({ name }) => name).join(', ')}\n`);
    return false;
  }
  const waiting = [...chosen];
  let missed = 0;
  const work = async (): Promise<void> => {
    for (let mutation = waiting.shift(); mutation !== undefined; mutation = waiting.shift()) {
      const startedMs = performance.now();
      const verdict = await tryMutation(mutation);
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      if (!verdict.caught) missed += 1;
      const text = verdict.caught
        ? `caught   ${mutation.name.padEnd(44)} seed ${verdict.seed}, after ${verdict.seeds} seeds, ${seconds} s: ${verdict.violation}`
        : `MISSED   ${mutation.name.padEnd(44)} ${seconds} s: ${verdict.reason}`;
      process.stdout.write(`${text}\n`);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  process.stdout.write(`\n${chosen.length - missed} of ${chosen.length} mutations caught\n`);
  return missed === 0;
}

/** A copy of the sources with the mutation in it; the caller removes it. */
export function mutatedCopy(mutation: Pick<Mutation, 'file' | 'find' | 'replace'>): string {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-mutation-'));
  for (const source of SOURCES) cpSync(join(root, source), join(directory, source), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  const path = join(directory, mutation.file);
  const text = readFileSync(path, 'utf8');
  const pieces = text.split(mutation.find);
  assert.equal(pieces.length, 2, `${mutation.file} has ${pieces.length - 1} places like the one to mutate: ${mutation.find}`);
  writeFileSync(path, pieces.join(mutation.replace));
  return directory;
}

async function tryMutation(mutation: Mutation): Promise<Verdict> {
  let directory: string;
  try {
    directory = mutatedCopy(mutation);
  } catch (error) {
    return { caught: false, reason: (error as Error).message };
  }
  const worker = fork(join(directory, 'test/sim/seeds-worker.ts'), {
    execArgv: process.execArgv,
    cwd: directory,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  try {
    return await hunt(worker, mutation);
  } finally {
    worker.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

async function hunt(worker: ChildProcess, mutation: Mutation): Promise<Verdict> {
  const { system } = mutation;
  for (let from = 1; from <= mutation.seeds; from += CHUNK) {
    const reports = await ask(worker, { system, from, count: Math.min(CHUNK, mutation.seeds - from + 1), options: OPTIONS });
    if (typeof reports === 'string') return { caught: false, reason: reports };
    for (const { seed, violations } of reports) {
      if (violations.length === 0) continue;
      const unbroken = await runSeed(findSystem(system), { ...OPTIONS, seed });
      if (unbroken.violations.length === 0) return { caught: true, seed, seeds: seed, violation: violations[0].split('\n')[0] };
    }
  }
  return { caught: false, reason: `${mutation.seeds} seeds found nothing` };
}

/** The reports of some seeds, or why there are none. */
function ask(worker: ChildProcess, task: SeedsTask): Promise<SeedReport[] | string> {
  return new Promise((resolve) => {
    let said = '';
    const heard = (chunk: Buffer): void => {
      said += chunk.toString();
    };
    const finish = (answer: SeedReport[] | string): void => {
      worker.off('exit', ended);
      worker.stderr!.off('data', heard);
      resolve(answer);
    };
    const ended = (code: number | null): void => finish(`its process ended with code ${code}: ${said.trim().slice(-500)}`);
    worker.stderr!.on('data', heard);
    worker.once('exit', ended);
    worker.once('message', (reports: SeedReport[]) => finish(reports));
    worker.send(task);
  });
}
