// A latch in memory: takes a turn to be set or cleared, fails before or after it took effect, as the test says. `crashed` is what a
// restart finds.
import type { Latch, Latches } from '../../replication/latch.js';

export class MemoryLatch implements Latch, Latches {
  /** Outcome of the next changes: `before`: they fail and nothing has changed. `after`: they fail, but have taken effect. */
  failing: 'before' | 'after' | null = null;
  /** What a restart would find. */
  isSet: boolean;
  readonly wasSet: boolean;
  closed = false;

  constructor(wasSet = false) {
    this.wasSet = wasSet;
    this.isSet = wasSet;
  }

  async open(): Promise<Latch> {
    return this;
  }

  set(): Promise<void> {
    return this.#change(true);
  }

  clear(): Promise<void> {
    return this.#change(false);
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  crashed(): MemoryLatch {
    return new MemoryLatch(this.isSet);
  }

  async #change(to: boolean): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.failing !== 'before') this.isSet = to;
    if (this.failing !== null) throw new Error(`the latch failed ${this.failing} it was written`);
  }
}
