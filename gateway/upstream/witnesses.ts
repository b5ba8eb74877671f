// Samples of what a target must hold: the beginnings of writes that it has flushed and that nothing was sent over since.
// When it comes back it is asked for them before it is trusted (rule 20): a node that restarts blank, from an old state or
// with another disk cannot answer right. They are kept while connections come and go, by whoever holds the copy; not
// while the gateway is down. Bounded: a few kilobytes for a target.
import type { Hasher } from '../../replication/hasher.js';

/** A range, and the checksum that its bytes must have. */
export interface Sample {
  offset: number;
  length: number;
  sum: bigint;
}

interface Witness extends Sample {
  /** The write's number in the unflushed list while it is not flushed; -1: it is. */
  sequence: number;
}

const WITNESSES_MAX = 64;
const SAMPLE_BYTES_MAX = 4096;
/** While more than half of the places are taken, only one write in so many is looked at. */
const EVERY = 8;
const ZEROES = Buffer.alloc(SAMPLE_BYTES_MAX);

export class Witnesses {
  readonly #hasher: Hasher;
  #witnesses: Witness[] = [];
  #writes = 0;

  constructor(hasher: Hasher) {
    this.#hasher = hasher;
  }

  /** A write of this range is about to be sent: what is there then is not known before its answer. */
  forget(offset: number, length: number): void {
    const end = offset + length;
    for (let at = this.#witnesses.length - 1; at >= 0; at -= 1) {
      const witness = this.#witnesses[at];
      if (witness.offset >= end || witness.offset + witness.length <= offset) continue;
      this.#witnesses[at] = this.#witnesses[this.#witnesses.length - 1];
      this.#witnesses.pop();
    }
  }

  /** The target has answered a write; `sequence` is its number in the unflushed list. Zeroes tell little and are not kept. */
  wrote(offset: number, data: Buffer, sequence: number): void {
    this.#writes += 1;
    if (this.#witnesses.length > WITNESSES_MAX / 2 && this.#writes % EVERY !== 0) return;
    const length = Math.min(data.length, SAMPLE_BYTES_MAX);
    if (data.compare(ZEROES, 0, length, 0, length) === 0) return;
    const witness = { offset, length, sum: this.#hasher.sum(data.subarray(0, length)), sequence };
    if (this.#witnesses.length < WITNESSES_MAX) this.#witnesses.push(witness);
    else this.#witnesses[Math.floor(this.#writes / EVERY) % WITNESSES_MAX] = witness;
  }

  /** Every write below this number is on stable storage. */
  proven(sequence: number): void {
    for (const witness of this.#witnesses) if (witness.sequence < sequence) witness.sequence = -1;
  }

  /** The unflushed list is given up: of what was not flushed nobody knows what became of it. */
  dropUnproven(): void {
    this.#witnesses = this.#witnesses.filter((witness) => witness.sequence < 0);
  }

  clear(): void {
    this.#witnesses = [];
  }

  samples(): Sample[] {
    return this.#witnesses.filter((witness) => witness.sequence < 0);
  }
}
