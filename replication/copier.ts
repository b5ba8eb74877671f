// Brings a mirror's dirty regions over (rule 2), a few runs at a time: under the range's lock it reads the source, learns
// the checksums, puts the bytes into the mirror's queue and clears the dirty bits, all before a host may write there
// again. So nothing is ever copied twice for a write meanwhile, and copying ends under any load. What reads as zero on
// the source is not sent to ranges of the mirror that are proven zero (rule 6). What the source refuses to read comes last: from
// another copy if one has it, else in ever smaller pieces, until only what nobody can give is left, which is declared lost.
import assert from 'node:assert';
import type { Bitmap } from './bitmap.js';
import { type Device, OP, PromisedRequest, perform } from './device.js';
import type { Hasher } from './hasher.js';
import type { LostData } from './lost-data.js';
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
/** So often a region is asked for before what of it cannot be read is given up. */
const TRIES = 16;
/** More regions than these are not kept in mind as refused; so many refusals in a row, and nothing is asked for a while. */
const REFUSED_MAX = 1024;
const REFUSED_IN_A_ROW = 16;

export interface CopierOptions {
  source(): Device;
  lock: RangeLock;
  sums: RegionSums;
  hasher: Hasher;
  throttle: Throttle;
  clock: Clock;
  queue: ReplicationQueue;
  dirty: Bitmap;
  /** The smallest piece that is given up by itself, in bytes; a region has a whole number of them. */
  blockBytes: number;
  lost: LostData;
  /** Regions of the mirror that read as zero because nothing was ever written there; null: nothing is known. */
  blank: Bitmap | null;
  /** Called when a run is on the mirror, when nothing is dirty any more, and when the source refused a read. */
  progressed(): void;
  sourceRefused(offset: number, length: number, errno: number): void;
  /** Reads a range from another copy that lacks nothing there, under its lock; null: there is none, or it does not answer in time. */
  elsewhere(offset: number, length: number, isRight: (data: Buffer) => boolean): Promise<Buffer | null>;
  /** Is there another copy that lacks nothing there, whether it answers or not? */
  mayBeElsewhere(offset: number, length: number): boolean;
  /** The source's bytes of a region are not those of its checksum. `foundElsewhere`: another copy had the right ones, which are copied. */
  sourceWrong(offset: number, foundElsewhere: boolean): void;
}

export class Copier {
  readonly #options: CopierOptions;
  readonly #zeroes: ZeroMap;
  /** Regions some run is at work on: dirty still, but taken. */
  readonly #taken = new Set<number>();
  /** Regions that the source refused to read: how often by themselves, and when they are asked for again. */
  readonly #refused = new Map<number, { tries: number; notBeforeMs: number }>();
  #refusedBy: Device | null = null;
  #refusedInARow = 0;
  /** Writes that failed on the source, and how many of them a flush has come after. */
  #failures = 0;
  #flushedFailures = 0;
  /** Offset of a region that the source gave lately; -1: none. */
  #given = -1;
  #cursor = 0;
  #runs = 0;
  #enabled = false;
  #stopped = false;
  #looping = false;
  /** The source refuses everything: it is left alone for a while. */
  #resting = false;
  #waking = false;
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

  /** A write failed on the source: who knows what of it is there, and it would go with the source's power. */
  sourceUnsure(): void {
    this.#failures += 1;
  }

  /** The target is another than it was: nothing there is known to be zero. */
  forgetBlank(): void {
    this.#options.blank?.clearAll();
  }

  /** The volume has become larger. Before `dirty` is. */
  grow(sizeBytes: number): void {
    const { blank } = this.#options;
    this.#zeroes.grow(sizeBytes);
    blank?.clearTouched(blank.sizeBytes - 1, 1);
    blank?.grow(sizeBytes);
  }

  async #loop(): Promise<void> {
    this.#looping = true;
    try {
      while (this.#enabled && !this.#stopped && !this.#resting) {
        const run = this.#nextRun();
        if (run === null) {
          this.#wakeLater();
          break;
        }
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
    if (first < 0) return this.#nextRefused();
    const hole = this.#zeroes.isZero(first);
    const most = Math.max(1, Math.floor((hole ? HOLE_RUN_BYTES_MAX : RUN_BYTES_MAX) / dirty.regionBytes));
    let regions = 1;
    while (regions < most) {
      const next = first + regions;
      if (next >= dirty.regions || !this.#isFree(next) || this.#zeroes.isZero(next) !== hole) break;
      regions += 1;
    }
    return this.#run(first, regions, hole);
  }

  #run(first: number, regions: number, hole: boolean): Run {
    const { dirty } = this.#options;
    const offset = first * dirty.regionBytes;
    const length = Math.min(dirty.sizeBytes, (first + regions) * dirty.regionBytes) - offset;
    return { first, regions, offset, length, hole };
  }

  #nextFree(from: number): number {
    let region = this.#options.dirty.next(from);
    while (region >= 0 && !this.#isFree(region)) region = this.#options.dirty.next(region + 1);
    return region;
  }

  #isFree(region: number): boolean {
    return this.#options.dirty.has(region) && !this.#taken.has(region) && !this.#refused.has(region);
  }

  /** When there is nothing else: what was refused, each region by itself. */
  #nextRefused(): Run | null {
    const { dirty, clock } = this.#options;
    for (const [region, { notBeforeMs }] of this.#refused) {
      if (!dirty.has(region) && !this.#taken.has(region)) this.#refused.delete(region);
      else if (!this.#taken.has(region) && clock.nowMs() >= notBeforeMs) return this.#run(region, 1, false);
    }
    return null;
  }

  /** What was refused is asked for again. */
  #wakeLater(): void {
    if (this.#waking || (this.#refused.size === 0 && !this.#resting)) return;
    this.#waking = true;
    this.#options.clock.after(SOURCE_RETRY_MS, () => {
      this.#waking = false;
      this.#resting = false;
      this.poke();
    });
  }

  async #copy(run: Run): Promise<void> {
    const { lock, dirty } = this.#options;
    let entry = await hold(lock, run.offset, run.length);
    let applied: Promise<unknown> = Promise.resolve();
    try {
      // While it waited for the lock, a host may have filled the hole: then it is read like anything else.
      // Or the volume has grown, and its short last region, which is then taken anew.
      const whole = run.length === this.#run(run.first, run.regions, run.hole).length;
      const stillHole = whole && run.hole && this.#zeroes.allZero(run.first, run.regions) && this.#knownAsZero(run);
      let found: Found | undefined = stillHole ? { data: null, lost: [] } : undefined;
      if (!stillHole && whole && !this.#stopped) {
        const reading = this.#read(run);
        const inTime = await within(
          this.#options.clock,
          LOCKED_READ_MS,
          reading.then((read) => ({ read })),
        );
        if (inTime !== undefined) found = inTime.read;
        else [entry, found] = await this.#awaitUnlocked(run, reading, entry);
        if (found !== undefined && !(await this.#settle(run, found))) {
          this.#wasRefused(run);
          found = undefined;
        }
      }
      if (!this.#stopped && found !== undefined) {
        for (let region = run.first; region < run.first + run.regions; region += 1) this.#refused.delete(region);
        // First: a refusal, even one that comes at once, makes it dirty again.
        dirty.clearRange(run.offset, run.length);
        applied = this.#apply(run, found.data);
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
  async #awaitUnlocked(run: Run, reading: Promise<Found | undefined>, held: LockEntry): Promise<[LockEntry, Found | undefined]> {
    const { lock, sums } = this.#options;
    const watch = { offset: run.offset, end: run.offset + run.length, touched: false };
    sums.watch(watch);
    lock.release(held);
    const found = await reading;
    const entry = await hold(lock, run.offset, run.length);
    sums.unwatch(watch);
    return [entry, watch.touched ? undefined : found];
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

  /** May what was found be copied? Under the run's lock. */
  async #settle(run: Run, { data, lost }: Found): Promise<boolean> {
    if (data === null) return true;
    if (lost.length === 0) {
      await this.#correct(run, data);
      return true;
    }
    return this.#options.lost.declare(lost, 'the active target cannot read it, and no other copy has it');
  }

  /** Undefined: the source refused, the regions stay dirty and are tried again later. */
  async #read(run: Run): Promise<Found | undefined> {
    const source = this.#options.source();
    if (!(await this.#flushed(source))) return undefined;
    const request = new PromisedRequest(OP.READ, run.offset, run.length);
    const errno = await perform(source, request);
    if (errno === 0) {
      this.#given = run.offset;
      this.#refusedInARow = 0;
      return { data: request.data!, lost: [] };
    }
    this.#options.sourceRefused(run.offset, run.length, errno);
    if (source !== this.#refusedBy) this.#refused.clear();
    this.#refusedBy = source;
    const data = await this.#fromElsewhere(run);
    if (data !== null) return { data, lost: [] };
    if (this.#mayGiveUp(run)) {
      const salvaged = await this.#salvage(run, source);
      if (salvaged !== undefined && this.#isKnown(run, salvaged.lost)) return salvaged;
    }
    this.#wasRefused(run);
    return undefined;
  }

  /** What is read next would survive the source's loss of power. False: it refuses to flush, and is left alone for a while. */
  async #flushed(source: Device): Promise<boolean> {
    while (this.#flushedFailures < this.#failures) {
      const covered = this.#failures;
      if ((await perform(source, new PromisedRequest(OP.FLUSH, 0, 0))) !== 0) {
        this.#resting = true;
        this.#wakeLater();
        return false;
      }
      this.#flushedFailures = covered;
    }
    return true;
  }

  /** One region that another mirror has. */
  async #fromElsewhere(run: Run): Promise<Buffer | null> {
    if (run.regions > 1) return null;
    const { sums, hasher, elsewhere } = this.#options;
    const known = sums.get(run.first);
    return elsewhere(run.offset, run.length, (data) => known === null || hasher.sum(data) === known);
  }

  /** Not while there is a copy that has it, though that does not answer now. */
  #mayGiveUp(run: Run): boolean {
    if (run.regions > 1) return false;
    const { lost, mayBeElsewhere } = this.#options;
    return lost.overlaps(run.offset, run.length) || (this.#isTried(run) && !mayBeElsewhere(run.offset, run.length));
  }

  /** Was it asked for often enough, or is no more of it refused than what is lost already? */
  #isKnown(run: Run, pieces: readonly LostPiece[]): boolean {
    const { lost, mayBeElsewhere } = this.#options;
    if (this.#isTried(run) && !mayBeElsewhere(run.offset, run.length)) return true;
    return pieces.every(({ offset, end }) => lost.overlaps(offset, end - offset));
  }

  #isTried(run: Run): boolean {
    return (this.#refused.get(run.first)?.tries ?? 0) >= TRIES;
  }

  /** From now on each region by itself, and after all others. */
  #wasRefused(run: Run): void {
    const nowMs = this.#options.clock.nowMs();
    const alone = run.regions === 1;
    for (let region = run.first; region < run.first + run.regions; region += 1) {
      if (!this.#refused.has(region) && this.#refused.size >= REFUSED_MAX) {
        this.#resting = true;
        break;
      }
      const tries = (this.#refused.get(region)?.tries ?? 0) + (alone ? 1 : 0);
      // At the end of the line.
      this.#refused.delete(region);
      this.#refused.set(region, { tries, notBeforeMs: nowMs + (alone ? SOURCE_RETRY_MS : 0) });
    }
    this.#refusedInARow += 1;
    if (this.#refusedInARow >= REFUSED_IN_A_ROW) this.#resting = true;
    this.#wakeLater();
  }

  /** A region in pieces: what cannot be read is zero in what is given. Undefined: the source may refuse everything, or is another one by now. */
  async #salvage(run: Run, source: Device): Promise<Found | undefined> {
    const data = Buffer.alloc(run.length);
    let lost = await this.#readPieces(source, data, run.offset, 0, run.length);
    // It may have refused everything until a moment ago: only what it refuses between two answers is not there.
    if (lost.length > 0 && (await this.#answers(run, source, lost))) {
      const again = lost;
      lost = [];
      for (const { offset, end } of again)
        lost.push(...(await this.#readPieces(source, data, run.offset, offset - run.offset, end - run.offset)));
    }
    const certain = lost.length === 0 || (await this.#answers(run, source, lost));
    return certain && !this.#stopped && this.#options.source() === source ? { data, lost } : undefined;
  }

  /** Reads [from, to) of `data`, which begins at `offset` of the volume, and what cannot be read at once in halves. Gives what cannot be read at all. */
  async #readPieces(source: Device, data: Buffer, offset: number, from: number, to: number): Promise<LostPiece[]> {
    const { blockBytes, source: now } = this.#options;
    const piece = { offset: offset + from, end: offset + to };
    if (this.#stopped || now() !== source) return [piece];
    const request = new PromisedRequest(OP.READ, piece.offset, to - from);
    if ((await perform(source, request)) === 0) {
      request.data!.copy(data, from);
      return [];
    }
    if (to - from <= blockBytes) return [piece];
    const middle = from + Math.ceil((to - from) / 2 / blockBytes) * blockBytes;
    const first = await this.#readPieces(source, data, offset, from, middle);
    return [...first, ...(await this.#readPieces(source, data, offset, middle, to))];
  }

  /** Does the source give anything but what is lost of this region? One that refuses everything says nothing of it. */
  async #answers(run: Run, source: Device, lost: readonly LostPiece[]): Promise<boolean> {
    const { dirty, blockBytes } = this.#options;
    const regions = [run.first - 1, run.first + 1, 0, dirty.regions - 1].map((region) => region * dirty.regionBytes);
    const others = [this.#given, ...regions].filter((offset) => offset >= 0 && offset < dirty.sizeBytes && offset !== run.offset);
    const pieces = others.map((offset) => ({ offset, end: Math.min(dirty.sizeBytes, offset + dirty.regionBytes) }));
    // The first block of it that is not lost.
    let here = run.offset;
    for (const { offset, end } of lost) if (offset === here) here = end;
    if (here < run.offset + run.length) pieces.unshift({ offset: here, end: Math.min(run.offset + run.length, here + blockBytes) });
    for (const { offset, end } of pieces)
      if ((await perform(source, new PromisedRequest(OP.READ, offset, end - offset))) === 0) return true;
    return false;
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

interface LostPiece {
  /** Bytes of the volume. */
  offset: number;
  end: number;
}

/** The bytes of a run; null: all zero. `lost`: where that is not what they are, because nobody has them. */
interface Found {
  data: Buffer | null;
  lost: LostPiece[];
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
