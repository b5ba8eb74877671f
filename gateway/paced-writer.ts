// What is written to a TLS socket, in pieces: each is encrypted when the one before has left, so that a reply of many
// megabytes never holds up the event loop, and what waits is not held twice. Bytes stay in order; references are kept
// until a piece is handed over.
import type { Socket } from 'node:net';

/** Encrypted in one go: some tenths of a millisecond. */
const PIECE_BYTES = 256 * 1024;

export class PacedWriter {
  readonly #socket: Socket;
  readonly #drained: () => void;
  readonly #highWaterBytes: number;
  #queue: Buffer[] = [];
  /** Where in the queue's first buffer the rest begins. */
  #start = 0;
  #queuedBytes = 0;
  #corked = 0;
  #sending = false;
  #owesDrain = false;
  #ending = false;
  readonly #sent = (error?: Error | null): void => {
    this.#sending = false;
    if (!error) this.#send();
  };

  constructor(socket: Socket, drained: () => void) {
    this.#socket = socket;
    this.#drained = drained;
    this.#highWaterBytes = socket.writableHighWaterMark;
  }

  get queuedBytes(): number {
    return this.#queuedBytes + this.#socket.writableLength;
  }

  write(bytes: Buffer): boolean {
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#corked === 0) this.#send();
    const ready = this.queuedBytes < this.#highWaterBytes;
    if (!ready) this.#owesDrain = true;
    return ready;
  }

  cork(): void {
    this.#corked += 1;
  }

  uncork(): void {
    this.#corked -= 1;
    if (this.#corked === 0) this.#send();
  }

  end(): void {
    this.#ending = true;
    this.#send();
  }

  /** Hands over the next piece unless one is under way. */
  #send(): void {
    if (this.#sending || this.#socket.destroyed) return;
    if (this.#queuedBytes === 0) {
      if (this.#ending) this.#socket.end();
      else if (this.#owesDrain) {
        this.#owesDrain = false;
        this.#drained();
      }
      return;
    }
    this.#sending = true;
    this.#socket.cork();
    let left = PIECE_BYTES;
    while (left > 0 && this.#queue.length > 0) {
      const first = this.#queue[0];
      const piece = first.subarray(this.#start, this.#start + left);
      left -= piece.length;
      this.#queuedBytes -= piece.length;
      this.#start += piece.length;
      if (this.#start === first.length) {
        this.#queue.shift();
        this.#start = 0;
      }
      const last = left === 0 || this.#queue.length === 0;
      if (last) this.#socket.write(piece, this.#sent);
      else this.#socket.write(piece);
    }
    this.#socket.uncork();
  }
}
