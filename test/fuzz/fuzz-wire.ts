// The machine's end of a wire in memory: holds what was written until it is taken, and counts it. What was written is copied
// only then, as a socket does, so that a machine that changes bytes too early is found out.
import assert from 'node:assert/strict';
import type { Wire } from '../../gateway/wire.js';

export class FuzzWire implements Wire {
  readonly peer = 'fuzz:1';
  paused = false;
  ended = false;
  destroyed = false;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #taken: Buffer[] = [];
  readonly #windowBytes: number;

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  get queuedBytes(): number {
    return this.#heldBytes;
  }

  /** Everything that was taken. */
  get output(): Buffer {
    return this.#taken.length === 1 ? this.#taken[0] : Buffer.concat(this.#taken);
  }

  write(bytes: Buffer): boolean {
    assert(!this.ended, 'nothing is written after the end');
    if (this.destroyed) return false;
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
    return this.#heldBytes < this.#windowBytes;
  }

  /** The other end takes all that is held; gives whether there was anything. */
  take(): boolean {
    if (this.#heldBytes === 0) return false;
    for (const bytes of this.#held) this.#taken.push(Buffer.from(bytes));
    this.#held = [];
    this.#heldBytes = 0;
    return true;
  }

  cork(): void {}

  uncork(): void {}

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  end(): void {
    this.ended = true;
  }

  destroy(): void {
    this.destroyed = true;
  }
}
