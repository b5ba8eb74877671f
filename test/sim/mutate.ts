// Checks that the mutations are caught: each is applied to a copy of the sources in a temporary directory. There a worker
// process runs seeds until one fails that passes without the mutation, or a unit test is run that must fail.
import assert from 'node:assert/strict';
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Edit, type Hunt, MUTATIONS, type Mutation, SEEDS_MAX } from './mutations.js';
import type { FileReport } from '../support/run-file.js';
import type { SeedReport, SeedsTask } from './seed-report.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = ['config', 'gateway', 'pfa', 'replication', 'package.json', 'tsconfig.json'];
const CHUNK = 10;
const OPTIONS = { operations: 200, sessions: 3, faults: 5, whenFull: 'slow', verbose: false } as const;
/** For so many seeds, or a unit test, to end. */
const ANSWER_MS = 90_000;

export type Verdict = { caught: true; how: string } | { caught: false; reason: string };

/** `which`: `all`, or mutations' names and numbers of rules with commas between. Prints a line each; true when all were caught. */
export async function checkMutations(which: string, workers: number): Promise<boolean> {
  const words = which.split(',');
  const chosen = MUTATIONS.filter(({ name }) => words.some((word) => word === 'all' || name === word || name.startsWith(`${word}-`)));
  if (chosen.length === 0) {
    process.stderr.write(`no mutation ${which}: there are all, ${MUTATIONS.map(({ name }) => name).join(', ')}\n`);
    return false;
  }
  const startedMs = performance.now();
  const waiting = [...chosen];
  let missed = 0;
  const work = async (): Promise<void> => {
    const control = seedsWorker(root);
    for (let mutation = waiting.shift(); mutation !== undefined; mutation = waiting.shift()) {
      const beganMs = performance.now();
      const verdict = await tryMutation(mutation, control);
      const seconds = ((performance.now() - beganMs) / 1000).toFixed(1);
      if (!verdict.caught) missed += 1;
      const name = mutation.name.padEnd(44);
      process.stdout.write(
        verdict.caught ? `caught   ${name} ${seconds} s, ${verdict.how}\n` : `MISSED   ${name} ${seconds} s: ${verdict.reason}\n`,
      );
    }
    control.kill('SIGKILL');
  };
  await Promise.all(Array.from({ length: workers }, work));
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
  process.stdout.write(`\n${chosen.length - missed} of ${chosen.length} mutations caught in ${seconds} s\n`);
  return missed === 0;
}

/** The file's text with the edit made. Throws when there is not exactly one place for it. */
export function edited(text: string, { file, find, replace }: Edit): string {
  const pieces = text.split(find);
  assert.equal(pieces.length, 2, `${file} has ${pieces.length - 1} places like the one to mutate: ${find}`);
  return pieces.join(replace);
}

/** A copy of the sources with the mutation in it, and of `tests`; the caller removes it. */
function mutatedCopy(edits: readonly Edit[], tests: readonly string[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-mutation-'));
  try {
    for (const source of [...SOURCES, ...tests]) cpSync(join(root, source), join(directory, source), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
    for (const edit of edits) {
      const path = join(directory, edit.file);
      writeFileSync(path, edited(readFileSync(path, 'utf8'), edit));
    }
    return directory;
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

/** `control`: runs seeds without the mutation. */
async function tryMutation({ edits, caughtBy }: Mutation, control: ChildProcess): Promise<Verdict> {
  let directory: string;
  try {
    directory = mutatedCopy(edits, 'test' in caughtBy ? ['test/unit', 'test/support', 'test/config'] : ['test/sim']);
  } catch (error) {
    return { caught: false, reason: (error as Error).message };
  }
  try {
    return 'test' in caughtBy ? await testFails(directory, caughtBy.test) : await hunted(directory, caughtBy, control);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function testFails(directory: string, test: string): Promise<Verdict> {
  if (!(await passes(root, test))) return { caught: false, reason: `${test} fails without the mutation` };
  return (await passes(directory, test)) ? { caught: false, reason: `${test} passes` } : { caught: true, how: `${test} fails` };
}

function passes(directory: string, test: string): Promise<boolean> {
  const child = spawn(process.execPath, [...process.execArgv, 'test/support/run-file.ts', test], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    timeout: ANSWER_MS,
  });
  let reported = '';
  child.stdio[3]?.on('data', (chunk: Buffer) => {
    reported += chunk.toString();
  });
  return new Promise((resolve) =>
    child.once('close', () => {
      const report = reported === '' ? null : (JSON.parse(reported) as FileReport);
      resolve(report?.ended === true && report.failed === 0 && report.exitCode === 0);
    }),
  );
}

function seedsWorker(directory: string): ChildProcess {
  const path = join(directory, 'test/sim/seeds-worker.ts');
  return fork(path, { execArgv: process.execArgv, cwd: directory, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
}

async function hunted(directory: string, hunt: Hunt, control: ChildProcess): Promise<Verdict> {
  const worker = seedsWorker(directory);
  try {
    return await huntWith(worker, hunt, control);
  } finally {
    worker.kill('SIGKILL');
  }
}

async function huntWith(
  worker: ChildProcess,
  { system = 'gateway', seeds = SEEDS_MAX, weights, lulls, faults, durability = 'async', protection = false, growth = false }: Hunt,
  control: ChildProcess,
): Promise<Verdict> {
  const options = { ...OPTIONS, weights, lulls, durability, protection, growth, faults: faults ?? OPTIONS.faults };
  // What protection does not end takes long to be sure of.
  const chunk = protection ? 2 : CHUNK;
  for (let from = 1; from <= seeds; from += chunk) {
    const reports = await ask(worker, { system, from, count: Math.min(chunk, seeds - from + 1), options });
    if (typeof reports === 'string') return { caught: false, reason: reports };
    for (const { seed, violations } of reports) {
      if (violations.length === 0) continue;
      const unbroken = await ask(control, { system, from: seed, count: 1, options });
      if (typeof unbroken === 'string') return { caught: false, reason: unbroken };
      if (unbroken[0].violations.length === 0) return { caught: true, how: `seed ${seed}: ${violations[0].split('\n')[0]}` };
    }
  }
  return { caught: false, reason: `${seeds} seeds found nothing` };
}

/** The reports of some seeds, or why there are none. */
function ask(worker: ChildProcess, task: SeedsTask): Promise<SeedReport[] | string> {
  return new Promise((resolve) => {
    let said = '';
    const heard = (chunk: Buffer): void => {
      said += chunk.toString();
    };
    const finish = (answer: SeedReport[] | string): void => {
      clearTimeout(timer);
      worker.off('exit', ended);
      worker.stderr!.off('data', heard);
      resolve(answer);
    };
    const ended = (code: number | null): void => finish(`its process ended with code ${code}: ${said.trim().slice(-500)}`);
    const timer = setTimeout(() => finish(`seeds ${task.from} to ${task.from + task.count - 1} did not end in ${ANSWER_MS} ms`), ANSWER_MS);
    worker.stderr!.on('data', heard);
    worker.once('exit', ended);
    worker.once('message', (reports: SeedReport[]) => finish(reports));
    worker.send(task);
  });
}
