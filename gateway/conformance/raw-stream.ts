// Bytes to and from a server over any duplex stream (TCP, Unix socket, TLS), read by length. Every wait has a deadline and says
// what it waited for, and the end of the connection is an error of its own: nothing here can hang.
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { NbdAddress } from '../../config/address.js';

/** Received and not yet read, before no more is taken from the server. */
const BUFFERED_BYTES_MAX = 128 * 1024 * 1024;

/** One point in time that all waits of a rule share. */
export class Deadline {
  readonly totalMs: number;
  readonly #endMs: number;

  constructor(totalMs: number) {
    this.totalMs = totalMs;
    this.#endMs = performance.now() + totalMs;
  }

  get leftMs(): number {
    return Math.max(0, this.#endMs - performance.now());
  }
}

/** The server closed the connection (or it broke) where something was waited for. */
export class ConnectionEnded extends Error {
  constructor(
    readonly what: string,
    readonly how: string,
    readonly gotBytes: number,
  ) {
    super(`the connection ended (${how}) instead of ${what}`);
  }
}

/** Nothing came in time. */
export class DeadlinePassed extends Error {
  constructor(
    readonly what: string,
    readonly totalMs: number,
    readonly gotBytes: number,
  ) {
    super(`no ${what} within ${totalMs} ms`);
  }
}

export class RawStream {
  readonly #deadline: Deadline;
  #duplex: Duplex;
  #chunks: Buffer[] = [];
  #available = 0;
  /** How the connection ended; null while it is open. */
  #ending: string | null = null;
  #wake: (() => void) | null = null;
  #onData = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#available += chunk.length;
    if (this.#available > BUFFERED_BYTES_MAX) this.#duplex.pause();
    this.#wake?.();
  };
  #onEnd = (): void => this.#end('closed');
  #onError = (error: NodeJS.ErrnoException): void => this.#end(error.code ?? error.message);

  constructor(duplex: Duplex, deadline: Deadline) {
    this.#duplex = duplex;
    this.#deadline = deadline;
    duplex.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onEnd).on('error', this.#onError);
  }

  /** Rejects with the system's error when nobody listens there. */
  static open(address: NbdAddress, deadline: Deadline): Promise<RawStream> {
    return new Promise((resolve, reject) => {
      const socket = 'path' in address ? connect({ path: address.path }) : connect({ host: address.host, port: address.port });
      const timer = setTimeout(() => {
        socket.destroy();
        reject(new DeadlinePassed('connection', deadline.totalMs, 0));
      }, deadline.leftMs);
      socket.once('error', (error) => {
        clearTimeout(timer);
        reject(error);
      });
      socket.once('connect', () => {
        clearTimeout(timer);
        socket.removeAllListeners('error').setNoDelay(true);
        resolve(new RawStream(socket, deadline));
      });
    });
  }

  get ended(): boolean {
    return this.#ending !== null;
  }

  get available(): number {
    return this.#available;
  }

  write(bytes: Uint8Array): void {
    if (this.#ending === null && this.#duplex.writable) this.#duplex.write(bytes);
  }

  /** The next `length` bytes, which are `what`. One reader at a time. */
  async read(length: number, what: string): Promise<Buffer> {
    while (this.#available < length) {
      if (this.#ending !== null) throw new ConnectionEnded(what, this.#ending, this.#available);
      await this.#news(what);
    }
    return this.#take(length);
  }

  /** What comes until the server closes. */
  async readToEnd(what: string): Promise<Buffer> {
    while (this.#ending === null) await this.#news(what);
    return this.#take(this.#available);
  }

  destroy(): void {
    this.#duplex.destroy();
  }

  /** Hands the stream over to somebody who puts another one on top of it; this object is of no use afterwards. */
  release(): Duplex {
    this.#duplex.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onEnd).off('error', this.#onError);
    this.#duplex.pause();
    return this.#duplex;
  }

  async #news(what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(true), this.#deadline.leftMs);
    });
    const woken = new Promise<boolean>((resolve) => {
      this.#wake = () => resolve(false);
    });
    const tooLate = await Promise.race([woken, late]);
    clearTimeout(timer);
    this.#wake = null;
    if (tooLate) throw new DeadlinePassed(what, this.#deadline.totalMs, this.#available);
  }

  #end(how: string): void {
    this.#ending ??= how;
    this.#wake?.();
  }

  #take(length: number): Buffer {
    const taken: Buffer[] = [];
    this.#available -= length;
    for (let missing = length; missing > 0; ) {
      const first = this.#chunks[0];
      if (first.length <= missing) {
        taken.push(first);
        this.#chunks.shift();
        missing -= first.length;
      } else {
        taken.push(first.subarray(0, missing));
        this.#chunks[0] = first.subarray(missing);
        missing = 0;
      }
    }
    if (this.#available <= BUFFERED_BYTES_MAX / 2 && this.#duplex.isPaused()) this.#duplex.resume();
    return taken.length === 1 ? taken[0] : Buffer.concat(taken, length);
  }
}
