// Hosts that write to a volume and remember what they were promised. Every 512 bytes of a block say which block it is and
// the how many-eth write of it; a block belongs to one connection, which has one request on it at a time. What was
// answered must be found, or something newer that was asked for; nothing else.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from './nbd-client.js';
import type { Random } from '../sim/random.js';

const SECTOR = 512;
const RECONNECT_MS = 50;
const REQUEST_BYTES = 1024 * 1024;

export interface ModelWriterOptions {
  uri: string;
  /** Multiples of the block. */
  offset: number;
  length: number;
  random: Random;
  /** Default 4096. */
  blockBytes?: number;
  /** Connections to the volume; default 1. */
  connections?: number;
  /** Requests in flight on each; default 4. */
  depth?: number;
  /** Share of writes with FUA, and of FLUSH after a write; default 0.02. */
  durableShare?: number;
  /** Rest between two writes of one of `depth`; default 0. */
  pauseMs?: number;
  /** Only what was answered as durable must be found. */
  forgetful?: boolean;
  /** Go on after a lost connection; without it that is an error. */
  reconnects?: boolean;
}

export class ModelWriter {
  readonly #options: Required<ModelWriterOptions>;
  readonly #blocks: number;
  /** By block: the newest write that was answered, and the newest that was sent. */
  readonly #answered: Uint32Array;
  readonly #sent: Uint32Array;
  writes = 0;
  flushes = 0;
  reconnects = 0;
  /** The longest a request took, in ms. */
  slowestMs = 0;
  readonly errors: string[] = [];
  #running = false;
  #work: Promise<void>[] = [];
  #clients = new Set<NbdClient>();

  constructor(options: ModelWriterOptions) {
    const defaults = { blockBytes: 4096, connections: 1, depth: 4, durableShare: 0.02, reconnects: false, forgetful: false, pauseMs: 0 };
    this.#options = { ...defaults, ...options };
    this.#blocks = options.length / this.#options.blockBytes;
    assert(Number.isInteger(this.#blocks), 'whole blocks');
    this.#answered = new Uint32Array(this.#blocks);
    this.#sent = new Uint32Array(this.#blocks);
  }

  /** Writes every block once, in large requests, and flushes. */
  async fill(): Promise<void> {
    const { uri, offset, length, blockBytes } = this.#options;
    const client = await NbdClient.connect(uri);
    try {
      for (let at = 0; at < length; at += REQUEST_BYTES) {
        const first = at / blockBytes;
        const blocks = Array.from({ length: Math.min(REQUEST_BYTES, length - at) / blockBytes }, (_, index) => first + index);
        for (const block of blocks) this.#sent[block] += 1;
        await client.write(offset + at, Buffer.concat(blocks.map((block) => Buffer.alloc(blockBytes, stampOf(block, this.#sent[block])))));
        for (const block of blocks) this.#answered[block] = this.#sent[block];
      }
      await client.flush();
    } finally {
      client.destroy();
    }
  }

  /** Writes until `stop`. */
  start(): void {
    this.#running = true;
    this.#work = Array.from({ length: this.#options.connections }, (_, connection) => this.#connection(connection));
  }

  /** Resolves when nothing is in flight any more. */
  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#work);
    this.#work = [];
  }

  /** For `finally`: nothing is waited for. */
  async abandon(): Promise<void> {
    this.#running = false;
    for (const client of this.#clients) client.destroy();
    await Promise.all(this.#work);
  }

  /** Resolves when `count` more writes were answered. */
  async progress(count: number, timeoutMs = 60_000): Promise<void> {
    const goal = this.writes + count;
    const deadlineMs = Date.now() + timeoutMs;
    while (this.writes < goal) {
      assert(this.errors.length === 0, this.errors.join('; '));
      assert(Date.now() < deadlineMs, `${goal - this.writes} of ${count} writes were not answered within ${timeoutMs} ms`);
      await delay(5);
    }
  }

  /** Reads everything through `uri` and says what is not as it must be. Only while nothing is written. */
  async check(uri = this.#options.uri): Promise<string[]> {
    assert.equal(this.#work.length, 0, 'nobody writes');
    const { offset, length, blockBytes } = this.#options;
    const wrong: string[] = [];
    const client = await NbdClient.connect(uri);
    try {
      for (let at = 0; at < length; at += REQUEST_BYTES) {
        const data = await client.read(offset + at, Math.min(REQUEST_BYTES, length - at));
        for (let from = 0; from < data.length; from += blockBytes) {
          this.#judge((at + from) / blockBytes, data.subarray(from, from + blockBytes), wrong);
        }
      }
    } finally {
      client.destroy();
    }
    return wrong;
  }

  /** Looks at one block; what it holds now it must hold until it is written again. */
  #judge(block: number, data: Buffer, wrong: string[]): void {
    const found = data.readUInt32BE(4);
    for (let sector = 0; sector < data.length; sector += SECTOR) {
      const stamp = found === 0 ? Buffer.alloc(SECTOR) : stampOf(block, found);
      if (!stamp.equals(data.subarray(sector, sector + SECTOR))) {
        wrong.push(
          `block ${block}: sector ${sector / SECTOR} is not of write ${found}: ${data.subarray(sector, sector + 16).toString('hex')}`,
        );
        return;
      }
    }
    if (found < this.#answered[block]) wrong.push(`block ${block}: write ${this.#answered[block]} was answered, write ${found} is there`);
    else if (found > this.#sent[block]) wrong.push(`block ${block}: write ${found} is there, ${this.#sent[block]} were sent`);
    else this.#answered[block] = found;
  }

  async #connection(connection: number): Promise<void> {
    let first = true;
    while (this.#running) {
      const client = await this.#connect();
      if (client === null) return;
      if (!first) this.reconnects += 1;
      first = false;
      this.#clients.add(client);
      const lanes = Array.from({ length: this.#options.depth }, (_, lane) => this.#lane(client, connection * this.#options.depth + lane));
      await Promise.all(lanes);
      this.#clients.delete(client);
      client.destroy();
    }
  }

  async #connect(): Promise<NbdClient | null> {
    while (this.#running) {
      try {
        return await NbdClient.connect(this.#options.uri, { blockStatus: false });
      } catch (error) {
        if (!this.#options.reconnects) {
          this.errors.push(`cannot attach: ${(error as Error).message}`);
          this.#running = false;
          return null;
        }
        await delay(RECONNECT_MS);
      }
    }
    return null;
  }

  /** One request at a time, on the blocks of this lane alone. */
  async #lane(client: NbdClient, lane: number): Promise<void> {
    const { random, connections, depth, blockBytes, offset, durableShare, reconnects, forgetful, pauseMs } = this.#options;
    const lanes = connections * depth;
    const own = Math.floor((this.#blocks - 1 - lane) / lanes) + 1;
    while (this.#running) {
      if (pauseMs > 0) await delay(pauseMs);
      const block = lane + lanes * random.int(own);
      const durable = random.chance(durableShare);
      this.#sent[block] += 1;
      const write = this.#sent[block];
      const data = Buffer.alloc(blockBytes, stampOf(block, write));
      const startedMs = performance.now();
      try {
        const fua = durable && random.chance(0.5);
        await client.write(offset + block * blockBytes, data, { fua });
        if (fua || !forgetful) this.#answered[block] = write;
        this.writes += 1;
        if (durable && !fua) {
          await client.flush();
          this.flushes += 1;
          this.#answered[block] = write;
        }
        this.slowestMs = Math.max(this.slowestMs, performance.now() - startedMs);
      } catch (error) {
        const { errno, message } = error as { errno: number | null; message: string };
        if (errno === null && reconnects) return;
        this.errors.push(`write ${write} of block ${block}: ${message}`);
        this.#running = false;
      }
    }
  }
}

/** What each sector of a write holds: a mark, the block, and the number of the write. */
function stampOf(block: number, write: number): Buffer {
  const stamp = Buffer.alloc(SECTOR);
  stamp.writeUInt32BE(0xf0e57a11, 0);
  stamp.writeUInt32BE(write, 4);
  stamp.writeUInt32BE(block, 8);
  for (let at = 12; at < SECTOR; at += 4) stamp.writeUInt32BE(Math.imul(write * 31 + block, at) >>> 0, at);
  return stamp;
}
