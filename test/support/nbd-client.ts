// A small NBD client for tests, on promises: requests may be pipelined, replies are checked against the protocol (known
// cookies, chunks that cover the request without overlap, one DONE). Written from the protocol document alone and shares
// no code with the gateway, so that a mistake in ours cannot hide in its mirror image.
import assert from 'node:assert/strict';
import { ByteStream } from './byte-stream.js';
import { parseNbdUri } from './nbd-uri.js';

const IHAVEOPT = Buffer.from('49484156454f5054', 'hex');
const NBDMAGIC = Buffer.from('4e42444d41474943', 'hex');
const OPTION_REPLY = 0x3e889045565a9n;
const REQUEST = 0x25609513;
const SIMPLE_REPLY = 0x67446698;
const STRUCTURED_REPLY = 0x668e33ef;
const EXTENDED_REQUEST = 0x21e41c71;
const EXTENDED_REPLY = 0x6e8a278c;

export interface ConnectWishes {
  /** Default true. */
  structured?: boolean;
  /** Ask for extended headers, which include structured replies; default false. */
  extended?: boolean;
  /** Select base:allocation; default true with structured replies. */
  blockStatus?: boolean;
  /** Use EXPORT_NAME instead of GO. */
  exportNameOption?: boolean;
}

export interface StatusExtent {
  lengthBytes: number;
  hole: boolean;
  zero: boolean;
}

/** The server's answer with an error number, or the end of the connection (`errno` null). */
export class NbdError extends Error {
  readonly errno: number | null;

  constructor(errno: number | null, message: string) {
    super(message);
    this.errno = errno;
  }
}

export interface NbdReply {
  data: Buffer | null;
  extents: StatusExtent[] | null;
}

interface Pending {
  command: number;
  offset: number;
  length: number;
  data: Buffer | null;
  filledBytes: number;
  extents: StatusExtent[] | null;
  error: NbdError | null;
  resolve: (reply: NbdReply) => void;
  reject: (error: Error) => void;
}

export class NbdClient {
  sizeBytes = 0;
  flags = 0;
  structured = false;
  extended = false;
  block: { minimum: number; preferred: number; maximumPayload: number } | null = null;
  /** True once a reply came structured (simple ones are allowed for commands without data). */
  sawStructured = false;
  readonly stream: ByteStream;
  /** Resolves when the connection is over. */
  readonly closed: Promise<void>;
  #contextId: number | null = null;
  #pending = new Map<bigint, Pending>();
  #cookies = 0n;
  #over: Error | null = null;

  private constructor(stream: ByteStream) {
    this.stream = stream;
    this.closed = stream.closed;
  }

  static async connect(uri: string, wishes: ConnectWishes = {}): Promise<NbdClient> {
    const { address, exportName } = parseNbdUri(uri);
    const client = new NbdClient(await ByteStream.open(address));
    try {
      await client.#negotiate(exportName, wishes);
    } catch (error) {
      client.destroy();
      throw error;
    }
    void client.#receive();
    return client;
  }

  async read(offset: number, length: number, options: { df?: boolean } = {}): Promise<Buffer> {
    const { data } = await this.request(0, options.df ? 4 : 0, offset, length);
    return data ?? Buffer.alloc(0);
  }

  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<void> {
    await this.request(1, options.fua ? 1 : 0, offset, data.length, data);
  }

  async flush(): Promise<void> {
    await this.request(3, 0, 0, 0);
  }

  async trim(offset: number, length: number, options: { fua?: boolean } = {}): Promise<void> {
    await this.request(4, options.fua ? 1 : 0, offset, length);
  }

  async cache(offset: number, length: number): Promise<void> {
    await this.request(5, 0, offset, length);
  }

  async zeroes(offset: number, length: number, options: { fua?: boolean; noHole?: boolean; fast?: boolean } = {}): Promise<void> {
    const flags = (options.fua ? 1 : 0) | (options.noHole ? 2 : 0) | (options.fast ? 16 : 0);
    await this.request(6, flags, offset, length);
  }

  async status(offset: number, length: number, options: { one?: boolean } = {}): Promise<StatusExtent[]> {
    const { extents } = await this.request(7, options.one ? 8 : 0, offset, length);
    return extents ?? [];
  }

  /** Any request, right or wrong; `length` is what the header says, whatever the payload's length. */
  request(command: number, flags: number, offset: number | bigint, length: number, payload?: Uint8Array): Promise<NbdReply> {
    if (this.#over !== null) return Promise.reject(this.#over);
    this.#cookies += 1n;
    const cookie = 0xc0ffee0000000000n + this.#cookies;
    const header = this.#requestHeader(command, this.extended && command === 1 ? flags | 32 : flags, cookie, BigInt(offset), length);
    const reply = new Promise<NbdReply>((resolve, reject) => {
      const where = { command, offset: Number(offset), length };
      this.#pending.set(cookie, { ...where, data: null, filledBytes: 0, extents: null, error: null, resolve, reject });
    });
    this.stream.write(payload === undefined ? header : Buffer.concat([header, payload]));
    return reply;
  }

  /** Says goodbye and waits until the server has closed; what is outstanding is still answered. */
  async disconnect(): Promise<void> {
    this.stream.write(this.#requestHeader(2, 0, 0n, 0n, 0));
    await this.closed;
  }

  #requestHeader(command: number, flags: number, cookie: bigint, offset: bigint, length: number): Buffer {
    const header = Buffer.alloc(this.extended ? 32 : 28);
    header.writeUInt32BE(this.extended ? EXTENDED_REQUEST : REQUEST, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(command, 6);
    header.writeBigUInt64BE(cookie, 8);
    header.writeBigUInt64BE(offset, 16);
    if (this.extended) header.writeBigUInt64BE(BigInt(length), 24);
    else header.writeUInt32BE(length, 24);
    return header;
  }

  destroy(): void {
    this.stream.socket.destroy();
  }

  async #negotiate(exportName: string, wishes: ConnectWishes): Promise<void> {
    const greeting = await this.stream.read(18);
    assert(greeting.subarray(0, 8).equals(NBDMAGIC) && greeting.subarray(8, 16).equals(IHAVEOPT), 'an NBD greeting');
    assert.equal(greeting.readUInt16BE(16) & 3, 3, 'a server of fixed newstyle without zeroes');
    this.stream.write(Buffer.from([0, 0, 0, 3]));
    if (wishes.extended) {
      const replies = await this.option(11, Buffer.alloc(0));
      assert.equal(replies.at(-1)?.type, 1, 'a server of extended headers');
      this.extended = this.structured = true;
    } else if (wishes.structured ?? true) {
      const replies = await this.option(8, Buffer.alloc(0));
      this.structured = replies.at(-1)?.type === 1;
    }
    const name = Buffer.from(exportName);
    if (this.structured && (wishes.blockStatus ?? true)) await this.#selectContext(name);
    if (wishes.exportNameOption) await this.#useExportName(name);
    else await this.#go(name);
  }

  async #selectContext(name: Buffer): Promise<void> {
    const query = Buffer.from('base:allocation');
    for (const { type, data } of await this.option(
      10,
      Buffer.concat([uint32(name.length), name, uint32(1), uint32(query.length), query]),
    )) {
      if (type === 4) this.#contextId = data.readUInt32BE(0);
    }
  }

  async #useExportName(name: Buffer): Promise<void> {
    this.stream.write(Buffer.concat([IHAVEOPT, uint32(1), uint32(name.length), name]));
    const reply = await this.stream.read(10);
    this.sizeBytes = Number(reply.readBigUInt64BE(0));
    this.flags = reply.readUInt16BE(8);
  }

  async #go(name: Buffer): Promise<void> {
    const replies = await this.option(7, Buffer.concat([uint32(name.length), name, Buffer.from([0, 1, 0, 3])]));
    const last = replies.at(-1)!;
    if (last.type !== 1) throw new NbdError(null, `GO refused with 0x${last.type.toString(16)}: ${last.data.toString()}`);
    for (const { data } of replies.slice(0, -1)) {
      const info = data.readUInt16BE(0);
      if (info === 0) {
        this.sizeBytes = Number(data.readBigUInt64BE(2));
        this.flags = data.readUInt16BE(10);
      } else if (info === 3) {
        this.block = { minimum: data.readUInt32BE(2), preferred: data.readUInt32BE(6), maximumPayload: data.readUInt32BE(10) };
      }
    }
  }

  /** Sends one option and gives its replies; the last is the ACK or the error. */
  async option(option: number, data: Buffer): Promise<{ type: number; data: Buffer }[]> {
    this.stream.write(Buffer.concat([IHAVEOPT, uint32(option), uint32(data.length), data]));
    const replies: { type: number; data: Buffer }[] = [];
    for (;;) {
      const header = await this.stream.read(20);
      assert.equal(header.readBigUInt64BE(0), OPTION_REPLY, 'the magic of an option reply');
      assert.equal(header.readUInt32BE(8), option, 'an answer to the option that was sent');
      const type = header.readUInt32BE(12);
      replies.push({ type, data: await this.stream.read(header.readUInt32BE(16)) });
      if (type === 1 || type >= 0x80000000) return replies;
    }
  }

  async #receive(): Promise<void> {
    try {
      for (;;) {
        const magic = (await this.stream.read(4)).readUInt32BE(0);
        if (magic === EXTENDED_REPLY && this.extended) await this.#takeChunk();
        else if (magic === SIMPLE_REPLY && !this.extended) await this.#takeSimple();
        else if (magic === STRUCTURED_REPLY && !this.extended) await this.#takeChunk();
        else throw new Error(`wrong magic ${magic.toString(16)} in a reply`);
      }
    } catch (error) {
      this.#over = new NbdError(null, (error as Error).message);
      for (const pending of this.#pending.values()) pending.reject(this.#over);
      this.#pending.clear();
      if ((error as Error).message.startsWith('the connection ended')) return;
      this.destroy();
    }
  }

  async #takeSimple(): Promise<void> {
    const header = await this.stream.read(12);
    const cookie = header.readBigUInt64BE(4);
    const pending = this.#known(cookie);
    if (this.structured) assert(pending.command !== 0 && pending.command !== 7, 'READ and BLOCK_STATUS are answered with chunks');
    const errno = header.readUInt32BE(0);
    if (errno !== 0) pending.error = new NbdError(errno, `error ${errno}`);
    else if (pending.command === 0) {
      pending.data = await this.stream.read(pending.length);
      pending.filledBytes = pending.length;
    }
    this.#settle(cookie, pending);
  }

  async #takeChunk(): Promise<void> {
    assert(this.structured, 'chunks only where they were agreed');
    this.sawStructured = true;
    const header = await this.stream.read(this.extended ? 28 : 16);
    const flags = header.readUInt16BE(0);
    const type = header.readUInt16BE(2);
    const cookie = header.readBigUInt64BE(4);
    const payload = await this.stream.read(this.extended ? Number(header.readBigUInt64BE(20)) : header.readUInt32BE(12));
    const pending = this.#known(cookie);
    if (this.extended) assert.equal(Number(header.readBigUInt64BE(12)), pending.offset, 'the offset of the request');
    assert(pending.error === null, 'nothing follows an error');
    if (type === 1) this.#fill(pending, Number(payload.readBigUInt64BE(0)), payload.subarray(8));
    else if (type === 2) this.#fill(pending, Number(payload.readBigUInt64BE(0)), Buffer.alloc(payload.readUInt32BE(8)));
    else if (type === (this.extended ? 6 : 5)) pending.extents = this.#parseExtents(payload);
    else if (type >= 0x8000) {
      const messageLength = payload.readUInt16BE(4);
      const message = payload.toString('utf8', 6, 6 + messageLength);
      pending.error = new NbdError(payload.readUInt32BE(0), message);
    } else assert.equal(type, 0, 'a known type of chunk');
    if ((flags & 1) !== 0) this.#settle(cookie, pending);
  }

  #fill(pending: Pending, offset: number, data: Buffer): void {
    assert.equal(pending.command, 0, 'data only for READ');
    pending.data ??= Buffer.alloc(pending.length);
    assert(offset >= pending.offset && offset + data.length <= pending.offset + pending.length, 'data inside the range');
    data.copy(pending.data, offset - pending.offset);
    pending.filledBytes += data.length;
  }

  #parseExtents(payload: Buffer): StatusExtent[] {
    assert.equal(payload.readUInt32BE(0), this.#contextId, 'the context that was selected');
    const extents: StatusExtent[] = [];
    const [head, each] = this.extended ? [8, 16] : [4, 8];
    for (let at = head; at < payload.length; at += each) {
      const lengthBytes = this.extended ? Number(payload.readBigUInt64BE(at)) : payload.readUInt32BE(at);
      const flags = payload.readUInt32BE(at + each - 4);
      extents.push({ lengthBytes, hole: (flags & 1) !== 0, zero: (flags & 2) !== 0 });
    }
    if (this.extended) assert.equal(payload.readUInt32BE(4), extents.length, 'as many extents as it says');
    return extents;
  }

  #known(cookie: bigint): Pending {
    const pending = this.#pending.get(cookie);
    assert(pending !== undefined, `a reply to nothing: ${cookie.toString(16)}`);
    return pending;
  }

  #settle(cookie: bigint, pending: Pending): void {
    this.#pending.delete(cookie);
    if (pending.error !== null) {
      pending.reject(pending.error);
      return;
    }
    if (pending.command === 0) assert.equal(pending.filledBytes, pending.length, 'the whole range is read');
    pending.resolve({ data: pending.data, extents: pending.extents });
  }
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
