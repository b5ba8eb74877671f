// A storage node under a test's control, behind wires in memory: speaks NBD from its own small code, holds the requests a
// test wants held, answers them when told, and keeps what landed (`bytes`) apart from what survives its loss of power
// (`durable`). A held request whose connection is gone may still land: the zombie of rule 13.
import assert from 'node:assert/strict';
import type { Dialer, Wire, WireAddress, WireHandlers } from '../../gateway/wire.js';
import { hex, optionReplyBytes, uint16, uint32, uint64 } from './nbd-bytes.js';
import { wirePair } from './wire-pair.js';

export const NODE_COMMANDS = ['read', 'write', 'disc', 'flush', 'trim', 'cache', 'zeroes', 'status'] as const;
const READ = 0;
const WRITE = 1;
const DISC = 2;
const FLUSH = 3;
const ZEROES = 6;
const STATUS = 7;
const FUA = 1;
const PAYLOAD_LEN = 32;

/** Transmission flags of a node that can everything: has-flags, flush, FUA, trim, zeroes, DF, multi-conn, cache, fast zero. */
export const ALL_FLAGS = 0x0001 | 0x0004 | 0x0008 | 0x0020 | 0x0040 | 0x0100 | 0x0400 | 0x0800;
export const FLAG = { READ_ONLY: 0x0002, FLUSH: 0x0004, FUA: 0x0008, ZEROES: 0x0040, MULTI_CONN: 0x0100, FAST_ZERO: 0x0800 } as const;

export class NodeRequest {
  landed = false;
  answered = false;

  constructor(
    readonly connection: NodeConnection,
    readonly command: number,
    readonly flags: number,
    readonly cookie: bigint,
    readonly offset: number,
    readonly length: number,
    readonly data: Buffer,
  ) {}

  /** `write 512+4096`, `flush`. */
  get text(): string {
    const name = NODE_COMMANDS[this.command];
    return this.command === FLUSH ? name : `${name}${this.flags & FUA ? ' fua' : ''} ${this.offset}+${this.length}`;
  }

  /** Takes effect in the node; once. */
  land(): void {
    if (this.landed) return;
    this.landed = true;
    this.connection.node.carryOut(this);
  }

  /** Takes effect, unless with an error, and is answered if its connection still stands. */
  answer(errno = 0): void {
    assert(!this.answered, `${this.text} is answered already`);
    this.answered = true;
    const { node } = this.connection;
    node.held.splice(node.held.indexOf(this), 1);
    if (errno === 0) this.land();
    this.connection.reply(this, errno);
  }
}

class NodeConnection {
  open = true;
  #inbox = Buffer.alloc(0);
  #phase: 'flags' | 'options' | 'requests' = 'flags';
  /** Were extended headers agreed on here? */
  extended = false;

  constructor(
    readonly node: ScriptedNode,
    readonly wire: Wire,
    readonly number: number,
  ) {
    wire.write(node.greeting);
  }

  data(chunk: Buffer): void {
    this.#inbox = Buffer.concat([this.#inbox, chunk]);
    while (this.open && this.#step());
  }

  /** Sends bytes as they stand: for what no sane node sends. */
  send(bytes: Buffer): void {
    if (this.open) this.wire.write(bytes);
  }

  reply(request: NodeRequest, errno: number): void {
    const { command, cookie } = request;
    const twisted = this.node.twist(request, errno);
    if (twisted !== null) {
      this.send(twisted);
      return;
    }
    if (command === STATUS && errno === 0) {
      const extents = this.extended
        ? [uint32(7), uint32(1), uint64(request.length), uint64(0)]
        : [uint32(7), uint32(request.length), uint32(0)];
      this.send(this.chunk(request, this.extended ? 6 : 5, Buffer.concat(extents)));
      return;
    }
    if (command === READ && errno === 0 && this.node.structured) {
      this.send(this.chunk(request, 1, Buffer.concat([uint64(request.offset), this.node.read(request.offset, request.length)])));
      return;
    }
    if (this.extended || (command === READ && this.node.structured)) {
      this.send(errno === 0 ? this.chunk(request, 0) : this.chunk(request, 0x8001, Buffer.concat([uint32(errno), uint16(0)])));
      return;
    }
    const data = command === READ && errno === 0 ? this.node.read(request.offset, request.length) : Buffer.alloc(0);
    this.send(Buffer.concat([hex('67446698'), uint32(errno), uint64(cookie), data]));
  }

  /** A chunk of the reply to `request`, in the style that was agreed on. */
  chunk({ cookie, offset }: NodeRequest, type: number, body: Buffer = Buffer.alloc(0), done = true): Buffer {
    const flags = uint16(done ? 1 : 0);
    const head = [hex(this.extended ? '6e8a278c' : '668e33ef'), flags, uint16(type), uint64(cookie)];
    return Buffer.concat([...head, ...(this.extended ? [uint64(offset), uint64(body.length)] : [uint32(body.length)]), body]);
  }

  cut(): void {
    if (!this.open) return;
    this.wire.destroy();
    this.closed();
  }

  closed(): void {
    this.open = false;
    this.node.connections.delete(this);
  }

  #take(length: number): Buffer {
    const taken = this.#inbox.subarray(0, length);
    this.#inbox = this.#inbox.subarray(length);
    return taken;
  }

  #step(): boolean {
    const inbox = this.#inbox;
    if (this.#phase === 'flags') {
      if (inbox.length < 4) return false;
      this.#take(4);
      this.#phase = 'options';
      return true;
    }
    if (this.#phase === 'options') {
      if (inbox.length < 16 || inbox.length < 16 + inbox.readUInt32BE(12)) return false;
      const option = inbox.readUInt32BE(8);
      this.#take(16 + inbox.readUInt32BE(12));
      this.#option(option);
      return true;
    }
    const size = this.extended ? 32 : 28;
    if (inbox.length < size) return false;
    assert.equal(inbox.readUInt32BE(0), this.extended ? 0x21e41c71 : 0x25609513, 'the magic of a request');
    const command = inbox.readUInt16BE(6);
    const length = this.extended ? Number(inbox.readBigUInt64BE(24)) : inbox.readUInt32BE(24);
    const payload = command === WRITE ? length : 0;
    if (inbox.length < size + payload) return false;
    const head = this.#take(size);
    const data = Buffer.from(this.#take(payload));
    const offset = Number(head.readBigUInt64BE(16));
    const flags = head.readUInt16BE(4);
    assert.equal(
      (flags & PAYLOAD_LEN) !== 0,
      this.extended && command === WRITE,
      'a payload is announced with extended headers, and only then',
    );
    this.#request(new NodeRequest(this, command, flags & ~PAYLOAD_LEN, head.readBigUInt64BE(8), offset, length, data));
    return true;
  }

  #option(option: number): void {
    const { node } = this;
    const scripted = node.optionReply(option);
    if (scripted !== null) {
      this.send(scripted);
    } else if (option === 2) {
      this.cut();
    } else if (option === 11) {
      this.extended = node.extended;
      this.send(optionReplyBytes(11, node.extended ? 1 : 0x80000001));
    } else if (option === 8) {
      this.send(optionReplyBytes(8, node.structured ? 1 : 0x80000001));
    } else if (option === 10) {
      this.send(optionReplyBytes(10, 4, Buffer.concat([uint32(7), Buffer.from('base:allocation')])));
      this.send(optionReplyBytes(10, 1));
    } else {
      assert.equal(option, 7, 'GO');
      if (node.stallHandshakes) node.stalled.push(() => this.#describe());
      else this.#describe();
    }
  }

  /** The answer to GO: requests may come from now on. */
  #describe(): void {
    const { node } = this;
    this.#phase = 'requests';
    this.send(optionReplyBytes(7, 3, Buffer.concat([uint16(0), uint64(node.sizeBytes), uint16(node.flags)])));
    this.send(optionReplyBytes(7, 3, Buffer.concat([uint16(3), uint32(node.blockMinimum), uint32(4096), uint32(node.payloadBytesMax)])));
    this.send(optionReplyBytes(7, 1));
  }

  #request(request: NodeRequest): void {
    const { node } = this;
    if (request.command === DISC) {
      node.log.push('disc');
      return;
    }
    node.log.push(request.text);
    if (request.command === WRITE || request.command === ZEROES || request.command === FLUSH || request.command === READ)
      node.seen.push(request);
    node.held.push(request);
    if (!node.hold(request)) request.answer(node.fail(request));
  }
}

export class ScriptedNode implements Dialer {
  sizeBytes: number;
  flags: number = ALL_FLAGS;
  structured = true;
  extended = false;
  greeting: Buffer = Buffer.concat([hex('4e42444d41474943 49484156454f5054'), uint16(3)]);
  /** What is sent instead of the answer that is due; null: that. */
  twist: (request: NodeRequest, errno: number) => Buffer | null = () => null;
  /** The same of an option. */
  optionReply: (option: number) => Buffer | null = () => null;
  blockMinimum = 1;
  payloadBytesMax = 32 * 1024 * 1024;
  /** False: a dial fails. */
  up = true;
  /** Handshakes stop before their last answer, until one of `stalled` is called. */
  stallHandshakes = false;
  readonly stalled: (() => void)[] = [];
  /** Writes are on stable storage only after a flush. */
  volatile = false;
  bytes: Buffer;
  durable: Buffer;
  hold: (request: NodeRequest) => boolean = () => false;
  fail: (request: NodeRequest) => number = () => 0;
  /** Every request that came, as text, in order. */
  readonly log: string[] = [];
  readonly seen: NodeRequest[] = [];
  readonly held: NodeRequest[] = [];
  readonly connections = new Set<NodeConnection>();
  dials = 0;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.bytes = Buffer.alloc(sizeBytes);
    this.durable = Buffer.alloc(sizeBytes);
  }

  dial(_address: WireAddress, handlers: WireHandlers): Wire {
    this.dials += 1;
    const [ours, theirs] = wirePair();
    ours.handle(handlers);
    if (!this.up) {
      theirs.wire.destroy();
      return ours.wire;
    }
    const connection = new NodeConnection(this, theirs.wire, this.dials);
    this.connections.add(connection);
    theirs.handle({ data: (chunk) => connection.data(chunk), drain: () => {}, close: () => connection.closed() });
    return ours.wire;
  }

  read(offset: number, length: number): Buffer {
    return Buffer.from(this.bytes.subarray(offset, offset + length));
  }

  carryOut(request: NodeRequest): void {
    const { command, offset, length, flags } = request;
    if (command === WRITE) request.data.copy(this.bytes, offset);
    else if (command === ZEROES) this.bytes.fill(0, offset, offset + length);
    else if (command === FLUSH) this.bytes.copy(this.durable);
    else return;
    if (!this.volatile || (flags & FUA) !== 0) this.bytes.copy(this.durable, offset, offset, offset + length);
  }

  /** All connections break; what is held may still land. */
  cut(): void {
    for (const connection of [...this.connections]) connection.cut();
  }

  /** Power is lost: what was not flushed is gone, and so is what was held. */
  crash(): void {
    this.cut();
    this.held.length = 0;
    this.bytes = Buffer.from(this.durable);
  }

  answerAll(): void {
    while (this.held.length > 0) this.held[0].answer();
  }
}

/** Lets what is under way in memory go on: wires deliver one piece a turn. */
export async function turns(count = 30): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
