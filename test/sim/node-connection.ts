// A simulated node's end of one connection: the handshake, then requests cut out of the byte stream, and answers put into
// it. Keeps the answers of a node that stopped until it goes on. Knows nothing of when requests are executed.
import assert from 'node:assert/strict';
import type { WireHandlers } from '../../gateway/wire.js';
import { BLOCK_BYTES } from './disk.js';
import { CMD, CMD_FLAG, MAGIC, NBD_ERROR } from './nbd-words.js';
import type { Connection, End } from './network.js';
import { NodeHandshake, type Settled } from './node-handshake.js';
import { errorOrDone, type Run, readChunks, readError, simpleReply, statusChunk } from './node-replies.js';
import { NodeRequest } from './node-request.js';
import type { SimNode } from './node.js';

const HEADER_BYTES = 28;

export class NodeConnection implements WireHandlers {
  readonly line: Connection;
  readonly #node: SimNode;
  readonly #end: End;
  #handshake: NodeHandshake | null;
  #settled: Settled | null = null;
  /** Of the export when it was asked for: what is beyond is refused, though the export may be larger by now. */
  #sizeBytes: number | null = null;
  #chunks: Buffer[] = [];
  #available = 0;
  #needed = HEADER_BYTES;
  /** Requests taken and not answered. */
  unanswered = 0;
  #leaving = false;
  gone = false;
  /** What was asked for, once it was. */
  exportName: string | null = null;

  constructor(node: SimNode, end: End, line: Connection) {
    this.#node = node;
    this.#end = end;
    this.line = line;
    this.#handshake = new NodeHandshake({
      features: node.features,
      sizeOf: (name) => {
        this.#sizeBytes = node.disks.get(name)?.contents.length ?? null;
        return this.#sizeBytes;
      },
      send: (bytes) => this.#end.write(bytes),
      close: () => this.#end.end(),
      admit: (name, admit) => {
        this.exportName = name;
        node.admit(this, admit);
      },
      settled: (settled) => {
        this.#settled = settled;
        this.#handshake = null;
      },
    });
  }

  get id(): number {
    return this.line.id;
  }

  pause(): void {
    this.#end.pause();
  }

  resume(): void {
    this.#end.resume();
  }

  data(chunk: Buffer): void {
    if (this.gone || this.#leaving) return;
    if (this.#handshake !== null) {
      this.#handshake.receive(chunk);
      return;
    }
    this.#chunks.push(chunk);
    this.#available += chunk.length;
    while (!this.#leaving && this.#available >= this.#needed) this.#take();
  }

  drain(): void {}

  /** The client sends no more: what it asked for is still answered, as far as somebody listens. */
  end(): void {
    this.#leave();
  }

  close(): void {
    this.gone = true;
    this.#node.connectionClosed(this);
  }

  /** The node's program is gone. */
  abandon(): void {
    this.gone = true;
    this.#end.silence();
  }

  answer(request: NodeRequest): void {
    if (!this.gone) for (const bytes of this.#wordsFor(request)) this.#end.write(bytes);
    this.drop();
  }

  /** Against the protocol: the same answer once more. */
  repeat(request: NodeRequest): void {
    if (!this.gone && !this.#leaving) for (const bytes of this.#wordsFor(request)) this.#end.write(bytes);
  }

  /** A request is over; nobody waits for its answer any more. */
  drop(): void {
    this.unanswered -= 1;
    if (!this.gone && this.#leaving && this.unanswered === 0) this.#end.end();
  }

  #leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    if (this.unanswered === 0) this.#end.end();
  }

  #take(): void {
    const bytes = this.#join();
    assert.equal(bytes.readUInt32BE(0), MAGIC.REQUEST, 'the magic of a request');
    const flags = bytes.readUInt16BE(4);
    const command = bytes.readUInt16BE(6);
    const cookie = { high: bytes.readUInt32BE(8), low: bytes.readUInt32BE(12) };
    const offset = Number(bytes.readBigUInt64BE(16));
    const length = bytes.readUInt32BE(24);
    const total = HEADER_BYTES + (command === CMD.WRITE ? length : 0);
    if (bytes.length < total) {
      this.#chunks = [bytes];
      this.#needed = total;
      return;
    }
    this.#chunks = bytes.length > total ? [bytes.subarray(total)] : [];
    this.#available = bytes.length - total;
    this.#needed = HEADER_BYTES;
    if (command === CMD.DISC) {
      this.#leave();
      return;
    }
    this.#accept(cookie, command, flags, offset, length, command === CMD.WRITE ? bytes.subarray(HEADER_BYTES, total) : null);
  }

  #accept(
    cookie: { high: number; low: number },
    command: number,
    flags: number,
    offset: number,
    length: number,
    data: Buffer | null,
  ): void {
    const node = this.#node;
    const disk = node.disks.get(this.#settled!.exportName)!;
    const { features } = node;
    this.unanswered += 1;
    const request = new NodeRequest(disk, this.id, cookie, command, flags, offset, length, data, node.count(), node.random);
    assert(offset + length <= this.#sizeBytes!, `a request beyond the end: ${offset} + ${length}`);
    if (command === CMD.FLUSH) assert(length === 0 && offset === 0, 'a flush has no range');
    else {
      assert(length > 0, 'an empty request');
      assert(offset % BLOCK_BYTES === 0 && length % BLOCK_BYTES === 0, `${offset} + ${length} is not aligned`);
      assert(offset % features.blockMinimum === 0 && length % features.blockMinimum === 0, `not a multiple of ${features.blockMinimum}`);
    }
    if (command === CMD.READ || command === CMD.WRITE) assert(length <= features.maximumPayload, `a payload of ${length} bytes`);
    if (command === CMD.ZEROES) assert(features.zeroes, 'WRITE_ZEROES was not offered');
    if (command === CMD.TRIM) assert(features.trim, 'TRIM was not offered');
    if (command === CMD.STATUS) assert(this.#settled!.status, 'BLOCK_STATUS was not negotiated');
    if ((flags & CMD_FLAG.FUA) !== 0) assert(features.fua, 'FUA was not offered');
    if ((flags & CMD_FLAG.FAST_ZERO) !== 0) assert(command === CMD.ZEROES && features.fastZero, 'FAST_ZERO was not offered');
    assert(command in KNOWN_COMMANDS, `command ${command}`);
    node.take(request, this);
  }

  #join(): Buffer {
    return this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
  }

  #wordsFor(request: NodeRequest): Buffer[] {
    const { cookie, command, errno, offset, length } = request;
    const { random } = this.#node;
    const { structured } = this.#settled!;
    if (command === CMD.READ) {
      if (!structured) return simpleReply(cookie, errno, request.result);
      if (errno === NBD_ERROR.IO) return readError(cookie, offset, length, random);
      if (errno !== 0) return errorOrDone(cookie, errno);
      return readChunks(cookie, offset, request.result!, (request.flags & CMD_FLAG.DF) !== 0, random);
    }
    if (command === CMD.STATUS && errno === 0) return statusChunk(cookie, this.#runs(request));
    return structured && random.chance(0.5) ? errorOrDone(cookie, errno) : simpleReply(cookie, errno, null);
  }

  #runs(request: NodeRequest): Run[] {
    const { disk, block, count } = request;
    const { random } = this.#node;
    const runs: Run[] = [];
    for (let at = block; at < block + count; at += 1) {
      const hole = disk.allocated[at] === 0;
      const zero = hole && disk.isZero(at);
      const last = runs[runs.length - 1];
      if (last !== undefined && last.hole === hole && last.zero === zero) last.bytes += BLOCK_BYTES;
      else runs.push({ bytes: BLOCK_BYTES, hole, zero });
    }
    if ((request.flags & CMD_FLAG.REQ_ONE) !== 0) return runs.slice(0, 1);
    return random.chance(0.3) ? runs.slice(0, random.between(1, runs.length)) : runs;
  }
}

const KNOWN_COMMANDS = {
  [CMD.READ]: true,
  [CMD.WRITE]: true,
  [CMD.FLUSH]: true,
  [CMD.TRIM]: true,
  [CMD.CACHE]: true,
  [CMD.ZEROES]: true,
  [CMD.STATUS]: true,
};
