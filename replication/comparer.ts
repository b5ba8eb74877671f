// Compares a range of a volume on all its copies while hosts write, and mends the copy that is wrong. It reads without a
// lock and looks again under the region's lock, with the mirror's queue empty there, before it believes a difference (rule
// 17). Which copy is right is told by the stored checksum, or by the majority of three or more; where neither can tell,
// nothing is overwritten and the damage is reported (rule 16).
import { type Device, OP, PromisedRequest, perform } from './device.js';
import type { Hasher } from './hasher.js';
import type { Mirror } from './mirror.js';
import { hold, type RangeLock } from './range-lock.js';
import type { RegionSums } from './region-sums.js';
import { ORIGIN } from './replication-queue.js';
import type { Throttle } from './throttle.js';
import { type Clock, sleep, within } from './world.js';

const PIECE_BYTES = 1024 * 1024;
/** How often a range is read without its lock, when hosts write to it meanwhile, before it is looked at under the lock. */
const TRIES = 2;
const QUEUE_WAIT_MS = 1000;
/** Under a lock a copy must answer within this: hosts' writes to the region wait for it. */
const LOCKED_READ_MS = 2000;

/** Why a region is damaged though the copies do not differ. */
export const ROTTEN = 'every copy that was read has the same bytes, and they are not those of the stored checksum';

export interface ComparedCopy {
  /** For people: the node and export. */
  name: string;
  device: Device;
  /** Null: the active target. */
  mirror: Mirror | null;
}

export interface Mismatch {
  offset: number;
  lengthBytes: number;
  /** The copy that was wrong; empty when nobody can tell. */
  wrong: string;
  repaired: boolean;
  reason: string;
}

/**
 * wrong: other bytes than the right copy. unreadable: it, or every copy, refuses to be read there. undecided: copies differ and nobody
 * can tell. rotten: they are alike, and not what the checksum says.
 */
export type MismatchKind = 'wrong' | 'unreadable' | 'undecided' | 'rotten';

export interface ComparerOptions {
  /** The active copy first; asked again for every range, because a flip may come in between. */
  copies(): ComparedCopy[];
  lock: RangeLock;
  sums: RegionSums;
  hasher: Hasher;
  throttle: Throttle;
  clock: Clock;
  /** Is some of it lost? Then copies may differ there, and none of it is compared. */
  isLost(offset: number, length: number): boolean;
  found(mismatch: Mismatch, kind: MismatchKind): void;
  /** Regions from `first` to before `end` were looked at on every copy, from this moment on (monotonic). */
  compared(first: number, end: number, begunMs: number): void;
}

/** all: every copy was looked at; some: one that does not answer was left out; none: there is nothing to compare with, or it was stopped. */
export type Compared = 'all' | 'some' | 'none';

export class Comparer {
  readonly #options: ComparerOptions;
  #stopped = false;

  constructor(options: ComparerOptions) {
    this.#options = options;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Compares a range that begins and ends with regions, or with the volume as it is or was. Regions found equal on every copy become verified. */
  async compare(offset: number, wanted: number): Promise<Compared> {
    const { sums, throttle, lock } = this.#options;
    const begunMs = this.#options.clock.nowMs();
    const suspects = new Set<number>();
    const first = offset / sums.regionBytes;
    const regions = Math.ceil(wanted / sums.regionBytes);
    let settled = false;
    for (let attempt = 0; attempt < TRIES && !settled; attempt += 1) {
      await throttle.take(wanted * this.#present().length);
      // The volume may have grown meanwhile, and its short last region with it.
      const length = Math.min(regions * sums.regionBytes, sums.sizeBytes - offset);
      const copies = this.#present();
      if (this.#alone(copies)) return 'none';
      const watch = { offset, end: offset + length, touched: lock.overlaps(offset, length) };
      sums.watch(watch);
      const columns = await Promise.all(copies.map((copy) => this.#sumsOf(copy, offset, length)));
      sums.unwatch(watch);
      if (this.#alone(this.#present())) return 'none';
      if (watch.touched) continue;
      settled = true;
      for (let at = 0; at < regions; at += 1) {
        if (this.#isLost(first + at)) continue;
        const sum = columns[0]?.[at];
        const equal = sum !== undefined && columns.every((column) => column?.[at] === sum);
        if (equal && this.#mayBe(first + at, sum)) this.#equal(first + at, sum, copies);
        else suspects.add(first + at);
      }
    }
    if (!settled) for (let at = 0; at < regions; at += 1) suspects.add(first + at);
    for (const region of suspects) {
      if (this.#stopped) return 'none';
      await this.#decide(region);
    }
    if (this.#present().length < this.#options.copies().length) return 'some';
    this.#options.compared(first, first + regions, begunMs);
    return 'all';
  }

  /** The copies that answer. One that does not would only be waited for. */
  #present(): ComparedCopy[] {
    return this.#options.copies().filter(({ mirror }) => mirror === null || mirror.answers);
  }

  /** The mirrors are gone or do not answer: there is nothing to compare with, and perhaps nobody keeps checksums true any more. */
  #alone(copies: ComparedCopy[]): boolean {
    return this.#stopped || copies.length < 2;
  }

  #isLost(region: number): boolean {
    const { sums, isLost } = this.#options;
    return isLost(region * sums.regionBytes, sums.regionBytes);
  }

  /** Does what is known of the region allow this checksum? */
  #mayBe(region: number, sum: bigint): boolean {
    const known = this.#options.sums.get(region);
    return known === null || known === sum;
  }

  /** Verified is what every copy was read with; where one does not answer, the checksum alone is learnt. */
  #equal(region: number, sum: bigint, copies: ComparedCopy[]): void {
    if (copies.length === this.#options.copies().length) this.#options.sums.verify(region, sum);
    else this.#options.sums.set(region, sum);
  }

  /** Checksums of each region of a copy's range; undefined: it could not be read, or must not be believed there now. */
  async #sumsOf(copy: ComparedCopy, offset: number, length: number): Promise<bigint[] | undefined> {
    if (copy.mirror !== null && !copy.mirror.mayRead(offset, length)) return undefined;
    const sums: bigint[] = [];
    const pieces: Promise<bigint[] | undefined>[] = [];
    for (let from = offset; from < offset + length; from += PIECE_BYTES) {
      const piece = Math.min(PIECE_BYTES, offset + length - from);
      pieces.push(this.#read(copy.device, from, piece).then((data) => (data === null ? undefined : this.#hash(data))));
    }
    for (const piece of await Promise.all(pieces)) {
      if (piece === undefined) return undefined;
      sums.push(...piece);
    }
    // A target that came back without what it held was read as what it is now.
    return copy.mirror === null || copy.mirror.mayRead(offset, length) ? sums : undefined;
  }

  /** Undefined: the checksums cannot be computed. Nothing can be compared then, so it ends. */
  async #hash(data: Buffer): Promise<bigint[] | undefined> {
    try {
      return await this.#options.hasher.sums(data, this.#options.sums.regionBytes);
    } catch {
      this.#stopped = true;
      return undefined;
    }
  }

  async #read(device: Device, offset: number, length: number): Promise<Buffer | null> {
    const request = new PromisedRequest(OP.READ, offset, length);
    return (await perform(device, request)) === 0 ? request.data : null;
  }

  /** Looks at one region under its lock and does what must be done. */
  async #decide(region: number): Promise<void> {
    const { sums, lock, hasher } = this.#options;
    const offset = region * sums.regionBytes;
    const entry = await hold(lock, offset, sums.regionBytes);
    try {
      if (this.#isLost(region)) return;
      const length = Math.min(sums.regionBytes, sums.sizeBytes - offset);
      const copies: ComparedCopy[] = [];
      for (const copy of this.#present()) {
        if (copy.mirror === null || (await this.#quiet(copy.mirror, offset, length))) copies.push(copy);
      }
      if (copies.length < 2 && sums.get(region) === null) return;
      const inTime = await Promise.all(copies.map((copy) => this.#readInTime(copy.device, offset, length)));
      // Late says nothing about the bytes: another pass will look again.
      if (inTime.includes(undefined) || !this.#stillThere(copies)) return;
      // A mirror whose target came back without what it held was right a moment ago.
      if (!copies.every(({ mirror }) => mirror === null || mirror.mayRead(offset, length))) return;
      const contents = inTime as (Buffer | null)[];
      const found = contents.map((data) => (data === null ? null : hasher.sum(data)));
      if (found.every((sum) => sum !== null && sum === found[0])) {
        if (copies.length < 2) return;
        if (this.#mayBe(region, found[0]!)) this.#equal(region, found[0]!, copies);
        else this.#options.found({ offset, lengthBytes: length, wrong: '', repaired: false, reason: ROTTEN }, 'rotten');
        return;
      }
      await this.#mend(region, offset, length, copies, contents, found);
    } finally {
      lock.release(entry);
    }
  }

  async #mend(
    region: number,
    offset: number,
    length: number,
    copies: ComparedCopy[],
    contents: (Buffer | null)[],
    found: (bigint | null)[],
  ): Promise<void> {
    const { sums } = this.#options;
    const known = sums.get(region);
    const rightSum = known !== null && found.includes(known) ? known : known === null ? (unanimous(found) ?? majority(found)) : null;
    const right = rightSum === null ? -1 : found.indexOf(rightSum);
    for (let at = 0; at < copies.length; at += 1) {
      if (right >= 0 && found[at] === rightSum) continue;
      const copy = copies[at];
      if (right < 0) {
        if (at > 0) continue;
        const kind = found.every((sum) => sum === null) ? 'unreadable' : 'undecided';
        this.#options.found({ offset, lengthBytes: length, wrong: '', repaired: false, reason: undecided(known, found) }, kind);
        continue;
      }
      const why =
        found[at] === null
          ? 'it could not be read'
          : known !== null
            ? 'its checksum is not the one stored when the data passed'
            : 'most other copies differ from it';
      if (!this.#stillThere(copies)) return;
      const repaired = await this.#rewrite(copy, offset, length, contents[right]!, rightSum!);
      const mismatch = {
        offset,
        lengthBytes: length,
        wrong: copy.name,
        repaired,
        reason: `${why}; ${repaired ? `rewritten from ${copies[right].name} and read back` : 'rewriting it failed'}`,
      };
      this.#options.found(mismatch, found[at] === null ? 'unreadable' : 'wrong');
    }
    if (right >= 0) sums.set(region, rightSum!);
  }

  /** A flip or a lost target may have come in between: then another pass looks again. */
  #stillThere(copies: ComparedCopy[]): boolean {
    const now = this.#options.copies();
    return copies.every((copy) => now.some((other) => other.device === copy.device && other.mirror === copy.mirror));
  }

  /** Writes a copy's region from the right bytes and reads it back. Under the region's lock. */
  async #rewrite(copy: ComparedCopy, offset: number, length: number, data: Buffer, sum: bigint): Promise<boolean> {
    const { mirror } = copy;
    if (mirror === null) {
      if ((await perform(copy.device, new PromisedRequest(OP.WRITE, offset, length, data))) !== 0) return false;
    } else {
      const written = new Promise<number>((resolve) => {
        mirror.queue.push({ op: OP.WRITE, offset, length, data, punch: false }, ORIGIN.COPY, resolve);
      });
      // The queue keeps newer writes behind this one, so the lock need not be held until a slow mirror has it.
      if ((await within(this.#options.clock, LOCKED_READ_MS, written)) !== 0) return false;
    }
    const back = await this.#readInTime(copy.device, offset, length);
    return back !== null && back !== undefined && this.#options.hasher.sum(back) === sum;
  }

  /** Waits until the mirror's queue has nothing for the range; false: not within bounds, or its bytes are not to be believed. */
  async #quiet(mirror: Mirror, offset: number, length: number): Promise<boolean> {
    const untilMs = this.#options.clock.nowMs() + QUEUE_WAIT_MS;
    while (mirror.queue.overlaps(offset, length)) {
      if (this.#options.clock.nowMs() > untilMs || !mirror.usable) return false;
      await sleep(this.#options.clock, 5);
    }
    return mirror.mayRead(offset, length);
  }

  /** Null: refused. Undefined: no answer in time. */
  #readInTime(device: Device, offset: number, length: number): Promise<Buffer | null | undefined> {
    return within(this.#options.clock, LOCKED_READ_MS, this.#read(device, offset, length));
  }
}

/** A copy that cannot be read says nothing: if all others agree they are right. */
function unanimous(found: (bigint | null)[]): bigint | null {
  const read = found.filter((sum) => sum !== null);
  return read.length > 0 && read.length < found.length && read.every((sum) => sum === read[0]) ? read[0] : null;
}

function majority(found: (bigint | null)[]): bigint | null {
  if (found.length < 3) return null;
  for (const sum of found) if (sum !== null && found.filter((other) => other === sum).length * 2 > found.length) return sum;
  return null;
}

function undecided(known: bigint | null, found: (bigint | null)[]): string {
  if (found.every((sum) => sum === null)) return 'no copy could be read';
  return known === null ? 'the copies differ and no checksum says which is right' : 'no copy has the stored checksum';
}
