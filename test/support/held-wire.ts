// One end of a wire under the test's control: keeps by reference what is written until `take` copies it, as a slow socket
// would, and remembers whether it was paused, ended or destroyed. Nothing happens on it by itself.
import assert from 'node:assert/strict';
import type { Wire } from '../../gateway/wire.js';

export class HeldWire implements Wire {
  readonly peer = 'test';
  /** What `write` answers; default: ready while less than this is held. */
  windowBytes = Number.POSITIVE_INFINITY;
  /** How many pieces were written since the last `take`. */
  held: Buffer[] = [];
  corks = 0;
  paused = false;
  ended = false;
  destroyed = false;
  #taken: Buffer[] = [];

  get queuedBytes(): number {
    return this.held.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  /** Everything that was written and taken. */
  get taken(): Buffer {
    return Buffer.concat(this.#taken);
  }

  write(bytes: Buffer): boolean {
    assert(!this.ended, 'nothing is written after the end');
    this.held.push(bytes);
    return this.queuedBytes < this.windowBytes;
  }

  /** The system takes what is held; gives it. */
  take(): Buffer {
    const all = Buffer.concat(this.held);
    this.#taken.push(all);
    this.held = [];
    return all;
  }

  cork(): void {
    this.corks += 1;
  }

  uncork(): void {
    this.corks -= 1;
  }

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
