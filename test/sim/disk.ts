// A node's disk: 512-byte blocks behind a volatile cache. Writes are read back at once and survive a power loss only
// after a flush or FUA; of what was not flushed, each block keeps its durable bytes or any cached version (torn, reordered).
// Faults: latent I/O errors on ranges, blocks that cannot be read until they are written, silent corruption, no space left. Promises no order between unflushed blocks.
import assert from 'node:assert/strict';
import type { Random } from './random.js';

export const BLOCK_BYTES = 512;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/** A write that was executed but not flushed, as the node's protocol side sees it. */
export interface WriteTicket {
  /** When its answer was given to the connection, as the node counts; a flush that arrives later must cover it. Infinity: not yet. */
  answeredAt: number;
  /** Whose flushes cover it; null: anyone's. */
  connection: number | null;
}

interface Version {
  /** BLOCK_BYTES long; null: zeroes. */
  data: Buffer | null;
  ticket: WriteTicket;
}

interface CachedBlock {
  durable: Buffer;
  versions: Version[];
}

export interface BadRange {
  fromBlock: number;
  toBlock: number;
  reads: boolean;
  writes: boolean;
}

export class SimDisk {
  blocks: number;
  contents: Buffer;
  /** 1: allocated. */
  allocated: Uint8Array;
  readonly bad: BadRange[] = [];
  /** Blocks that cannot be read before they are written. */
  readonly worn = new Set<number>();
  /** Writes to blocks that are not allocated fail. */
  full = false;
  /** Its bytes were changed by other than writes. */
  tampered = false;
  /** Not null: another disk stands in its place, and this puts the right one back (see `replace`). */
  putBack: (() => void) | null = null;
  readonly #random: Random;
  readonly #cached = new Map<number, CachedBlock>();
  #writes = 0;

  constructor(sizeBytes: number, random: Random) {
    assert(sizeBytes % BLOCK_BYTES === 0);
    this.blocks = sizeBytes / BLOCK_BYTES;
    this.contents = Buffer.alloc(sizeBytes);
    this.allocated = new Uint8Array(this.blocks);
    this.#random = random;
  }

  get unflushedBlocks(): number {
    return this.#cached.size;
  }

  /** Copies [block, block + count) into `into`. False: an I/O error. */
  read(block: number, count: number, into: Buffer, at: number): boolean {
    if (this.#isBad(block, count, 'reads') || this.#isWorn(block, count)) return false;
    this.contents.copy(into, at, block * BLOCK_BYTES, (block + count) * BLOCK_BYTES);
    return true;
  }

  /** False: an I/O error; some of the blocks may have been written. `data` null: zeroes, given back to the file system with `punch`. */
  write(block: number, count: number, data: Buffer | null, ticket: WriteTicket, punch = false): boolean {
    this.#writes += 1;
    const fails = this.#isBad(block, count, 'writes');
    for (let each = block; each < block + count; each += 1) {
      if (fails && this.#random.chance(0.5)) continue;
      const start = (each - block) * BLOCK_BYTES;
      this.worn.delete(each);
      this.#put(each, data === null ? null : data.subarray(start, start + BLOCK_BYTES), ticket);
      this.allocated[each] = punch ? 0 : 1;
    }
    return !fails;
  }

  hasSpaceFor(block: number, count: number): boolean {
    if (!this.full) return true;
    for (let each = block; each < block + count; each += 1) if (this.allocated[each] === 0) return false;
    return true;
  }

  /** FUA: what `ticket` wrote in these blocks is durable, and with it all that was there before. */
  persist(block: number, count: number, ticket: WriteTicket): void {
    for (let each = block; each < block + count; each += 1) {
      const cached = this.#cached.get(each);
      if (cached === undefined) continue;
      for (let at = cached.versions.length - 1; at >= 0; at -= 1) {
        if (cached.versions[at].ticket !== ticket) continue;
        this.#settle(each, cached, at);
        break;
      }
    }
  }

  /** A flush on `connection` becomes done: every write it must cover is durable, and by chance some that it need not. */
  flush(mustCover: (ticket: WriteTicket) => boolean): void {
    for (const [block, cached] of this.#cached) {
      let least = -1;
      for (let at = cached.versions.length - 1; at >= 0 && least < 0; at -= 1) if (mustCover(cached.versions[at].ticket)) least = at;
      const last = cached.versions.length - 1;
      const upTo = this.#random.chance(0.5) ? last : least === last ? last : this.#random.between(least, last);
      if (upTo >= 0) this.#settle(block, cached, upTo);
    }
  }

  /** A connection is gone: what it wrote is covered by anyone's flush. */
  disown(connection: number): void {
    for (const { versions } of this.#cached.values()) {
      for (const { ticket } of versions) if (ticket.connection === connection) ticket.connection = null;
    }
  }

  /** The cache is lost. Gives how many blocks went back to something older than what was read before. */
  losePower(): number {
    let lost = 0;
    for (const [block, cached] of this.#cached) {
      const last = cached.versions.length - 1;
      const survivor = this.#random.between(-1, last);
      if (survivor === last) continue;
      const data = survivor < 0 ? cached.durable : cached.versions[survivor].data;
      (data ?? ZERO_BLOCK).copy(this.contents, block * BLOCK_BYTES);
      this.allocated[block] = 1;
      lost += 1;
    }
    this.#cached.clear();
    return lost;
  }

  /**
   * Another disk stands in its place, every byte of it `fill`, until `putBack` is called, which does nothing more when the other was
   * written to meanwhile.
   */
  replace(fill: number): void {
    this.tampered = true;
    const contents = Buffer.from(this.contents);
    const allocated = Uint8Array.from(this.allocated);
    const cached = new Map(this.#cached);
    this.contents.fill(fill);
    this.allocated.fill(fill === 0 ? 0 : 1);
    this.#cached.clear();
    const writes = this.#writes;
    this.putBack = () => {
      this.putBack = null;
      if (this.#writes !== writes) return;
      contents.copy(this.contents);
      this.allocated.set(allocated);
      this.#cached.clear();
      for (const [block, versions] of cached) this.#cached.set(block, versions);
    };
  }

  /** It is larger from now on; every byte of the new part is `fill`. */
  grow(sizeBytes: number, fill: number): void {
    assert(sizeBytes % BLOCK_BYTES === 0 && sizeBytes >= this.contents.length);
    const added = sizeBytes - this.contents.length;
    this.contents = Buffer.concat([this.contents, Buffer.alloc(added, fill)]);
    this.allocated = Buffer.concat([this.allocated, Buffer.alloc(added / BLOCK_BYTES, fill === 0 ? 0 : 1)]);
    this.blocks = sizeBytes / BLOCK_BYTES;
  }

  /** Somebody else's data is here. */
  occupy(block: number, count: number): void {
    this.contents.fill(0xdd, block * BLOCK_BYTES, (block + count) * BLOCK_BYTES);
    this.allocated.fill(1, block, block + count);
  }

  /** Changes a byte of a block without a trace. */
  corrupt(block: number): void {
    this.tampered = true;
    this.contents[block * BLOCK_BYTES + this.#random.int(BLOCK_BYTES)] ^= 1 << this.#random.int(8);
    this.allocated[block] = 1;
  }

  isZero(block: number): boolean {
    return ZERO_BLOCK.compare(this.contents, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES) === 0;
  }

  #put(block: number, data: Buffer | null, ticket: WriteTicket): void {
    const at = block * BLOCK_BYTES;
    let cached = this.#cached.get(block);
    if (cached === undefined) {
      cached = { durable: Buffer.from(this.contents.subarray(at, at + BLOCK_BYTES)), versions: [] };
      this.#cached.set(block, cached);
    }
    cached.versions.push({ data, ticket });
    (data ?? ZERO_BLOCK).copy(this.contents, at);
  }

  /** Versions up to `at` are durable. */
  #settle(block: number, cached: CachedBlock, at: number): void {
    if (at === cached.versions.length - 1) {
      this.#cached.delete(block);
      return;
    }
    cached.durable = cached.versions[at].data ?? ZERO_BLOCK;
    cached.versions.splice(0, at + 1);
  }

  #isWorn(block: number, count: number): boolean {
    for (let each = block; this.worn.size > 0 && each < block + count; each += 1) if (this.worn.has(each)) return true;
    return false;
  }

  #isBad(block: number, count: number, kind: 'reads' | 'writes'): boolean {
    return this.bad.some((range) => range[kind] && range.fromBlock < block + count && range.toBlock > block);
  }
}
