// The real clock: monotonic time for durations, wall time for people, timers that may be longer than Node's own.
// Timers keep the process alive until they fire or are cancelled; whoever starts one cancels it.
import { performance } from 'node:perf_hooks';
import type { Clock, Timer } from '../replication/world.js';

/** The longest delay setTimeout takes; a longer one would fire at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

class SystemTimer implements Timer {
  #handle: NodeJS.Timeout;

  constructor(delayMs: number, run: () => void) {
    this.#handle = this.#start(delayMs, run);
  }

  cancel(): void {
    clearTimeout(this.#handle);
  }

  #start(delayMs: number, run: () => void): NodeJS.Timeout {
    if (delayMs <= TIMEOUT_MS_MAX) return setTimeout(run, delayMs);
    return setTimeout(() => {
      this.#handle = this.#start(delayMs - TIMEOUT_MS_MAX, run);
    }, TIMEOUT_MS_MAX);
  }
}

export class SystemClock implements Clock {
  nowMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }

  after(delayMs: number, run: () => void): Timer {
    return new SystemTimer(delayMs, run);
  }
}
