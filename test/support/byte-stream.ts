// A socket that can be read by length, for clients in tests.
import { connect, type Socket } from 'node:net';
import type { WireAddress } from '../../gateway/wire.js';

export class ByteStream {
  readonly socket: Socket;
  /** Resolves when the socket is closed, for whatever reason. */
  readonly closed: Promise<void>;
  #chunks: Buffer[] = [];
  #available = 0;
  #ended = false;
  #wake: (() => void) | null = null;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#available += chunk.length;
      this.#wake?.();
    });
    const over = (): void => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on('end', over);
    socket.on('error', over);
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        over();
        resolve();
      });
    });
  }

  static open(address: WireAddress): Promise<ByteStream> {
    return new Promise((resolve, reject) => {
      const socket = 'path' in address ? connect({ path: address.path }) : connect({ host: address.host, port: address.port });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new ByteStream(socket));
      });
    });
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next `length` bytes; rejects when the other side ends before. One reader at a time. */
  async read(length: number): Promise<Buffer> {
    while (this.#available < length) {
      if (this.#ended) throw new Error(`the connection ended with ${this.#available} of ${length} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    return this.#take(length);
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
    return taken.length === 1 ? taken[0] : Buffer.concat(taken, length);
  }
}
