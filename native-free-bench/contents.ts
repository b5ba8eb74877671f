// What each 4 KiB block of the node must hold: a stamp (block number, generation, 32 bits each) and then a fixed pattern
// that neither compresses nor looks like zeroes. Knows the generation of every block, so that a read that brings
// another block's or an older write's bytes is seen. One measurement at a time; it must not allocate per request.
import assert from 'node:assert/strict';
import { writeUint32 } from '../gateway/nbd/codec.js';

export const BLOCK_BYTES = 4096;
export const STAMP_BYTES = 8;

/** Generations start at 1; 0 means that nobody knows what the block holds (never written, or a write that failed). */
const UNKNOWN = 0;

function makePattern(): Buffer {
  const pattern = Buffer.alloc(BLOCK_BYTES);
  let state = 0x9e3779b9;
  for (let at = 0; at < BLOCK_BYTES; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    pattern.writeInt32BE(state, at);
  }
  return pattern;
}

export class Contents {
  readonly blocks: number;
  readonly pattern = makePattern();
  readonly #generations: Uint32Array;
  readonly #writing: Uint8Array;

  constructor(sizeBytes: number) {
    assert(sizeBytes > 0 && sizeBytes % BLOCK_BYTES === 0, 'the node is measured in whole blocks of 4 KiB');
    this.blocks = sizeBytes / BLOCK_BYTES;
    this.#generations = new Uint32Array(this.blocks);
    this.#writing = new Uint8Array(this.blocks);
  }

  /** Takes `count` blocks for one write. False: one of them is being written already and nothing was taken. */
  claim(first: number, count: number): boolean {
    for (let block = first; block < first + count; block++) if (this.#writing[block] !== 0) return false;
    this.#writing.fill(1, first, first + count);
    return true;
  }

  /** Puts the stamps of a claimed write into its payload at `at`, which holds the pattern already. */
  stamp(payload: Uint8Array, at: number, first: number, count: number): void {
    for (let i = 0; i < count; i++) {
      writeUint32(payload, at + i * BLOCK_BYTES, first + i);
      writeUint32(payload, at + i * BLOCK_BYTES + 4, this.#next(first + i));
    }
  }

  /** A claimed write was answered: with success, or its blocks are unknown from now on. */
  settle(first: number, count: number, success: boolean): void {
    for (let block = first; block < first + count; block++) this.#generations[block] = success ? this.#next(block) : UNKNOWN;
    this.#writing.fill(0, first, first + count);
  }

  /** Blocks whose write nobody will answer any more: unknown. */
  abandonWrites(): void {
    for (let block = 0; block < this.blocks; block++) if (this.#writing[block] !== 0) this.settle(block, 1, false);
  }

  /**
   * Whether bytes [from, to) of `bytes` are what a read that began at block `first` must bring at its byte `position`.
   * Blocks nobody knows are not judged. Without `thorough` only the stamps are looked at.
   */
  matches(bytes: Buffer, from: number, to: number, first: number, position: number, thorough: boolean): boolean {
    let at = from;
    while (at < to) {
      const within = position % BLOCK_BYTES;
      const length = Math.min(to - at, BLOCK_BYTES - within);
      const block = first + (position - within) / BLOCK_BYTES;
      if (this.#generations[block] !== UNKNOWN && !this.#partMatches(bytes, at, length, block, within, thorough)) return false;
      at += length;
      position += length;
    }
    return true;
  }

  #partMatches(bytes: Buffer, at: number, length: number, block: number, within: number, thorough: boolean): boolean {
    const end = within + length;
    for (let i = within; i < STAMP_BYTES && i < end; i++) {
      const word = i < 4 ? block : this.#generations[block];
      if (bytes[at + i - within] !== ((word >>> (24 - 8 * (i & 3))) & 0xff)) return false;
    }
    const body = Math.max(within, STAMP_BYTES);
    return !thorough || body >= end || bytes.compare(this.pattern, body, end, at + body - within, at + length) === 0;
  }

  #next(block: number): number {
    const generation = this.#generations[block] + 1;
    return generation > 0xffffffff ? 1 : generation;
  }
}
