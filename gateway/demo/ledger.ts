// The host's own account of its writes: what each block must hold, which writes no flush has covered yet, what went wrong
// and how long the host was without an answer. Pure: times come in, milliseconds on one monotonic clock.
import assert from 'node:assert';

/** A stretch of time, as the host saw it. */
export interface Stretch {
  /** Writes that were answered without an error. */
  writes: number;
  /** Longest time between two answered writes, or since the last one. */
  longestGapMs: number;
}

export class Ledger {
  readonly #held: Uint32Array;
  readonly #busy: Uint8Array;
  readonly #inDoubt = new Set<number>();
  #sequence = 0;
  #unflushed = 0;
  #covered = 0;
  #lastAnswerMs: number;
  #whole: Stretch = { writes: 0, longestGapMs: 0 };
  #stretch: Stretch = { writes: 0, longestGapMs: 0 };
  errors = 0;
  reads = 0;
  readonly mismatches: string[] = [];

  constructor(
    readonly blocks: number,
    nowMs: number,
  ) {
    this.#held = new Uint32Array(blocks);
    this.#busy = new Uint8Array(blocks);
    this.#lastAnswerMs = nowMs;
  }

  /** A block that nothing is under way for: found from `from` on. Null: there is none. */
  idle(from: number): number | null {
    for (let step = 0; step < this.blocks; step += 1) {
      const block = (from + step) % this.blocks;
      if (this.#busy[block] === 0) return block;
    }
    return null;
  }

  /** A write to the block begins: its sequence number. */
  writing(block: number): number {
    assert(this.#busy[block] === 0, 'a block has one request at a time');
    this.#busy[block] = 1;
    this.#sequence += 1;
    return this.#sequence;
  }

  written(block: number, sequence: number, ok: boolean, nowMs: number): void {
    this.#busy[block] = 0;
    if (!ok) {
      this.errors += 1;
      this.#inDoubt.add(block);
      return;
    }
    this.#held[block] = sequence;
    this.#inDoubt.delete(block);
    this.#unflushed += 1;
    for (const stretch of [this.#whole, this.#stretch]) stretch.writes += 1;
    this.#gap(nowMs);
    this.#lastAnswerMs = nowMs;
  }

  reading(block: number): void {
    assert(this.#busy[block] === 0, 'a block has one request at a time');
    this.#busy[block] = 1;
  }

  /** `problem`: what is wrong with the contents; a failed read is an error instead. */
  read(block: number, ok: boolean, problem: string | null): void {
    this.#busy[block] = 0;
    this.reads += 1;
    if (!ok) this.errors += 1;
    else if (problem !== null && !this.#inDoubt.has(block)) this.mismatches.push(problem);
  }

  /** What the block must hold. */
  held(block: number): number {
    return this.#held[block];
  }

  /** A flush begins: it covers what is answered by now. One at a time. */
  flushing(): void {
    this.#covered = this.#unflushed;
  }

  flushed(ok: boolean): void {
    if (ok) this.#unflushed -= this.#covered;
    else this.errors += 1;
    this.#covered = 0;
  }

  /** Writes that were answered and that no answered flush covers. */
  get unflushed(): number {
    return this.#unflushed;
  }

  /** Begins a stretch; the gap that is open goes on in it. */
  begin(nowMs: number): void {
    this.#gap(nowMs);
    this.#stretch = { writes: 0, longestGapMs: 0 };
  }

  /** The stretch as it is now. */
  stretch(nowMs: number): Stretch {
    this.#gap(nowMs);
    return { ...this.#stretch };
  }

  whole(nowMs: number): Stretch {
    this.#gap(nowMs);
    return { ...this.#whole };
  }

  /** The host begins to write steadily: what was before is no gap. */
  started(nowMs: number): void {
    this.#lastAnswerMs = nowMs;
    this.#whole = { writes: 0, longestGapMs: 0 };
    this.begin(nowMs);
  }

  #gap(nowMs: number): void {
    const gapMs = nowMs - this.#lastAnswerMs;
    for (const stretch of [this.#whole, this.#stretch]) stretch.longestGapMs = Math.max(stretch.longestGapMs, gapMs);
  }
}
