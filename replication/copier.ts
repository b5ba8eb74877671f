// Brings a mirror's dirty regions over (rule 2), a few runs at a time: under the range's lock it reads the source, learns
// the checksums, puts the bytes into the mirror's queue and clears the dirty bits, all before a host may write there
// again. So nothing is ever copied twice for a write meanwhile, and copying ends under any load. What reads as zero on
// the source is not sent to ranges of the mirror that are proven zero (rule 6).
import assert from 'node:assert';
import type { Bitmap } from './bitmap.js';
import { type Device, OP, PromisedRequest, perform } from './device.js';
import type { Hasher } from './hasher.js';
import { hold, type LockEntry, type RangeLock } from './range-lock.js';
import type { RegionSums } from './region-sums.js';
import { ORIGIN, type ReplicationQueue } from './replication-queue.js';
import type { Throttle } from './throttle.js';
import { type Clock, within } from './world.js';
import { ZeroMap } from './zero-map.js';

/** Data moved by one read; also how long a host's write may have to wait for a copy's read. */
const RUN_BYTES_MAX = 256 * 1024;
/** Known holes move no data: more of them go at once. */
const HOLE_RUN_BYTES_MAX = 16 * 1024 * 1024;
const RUNS_AT_ONCE = 8;
const SOURCE_RETRY_MS = 500;
/** A read that takes longer gives its range back meanwhile: hosts' writes there do not wait for a source that hangs. */
const LOCKED_READ_MS = 1000;

export interface CopierOptions {
  source(): Device;
  lock: RangeLock;
  sums: RegionSums;
  hasher: Hasher;
  throttle: Throttle;
  clock: Clock;
  queue: ReplicationQueue;
  dirty: Bitmap;
  /** Regions of the mirror that read as zero because nothing was ever written there; null: nothing is known. */
  blank: Bitmap | null;
  /** Called when a run is on the mirror, when nothing is dirty any more, and when the source refused a read. */
  progressed(): void;
  sourceRefused(offset: number, errno: number): void;
  /** Reads a range from another copy that lacks nothing there, under its lock; null: there is none, or it does not answer in time. */
  elsewhere(offset: number, length: number, isRight: (data: Buffer) => boolean): Promise<Buffer | null>;
  /** The source's bytes of a region are not those of its checksum. `foundElsewhere`: another copy had the right ones, which are copied. */
  sourceWrong(offset: number, foundElsewhere: boolean): void;
}

export class Copier {
  readonly #options: CopierOptions;
  readonly #zeroes: ZeroMap;
  /** Regions some run is at work on: dirty still, but taken. */
  readonly #taken = new Set<number>();
  #cursor = 0;
  #runs = 0;
  #enabled = false;
  #stopped = false;
  #looping = false;
  #retrying = false;
  #wake: (() => void) | null = null;

  constructor(options: CopierOptions) {
    this.#options = options;
    this.#zeroes = new ZeroMap(options.dirty.sizeBytes, options.dirty.regionBytes, options.lock);
  }

  /** Runs that were taken from the dirty set and are not yet on the mirror. */
  get busy(): boolean {
    return this.#runs > 0;
  }

  /** Whether copying may go on: the mirror answers. */
  enable(enabled: boolean): void {
    this.#enabled = enabled;
    if (enabled) this.poke();
  }

  /** There may be something dirty. */
  poke(): void {
    this.#wake?.();
    if (this.#enabled && !this.#stopped && !this.#looping) void this.#loop();
  }

  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  /** A host wrote there: what was known to be a hole is none. */
  wrote(offset: number, length: number): void {
    this.#zeroes.forget(offset, length);
    this.#options.blank?.clearTouched(offset, length);
  }

  /** The target is another than it was: nothing there is known to be zero. */
  forgetBlank(): void {
    this.#options.blank?.clearAll();
  }

  async #loop(): Promise<void> {
    this.#looping = true;
    try {
      while (this.#enabled && !this.#stopped && !this.#retrying) {
        const run = this.#nextRun();
        if (run === null) break;
        if (this.#runs >= RUNS_AT_ONCE) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = null;
          continue;
        }
        if (!this.#zeroes.covers(run.offset)) {
          await this.#zeroes.look(this.#options.source(), run.offset);
          continue;
        }
        this.#runs += 1;
        for (let region = run.first; region < run.first + run.regions; region += 1) this.#taken.add(region);
        this.#cursor = run.first + run.regions;
        if (!run.hole) await this.#options.throttle.take(run.length);
        void this.#copy(run);
      }
    } finally {
      this.#looping = false;
    }
  }

  /** The next dirty regions that lie together, from the cursor on and around; null: there are none to take. */
  #nextRun(): Run | null {
    const { dirty } = this.#options;
    let first = this.#nextFree(this.#cursor);
    if (first < 0) first = this.#nextFree(0);
    if (first < 0) return null;
    const hole = this.#zeroes.isZero(first);
    const most = Math.max(1, Math.floor((hole ? HOLE_RUN_BYTES_MAX : RUN_BYTES_MAX) / dirty.regionBytes));
    let regions = 1;
    while (regions < most) {
      const next = first + regions;
      if (next >= dirty.regions || !dirty.has(next) || this.#taken.has(next) || this.#zeroes.isZero(next) !== hole) break;
      regions += 1;
    }
    const offset = first * dirty.regionBytes;
    const length = Math.min(dirty.sizeBytes, (first + regions) * dirty.regionBytes) - offset;
    return { first, regions, offset, length, hole };
  }

  #nextFree(from: number): number {
    let region = this.#options.dirty.next(from);
    while (region >= 0 && this.#taken.has(region)) region = this.#options.dirty.next(region + 1);
    return region;
  }

  async #copy(run: Run): Promise<void> {
    const { lock, dirty } = this.#options;
    let entry = await hold(lock, run.offset, run.length);
    let applied: Promise<unknown> = Promise.resolve();
    try {
      // While it waited for the lock, a host may have filled the hole: then it is read like anything else.
      const stillHole = run.hole && this.#zeroes.allZero(run.first, run.regions) && this.#knownAsZero(run);
      let data: Buffer | null | undefined = stillHole ? null : undefined;
      if (!stillHole && !this.#stopped) {
        const reading = this.#read(run);
        const inTime = await within(
          this.#options.clock,
          LOCKED_READ_MS,
          reading.then((read) => ({ read })),
        );
        if (inTime !== undefined) data = inTime.read;
        else [entry, data] = await this.#awaitUnlocked(run, reading, entry);
        if (data) await this.#correct(run, data);
      }
      if (!this.#stopped && data !== undefined) {
        // First: a refusal, even one that comes at once, makes it dirty again.
        dirty.clearRange(run.offset, run.length);
        applied = this.#apply(run, data);
      }
    } finally {
      for (let region = run.first; region < run.first + run.regions; region += 1) this.#taken.delete(region);
      lock.release(entry);
    }
    await applied;
    this.#runs -= 1;
    this.#wake?.();
    this.#options.progressed();
    this.poke();
  }

  /** Gives the range back until the source answers; what it then says counts if nobody wrote there meanwhile. */
  async #awaitUnlocked(run: Run, reading: Promise<Buffer | undefined>, held: LockEntry): Promise<[LockEntry, Buffer | undefined]> {
    const { lock, sums } = this.#options;
    const watch = { offset: run.offset, end: run.offset + run.length, touched: false };
    sums.watch(watch);
    lock.release(held);
    const data = await reading;
    const entry = await hold(lock, run.offset, run.length);
    sums.unwatch(watch);
    return [entry, watch.touched ? undefined : data];
  }

  /** Does nothing that is known say that there is something else than zeroes? */
  #knownAsZero(run: Run): boolean {
    const { sums, hasher, dirty } = this.#options;
    for (let region = run.first; region < run.first + run.regions; region += 1) {
      const known = sums.get(region);
      const length = Math.min(dirty.regionBytes, dirty.sizeBytes - region * dirty.regionBytes);
      if (known !== null && known !== zeroSum(hasher, length)) return false;
    }
    return true;
  }

  /** A region of the source that is not what its checksum says is taken from a copy that has it right, if there is one. Under the run's lock. */
  async #correct(run: Run, data: Buffer): Promise<void> {
    const { sums, hasher, dirty, elsewhere, sourceWrong } = this.#options;
    for (let at = 0; at < run.length; at += dirty.regionBytes) {
      const known = sums.get(run.first + at / dirty.regionBytes);
      const piece = data.subarray(at, Math.min(run.length, at + dirty.regionBytes));
      if (known === null || hasher.sum(piece) === known) continue;
      const right = await elsewhere(run.offset + at, piece.length, (found) => hasher.sum(found) === known);
      right?.copy(piece);
      sourceWrong(run.offset + at, right !== null);
    }
  }

  /** Undefined: the source refused, the regions stay dirty and are tried again later. */
  async #read(run: Run): Promise<Buffer | undefined> {
    const request = new PromisedRequest(OP.READ, run.offset, run.length);
    const errno = await perform(this.#options.source(), request);
    if (errno === 0) return request.data!;
    this.#options.sourceRefused(run.offset, errno);
    if (!this.#retrying) {
      this.#retrying = true;
      this.#options.clock.after(SOURCE_RETRY_MS, () => {
        this.#retrying = false;
        this.poke();
      });
    }
    return undefined;
  }

  /** Puts the run into the queue in pieces of like regions; null data: all zero. Resolves when all of it was answered. */
  #apply(run: Run, data: Buffer | null): Promise<unknown> {
    const { dirty, sums, hasher, blank } = this.#options;
    const answers: Promise<void>[] = [];
    let from = 0;
    while (from < run.length) {
      const zero = data === null || isZero(data, from, dirty.regionBytes);
      let to = from;
      do {
        const end = Math.min(run.length, to + dirty.regionBytes);
        const region = (run.offset + to) / dirty.regionBytes;
        // What is known stays known: bytes that it denies do not become right by being copied.
        if (sums.get(region) === null) sums.set(region, data === null ? zeroSum(hasher, end - to) : hasher.sum(data.subarray(to, end)));
        to = end;
      } while (to < run.length && (data === null || isZero(data, to, dirty.regionBytes)) === zero);
      const offset = run.offset + from;
      const length = to - from;
      if (!zero) {
        blank?.clearTouched(offset, length);
        answers.push(this.#push(OP.WRITE, offset, length, data!.subarray(from, to)));
      } else if (blank === null || !blank.allIn(offset, length)) {
        answers.push(this.#push(OP.ZEROES, offset, length, null));
      }
      from = to;
    }
    return Promise.all(answers);
  }

  #push(op: typeof OP.WRITE | typeof OP.ZEROES, offset: number, length: number, data: Buffer | null): Promise<void> {
    assert(length > 0, 'a copy has at least a byte');
    return new Promise((resolve) => {
      this.#options.queue.push({ op, offset, length, data, punch: true }, ORIGIN.COPY, () => resolve());
    });
  }
}

interface Run {
  first: number;
  regions: number;
  offset: number;
  length: number;
  hole: boolean;
}

const ZERO_REGION = Buffer.alloc(RUN_BYTES_MAX);
const zeroSums = new Map<number, bigint>();

function zeroSum(hasher: Hasher, length: number): bigint {
  let sum = zeroSums.get(length);
  if (sum === undefined) {
    sum = hasher.sum(Buffer.alloc(length));
    zeroSums.set(length, sum);
  }
  return sum;
}

function isZero(data: Buffer, from: number, regionBytes: number): boolean {
  const to = Math.min(data.length, from + regionBytes);
  return data[from] === 0 && data.compare(ZERO_REGION, 0, to - from, from, to) === 0;
}
