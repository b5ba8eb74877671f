// Serialises what overlaps: at most one holder for any byte of a device, in order of arrival (rule 4).
// An entry waits for every earlier entry that it overlaps, waiting or not, so that nobody starves. Costs nothing but
// a few counters while nothing overlaps. Holders never wait here for one another's ranges twice: one entry, one range.
import assert from 'node:assert';

const STRIPE_SHIFT = 16;
const STRIPES = 4096;
/** An entry over more stripes than this is counted as wide, and everything is compared with it. */
const STRIPES_PER_ENTRY_MAX = 64;

/** What holds or waits for a range. Pooled by its owner; in one lock at a time. */
export abstract class LockEntry {
  lockOffset = 0;
  lockEnd = 0;
  /** Earlier entries that overlap this one; 0 while held. */
  lockBlockers = 0;
  locked = false;
  /** It has the range, and is about to be told. */
  lockReady = false;
  lockPrevious: LockEntry | null = null;
  lockNext: LockEntry | null = null;

  /** The range is held from now on. Only called when `acquire` returned false. */
  abstract granted(): void;
}

export class RangeLock {
  #first: LockEntry | null = null;
  #last: LockEntry | null = null;
  #entries = 0;
  #waiting = 0;
  #wide = 0;
  readonly #stripes = new Uint32Array(STRIPES);

  /** Entries that hold a range or wait for one. */
  get entries(): number {
    return this.#entries;
  }

  /** True: the range is held now. False: `entry.granted()` will be called. */
  acquire(entry: LockEntry, offset: number, lengthBytes: number): boolean {
    assert(!entry.locked && lengthBytes > 0, 'a lock is taken once, over at least a byte');
    entry.lockOffset = offset;
    entry.lockEnd = offset + lengthBytes;
    entry.lockBlockers = this.#mayOverlap(entry) ? this.#countOverlaps(entry) : 0;
    entry.locked = true;
    entry.lockPrevious = this.#last;
    entry.lockNext = null;
    if (this.#last === null) this.#first = entry;
    else this.#last.lockNext = entry;
    this.#last = entry;
    this.#entries += 1;
    this.#count(entry, 1);
    if (entry.lockBlockers === 0) return true;
    this.#waiting += 1;
    return false;
  }

  /** Gives the range back, or, when it is still waited for, the place in the queue. */
  release(entry: LockEntry): void {
    assert(entry.locked, 'what is unlocked was locked');
    if (entry.lockBlockers > 0) {
      entry.lockBlockers = 0;
      this.#waiting -= 1;
    }
    const after = entry.lockNext;
    if (entry.lockPrevious === null) this.#first = after;
    else entry.lockPrevious.lockNext = after;
    if (after === null) this.#last = entry.lockPrevious;
    else after.lockPrevious = entry.lockPrevious;
    entry.locked = false;
    entry.lockReady = false;
    entry.lockPrevious = null;
    entry.lockNext = null;
    this.#entries -= 1;
    this.#count(entry, -1);
    if (this.#waiting > 0) this.#wake(after, entry.lockOffset, entry.lockEnd);
  }

  /** Does anything held or waiting overlap the range? */
  overlaps(offset: number, lengthBytes: number): boolean {
    const end = offset + lengthBytes;
    for (let other = this.#first; other !== null; other = other.lockNext) {
      if (other.lockOffset < end && other.lockEnd > offset) return true;
    }
    return false;
  }

  /** Every range that is held or waited for. */
  *ranges(): Iterable<{ offset: number; length: number }> {
    for (let entry = this.#first; entry !== null; entry = entry.lockNext) {
      yield { offset: entry.lockOffset, length: entry.lockEnd - entry.lockOffset };
    }
  }

  #wake(from: LockEntry | null, offset: number, end: number): void {
    // Granting may release and acquire again, so collect first.
    let ready: LockEntry[] | null = null;
    for (let other = from; other !== null; other = other.lockNext) {
      if (other.lockBlockers > 0 && other.lockOffset < end && other.lockEnd > offset) {
        other.lockBlockers -= 1;
        if (other.lockBlockers === 0) {
          this.#waiting -= 1;
          other.lockReady = true;
          if (ready === null) ready = [other];
          else ready.push(other);
        }
      }
    }
    for (const other of ready ?? []) {
      // One that was told may have let the others go.
      if (!other.lockReady) continue;
      other.lockReady = false;
      other.granted();
    }
  }

  #countOverlaps(entry: LockEntry): number {
    let overlaps = 0;
    for (let other = this.#first; other !== null; other = other.lockNext) {
      if (other.lockOffset < entry.lockEnd && other.lockEnd > entry.lockOffset) overlaps += 1;
    }
    return overlaps;
  }

  #mayOverlap(entry: LockEntry): boolean {
    if (this.#entries === 0) return false;
    if (this.#wide > 0) return true;
    const first = Math.floor(entry.lockOffset / 2 ** STRIPE_SHIFT);
    const last = Math.floor((entry.lockEnd - 1) / 2 ** STRIPE_SHIFT);
    if (last - first >= STRIPES_PER_ENTRY_MAX) return true;
    for (let stripe = first; stripe <= last; stripe += 1) if (this.#stripes[stripe % STRIPES] > 0) return true;
    return false;
  }

  #count(entry: LockEntry, by: 1 | -1): void {
    const first = Math.floor(entry.lockOffset / 2 ** STRIPE_SHIFT);
    const last = Math.floor((entry.lockEnd - 1) / 2 ** STRIPE_SHIFT);
    if (last - first >= STRIPES_PER_ENTRY_MAX) {
      this.#wide += by;
      return;
    }
    for (let stripe = first; stripe <= last; stripe += 1) this.#stripes[stripe % STRIPES] += by;
  }
}

/** A lock entry for control paths: `await hold(lock, offset, length)`, then `lock.release(entry)`. */
class PromisedEntry extends LockEntry {
  resolve: (() => void) | null = null;

  granted(): void {
    this.resolve?.();
  }
}

export async function hold(lock: RangeLock, offset: number, lengthBytes: number): Promise<LockEntry> {
  const entry = new PromisedEntry();
  if (!lock.acquire(entry, offset, lengthBytes)) {
    await new Promise<void>((resolve) => {
      entry.resolve = resolve;
    });
  }
  return entry;
}
