// A connection in the transmission phase, byte by byte: sends any request, right or wrong, and takes replies of every style
// whatever was agreed, so that a rule can say which of them was wrong. Only what makes the stream unreadable is an error here: an
// unknown magic, an impossible length, a cookie that nobody waits for.
import {
  ChunkHeader,
  decodeChunkHeader,
  decodeSimpleReply,
  type HeaderStyle,
  readUint16,
  readUint32,
  SimpleReplyHeader,
} from '../nbd/codec.js';
import {
  CHUNK,
  CHUNK_ERROR_BIT,
  CHUNK_FLAG_DONE,
  COMMAND,
  COMMAND_FLAG,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REQUEST_MAGIC,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  SIZE,
  STRUCTURED_REPLY_MAGIC,
} from '../nbd/constants.js';
import { uint16, uint32, uint64 } from './big-endian.js';
import type { RawLink } from './raw-link.js';
import { ConnectionEnded } from './raw-stream.js';
import { RuleBroken } from './verdict.js';
import { chunkName, commandName, errnoName, quoted } from './words.js';

/** A chunk that is longer than that is no longer read. */
const CHUNK_BYTES_MAX = 80 * 1024 * 1024;
const EMPTY = Buffer.alloc(0);

export interface RawRequest {
  command: number;
  /** With extended headers PAYLOAD_LEN is added to a WRITE, unless `exact`. */
  flags?: number;
  offset?: number | bigint;
  length?: number | bigint;
  /** Sent behind the header; by default nothing. */
  payload?: Uint8Array;
  cookie?: bigint;
  /** Send the flags as they are. */
  exact?: boolean;
}

/** One reply message: a simple reply, or a chunk of one of the other two styles. */
export interface Message {
  style: HeaderStyle;
  /** Of a simple reply. */
  error: number;
  flags: number;
  type: number;
  cookie: bigint;
  /** Echo of the request's offset; only of the extended style. */
  offset: bigint;
  payload: Buffer;
}

export interface Content {
  offset: bigint;
  length: number;
  /** Null: a hole. */
  data: Buffer | null;
}

/** All that came for one request. */
export class Answer {
  readonly messages: Message[] = [];
  done = false;
  /** How the connection ended before the reply did; null: it did not. */
  ended: string | null = null;

  constructor(
    readonly request: RawRequest,
    readonly cookie: bigint,
  ) {}

  get closed(): boolean {
    return this.ended !== null;
  }

  /** 0: success. Of several error chunks, that of the first. */
  get errno(): number {
    for (const { style, error, type, payload } of this.messages) {
      if (style === 'simple' && error !== 0) return error;
      if (style !== 'simple' && type >= CHUNK_ERROR_BIT) return payload.length >= 4 ? readUint32(payload, 0) : 0xffffffff;
    }
    return 0;
  }

  get succeeded(): boolean {
    return !this.closed && this.errno === 0;
  }

  get chunks(): Message[] {
    return this.messages.filter(({ style }) => style !== 'simple');
  }

  /** What a READ brought, in the order in which it came. */
  get contents(): Content[] {
    return this.messages.flatMap(({ style, type, payload }): Content[] => {
      if (style === 'simple')
        return payload.length > 0 ? [{ offset: BigInt(this.request.offset ?? 0), length: payload.length, data: payload }] : [];
      if (type === CHUNK.OFFSET_DATA && payload.length >= 8) {
        return [{ offset: payload.readBigUInt64BE(0), length: payload.length - 8, data: payload.subarray(8) }];
      }
      if (type === CHUNK.OFFSET_HOLE && payload.length >= 12) {
        return [{ offset: payload.readBigUInt64BE(0), length: readUint32(payload, 8), data: null }];
      }
      return [];
    });
  }

  /** The bytes that a READ brought, in place; zeroes where nothing came. */
  get data(): Buffer {
    const start = BigInt(this.request.offset ?? 0);
    const whole = Buffer.alloc(Number(this.request.length ?? 0));
    for (const { offset, data } of this.contents) {
      const at = Number(offset - start);
      if (data !== null && at >= 0 && at < whole.length) data.copy(whole, at);
    }
    return whole;
  }

  /** What it was, for a message. */
  get words(): string {
    const name = commandName(this.request.command);
    if (this.ended !== null) return `the server closed the connection (${this.ended}) in answer to ${name}`;
    if (this.errno === 0) return `${name} succeeded`;
    const text = this.chunks.find(({ type, payload }) => type >= CHUNK_ERROR_BIT && payload.length > 6)?.payload.subarray(6);
    return `${name} got ${errnoName(this.errno)}${text === undefined ? '' : ` ${quoted(text)}`}`;
  }
}

export interface SessionStart {
  headers: HeaderStyle;
  sizeBytes: number;
  flags: number;
  /** Names of the selected contexts by their ids. */
  contexts: ReadonlyMap<number, string>;
  /** What a harmless READ may ask for: multiples of it. */
  blockBytes: number;
}

export class RawSession {
  readonly headers: HeaderStyle;
  readonly sizeBytes: number;
  readonly flags: number;
  readonly contexts: ReadonlyMap<number, string>;
  readonly link: RawLink;
  readonly #blockBytes: number;
  #pending: Answer[] = [];
  #cookies = 0n;

  constructor(link: RawLink, start: SessionStart) {
    this.link = link;
    this.headers = start.headers;
    this.sizeBytes = start.sizeBytes;
    this.flags = start.flags;
    this.contexts = start.contexts;
    this.#blockBytes = start.blockBytes;
  }

  offers(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  /** The bytes of a request; `send` sends them and expects an answer. */
  encode(request: RawRequest, cookie: bigint): Buffer {
    const { command, offset = 0, length = 0, payload = EMPTY, exact = false } = request;
    const extended = this.headers === 'extended';
    const flags = (request.flags ?? 0) | (extended && command === COMMAND.WRITE && !exact ? COMMAND_FLAG.PAYLOAD_LEN : 0);
    const head = [uint32(extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC), uint16(flags, command), uint64(cookie), uint64(offset)];
    return Buffer.concat([...head, extended ? uint64(length) : uint32(Number(length)), payload]);
  }

  send(request: RawRequest): Answer {
    const answer = this.expect(request);
    this.link.send(this.encode(request, answer.cookie));
    return answer;
  }

  /** Announces a request whose bytes (of `encode`) the caller sends himself. */
  expect(request: RawRequest): Answer {
    this.#cookies += 1n;
    const answer = new Answer(request, request.cookie ?? 0xf05e57a11n * 0x10000n + this.#cookies);
    this.#pending.push(answer);
    return answer;
  }

  async ask(request: RawRequest): Promise<Answer> {
    return this.settled(this.send(request));
  }

  /** Takes what comes until `answer` is whole or the connection is over. */
  async settled(answer: Answer): Promise<Answer> {
    while (!answer.done && answer.ended === null) await this.#takeMessage(`the reply to ${commandName(answer.request.command)}`);
    return answer;
  }

  read(offset: number | bigint, length: number, flags = 0): Promise<Answer> {
    return this.ask({ command: COMMAND.READ, flags, offset, length });
  }

  write(offset: number | bigint, payload: Uint8Array, flags = 0): Promise<Answer> {
    return this.ask({ command: COMMAND.WRITE, flags, offset, length: payload.length, payload });
  }

  /** The bytes of a range, which must be readable. */
  async bytes(offset: number, length: number): Promise<Buffer> {
    const answer = await this.read(offset, length);
    if (!answer.succeeded) throw new RuleBroken(`READ of ${length} bytes at ${offset} to succeed`, answer.words);
    return answer.data;
  }

  /** Proves that the server understands where the next request begins. */
  async staysInStep(): Promise<void> {
    const answer = await this.read(0, this.#blockBytes);
    if (!answer.succeeded) throw new RuleBroken('the connection to live on, with the next READ answered', answer.words);
  }

  async #takeMessage(what: string): Promise<void> {
    let message: Message;
    try {
      message = await this.#message(what);
    } catch (error) {
      if (!(error instanceof ConnectionEnded)) throw error;
      if (error.gotBytes > 0) throw new RuleBroken('a whole reply', `the connection ended (${error.how}) inside ${error.what}`);
      for (const pending of this.#pending) pending.ended = error.how;
      return;
    }
    const answer = this.#pending.find(({ cookie }) => cookie === message.cookie);
    if (answer === undefined) {
      throw new RuleBroken('the cookie of a request that waits for its reply', `a reply came with cookie 0x${message.cookie.toString(16)}`);
    }
    answer.messages.push(message);
    answer.done = message.style === 'simple' || (message.flags & CHUNK_FLAG_DONE) !== 0;
    if (answer.done) this.#pending.splice(this.#pending.indexOf(answer), 1);
  }

  async #message(what: string): Promise<Message> {
    const magic = readUint32(await this.link.read(4, what), 0);
    if (magic === SIMPLE_REPLY_MAGIC) return this.#simple(what);
    if (magic === STRUCTURED_REPLY_MAGIC) return this.#chunk(what);
    if (magic === EXTENDED_REPLY_MAGIC) return this.#extended(what);
    throw new RuleBroken(`${what}, with the magic of a reply`, `a message came that begins with 0x${magic.toString(16).padStart(8, '0')}`);
  }

  async #simple(what: string): Promise<Message> {
    const header = new SimpleReplyHeader();
    decodeSimpleReply(await this.#header(SIMPLE_REPLY_MAGIC, SIZE.SIMPLE_REPLY, what), 0, header);
    const cookie = cookieOf(header);
    const request = this.#pending.find((answer) => answer.cookie === cookie)?.request;
    const length = request?.command === COMMAND.READ && header.error === 0 ? Number(request.length ?? 0) : 0;
    const payload = length > 0 ? await this.link.read(length, `the data of ${what}`, false) : EMPTY;
    return { style: 'simple', error: header.error, flags: 0, type: 0, cookie, offset: 0n, payload };
  }

  async #chunk(what: string): Promise<Message> {
    const header = new ChunkHeader();
    decodeChunkHeader(await this.#header(STRUCTURED_REPLY_MAGIC, SIZE.CHUNK_HEADER, what), 0, header);
    const { flags, type } = header;
    return {
      style: 'structured',
      error: 0,
      flags,
      type,
      cookie: cookieOf(header),
      offset: 0n,
      payload: await this.#payload(type, header.length),
    };
  }

  async #extended(what: string): Promise<Message> {
    const header = await this.#header(EXTENDED_REPLY_MAGIC, SIZE.EXTENDED_CHUNK_HEADER, what);
    const type = readUint16(header, 6);
    const [cookie, offset, length] = [8, 16, 24].map((at) => header.readBigUInt64BE(at));
    return {
      style: 'extended',
      error: 0,
      flags: readUint16(header, 4),
      type,
      cookie,
      offset,
      payload: await this.#payload(type, Number(length)),
    };
  }

  async #header(magic: number, size: number, what: string): Promise<Buffer> {
    return Buffer.concat([uint32(magic), await this.link.read(size - 4, what, false)]);
  }

  async #payload(type: number, length: number): Promise<Buffer> {
    const what = `a chunk ${chunkName(type)}`;
    if (length > CHUNK_BYTES_MAX) throw new RuleBroken(`${what} of a length that can be`, `one came that says it has ${length} bytes`);
    return length === 0 ? EMPTY : this.link.read(length, what, false);
  }
}

function cookieOf({ cookieHigh, cookieLow }: { cookieHigh: number; cookieLow: number }): bigint {
  return (BigInt(cookieHigh) << 32n) | BigInt(cookieLow);
}
