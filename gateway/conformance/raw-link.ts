// A connection in the handshake, byte by byte: sends any option with any data, right or wrong, and understands what comes back
// only as far as the format of option replies says. Knows nothing of what is right: rules do. Shares no state machine with
// our server or client.
import type { Duplex } from 'node:stream';
import {
  HANDSHAKE_FLAG,
  NBD_MAGIC,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_ERROR_BIT,
  OPTION_REPLY_MAGIC,
  SIZE,
} from '../nbd/constants.js';
import { readUint16, readUint32 } from '../nbd/codec.js';
import { uint32 } from './big-endian.js';
import { ConnectionEnded, type Deadline, RawStream } from './raw-stream.js';
import { RuleBroken } from './verdict.js';
import { optionName, optionReplyName, quoted } from './words.js';

/** No server knows it; any server answers it, with an error. */
export const UNKNOWN_OPTION = 0x46535431;
/** A reply to an option that is longer than that is no longer read. */
const REPLY_BYTES_MAX = 1024 * 1024;
const REPLIES_MAX = 100_000;
/** Bytes of a message that are shown as evidence. */
const EVIDENCE_BYTES_MAX = 64;
const EMPTY = Buffer.alloc(0);

export interface OptionReply {
  /** The option it says it answers. */
  option: number;
  type: number;
  data: Buffer;
}

/** What came for one option: replies, the last one of which is final (ACK or an error) unless the server closed before. */
export class OptionAnswer {
  constructor(
    readonly option: number,
    readonly replies: readonly OptionReply[],
    readonly final: OptionReply | null,
    readonly how: string,
  ) {}

  get closed(): boolean {
    return this.final === null;
  }

  get acknowledged(): boolean {
    return this.final?.type === OPTION_REPLY.ACK;
  }

  /** What it was, for a message. */
  get words(): string {
    const { final } = this;
    if (final === null) return `the server closed the connection (${this.how}) in answer to ${optionName(this.option)}`;
    const text = final.data.length > 0 ? ` ${quoted(final.data)}` : '';
    return `${optionName(this.option)} got ${optionReplyName(final.type)}${text}`;
  }
}

export class RawLink {
  readonly deadline: Deadline;
  handshakeFlags = 0;
  #stream: RawStream;
  /** Start of the last message that came. */
  #evidence = EMPTY;

  constructor(stream: RawStream, deadline: Deadline) {
    this.#stream = stream;
    this.deadline = deadline;
  }

  get evidence(): Buffer {
    return this.#evidence;
  }

  /** True once the server has closed. */
  get ended(): boolean {
    return this.#stream.ended;
  }

  send(...parts: Uint8Array[]): void {
    this.#stream.write(parts.length === 1 ? parts[0] : Buffer.concat(parts));
  }

  /** One byte a write, each in a turn of its own. */
  async sendInBytes(bytes: Buffer): Promise<void> {
    for (let i = 0; i < bytes.length; i++) {
      this.#stream.write(bytes.subarray(i, i + 1));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** `begins`: a message begins with these bytes, as against goes on. */
  async read(length: number, what: string, begins = true): Promise<Buffer> {
    const bytes = await this.#stream.read(length, what);
    const shown = bytes.subarray(0, EVIDENCE_BYTES_MAX);
    this.#evidence = begins ? Buffer.from(shown) : Buffer.concat([this.#evidence, shown]).subarray(0, EVIDENCE_BYTES_MAX);
    return bytes;
  }

  /** What the server sends until it closes. */
  async readToEnd(what: string): Promise<Buffer> {
    const bytes = await this.#stream.readToEnd(what);
    if (bytes.length > 0) this.#evidence = Buffer.from(bytes.subarray(0, EVIDENCE_BYTES_MAX));
    return bytes;
  }

  async readGreeting(): Promise<void> {
    const bytes = await this.read(SIZE.GREETING, 'the greeting');
    const right = readUint32(bytes, 0) === NBD_MAGIC.HIGH && readUint32(bytes, 4) === NBD_MAGIC.LOW;
    if (!right || readUint32(bytes, 8) !== OPTION_MAGIC.HIGH || readUint32(bytes, 12) !== OPTION_MAGIC.LOW) {
      throw new RuleBroken('a greeting of NBDMAGIC and IHAVEOPT', 'other bytes came');
    }
    this.handshakeFlags = readUint16(bytes, 16);
  }

  /** By default those that the server offers. */
  sendFlags(flags: number = this.handshakeFlags & (HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES)): void {
    this.send(uint32(flags));
  }

  /** `claimedLength`: what the header says of the data's length, if it is not the truth. */
  sendOption(option: number, data: Uint8Array = EMPTY, claimedLength = data.length): void {
    this.send(optionHeader(option, claimedLength), data);
  }

  /** Sends an option and takes what comes up to the final reply or the end of the connection. */
  async option(option: number, data: Uint8Array = EMPTY, claimedLength = data.length): Promise<OptionAnswer> {
    this.sendOption(option, data, claimedLength);
    return this.answer(option);
  }

  async answer(option: number): Promise<OptionAnswer> {
    const replies: OptionReply[] = [];
    try {
      for (;;) {
        const reply = await this.#optionReply(option);
        if (reply.type === OPTION_REPLY.ACK || reply.type >= OPTION_REPLY_ERROR_BIT) return new OptionAnswer(option, replies, reply, '');
        replies.push(reply);
        if (replies.length > REPLIES_MAX) throw new RuleBroken('a final reply', `${optionName(option)} got over ${REPLIES_MAX} replies`);
      }
    } catch (error) {
      if (!(error instanceof ConnectionEnded)) throw error;
      if (error.gotBytes > 0) throw new RuleBroken('a whole reply', `the connection ended (${error.how}) inside ${error.what}`);
      return new OptionAnswer(option, replies, null, error.how);
    }
  }

  /** Proves that the server understands where the next option begins. */
  async staysInStep(): Promise<void> {
    const answer = await this.option(UNKNOWN_OPTION);
    if (answer.closed || answer.acknowledged || answer.replies.length > 0 || answer.final?.option !== UNKNOWN_OPTION) {
      throw new RuleBroken('the next option to be understood and refused', answer.words);
    }
  }

  /** Puts another stream on top of this one, such as TLS, from here on. */
  async upgrade(wrap: (duplex: Duplex) => Promise<Duplex>): Promise<void> {
    this.#stream = new RawStream(await wrap(this.#stream.release()), this.deadline);
  }

  destroy(): void {
    this.#stream.destroy();
  }

  async #optionReply(option: number): Promise<OptionReply> {
    const what = `the reply to ${optionName(option)}`;
    const header = await this.read(SIZE.OPTION_REPLY_HEADER, what);
    if (readUint32(header, 0) !== OPTION_REPLY_MAGIC.HIGH || readUint32(header, 4) !== OPTION_REPLY_MAGIC.LOW) {
      throw new RuleBroken(`${what}, with the magic of option replies`, 'other bytes came');
    }
    const length = readUint32(header, 16);
    if (length > REPLY_BYTES_MAX) throw new RuleBroken(what, `one came that says it has ${length} bytes`);
    const data = length === 0 ? EMPTY : await this.read(length, what, false);
    return { option: readUint32(header, 8), type: readUint32(header, 12), data };
  }
}

export function optionHeader(option: number, length: number): Buffer {
  return uint32(OPTION_MAGIC.HIGH, OPTION_MAGIC.LOW, option, length);
}
