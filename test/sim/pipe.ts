// One direction of a simulated connection: bytes arrive in order, after delays, in chunks cut anywhere, for as long as the
// receiver is not paused and the line not stalled. What is under way when the line is cut arrives in part: a prefix.
// The bytes are copied when they arrive, so a sender that changes them too early is found out.
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

export interface PipeEnds {
  data(chunk: Buffer): void;
  /** Everything written before `finish` has arrived. */
  finished(): void;
  /** The sender's bytes have all left, after there were more than `highWaterBytes`. */
  drained(): void;
}

export interface PipeTiming {
  leastMs: number;
  mostMs: number;
  /** How often a chunk is cut before its end. */
  cut: number;
  highWaterBytes: number;
}

export class Pipe {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #timing: PipeTiming;
  readonly #ends: PipeEnds;
  readonly #queue: Buffer[] = [];
  #offset = 0;
  #scheduled = false;
  #paused = false;
  #stalled = false;
  #finishing = false;
  #closed = false;
  #wantsDrain = false;
  queuedBytes = 0;

  constructor(scheduler: Scheduler, random: Random, timing: PipeTiming, ends: PipeEnds) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#timing = timing;
    this.#ends = ends;
  }

  /** False: the sender should wait for `drained`. */
  write(bytes: Buffer): boolean {
    if (this.#closed || this.#finishing || bytes.length === 0) return !this.#wantsDrain;
    this.#queue.push(bytes);
    this.queuedBytes += bytes.length;
    if (this.queuedBytes > this.#timing.highWaterBytes) this.#wantsDrain = true;
    this.#schedule();
    return !this.#wantsDrain;
  }

  finish(): void {
    this.#finishing = true;
    this.#schedule();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  stall(): void {
    this.#stalled = true;
  }

  unstall(): void {
    this.#stalled = false;
    this.#schedule();
  }

  /** Nothing more is written; of what is under way a random prefix still arrives, then `finished`. */
  truncate(): void {
    const kept = this.#random.chance(0.4) ? this.queuedBytes : this.#random.int(this.queuedBytes + 1);
    while (this.queuedBytes > kept) {
      const last = this.#queue[this.#queue.length - 1];
      const length = last.length - (this.#queue.length === 1 ? this.#offset : 0);
      const excess = this.queuedBytes - kept;
      this.#queue.pop();
      if (length > excess) this.#queue.push(last.subarray(0, last.length - excess));
      this.queuedBytes -= Math.min(length, excess);
    }
    if (this.#queue.length === 0) this.#offset = 0;
    this.#stalled = false;
    this.finish();
  }

  /** Nothing arrives any more. */
  close(): void {
    this.#closed = true;
    this.#queue.length = 0;
    this.queuedBytes = 0;
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed || this.#paused || this.#stalled) return;
    if (this.queuedBytes === 0 && !this.#finishing) return;
    this.#scheduled = true;
    this.#scheduler.after(this.#random.range(this.#timing.leastMs, this.#timing.mostMs), () => this.#deliver());
  }

  #deliver(): void {
    this.#scheduled = false;
    if (this.#closed || this.#paused || this.#stalled) return;
    if (this.queuedBytes === 0) {
      this.close();
      this.#ends.finished();
      return;
    }
    let length = this.queuedBytes;
    if (this.#random.chance(this.#timing.cut)) length = this.#random.between(1, this.#random.chance(0.5) ? length : Math.min(length, 64));
    const chunk = this.#take(length);
    if (this.#wantsDrain && this.queuedBytes === 0) {
      this.#wantsDrain = false;
      this.#scheduler.after(0, () => this.#closed || this.#ends.drained());
    }
    this.#schedule();
    this.#ends.data(chunk);
  }

  #take(length: number): Buffer {
    const chunk = Buffer.allocUnsafe(length);
    let filled = 0;
    while (filled < length) {
      const first = this.#queue[0];
      const copied = first.copy(chunk, filled, this.#offset, this.#offset + length - filled);
      filled += copied;
      this.#offset += copied;
      if (this.#offset === first.length) {
        this.#queue.shift();
        this.#offset = 0;
      }
    }
    this.queuedBytes -= length;
    return chunk;
  }
}
