// The transmission phase of one load connection: keeps `depth` requests in flight and understands the replies, in any
// order and cut anywhere. Pure: bytes in, batches of requests out through `send`, the time is handed in.
// Nothing is allocated per request. It must not share code with the gateway's I/O path, which it judges.
import { decodeSimpleReply, encodeRequest, SimpleReplyHeader } from '../gateway/nbd/codec.js';
import { COMMAND, SIZE } from '../gateway/nbd/constants.js';
import { BlockOrder } from './block-order.js';
import { BLOCK_BYTES, type Contents } from './contents.js';
import type { Meter } from './meter.js';
import { RequestBatches } from './request-batch.js';
import type { Workload } from './workload.js';

export interface PipelineJob {
  workload: Workload;
  contents: Contents;
  meter: Meter;
  seed: number;
  /** Stops issuing after this many requests; Infinity: until the meter's window ends. */
  requestsMax: number;
  /** Reads are compared byte by byte instead of by their stamps. */
  thorough: boolean;
}

/** Sends the bytes; `done` is called when the buffer may be written again. */
export type Send = (bytes: Uint8Array, done: () => void) => void;

export class Pipeline {
  /** Requests that are not answered yet. */
  outstanding = 0;
  readonly #job: PipelineJob;
  readonly #send: Send;
  readonly #reads: boolean;
  readonly #unitBlocks: number;
  readonly #order: BlockOrder;
  readonly #batches: RequestBatches;
  #issued = 0;
  // Slots: the low half of a cookie is the slot's index, the high half counts its uses.
  readonly #freeSlots: Int32Array;
  #freeCount: number;
  readonly #uses: Uint32Array;
  readonly #firstBlock: Int32Array;
  readonly #sentUs: Float64Array;
  // The reply being read: its header's bytes so far, or the slot whose payload comes.
  readonly #header = Buffer.alloc(SIZE.SIMPLE_REPLY);
  #headerBytes = 0;
  readonly #reply = new SimpleReplyHeader();
  #payloadSlot = -1;
  #payloadAt = 0;
  #payloadMatches = true;

  constructor(job: PipelineJob, send: Send) {
    const { workload, contents } = job;
    this.#job = job;
    this.#send = send;
    this.#reads = workload.kind === 'read';
    this.#unitBlocks = workload.blockBytes / BLOCK_BYTES;
    this.#order = new BlockOrder(workload, contents, job.seed);
    this.#batches = new RequestBatches(workload.depth, this.#reads ? 0 : workload.blockBytes, contents);
    this.#freeSlots = Int32Array.from({ length: workload.depth }, (_, i) => i);
    this.#freeCount = workload.depth;
    this.#uses = new Uint32Array(workload.depth);
    this.#firstBlock = new Int32Array(workload.depth);
    this.#sentUs = new Float64Array(workload.depth);
  }

  /** Sends a request from every free slot, as one batch. */
  issue(nowUs: number): void {
    const { workload, contents, requestsMax } = this.#job;
    const count = Math.min(this.#freeCount, requestsMax - this.#issued);
    if (count <= 0) return;
    const batch = this.#batches.take();
    const entryBytes = this.#batches.entryBytes;
    for (let i = 0; i < count; i++) {
      const slot = this.#freeSlots[--this.#freeCount];
      const first = this.#order.next();
      this.#firstBlock[slot] = first;
      this.#sentUs[slot] = nowUs;
      const at = i * entryBytes;
      const command = this.#reads ? COMMAND.READ : COMMAND.WRITE;
      encodeRequest(batch.bytes, at, 0, command, ++this.#uses[slot], slot, first * BLOCK_BYTES, workload.blockBytes);
      if (!this.#reads) contents.stamp(batch.bytes, at + SIZE.REQUEST, first, this.#unitBlocks);
    }
    this.#issued += count;
    this.outstanding += count;
    this.#send(batch.bytes.subarray(0, count * entryBytes), batch.release);
  }

  /** Takes the first `length` bytes of `bytes`, which it does not keep. Returns what is wrong with them, or null. */
  receive(bytes: Buffer, length: number, nowUs: number): string | null {
    let at = 0;
    while (at < length) {
      if (this.#payloadSlot >= 0) {
        at = this.#takePayload(bytes, at, length, nowUs);
        continue;
      }
      const part = Math.min(SIZE.SIMPLE_REPLY - this.#headerBytes, length - at);
      const whole = part === SIZE.SIMPLE_REPLY;
      if (!whole) bytes.copy(this.#header, this.#headerBytes, at, at + part);
      const flaw = whole ? this.#takeHeader(bytes, at, nowUs) : this.#takeSplitHeader(part, nowUs);
      if (flaw !== null) return flaw;
      at += part;
    }
    return null;
  }

  #takeSplitHeader(part: number, nowUs: number): string | null {
    this.#headerBytes += part;
    if (this.#headerBytes < SIZE.SIMPLE_REPLY) return null;
    this.#headerBytes = 0;
    return this.#takeHeader(this.#header, 0, nowUs);
  }

  #takeHeader(bytes: Buffer, at: number, nowUs: number): string | null {
    const reply = this.#reply;
    if (!decodeSimpleReply(bytes, at, reply)) return `no simple reply: starts with ${bytes.toString('hex', at, at + 4)}`;
    const slot = reply.cookieLow;
    if (slot >= this.#uses.length || reply.cookieHigh !== this.#uses[slot] || this.#sentUs[slot] < 0) {
      return `a reply to a request that is not in flight (cookie ${reply.cookieHigh}:${slot})`;
    }
    if (reply.error !== 0) {
      this.#job.meter.failed();
      this.#complete(slot, nowUs, false);
    } else if (this.#reads) {
      this.#payloadSlot = slot;
      this.#payloadAt = 0;
      this.#payloadMatches = true;
    } else {
      this.#complete(slot, nowUs, true);
    }
    return null;
  }

  #takePayload(bytes: Buffer, at: number, length: number, nowUs: number): number {
    const { workload, contents, thorough, meter } = this.#job;
    const slot = this.#payloadSlot;
    const end = Math.min(length, at + workload.blockBytes - this.#payloadAt);
    if (!contents.matches(bytes, at, end, this.#firstBlock[slot], this.#payloadAt, thorough)) this.#payloadMatches = false;
    this.#payloadAt += end - at;
    if (this.#payloadAt === workload.blockBytes) {
      this.#payloadSlot = -1;
      if (!this.#payloadMatches) meter.mismatched();
      this.#complete(slot, nowUs, true);
    }
    return end;
  }

  #complete(slot: number, nowUs: number, success: boolean): void {
    const { contents, meter } = this.#job;
    meter.completed(nowUs, nowUs - this.#sentUs[slot]);
    if (!this.#reads) contents.settle(this.#firstBlock[slot], this.#unitBlocks, success);
    this.#sentUs[slot] = -1;
    this.#freeSlots[this.#freeCount++] = slot;
    this.outstanding--;
  }
}
