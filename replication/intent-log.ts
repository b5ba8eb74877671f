// The durable record of where copies may differ (rules 1 and 3): an extent is marked on stable storage before a write to
// it is sent, and the mark is taken away only when its user has proven that every copy has the bytes on stable storage.
// Marks are put many to a transaction, and hot extents stay marked, so that steady writes cost no fsync.
//
// Record `mark/<volume>/<extent, 8 hex digits>`: 1. An extent is `extentBytes` of the volume, larger than a region.
import assert from 'node:assert';
import type { Latch } from './latch.js';
import type { Change, Clock, Log, Records } from './world.js';

const STATE = { CLEAN: 0, MARKING: 1, MARKED: 2, CLEARING: 3 } as const;
const RETRY_MS = 200;
/** Marks in one transaction. */
const MARKS_AT_ONCE = 4096;

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
  /** Writes go on without marks (reason: why none can be written), or no more do (null). */
  unmarked(reason: string | null): void;
}

export class IntentLog {
  readonly extentBytes: number;
  readonly #options: IntentLogOptions;
  readonly #prefix: string;
  #states: Uint8Array;
  /** Per extent: the number of the last write to it, as `touch` counts. */
  #touched: Float64Array;
  #touches = 0;
  #marked = 0;
  #wanted = new Set<number>();
  #waiters: MarkWaiter[] = [];
  #committing = false;
  #failing = false;
  #latch: Latch | null = null;
  /** The latch is set: every extent counts as marked, also for a restart, and marks are written when they can be. */
  #latched = false;
  /** What is being done to the latch, one after the other. */
  #latching: Promise<void> | null = null;

  constructor(options: IntentLogOptions) {
    this.#options = options;
    this.extentBytes = options.extentBytes;
    const extents = Math.ceil(options.sizeBytes / options.extentBytes);
    this.#prefix = `mark/${options.volume}/`;
    this.#states = new Uint8Array(extents);
    this.#touched = new Float64Array(extents);
    for (const [key] of options.records.list(this.#prefix)) {
      const extent = Number.parseInt(key.slice(this.#prefix.length), 16);
      if (!(extent < this.extents)) continue;
      this.#states[extent] = STATE.MARKED;
      this.#marked += 1;
    }
  }

  get extents(): number {
    return this.#states.length;
  }

  /** The volume has become larger: nothing was written in the new extents, so none is marked. */
  grow(sizeBytes: number): void {
    const extents = Math.ceil(sizeBytes / this.extentBytes);
    assert(extents >= this.extents, 'a volume only grows');
    const states = new Uint8Array(extents);
    states.set(this.#states);
    const touched = new Float64Array(extents);
    touched.set(this.#touched);
    this.#states = states;
    this.#touched = touched;
  }

  /** Extents that are marked for certain. */
  get markedExtents(): number {
    return this.#marked;
  }

  isMarked(extent: number): boolean {
    return this.#latched || this.#states[extent] === STATE.MARKED;
  }

  /** Neither marked nor about to be, and not being cleared. */
  isClean(extent: number): boolean {
    return !this.#latched && this.#states[extent] === STATE.CLEAN;
  }

  /**
   * What is set when no mark can be written (rule 21). Where it was found set, an earlier gateway may have written anywhere: every
   * extent counts as marked until all are. Before the first write.
   */
  use(latch: Latch): void {
    this.#latch = latch;
    if (!latch.wasSet) return;
    this.#latched = true;
    for (let extent = 0; extent < this.extents; extent += 1) this.#wantOne(extent);
    if (this.#wanted.size === 0) this.#clearLatch();
    else this.#commitSoon();
  }

  /** May a write to this range be sent now? Notes that the range is being written when it may. */
  admit(offset: number, lengthBytes: number): boolean {
    const first = Math.floor(offset / this.extentBytes);
    const last = Math.floor((offset + lengthBytes - 1) / this.extentBytes);
    for (let extent = first; extent <= last; extent += 1) if (!this.#mayWrite(extent)) return false;
    this.#touches += 1;
    if (this.#latched) {
      for (let extent = first; extent <= last; extent += 1) this.#wantOne(extent);
    }
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
      assert(this.#states[extent] === STATE.CLEARING, 'what is cleared was being cleared');
      this.#states[extent] = STATE.CLEAN;
    }
    if (this.#latched) this.#serve();
    for (const waiter of this.#waiters) this.#want(waiter);
    this.#commitSoon();
    return durable ? clearing : [];
  }

  #want(waiter: MarkWaiter): void {
    const first = Math.floor(waiter.markOffset / this.extentBytes);
    const last = Math.floor((waiter.markOffset + waiter.markLength - 1) / this.extentBytes);
    for (let extent = first; extent <= last; extent += 1) this.#wantOne(extent);
  }

  #wantOne(extent: number): void {
    if (this.#states[extent] !== STATE.CLEAN) return;
    this.#states[extent] = STATE.MARKING;
    this.#wanted.add(extent);
  }

  /** Its mark is durable, or the latch is instead and no clearing of the mark is under way, which could end after the latch is clear. */
  #mayWrite(extent: number): boolean {
    const state = this.#states[extent];
    return state === STATE.MARKED || (this.#latched && state !== STATE.CLEARING);
  }

  #commitSoon(): void {
    if (this.#committing || (this.#wanted.size === 0 && this.#waiters.length === 0)) return;
    this.#committing = true;
    // One microtask later, so that all writes of a turn share one transaction.
    queueMicrotask(() => void this.#commit());
  }

  async #commit(): Promise<void> {
    const extents: number[] = [];
    for (const extent of this.#wanted) {
      if (extents.length === MARKS_AT_ONCE) break;
      extents.push(extent);
      this.#wanted.delete(extent);
    }
    if (extents.length > 0) {
      const batch: Change[] = [];
      for (const extent of extents) batch.push({ put: this.#key(extent), value: 1 }, ...this.#options.onMark(extent));
      try {
        await this.#options.records.commit(batch);
      } catch (error) {
        // Rule 21: without the mark no write may go, unless the latch stands for it. It is tried again.
        if (!this.#failing)
          this.#options.log.error({ error, volume: this.#options.volume }, 'the intent log cannot be written; it is tried again');
        this.#failing = true;
        this.#setLatch((error as Error).message);
        for (const extent of extents) this.#wanted.add(extent);
        this.#options.clock.after(RETRY_MS, () => {
          this.#committing = false;
          this.#commitSoon();
        });
        return;
      }
      this.#failing = false;
      for (const extent of extents) {
        assert(this.#states[extent] === STATE.MARKING, 'what is marked was being marked');
        this.#states[extent] = STATE.MARKED;
        this.#marked += 1;
      }
    }
    this.#committing = false;
    if (this.#latched && this.#wanted.size === 0) this.#clearLatch();
    this.#serve();
    if (this.#wanted.size > 0) this.#commitSoon();
  }

  /** Lets those go that need not wait any more. */
  #serve(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (this.#covers(waiter)) waiter.marked();
      else {
        this.#waiters.push(waiter);
        this.#want(waiter);
      }
    }
  }

  #setLatch(reason: string): void {
    if (this.#latch === null || this.#latched || this.#latching !== null) return;
    const { log, volume, unmarked } = this.#options;
    this.#latching = this.#latch.set().then(
      () => {
        this.#latching = null;
        this.#latched = true;
        log.error({ volume }, 'hosts go on without marks: a restart of the gateway would copy everything again');
        unmarked(reason);
        this.#serve();
        // The store may have come back meanwhile.
        this.#commitSoon();
        if (this.#wanted.size === 0 && !this.#committing) this.#clearLatch();
      },
      (error: Error) => {
        this.#latching = null;
        log.error({ volume, reason: error.message }, 'the latch cannot be set either: writes to extents that are not marked wait');
      },
    );
  }

  /** Everything that was written is marked. From now on each write needs its mark again; only then the latch goes. */
  #clearLatch(): void {
    if (this.#latching !== null) return;
    const { log, volume, unmarked } = this.#options;
    this.#latched = false;
    unmarked(null);
    this.#latching = this.#latch!.clear().then(
      () => {
        this.#latching = null;
      },
      (error: Error) => {
        this.#latching = null;
        log.warn({ volume, reason: error.message }, 'the latch could not be cleared: a restart would copy everything again');
      },
    );
  }

  #covers(waiter: MarkWaiter): boolean {
    const first = Math.floor(waiter.markOffset / this.extentBytes);
    const last = Math.floor((waiter.markOffset + waiter.markLength - 1) / this.extentBytes);
    for (let extent = first; extent <= last; extent += 1) if (!this.#mayWrite(extent)) return false;
    return true;
  }

  #key(extent: number): string {
    return this.#prefix + extent.toString(16).padStart(8, '0');
  }
}
