// The durable record of where copies may differ (rules 1 and 3): an extent is marked on stable storage before a write to
// it is sent, and the mark is taken away only when its user has proven that every copy has the bytes on stable storage.
// Marks are put many to a transaction, and hot extents stay marked, so that steady writes cost no fsync.
//
// Record `mark/<volume>/<extent, 8 hex digits>`: 1. An extent is `extentBytes` of the volume, larger than a region.
import assert from 'node:assert';
import type { Change, Clock, Log, Records } from './world.js';

const STATE = { CLEAN: 0, MARKING: 1, MARKED: 2, CLEARING: 3 } as const;
const RETRY_MS = 200;

/** A write that waits for its marks. */
export interface MarkWaiter {
  markOffset: number;
  markLength: number;
  marked(): void;
}

export interface IntentLogOptions {
  records: Records;
  clock: Clock;
  log: Log;
  volume: string;
  sizeBytes: number;
  extentBytes: number;
  /** Further changes that must be durable together with a mark. */
  onMark(extent: number): Change[];
}

export class IntentLog {
  readonly extentBytes: number;
  readonly extents: number;
  readonly #options: IntentLogOptions;
  readonly #prefix: string;
  readonly #states: Uint8Array;
  /** Per extent: the number of the last write to it, as `touch` counts. */
  readonly #touched: Float64Array;
  #touches = 0;
  #marked = 0;
  #wanted = new Set<number>();
  #waiters: MarkWaiter[] = [];
  #committing = false;

  constructor(options: IntentLogOptions) {
    this.#options = options;
    this.extentBytes = options.extentBytes;
    this.extents = Math.ceil(options.sizeBytes / options.extentBytes);
    this.#prefix = `mark/${options.volume}/`;
    this.#states = new Uint8Array(this.extents);
    this.#touched = new Float64Array(this.extents);
    for (const [key] of options.records.list(this.#prefix)) {
      const extent = Number.parseInt(key.slice(this.#prefix.length), 16);
      if (!(extent < this.extents)) continue;
      this.#states[extent] = STATE.MARKED;
      this.#marked += 1;
    }
  }

  /** Extents that are marked for certain. */
  get markedExtents(): number {
    return this.#marked;
  }

  isMarked(extent: number): boolean {
    return this.#states[extent] === STATE.MARKED;
  }

  /** Neither marked nor about to be, and not being cleared. */
  isClean(extent: number): boolean {
    return this.#states[extent] === STATE.CLEAN;
  }

  /** May a write to this range be sent now? Notes that the range is being written when it may. */
  admit(offset: number, lengthBytes: number): boolean {
    const first = Math.floor(offset / this.extentBytes);
    const last = Math.floor((offset + lengthBytes - 1) / this.extentBytes);
    for (let extent = first; extent <= last; extent += 1) if (this.#states[extent] !== STATE.MARKED) return false;
    this.#touches += 1;
    for (let extent = first; extent <= last; extent += 1) this.#touched[extent] = this.#touches;
    return true;
  }

  /** Marks what `waiter` needs; `waiter.marked()` is called when all of it is durable (it must `admit` then, and may have to wait again). */
  mark(waiter: MarkWaiter): void {
    this.#waiters.push(waiter);
    this.#want(waiter);
    this.#commitSoon();
  }

  /** Forgets waiters that are given up (their volume is closing). */
  dropWaiters(): void {
    this.#waiters = [];
  }

  /** The marked extents that were written last before `touch`; a cheap sweep for what has gone cold. */
  coldExtents(touch: number, most: number): number[] {
    const cold: number[] = [];
    if (this.#marked === 0) return cold;
    for (let extent = 0; extent < this.extents && cold.length < most; extent += 1) {
      if (this.#states[extent] === STATE.MARKED && this.#touched[extent] <= touch) cold.push(extent);
    }
    return cold;
  }

  /** A moment in the sequence of writes, for `coldExtents` and `clear`. */
  get now(): number {
    return this.#touches;
  }

  /**
   * Takes the marks of these extents away, together with `changes`, unless one was written after `touch`: such are left
   * out. The caller has proven that all copies hold the extents' bytes durably. Gives the extents that are clean now.
   */
  async clear(extents: number[], touch: number, changes: (extent: number) => Change[]): Promise<number[]> {
    const clearing = extents.filter((extent) => this.#states[extent] === STATE.MARKED && this.#touched[extent] <= touch);
    if (clearing.length === 0) return clearing;
    const batch: Change[] = [];
    for (const extent of clearing) {
      this.#states[extent] = STATE.CLEARING;
      this.#marked -= 1;
      batch.push({ remove: this.#key(extent) }, ...changes(extent));
    }
    let durable = true;
    try {
      await this.#options.records.commit(batch);
    } catch (error) {
      durable = false;
      this.#options.log.warn({ error, volume: this.#options.volume }, 'marks could not be cleared; their extents will be marked anew');
    }
    for (const extent of clearing) {
      assert(this.#states[extent] === STATE.CLEARING);
      this.#states[extent] = STATE.CLEAN;
    }
    for (const waiter of this.#waiters) this.#want(waiter);
    this.#commitSoon();
    return durable ? clearing : [];
  }

  #want(waiter: MarkWaiter): void {
    const first = Math.floor(waiter.markOffset / this.extentBytes);
    const last = Math.floor((waiter.markOffset + waiter.markLength - 1) / this.extentBytes);
    for (let extent = first; extent <= last; extent += 1) {
      if (this.#states[extent] === STATE.CLEAN) {
        this.#states[extent] = STATE.MARKING;
        this.#wanted.add(extent);
      }
    }
  }

  #commitSoon(): void {
    if (this.#committing || (this.#wanted.size === 0 && this.#waiters.length === 0)) return;
    this.#committing = true;
    // One microtask later, so that all writes of a turn share one transaction.
    queueMicrotask(() => void this.#commit());
  }

  async #commit(): Promise<void> {
    const extents = [...this.#wanted];
    this.#wanted.clear();
    if (extents.length > 0) {
      const batch: Change[] = [];
      for (const extent of extents) batch.push({ put: this.#key(extent), value: 1 }, ...this.#options.onMark(extent));
      try {
        await this.#options.records.commit(batch);
      } catch (error) {
        // Rule 21: without the mark no write may go. They wait, and it is tried again.
        this.#options.log.error({ error, volume: this.#options.volume }, 'the intent log cannot be written: writes to this volume wait');
        for (const extent of extents) this.#wanted.add(extent);
        this.#options.clock.after(RETRY_MS, () => {
          this.#committing = false;
          this.#commitSoon();
        });
        return;
      }
      for (const extent of extents) {
        assert(this.#states[extent] === STATE.MARKING);
        this.#states[extent] = STATE.MARKED;
        this.#marked += 1;
      }
    }
    this.#committing = false;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (this.#covers(waiter)) waiter.marked();
      else {
        this.#waiters.push(waiter);
        this.#want(waiter);
      }
    }
    if (this.#wanted.size > 0) this.#commitSoon();
  }

  #covers(waiter: MarkWaiter): boolean {
    const first = Math.floor(waiter.markOffset / this.extentBytes);
    const last = Math.floor((waiter.markOffset + waiter.markLength - 1) / this.extentBytes);
    for (let extent = first; extent <= last; extent += 1) if (this.#states[extent] !== STATE.MARKED) return false;
    return true;
  }

  #key(extent: number): string {
    return this.#prefix + extent.toString(16).padStart(8, '0');
  }
}
