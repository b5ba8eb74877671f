// Which blocks a connection asks for next: at random or one after the other, always aligned to the request's size.
// Deterministic by seed. Never gives blocks of a write that is still in flight.
import assert from 'node:assert/strict';
import { BLOCK_BYTES, type Contents } from './contents.js';
import type { Workload } from './workload.js';

export class BlockOrder {
  readonly #contents: Contents;
  readonly #units: number;
  readonly #unitBlocks: number;
  readonly #random: boolean;
  readonly #claims: boolean;
  #state: number;
  #unit = 0;

  constructor(workload: Workload, contents: Contents, seed: number) {
    this.#contents = contents;
    this.#unitBlocks = workload.blockBytes / BLOCK_BYTES;
    this.#units = Math.floor(contents.blocks / this.#unitBlocks);
    this.#random = workload.order === 'random';
    this.#claims = workload.kind === 'write';
    this.#state = (seed * 0x9e3779b1) | 1;
    assert(this.#units > 2 * workload.connections * workload.depth, 'the node is large enough for all requests in flight');
  }

  /** First block of the next request; for a write it is claimed. */
  next(): number {
    for (;;) {
      const first = this.#pick() * this.#unitBlocks;
      if (!this.#claims || this.#contents.claim(first, this.#unitBlocks)) return first;
    }
  }

  #pick(): number {
    if (!this.#random) {
      const unit = this.#unit;
      this.#unit = unit + 1 < this.#units ? unit + 1 : 0;
      return unit;
    }
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return (state >>> 0) % this.#units;
  }
}
