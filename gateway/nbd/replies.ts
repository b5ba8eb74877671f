// The replies of one session, written into its outbox: simple ones, or structured ones where they were agreed. After
// structured replies are agreed READ and BLOCK_STATUS never get a simple one; success without data stays simple, which
// is allowed and short. With extended headers every reply is an extended chunk. Each reply is one chunk (a BLOCK_STATUS one
// for each context), so chunks never overlap and nothing follows an error.
import {
  encodeChunkHeader,
  encodeExtendedChunkHeader,
  encodeSimpleReply,
  type HeaderStyle,
  writeUint16,
  writeUint32,
  writeUint64,
} from './codec.js';
import { CHUNK, CHUNK_FLAG_DONE, SIZE } from './constants.js';
import type { Outbox } from './outbox.js';
import type { Refusal } from './refusal.js';

/** Whom a reply is for: the cookie of the request and its offset as it came, in halves. */
export interface Addressee {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

export class Replies {
  #outbox: Outbox;
  #chunks: boolean;
  #extended: boolean;

  constructor(outbox: Outbox, headers: HeaderStyle) {
    this.#outbox = outbox;
    this.#chunks = headers !== 'simple';
    this.#extended = headers === 'extended';
  }

  /** Success with nothing to say. `chunked`: the command's reply has to be structured where that was agreed. */
  done(to: Addressee, chunked: boolean): void {
    if (this.#extended || (chunked && this.#chunks)) this.#chunk(to, CHUNK.NONE, 0, 0);
    else this.#simple(to, 0);
  }

  data(to: Addressee, offset: number, data: Buffer): void {
    if (this.#chunks) {
      const at = this.#chunk(to, CHUNK.OFFSET_DATA, 8, 8 + data.length);
      writeUint64(this.#outbox.slab, at, offset);
    } else {
      this.#simple(to, 0);
    }
    this.#outbox.append(data);
  }

  /** Only where structured replies were agreed; the payloads, one a context, are in the form that belongs to the headers. */
  blockStatus(to: Addressee, payloads: readonly Buffer[]): void {
    for (const [i, payload] of payloads.entries()) {
      const flags = i === payloads.length - 1 ? CHUNK_FLAG_DONE : 0;
      this.#chunk(to, this.#extended ? CHUNK.BLOCK_STATUS_EXT : CHUNK.BLOCK_STATUS, 0, payload.length, flags);
      this.#outbox.append(payload);
    }
  }

  refuse(to: Addressee, refusal: Refusal): void {
    if (!this.#chunks) {
      this.#simple(to, refusal.errno);
      return;
    }
    const { message } = refusal;
    const at = this.#chunk(to, CHUNK.ERROR, 6, 6 + message.length);
    writeUint32(this.#outbox.slab, at, refusal.errno);
    writeUint16(this.#outbox.slab, at + 4, message.length);
    this.#outbox.append(message);
  }

  #simple(to: Addressee, errno: number): void {
    const at = this.#outbox.reserve(SIZE.SIMPLE_REPLY);
    encodeSimpleReply(this.#outbox.slab, at, errno, to.cookieHigh, to.cookieLow);
  }

  /** Writes the header of a chunk of `length` bytes and reserves the first `head` of them: gives their position. */
  #chunk(to: Addressee, type: number, head: number, length: number, flags: number = CHUNK_FLAG_DONE): number {
    const { cookieHigh, cookieLow } = to;
    if (!this.#extended) {
      const at = this.#outbox.reserve(SIZE.CHUNK_HEADER + head);
      encodeChunkHeader(this.#outbox.slab, at, flags, type, cookieHigh, cookieLow, length);
      return at + SIZE.CHUNK_HEADER;
    }
    const at = this.#outbox.reserve(SIZE.EXTENDED_CHUNK_HEADER + head);
    encodeExtendedChunkHeader(this.#outbox.slab, at, flags, type, cookieHigh, cookieLow, to.offsetHigh, to.offsetLow, length);
    return at + SIZE.EXTENDED_CHUNK_HEADER;
  }
}
