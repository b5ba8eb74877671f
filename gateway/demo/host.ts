// The demo's host: an NBD client on one connection that writes at a steady pace, flushes every second, and all the while
// reads blocks back and checks them. It never reconnects: a connection that ends is counted as what it is, a failure.
import type { WireAddress } from '../wire.js';
import { type Clock, sleep, type Timer } from '../../replication/world.js';
import { OP, type Op } from '../../replication/device.js';
import { NetDialer } from '../net-wire.js';
import { Job } from '../upstream/job.js';
import { Link } from '../upstream/link.js';
import { BLOCK_BYTES, blockProblem, writeBlock } from './block-contents.js';
import { Ledger } from './ledger.js';

const HANDSHAKE_MS = 20_000;
const TICK_MS = 10;
const WRITES_A_TICK = 3;
const WRITES_AT_ONCE = 8;
const READS_AT_ONCE = 2;
const FLUSH_EVERY_MS = 1_000;
/** For the first fill and the last check. */
const CHUNK_BLOCKS = 64;
const CHUNKS_AT_ONCE = 4;

export interface HostOptions {
  address: WireAddress;
  exportName: string;
  /** The blocks that the host uses, from the start of the volume. */
  blocks: number;
  clock: Clock;
}

export class Host {
  readonly ledger: Ledger;
  readonly #options: HostOptions;
  readonly #link: Link;
  readonly #ready: Promise<void>;
  readonly #waiting = new Map<Job, (errno: number) => void>();
  #writes = 0;
  #reads = 0;
  #flush: Promise<void> | null = null;
  #flushedAtMs = 0;
  #random = 1;
  #timer: Timer | null = null;
  /** Why the connection ended; null: it stands. */
  ended: string | null = null;

  constructor(options: HostOptions) {
    this.#options = options;
    this.ledger = new Ledger(options.blocks, options.clock.nowMs());
    const { address, exportName, clock } = options;
    let settle: { resolve(): void; reject(error: Error): void };
    this.#ready = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#link = new Link(
      { dialer: new NetDialer(), clock, address, exportName, handshakeMs: HANDSHAKE_MS },
      {
        ready: () => settle.resolve(),
        answered: (_link, job, errno) => this.#answered(job, errno),
        closed: (_link, unanswered, reason) => {
          this.ended = reason;
          settle.reject(new Error(`the host cannot attach: ${reason}`));
          for (const job of unanswered) this.#answered(job, -1);
        },
      },
    );
  }

  /** Attaches and writes every block once; rejects when it cannot attach. */
  async prepare(): Promise<void> {
    await this.#ready;
    await this.#chunks((first, blocks) => this.#fill(first, blocks));
    await this.#flushOnce();
  }

  /** Begins to write steadily. */
  start(): void {
    this.ledger.started(this.#now());
    this.#flushedAtMs = this.#now();
    this.#tick();
  }

  /** Ends writing, waits for what is under way, and reads every block back: all must hold what was last answered. */
  async finish(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    while ((this.#writes > 0 || this.#reads > 0 || this.#flush !== null) && this.ended === null) await sleep(this.#options.clock, TICK_MS);
    if (this.ended !== null) return;
    await this.#chunks((first, blocks) => this.#check(first, blocks));
  }

  detach(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.ended !== null) return;
    if (this.#link.inFlight === 0) this.#link.disconnect();
    else this.#link.close('the demo is over');
  }

  #now(): number {
    return this.#options.clock.nowMs();
  }

  #tick(): void {
    if (this.ended !== null) return;
    for (let i = 0; i < WRITES_A_TICK && this.#writes < WRITES_AT_ONCE; i += 1) void this.#writeOne();
    if (this.#reads < READS_AT_ONCE) void this.#readOne();
    if (this.#flush === null && this.#now() - this.#flushedAtMs >= FLUSH_EVERY_MS) {
      this.#flushedAtMs = this.#now();
      this.#flush = this.#flushOnce().finally(() => {
        this.#flush = null;
      });
    }
    this.#timer = this.#options.clock.after(TICK_MS, () => this.#tick());
  }

  async #writeOne(): Promise<void> {
    const block = this.ledger.idle(this.#anyBlock());
    if (block === null) return;
    const sequence = this.ledger.writing(block);
    const data = Buffer.allocUnsafe(BLOCK_BYTES);
    writeBlock(data, 0, block, sequence);
    this.#writes += 1;
    const { errno } = await this.#ask(OP.WRITE, block, 1, data);
    this.#writes -= 1;
    this.ledger.written(block, sequence, errno === 0, this.#now());
  }

  async #readOne(): Promise<void> {
    const block = this.ledger.idle(this.#anyBlock());
    if (block === null) return;
    this.ledger.reading(block);
    this.#reads += 1;
    const { errno, data } = await this.#ask(OP.READ, block, 1, null);
    this.#reads -= 1;
    this.ledger.read(block, errno === 0, errno === 0 ? blockProblem(data!, 0, block, this.ledger.held(block)) : null);
  }

  async #flushOnce(): Promise<void> {
    this.ledger.flushing();
    const { errno } = await this.#ask(OP.FLUSH, 0, 0, null);
    this.ledger.flushed(errno === 0);
  }

  async #fill(first: number, blocks: number): Promise<void> {
    const data = Buffer.allocUnsafe(blocks * BLOCK_BYTES);
    const sequences: number[] = [];
    for (let i = 0; i < blocks; i += 1) {
      sequences.push(this.ledger.writing(first + i));
      writeBlock(data, i * BLOCK_BYTES, first + i, sequences[i]);
    }
    const { errno } = await this.#ask(OP.WRITE, first, blocks, data);
    for (let i = 0; i < blocks; i += 1) this.ledger.written(first + i, sequences[i], errno === 0, this.#now());
  }

  async #check(first: number, blocks: number): Promise<void> {
    for (let i = 0; i < blocks; i += 1) this.ledger.reading(first + i);
    const { errno, data } = await this.#ask(OP.READ, first, blocks, null);
    for (let i = 0; i < blocks; i += 1) {
      const problem = errno === 0 ? blockProblem(data!, i * BLOCK_BYTES, first + i, this.ledger.held(first + i)) : null;
      this.ledger.read(first + i, errno === 0, problem);
    }
  }

  /** Every chunk of the host's blocks, several at once. */
  async #chunks(run: (first: number, blocks: number) => Promise<void>): Promise<void> {
    const { blocks } = this.#options;
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < blocks && this.ended === null) {
        const first = next;
        next += CHUNK_BLOCKS;
        await run(first, Math.min(CHUNK_BLOCKS, blocks - first));
      }
    };
    await Promise.all(Array.from({ length: CHUNKS_AT_ONCE }, worker));
  }

  #ask(op: Op, block: number, blocks: number, data: Buffer | null): Promise<{ errno: number; data: Buffer | null }> {
    const job = new Job();
    job.op = op;
    job.offset = block * BLOCK_BYTES;
    job.length = blocks * BLOCK_BYTES;
    job.data = data;
    return new Promise((resolve) => {
      if (this.ended !== null) {
        resolve({ errno: -1, data: null });
        return;
      }
      this.#waiting.set(job, (errno) => resolve({ errno, data: job.data }));
      this.#link.send(job);
    });
  }

  #answered(job: Job, errno: number): void {
    const done = this.#waiting.get(job);
    this.#waiting.delete(job);
    done?.(errno);
  }

  /** Spread over the blocks, the same in every run. */
  #anyBlock(): number {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#random / 2 ** 32) * this.#options.blocks);
  }
}
