// A host that does everything NBD has to its range of a volume, one request at a time, and knows to the byte what must be there:
// writes, zeroes and trims of any size, reads, flushes, and asks for holes, which must be zeroes. It goes on over everything that
// happens to the volume: an error, a lost connection or a wrong byte is kept and ends it.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from '../sim/random.js';
import { type ConnectWishes, NbdClient, NbdError } from './nbd-client.js';

const ENOTSUP = 95;

export interface ModelHostOptions {
  name: string;
  uri: string;
  /** Multiples of `blockBytes`. */
  offset: number;
  length: number;
  random: Random;
  wishes?: ConnectWishes;
  blockBytes?: number;
}

export class ModelHost {
  readonly #options: ModelHostOptions;
  readonly #blockBytes: number;
  readonly #client: NbdClient;
  readonly #bytes: Buffer;
  /** Requests that were answered, by what they asked for. */
  readonly done: Record<string, number> = {};
  error: string | null = null;
  #steps = 0;
  #running = true;
  readonly #work: Promise<void>;

  private constructor(client: NbdClient, options: ModelHostOptions) {
    this.#client = client;
    this.#options = options;
    this.#blockBytes = options.blockBytes ?? 512;
    this.#bytes = Buffer.alloc(options.length);
    this.#work = this.#run();
  }

  /** The range must be blank. */
  static async start(options: ModelHostOptions): Promise<ModelHost> {
    return new ModelHost(await NbdClient.connect(options.uri, options.wishes), options);
  }

  /** Resolves when `count` more requests were answered. */
  async progress(count: number, timeoutMs = 60_000): Promise<void> {
    const goal = this.#steps + count;
    const deadlineMs = Date.now() + timeoutMs;
    while (this.#steps < goal) {
      assert.equal(this.error, null, `${this.#options.name}: ${this.error}`);
      assert(Date.now() < deadlineMs, `${this.#options.name}: ${goal - this.#steps} of ${count} requests not answered`);
      await delay(5);
    }
  }

  /** Ends it; what is there at the end must be what it knows. */
  async stop(): Promise<void> {
    this.#running = false;
    await this.#work;
    assert.equal(this.error, null, `${this.#options.name}: ${this.error}`);
    this.#compare(0, await this.#client.read(this.#options.offset, this.#options.length));
    assert.equal(this.error, null, `${this.#options.name}: ${this.error}`);
    this.#client.destroy();
  }

  /** For the end of a test that failed. */
  async abandon(): Promise<void> {
    this.#running = false;
    this.#client.destroy();
    await this.#work;
  }

  async #run(): Promise<void> {
    while (this.#running && this.error === null) {
      try {
        await this.#step();
        this.#steps += 1;
      } catch (error) {
        if (this.#running) this.error = `after ${JSON.stringify(this.done)}: ${(error as Error).message}`;
        return;
      }
    }
  }

  async #step(): Promise<void> {
    const { random, offset } = this.#options;
    const blocks = this.#bytes.length / this.#blockBytes;
    const first = random.int(blocks);
    const at = first * this.#blockBytes;
    const length = Math.min(blocks - first, 1 + random.int(random.chance(0.1) ? blocks : 32)) * this.#blockBytes;
    const fua = random.chance(0.1);
    const what = random.int(8);
    const client = this.#client;
    if (what <= 1) {
      const data = Buffer.alloc(length);
      for (let from = 0; from < length; from += 4) data.writeUInt32BE(random.uint32(), from);
      await client.write(offset + at, data, { fua });
      data.copy(this.#bytes, at);
      this.#count('write');
    } else if (what === 2) {
      const fast = random.chance(0.3);
      const done = await this.#zero(offset + at, length, { fua, noHole: random.chance(0.5), fast });
      if (done) this.#bytes.fill(0, at, at + length);
      this.#count(done ? (fast ? 'fast zeroes' : 'zeroes') : 'fast zeroes refused');
    } else if (what === 3) {
      await client.trim(offset + at, length, { fua });
      this.#bytes.fill(0, at, at + length);
      this.#count('trim');
    } else if (what === 4) {
      await client.flush();
      this.#count('flush');
    } else if (what === 5 && client.structured) {
      await this.#askHoles(at, length, random.chance(0.3));
      this.#count('status');
    } else {
      this.#compare(at, await client.read(offset + at, length));
      this.#count('read');
    }
  }

  /** False: it is not fast there, and nothing was changed. */
  async #zero(offset: number, length: number, options: { fua: boolean; noHole: boolean; fast: boolean }): Promise<boolean> {
    try {
      await this.#client.zeroes(offset, length, options);
      return true;
    } catch (error) {
      if (options.fast && error instanceof NbdError && error.errno === ENOTSUP) return false;
      throw error;
    }
  }

  async #askHoles(at: number, length: number, one: boolean): Promise<void> {
    const extents = await this.#client.status(this.#options.offset + at, length, { one });
    let from = at;
    for (const extent of extents) {
      const to = Math.min(from + extent.lengthBytes, at + length);
      const byte = this.#bytes.subarray(from, to).findIndex((value) => value !== 0);
      if (extent.zero && byte >= 0) throw new Error(`${to - from} bytes at ${from} are said to be zero, the one at ${from + byte} is not`);
      from = to;
    }
    assert(from > at, 'something is told');
  }

  #compare(at: number, data: Buffer): void {
    const expected = this.#bytes.subarray(at, at + data.length);
    if (data.equals(expected)) return;
    const wrong = data.findIndex((value, index) => value !== expected[index]);
    this.error = `read of ${data.length} at ${at}: byte ${at + wrong} is ${data[wrong]} instead of ${expected[wrong]}, after ${JSON.stringify(this.done)}`;
  }

  #count(what: string): void {
    this.done[what] = (this.done[what] ?? 0) + 1;
  }
}
