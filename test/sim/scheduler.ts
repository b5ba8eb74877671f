// Virtual time. Runs one event, lets every promise that it settled run to its end, then the next: nothing of the system
// under test ever runs at the same time as anything else, and the same seed gives the same order. Events of one instant
// come in an order drawn from the seed. Must not be used from two simulations at once in one process.
import assert from 'node:assert/strict';
import type { Random } from './random.js';

/** Every so many events Node's own loop gets its turn, which also brings rejections that nobody handles to light. */
const EVENTS_PER_LOOP = 256;
const { setImmediate: nextLoop } = globalThis;
/** Cheaper than queueMicrotask, which makes an object for each call. */
const resolved = Promise.resolve();

/** Something that will happen; `cancel` makes it not happen. */
export class SimEvent {
  cancelled = false;

  constructor(
    readonly timeMs: number,
    readonly tie: number,
    readonly run: () => void,
  ) {}

  cancel(): void {
    this.cancelled = true;
  }
}

export interface RunLimits {
  /** Virtual milliseconds, absolute. */
  untilMs: number;
  /** Events in all since the scheduler began. */
  events: number;
}

/** done: the condition holds. idle: nothing is left to happen. late, busy: a limit was reached. failed: an event threw. */
export type RunOutcome = 'done' | 'idle' | 'late' | 'busy' | 'failed';

export class Scheduler {
  nowMs = 0;
  /** Events run so far. */
  events = 0;
  /** What an event or a promise threw: a bug of the system under test, or of the simulator. */
  failure: unknown = null;
  readonly #random: Random;
  readonly #heap: SimEvent[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  after(delayMs: number, run: () => void): SimEvent {
    assert(delayMs >= 0 && delayMs < Number.POSITIVE_INFINITY, `a delay of ${delayMs} ms`);
    const event = new SimEvent(this.nowMs + delayMs, this.#random.uint32(), run);
    this.#push(event);
    return event;
  }

  fail(error: unknown): void {
    this.failure ??= error ?? new Error('something threw nothing');
  }

  /** Runs events until `done()`, which is asked after each. */
  run(done: () => boolean, limits: RunLimits): Promise<RunOutcome> {
    return new Promise((resolve) => {
      const turn = (): void => {
        const outcome = this.#step(done, limits);
        if (outcome === null) hop();
        else resolve(outcome);
      };
      // The microtask puts the next turn behind every microtask there is and every one these add: Node runs its tick
      // queue only when no microtask is left.
      const enqueue = (): void => process.nextTick(turn);
      const hop = (): void => {
        if (this.events % EVENTS_PER_LOOP === 0) nextLoop(turn);
        else void resolved.then(enqueue);
      };
      hop();
    });
  }

  #step(done: () => boolean, limits: RunLimits): RunOutcome | null {
    if (this.failure !== null) return 'failed';
    if (done()) return 'done';
    if (this.events >= limits.events) return 'busy';
    let event = this.#pop();
    while (event?.cancelled) event = this.#pop();
    if (event === undefined) return 'idle';
    if (event.timeMs > limits.untilMs) {
      this.#push(event);
      this.nowMs = limits.untilMs;
      return 'late';
    }
    this.nowMs = event.timeMs;
    this.events += 1;
    try {
      event.run();
    } catch (error) {
      this.fail(error);
      return 'failed';
    }
    return null;
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): SimEvent | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child += 1;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return top;
  }
}

function isBefore(one: SimEvent, other: SimEvent): boolean {
  return one.timeMs < other.timeMs || (one.timeMs === other.timeMs && one.tie < other.tie);
}
