// What is known of each region's contents (rule 16): its xxh64, and whether every copy was read back with it.
// A checksum is known or unknown. For extents that the intent log marks it lives in memory and dies with the gateway;
// for the others it is a durable record. A record of a marked extent counts for nothing, and it is removed with the mark
// and replaced or removed when the mark is taken away: no stale checksum is ever believed.
//
// Record `sum/<volume>/<extent, 8 hex digits>`: Uint8Array
//   known bits    one for each region of the extent, least significant bit first
//   checksums     8 bytes little endian for each region; 0 where unknown
import assert from 'node:assert';
import { Bitmap } from './bitmap.js';
import { coveringStride } from './stride.js';
import type { Change, Records } from './world.js';

/** Records kept as they were read last: hosts' reads ask for them again and again. */
const KEPT_RECORDS = 256;
/** `samples` does not search long for what is known. */
const LOOKS_PER_SAMPLE = 64;

interface ExtentSums {
  sums: BigUint64Array;
  known: Uint8Array;
  /** Since it was last given to be written to its record. */
  changed: boolean;
}

/** Tells whether a range was written while someone looked at it without its lock. */
export interface RangeWatch {
  offset: number;
  end: number;
  touched: boolean;
}

export class RegionSums {
  readonly regionBytes: number;
  readonly #records: Records;
  readonly #prefix: string;
  readonly #perExtent: number;
  readonly #isMarked: (extent: number) => boolean;
  readonly #isClean: (extent: number) => boolean;
  readonly #isLost: (region: number) => boolean;
  readonly #isDoubtful: (offset: number, length: number) => boolean;
  readonly #memory = new Map<number, ExtentSums>();
  /** Of extents that are not in memory, what their records say; null: nothing. */
  readonly #read = new Map<number, ExtentSums | null>();
  /** Regions that a scrub read from every copy and found equal, and that were not written since. */
  readonly verified: Bitmap;
  #root = 0n;
  #learning = true;
  /** The region `samples` looked at last. */
  #cursor = 0;
  readonly #watches = new Set<RangeWatch>();

  constructor(options: {
    records: Records;
    volume: string;
    sizeBytes: number;
    regionBytes: number;
    extentBytes: number;
    /** Does the intent log mark the extent? And: does it neither mark it nor is about to, nor is it about to stop? */
    isMarked(extent: number): boolean;
    /** May an old request still land there on some copy? Then nothing that is seen there is known. */
    isDoubtful(offset: number, length: number): boolean;
    isClean(extent: number): boolean;
    /** Is some of it lost? Then copies may differ there, and nothing is known of it. */
    isLost(offset: number, length: number): boolean;
  }) {
    this.regionBytes = options.regionBytes;
    this.#records = options.records;
    this.#prefix = `sum/${options.volume}/`;
    this.#perExtent = options.extentBytes / options.regionBytes;
    this.#isMarked = (extent) => options.isMarked(extent);
    this.#isClean = (extent) => options.isClean(extent);
    this.#isLost = (region) => options.isLost(region * options.regionBytes, options.regionBytes);
    this.#isDoubtful = (offset, length) => options.isDoubtful(offset, length);
    this.verified = new Bitmap(options.sizeBytes, options.regionBytes);
  }

  /** Of the volume. */
  get sizeBytes(): number {
    return this.verified.sizeBytes;
  }

  /** Over the checksums of the verified regions, hex; null: none is. Equal for every copy, because each was read. */
  get root(): string | null {
    return this.verified.count === 0 ? null : this.#root.toString(16).padStart(16, '0');
  }

  get(region: number): bigint | null {
    // Nobody keeps them true, and the records may not be gone yet.
    if (!this.#learning || this.#isLost(region)) return null;
    const extent = Math.floor(region / this.#perExtent);
    const sums = this.#memory.get(extent) ?? this.#recorded(extent);
    const at = region % this.#perExtent;
    return sums !== null && (sums.known[at >>> 3] & (1 << (at & 7))) !== 0 ? sums.sums[at] : null;
  }

  /** The region was seen whole with this checksum. Only under its lock. Where something is in doubt, that says nothing yet. */
  set(region: number, sum: bigint): void {
    if (!this.#learning || this.#isLost(region) || this.#isDoubtful(region * this.regionBytes, this.regionBytes)) return;
    const known = this.get(region);
    if (known === sum) return;
    if (known !== null && this.verified.has(region)) this.#unverify(region);
    const extent = Math.floor(region / this.#perExtent);
    let sums = this.#memory.get(extent);
    if (sums === undefined) {
      sums = this.#stored(extent) ?? this.#blank();
      this.#memory.set(extent, sums);
    }
    const at = region % this.#perExtent;
    sums.sums[at] = sum;
    sums.known[at >>> 3] |= 1 << (at & 7);
    sums.changed = true;
  }

  /** Every copy of the region was read and has this checksum. */
  verify(region: number, sum: bigint): void {
    this.set(region, sum);
    if (this.get(region) !== sum || this.verified.has(region)) return;
    this.verified.add(region);
    this.#root ^= mix(region, sum);
  }

  /** The copies were found to differ there. What is known of its checksum stays. */
  unverify(region: number): void {
    if (this.verified.has(region)) this.#unverify(region);
  }

  /** The same for every region that the range touches. */
  unverifyRange(offset: number, end: number): void {
    for (let region = Math.floor(offset / this.regionBytes); region * this.regionBytes < end; region += 1) this.unverify(region);
  }

  /** No checksum of a record counts for a while: what rests on them is not verified any more. */
  unverifyAll(): void {
    this.verified.clearAll();
    this.#root = 0n;
  }

  /** From now on writes to the watched range are noted in it. */
  watch(range: RangeWatch): void {
    this.#watches.add(range);
  }

  unwatch(range: RangeWatch): void {
    this.#watches.delete(range);
  }

  /** The first of the `looks` regions from `from` on that was not read back on every copy and is in an extent that rests; -1: none. */
  nextUnverified(from: number, looks: number): number {
    const end = Math.min(this.verified.regions, from + looks);
    for (let region = from; region < end; region += 1) {
      const extent = Math.floor(region / this.#perExtent);
      if (!this.#isClean(extent)) region = (extent + 1) * this.#perExtent - 1;
      else if (!this.verified.has(region) && !this.#isLost(region)) return region;
    }
    return -1;
  }

  /** The range is about to be written: nothing is known of it any more. Its extents must be marked already. */
  forget(offset: number, lengthBytes: number): void {
    for (const watch of this.#watches) if (offset < watch.end && offset + lengthBytes > watch.offset) watch.touched = true;
    if (this.#memory.size === 0 && this.verified.count === 0) return;
    const last = Math.floor((offset + lengthBytes - 1) / this.regionBytes);
    for (let region = Math.floor(offset / this.regionBytes); region <= last; region += 1) {
      if (this.verified.has(region)) this.#unverify(region);
      const sums = this.#memory.get(Math.floor(region / this.#perExtent));
      const at = region % this.#perExtent;
      if (sums === undefined) continue;
      sums.known[at >>> 3] &= ~(1 << (at & 7));
      sums.changed = true;
    }
  }

  /** To be committed together with the mark of an extent: from then on its checksums are in memory only. */
  onMark(extent: number): Change {
    this.#read.delete(extent);
    // While everything is being dropped the record may still be there: it counts for nothing.
    if (this.#learning && !this.#memory.has(extent)) {
      const sums = this.#stored(extent);
      if (sums !== null) this.#memory.set(extent, sums);
    }
    return { remove: this.#key(extent) };
  }

  /** To be committed together with the removal of an extent's mark. */
  onClear(extent: number): Change {
    this.#read.delete(extent);
    const sums = this.#memory.get(extent);
    if (sums !== undefined) sums.changed = false;
    if (sums === undefined || sums.known.every((byte) => byte === 0)) return { remove: this.#key(extent) };
    return { put: this.#key(extent), value: encode(sums) };
  }

  /**
   * The removal of the mark is durable: memory may go, the record has it. Not what was learnt meanwhile, also where that is on
   * its way to the record by now, and not while a mark is being written, because with the mark the record goes.
   */
  cleared(extent: number): void {
    this.#read.delete(extent);
    const sums = this.#memory.get(extent);
    if (sums === undefined || sums.changed || !this.#isClean(extent)) return;
    const stored = this.#records.get(this.#key(extent));
    const isThere = stored instanceof Uint8Array ? Buffer.compare(stored, encode(sums)) === 0 : sums.known.every((byte) => byte === 0);
    if (isThere) this.#memory.delete(extent);
  }

  /** Makes what was learnt of unmarked extents durable and frees its memory. */
  async save(): Promise<void> {
    const extents = [...this.#memory.keys()].filter((extent) => this.#isClean(extent));
    if (extents.length === 0) return;
    await this.#records.commit(extents.map((extent) => this.onClear(extent)));
    for (const extent of extents) this.cleared(extent);
  }

  /** Up to `most` ranges with the checksum each must have, spread over the volume; others each time. `counts`: does the range? */
  samples(
    most: number,
    counts: (offset: number, length: number, sum: bigint) => boolean,
  ): { offset: number; length: number; sum: bigint }[] {
    const { regions, sizeBytes } = this.verified;
    const samples: { offset: number; length: number; sum: bigint }[] = [];
    const looks = Math.min(regions, most * LOOKS_PER_SAMPLE);
    // A stride that visits every region before it comes back to one, in steps that look random.
    const stride = coveringStride(Math.max(1, Math.floor(regions * 0.618)), regions);
    for (let look = 0; look < looks && samples.length < most; look += 1) {
      this.#cursor = (this.#cursor + stride) % regions;
      const sum = this.get(this.#cursor);
      const offset = this.#cursor * this.regionBytes;
      const length = Math.min(this.regionBytes, sizeBytes - offset);
      if (sum !== null && counts(offset, length, sum)) samples.push({ offset, length, sum });
    }
    return samples;
  }

  /**
   * The volume is about to become larger, and with it its short last region, at `region`: what was known of it is of fewer bytes.
   * Gives the changes to commit with that; under the region's lock until it has grown.
   */
  retract(region: number): Change[] {
    const extent = Math.floor(region / this.#perExtent);
    this.#read.delete(extent);
    if (this.#learning && !this.#memory.has(extent)) {
      const sums = this.#stored(extent);
      if (sums !== null) this.#memory.set(extent, sums);
    }
    this.forget(region * this.regionBytes, 1);
    const sums = this.#memory.get(extent);
    // The others of the extent are written again with the next save.
    if (sums !== undefined) sums.changed = true;
    return [{ remove: this.#key(extent) }];
  }

  /** The volume has become larger. Nothing is known of the new part, nor of what was retracted. */
  grow(sizeBytes: number): void {
    this.verified.grow(sizeBytes);
  }

  /** Writes are going to be told of (`forget`): what is seen from now on may be believed. */
  learn(): void {
    this.#learning = true;
  }

  /** Forgets everything, as changes to commit: no mirror is left, so nothing keeps checksums true, and nothing is learnt until `learn`. */
  dropAll(): Change[] {
    this.#learning = false;
    const keys = new Set<string>();
    for (const [key] of this.#records.list(this.#prefix)) keys.add(key);
    // What is being saved at this moment is not in the list yet.
    for (const extent of this.#memory.keys()) keys.add(this.#key(extent));
    this.#memory.clear();
    this.#read.clear();
    this.unverifyAll();
    return [...keys].map((key) => ({ remove: key }));
  }

  #unverify(region: number): void {
    const sum = this.get(region);
    assert(sum !== null, 'what is verified has a checksum');
    this.verified.delete(region);
    this.#root ^= mix(region, sum);
  }

  /** As `#stored`, mostly without reading: only what is asked here first is read anew. */
  #recorded(extent: number): ExtentSums | null {
    if (this.#isMarked(extent)) return null;
    let sums = this.#read.get(extent);
    if (sums === undefined) {
      sums = this.#stored(extent);
      const [oldest] = this.#read.size < KEPT_RECORDS ? [] : this.#read.keys();
      if (oldest !== undefined) this.#read.delete(oldest);
      this.#read.set(extent, sums);
    }
    return sums;
  }

  #stored(extent: number): ExtentSums | null {
    if (this.#isMarked(extent)) return null;
    const value = this.#records.get(this.#key(extent));
    const knownBytes = Math.ceil(this.#perExtent / 8);
    // A record of another shape says nothing: unknown is always safe.
    if (!(value instanceof Uint8Array) || value.length !== knownBytes + this.#perExtent * 8) return null;
    const bytes = Uint8Array.from(value);
    return { known: bytes.slice(0, knownBytes), sums: new BigUint64Array(bytes.slice(knownBytes).buffer), changed: false };
  }

  #blank(): ExtentSums {
    return { sums: new BigUint64Array(this.#perExtent), known: new Uint8Array(Math.ceil(this.#perExtent / 8)), changed: false };
  }

  #key(extent: number): string {
    return this.#prefix + extent.toString(16).padStart(8, '0');
  }
}

function encode(sums: ExtentSums): Uint8Array {
  const bytes = new Uint8Array(sums.known.length + sums.sums.byteLength);
  bytes.set(sums.known);
  bytes.set(new Uint8Array(sums.sums.buffer), sums.known.length);
  return bytes;
}

/** Spreads a region's checksum with its place, so that two regions that swapped contents do not cancel out. */
function mix(region: number, sum: bigint): bigint {
  let value = BigInt.asUintN(64, sum ^ (BigInt(region) * 0x9e3779b97f4a7c15n));
  value = BigInt.asUintN(64, (value ^ (value >> 30n)) * 0xbf58476d1ce4e5b9n);
  value = BigInt.asUintN(64, (value ^ (value >> 27n)) * 0x94d049bb133111ebn);
  return value ^ (value >> 31n);
}
