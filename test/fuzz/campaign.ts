// One run of the fuzzer: an instrumented copy of the sources, worker processes in it, and what they found all together. A
// worker that says nothing for a minute is stuck, which is a finding too.
import { type ChildProcess, fork } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Edit } from '../sim/mutations.js';
import type { BranchSite } from './branch-counters.js';
import { ROOT } from './corpus.js';
import type { Finding, FuzzAnswer, FuzzTask, MinimiseTask } from './fuzz-task.js';
import { instrumentedCopy } from './instrumented-copy.js';

const SILENT_MS = 60_000;
/** Between the first look at the heap and the last; kept inputs and compiled code are part of it. */
const HEAP_GROWTH_MAX = 48 * 1024 * 1024;

export interface CampaignOptions {
  targets: readonly string[];
  seed: number;
  seconds: number;
  inputs: number;
  workers: number;
  stopAtFinding: boolean;
  corpus: boolean;
  edits?: readonly Edit[];
  /** Told how far it is, every now and then. */
  progress?(report: CampaignReport): void;
}

export interface TargetTotals {
  inputs: number;
  branches: Set<number>;
  lines: string[];
}

export interface CampaignReport {
  seconds: number;
  branches: readonly BranchSite[];
  targets: Map<string, TargetTotals>;
  findings: Finding[];
  /** Of each worker: bytes after the first collection once it had warmed up, and after the last. */
  heap: { first: number; last: number }[];
}

/** `minimised`: kept inputs are reduced to those that are needed. */
export async function runCampaign(options: CampaignOptions, minimised: boolean): Promise<CampaignReport> {
  const copy = instrumentedCopy(options.edits);
  try {
    return await new Campaign(options, copy.directory, copy.branches).run(minimised);
  } finally {
    rmSync(copy.directory, { recursive: true, force: true });
  }
}

class Campaign {
  readonly #options: CampaignOptions;
  readonly #directory: string;
  readonly #startedMs = performance.now();
  /** Of each worker and target, since each counts from nothing. */
  readonly #inputs = new Map<string, number>();
  readonly #report: CampaignReport;
  readonly #workers = new Set<ChildProcess>();

  constructor(options: CampaignOptions, directory: string, branches: readonly BranchSite[]) {
    this.#options = options;
    this.#directory = directory;
    const targets = new Map(options.targets.map((name) => [name, { inputs: 0, branches: new Set<number>(), lines: [] as string[] }]));
    this.#report = { seconds: 0, branches, targets, findings: [], heap: [] };
  }

  async run(minimised: boolean): Promise<CampaignReport> {
    const { workers, progress } = this.#options;
    const timer = progress === undefined ? undefined : setInterval(() => progress(this.#now()), 10_000);
    const stop = (): void => {
      for (const worker of this.#workers) worker.kill('SIGKILL');
    };
    process.once('exit', stop);
    try {
      await Promise.all(Array.from({ length: workers }, (_, index) => this.#work(index)));
      if (minimised) for (const [target, totals] of this.#report.targets) totals.lines = await this.#minimise(target, totals.lines);
    } finally {
      clearInterval(timer);
      process.off('exit', stop);
      stop();
    }
    return this.#now();
  }

  #now(): CampaignReport {
    for (const [target, totals] of this.#report.targets) {
      totals.inputs = 0;
      for (const [key, inputs] of this.#inputs) if (key.endsWith(` ${target}`)) totals.inputs += inputs;
    }
    this.#report.seconds = (performance.now() - this.#startedMs) / 1000;
    return this.#report;
  }

  #start(): ChildProcess {
    const path = join(this.#directory, 'test/fuzz/fuzz-worker.ts');
    const worker = fork(path, {
      execArgv: [...process.execArgv, '--expose-gc'],
      cwd: this.#directory,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#workers.add(worker);
    worker.once('exit', () => this.#workers.delete(worker));
    return worker;
  }

  async #work(index: number): Promise<void> {
    const { targets, seed, seconds, inputs, workers, stopAtFinding, corpus } = this.#options;
    // Each begins its round with another one.
    const turned = [...targets.slice(index % targets.length), ...targets.slice(0, index % targets.length)];
    const task: FuzzTask = {
      kind: 'fuzz',
      targets: turned,
      seed: seed + index,
      seconds,
      inputs: Math.ceil(inputs / workers),
      stopAtFinding,
      corpus,
      root: ROOT,
      branches: this.#report.branches.length,
    };
    const worker = this.#start();
    let at = 'the start';
    const ending = await conversation(worker, task, (answer) => {
      if (answer.kind === 'progress') at = answer.target;
      this.#take(index, answer);
      return answer.kind === 'done';
    });
    worker.kill('SIGKILL');
    if (ending !== null)
      this.#report.findings.push({ target: at, message: `after this target ${ending}`, stack: '', line: '', inputs: 0, seconds: 0 });
  }

  #take(index: number, answer: FuzzAnswer): void {
    if (answer.kind === 'done') {
      const warm = answer.heap[Math.min(answer.heap.length - 1, Math.ceil(answer.heap.length * 0.2))];
      const last = answer.heap.at(-1)!;
      this.#report.heap.push({ first: warm, last });
      if (last - warm > HEAP_GROWTH_MAX) {
        const message = `memory grew from ${warm} to ${last} bytes`;
        this.#report.findings.push({ target: 'all', message, stack: '', line: '', inputs: 0, seconds: 0 });
      }
      return;
    }
    const totals = this.#report.targets.get(answer.target)!;
    if (answer.kind === 'finding') this.#report.findings.push(answer);
    else if (answer.kind === 'kept') totals.lines.push(...answer.lines);
    else {
      this.#inputs.set(`${index} ${answer.target}`, answer.inputs);
      for (const branch of answer.branches) totals.branches.add(branch);
    }
  }

  async #minimise(target: string, lines: string[]): Promise<string[]> {
    const worker = this.#start();
    let kept = lines;
    const task: MinimiseTask = { kind: 'minimise', target, lines, branches: this.#report.branches.length };
    await conversation(worker, task, (answer) => {
      if (answer.kind === 'kept') kept = answer.lines;
      return answer.kind === 'kept';
    });
    worker.kill('SIGKILL');
    return kept;
  }
}

/** Sends `task` and hears answers until `last` says so; null, or how it ended before. */
function conversation(worker: ChildProcess, task: FuzzTask | MinimiseTask, last: (answer: FuzzAnswer) => boolean): Promise<string | null> {
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout;
    const finish = (ending: string | null): void => {
      clearTimeout(timer);
      worker.off('exit', gone);
      resolve(ending);
    };
    const gone = (code: number | null, signal: string | null): void => finish(`the worker ended with ${signal ?? `code ${code}`}`);
    const wait = (): void => {
      timer = setTimeout(() => finish(`the worker said nothing for ${SILENT_MS / 1000} s`), SILENT_MS);
    };
    worker.once('exit', gone);
    worker.on('message', (answer: FuzzAnswer) => {
      clearTimeout(timer);
      if (last(answer)) finish(null);
      else wait();
    });
    wait();
    worker.send(task);
  });
}
