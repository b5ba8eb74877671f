// Two wires joined in memory. Bytes travel at the end of the turn, cut into pieces as the test likes; each side holds at
// most a window of unread bytes before the other's writes say "stop". What was written is taken by reference until it is
// delivered, as a socket does, so a sender that changes bytes too early is found out.
import assert from 'node:assert/strict';
import type { Wire, WireHandlers } from '../../gateway/wire.js';

export interface WirePairOptions {
  /** Length of the next piece, of at most `available` bytes; default: all. */
  cut?: (available: number) => number;
  /** Bytes a wire holds before `write` says false; default 64 KiB. */
  windowBytes?: number;
  /** Whom the left end takes the other for; default left. */
  peer?: string;
}

class PairedWire implements Wire {
  readonly peer: string;
  readonly options: Required<WirePairOptions>;
  other!: PairedWire;
  handlers: WireHandlers | null = null;
  paused = false;
  ending = false;
  closed = false;
  #queue: Buffer[] = [];
  #queued = 0;
  #told = false;
  #owesDrain = false;
  #scheduled = false;

  constructor(peer: string, options: Required<WirePairOptions>) {
    this.peer = peer;
    this.options = options;
  }

  get queuedBytes(): number {
    return this.#queued;
  }

  write(bytes: Buffer): boolean {
    assert(!this.ending, 'written after the end');
    if (this.closed) return false;
    this.#queue.push(bytes);
    this.#queued += bytes.length;
    this.schedule();
    const ready = this.#queued < this.options.windowBytes;
    if (!ready) this.#owesDrain = true;
    return ready;
  }

  cork(): void {}

  uncork(): void {}

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.other.schedule();
  }

  end(): void {
    this.ending = true;
    this.schedule();
  }

  destroy(): void {
    this.#close();
    setImmediate(() => this.other.#close());
  }

  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  /** One piece a turn to the other side, then its end. */
  #deliver(): void {
    const { other } = this;
    if (this.closed || other.closed || other.paused || other.handlers === null) return;
    if (this.#queued > 0) {
      other.handlers.data(this.#takePiece());
      if (this.#queued === 0 && this.#owesDrain) {
        this.#owesDrain = false;
        if (!this.closed) this.handlers?.drain();
      }
      if (this.#queued > 0 || this.ending) this.schedule();
    } else if (this.ending && !this.#told) {
      this.#told = true;
      if (other.handlers.end) other.handlers.end();
      else other.destroy();
      if (other.ending && other.#queued === 0) this.destroy();
    }
  }

  /** A copy of the next piece; what stays is still the writer's memory. */
  #takePiece(): Buffer {
    const length = Math.max(1, Math.min(this.#queued, this.options.cut(this.#queued)));
    const piece = Buffer.alloc(length);
    let filled = 0;
    while (filled < length) {
      const first = this.#queue[0];
      const taken = first.copy(piece, filled);
      filled += taken;
      if (taken === first.length) this.#queue.shift();
      else this.#queue[0] = first.subarray(taken);
    }
    this.#queued -= length;
    return piece;
  }

  #close(): void {
    if (this.closed) return;
    this.closed = true;
    setImmediate(() => this.handlers?.close(null));
  }
}

export interface WireEnd {
  wire: Wire;
  /** Sets what handles this end, before anything is delivered to it. */
  handle(handlers: WireHandlers): void;
}

export function wirePair(options: WirePairOptions = {}): [WireEnd, WireEnd] {
  const full = {
    cut: options.cut ?? ((available: number) => available),
    windowBytes: options.windowBytes ?? 64 * 1024,
    peer: options.peer ?? 'left',
  };
  const left = new PairedWire(full.peer, full);
  const right = new PairedWire('right', full);
  left.other = right;
  right.other = left;
  const end = (wire: PairedWire): WireEnd => ({
    wire,
    handle: (handlers) => {
      wire.handlers = handlers;
      wire.other.schedule();
    },
  });
  return [end(left), end(right)];
}
