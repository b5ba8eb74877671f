// A process that hunts: runs its targets in turns for as long as it is told to, in sources with counters on their branches,
// and tells what it found and how far it came. Between two inputs memory is collected now and then and must not grow.
import { SeenBranches } from './branch-record.js';
import { reuseSlabs } from './slabs.js';
import { type Step, packSteps } from './input.js';
import { fromLine, readCorpus, toLine } from './corpus.js';
import { Hunt } from './hunt.js';
import { failureOf, kindOf, shrunk } from './shrink.js';
import { findTarget } from './targets.js';
import type { FuzzAnswer, FuzzTask, MinimiseTask } from './fuzz-task.js';

const SLICE_MS = 250;
const SHRINK_MS = 10_000;
const HEAP_EVERY_MS = 3000;
/** Different failures of a target that are told. */
const FINDINGS_MAX = 5;

const nextSlab = reuseSlabs();

function say(answer: FuzzAnswer): void {
  process.send!(answer);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

class Worker {
  readonly #task: FuzzTask;
  readonly #hunts: Hunt[];
  readonly #kinds = new Set<string>();
  readonly #heap: number[] = [];
  #heapAtMs = 0;
  readonly #startedMs = performance.now();

  constructor(task: FuzzTask) {
    this.#task = task;
    this.#hunts = task.targets.map(
      (name) => new Hunt(findTarget(name), task.seed, task.corpus ? readCorpus(name, task.root) : [], task.branches),
    );
  }

  async run(): Promise<void> {
    const { seconds, inputs } = this.#task;
    const endMs = this.#startedMs + seconds * 1000;
    let found = false;
    for (let turn = 0; performance.now() < endMs && !(found && this.#task.stopAtFinding); turn += 1) {
      const hunt = this.#hunts[turn % this.#hunts.length];
      if (hunt.inputs < inputs) found = (await this.#slice(hunt)) || found;
      if (this.#hunts.every((each) => each.inputs >= inputs)) break;
    }
    await this.#lookAtHeap(true);
    for (const hunt of this.#hunts) say({ kind: 'kept', target: hunt.target.name, lines: hunt.kept.map(toLine) });
    say({ kind: 'done', heap: this.#heap });
  }

  /** Gives whether something was found. */
  async #slice(hunt: Hunt): Promise<boolean> {
    const untilMs = performance.now() + SLICE_MS;
    const { inputs: most } = this.#task;
    let found = false;
    while (!found && hunt.inputs < most && (hunt.inputs % 16 !== 0 || performance.now() < untilMs)) {
      nextSlab();
      const broken = await hunt.next();
      if (broken !== null) found = await this.#tell(hunt, broken.steps, broken.failure);
    }
    say({ kind: 'progress', target: hunt.target.name, inputs: hunt.inputs, branches: hunt.seen.branches, kept: hunt.kept.length });
    await this.#lookAtHeap(false);
    // What was said leaves only with a turn of the event loop.
    await turn();
    return found;
  }

  async #tell(hunt: Hunt, steps: Step[], failure: Error): Promise<boolean> {
    const kind = `${hunt.target.name}: ${kindOf(failure)}`;
    if (this.#kinds.has(kind) || this.#kinds.size >= FINDINGS_MAX * this.#hunts.length) return false;
    this.#kinds.add(kind);
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const { inputs } = hunt;
    const endMs = performance.now() + (this.#task.stopAtFinding ? 500 : SHRINK_MS);
    const short = await shrunk(hunt.target, steps, failure, () => performance.now() > endMs);
    const last = (await failureOf(hunt.target, short)) ?? failure;
    say({
      kind: 'finding',
      target: hunt.target.name,
      message: last.message,
      stack: last.stack ?? '',
      line: toLine(short),
      inputs,
      seconds,
    });
    return true;
  }

  async #lookAtHeap(now: boolean): Promise<void> {
    const atMs = performance.now();
    if (!now && atMs - this.#heapAtMs < HEAP_EVERY_MS) return;
    this.#heapAtMs = atMs;
    // What the first finds is freed beside it, and counted as free by the next.
    for (let times = 0; times < 3; times += 1) {
      (globalThis as { gc?: () => void }).gc?.();
      await turn();
    }
    const { heapUsed, external } = process.memoryUsage();
    this.#heap.push(heapUsed + external);
  }
}

/** Of `lines`, shortest first, those that take a branch as none before. */
async function minimise({ target: name, lines, branches }: MinimiseTask): Promise<string[]> {
  const target = findTarget(name);
  const seen = new SeenBranches(branches);
  const inputs = [...new Set(lines)].map(fromLine).sort((one, other) => packSteps(one).length - packSteps(other).length);
  const kept: string[] = [];
  for (const steps of inputs) {
    nextSlab();
    if ((await failureOf(target, steps)) === null && seen.add()) kept.push(toLine(steps));
  }
  return kept;
}

process.on('message', (task: FuzzTask | MinimiseTask) => {
  if (task.kind === 'fuzz') void new Worker(task).run();
  else void minimise(task).then((lines) => say({ kind: 'kept', target: task.target, lines }));
});
