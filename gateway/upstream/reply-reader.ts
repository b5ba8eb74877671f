// The answers of a storage node, read from its byte stream: simple, structured and extended replies, in chunks cut anywhere.
// Strict: a cookie never sent, data outside the request, overlapping or missing pieces, extents that cannot be, an answer of the
// wrong kind end the connection with a reason; nothing of such an answer is passed on. Pure: no socket, no clock.
import { ERRNO, type Extent, OP, type Op } from '../../replication/device.js';
import {
  ChunkHeader,
  decodeChunkHeader,
  decodeExtendedChunkHeader,
  decodeSimpleReply,
  readUint16,
  readUint32,
  readUint64,
  SimpleReplyHeader,
} from '../nbd/codec.js';
import {
  CHUNK,
  CHUNK_ERROR_BIT,
  CHUNK_FLAG_DONE,
  EXTENDED_REPLY_MAGIC,
  EXTENT_FLAG,
  SIMPLE_REPLY_MAGIC,
  SIZE,
  STRING_BYTES_MAX,
  STRUCTURED_REPLY_MAGIC,
} from '../nbd/constants.js';
import { Coverage } from './coverage.js';
import type { ViolationKind } from './violation.js';

/** Extents in one reply, as the protocol bounds them. */
const EXTENTS_MAX = 2 ** 20;
/** Error chunks in one reply: a node may tell of each bad sector of the largest read. */
const ERRORS_MAX = 2 ** 16;
const ERRNOS: ReadonlySet<number> = new Set(Object.values(ERRNO));

/** A request on its way in one connection, found by its cookie. Pooled by the link. */
export class LinkSlot<Job> {
  job: Job | null = null;
  generation = 0;
  op: Op = OP.READ;
  offset = 0;
  length = 0;
  /** ZEROES: may be refused for not being fast. STATUS: one extent was asked for. */
  fast = false;
  one = false;
  /** READ: what has come so far. */
  data: Buffer | null = null;
  covered = 0;
  /** READ in several data chunks, once they come out of order. */
  pieces: Coverage | null = null;
  extents: Extent[] | null = null;
  errno = 0;
  /** Error chunks that came. */
  errors = 0;

  constructor(readonly index: number) {}
}

export interface ReplySink<Job> {
  /** The slot a cookie names, when that request is still unanswered. */
  find(cookieHigh: number, cookieLow: number): LinkSlot<Job> | null;
  answered(slot: LinkSlot<Job>): void;
  /** The node used an error number that such a request cannot have; it is taken for EIO. */
  misplaced?(reason: string): void;
}

/** What was agreed on: what the reader must hold replies against. */
export interface ReplyRules {
  structured: boolean;
  extended?: boolean;
  metaContextId: number | null;
  /** Without them: any extent will do. */
  sizeBytes?: number;
  block?: { minimum: number };
}

/** What the next byte belongs to. */
const AT = { HEADER: 0, DATA: 1, BODY: 2 } as const;

export class ReplyReader<Job> {
  readonly #sink: ReplySink<Job>;
  readonly #structured: boolean;
  readonly #extended: boolean;
  readonly #metaContextId: number | null;
  readonly #blockMinimum: number;
  readonly #sizeBytes: number;
  /** Bytes of a chunk's header in the agreed style, and with the offset that a data chunk has behind it. */
  readonly #chunkBytes: number;
  readonly #headBytesMax: number;
  readonly #scratch = Buffer.allocUnsafe(SIZE.EXTENDED_CHUNK_HEADER + 8);
  #scratchBytes = 0;
  readonly #simple = new SimpleReplyHeader();
  readonly #chunk = new ChunkHeader();
  #at: number = AT.HEADER;
  #slot: LinkSlot<Job> | null = null;
  /** Data: where in the slot's buffer the next byte goes, and how many are to come. Body: the same in #body. */
  #next = 0;
  #left = 0;
  #body: Buffer = this.#scratch;
  #kind: ViolationKind = 'reply';

  constructor(
    sink: ReplySink<Job>,
    { structured, extended = false, metaContextId, sizeBytes = Number.POSITIVE_INFINITY, block }: ReplyRules,
  ) {
    this.#sink = sink;
    this.#structured = structured;
    this.#extended = extended;
    this.#metaContextId = metaContextId;
    this.#blockMinimum = block?.minimum ?? 1;
    this.#sizeBytes = sizeBytes;
    this.#chunkBytes = extended ? SIZE.EXTENDED_CHUNK_HEADER : SIZE.CHUNK_HEADER;
    this.#headBytesMax = this.#chunkBytes + 8;
  }

  /** Of what `feed` found wrong. */
  get kind(): ViolationKind {
    return this.#kind;
  }

  /** What is lacking of the reply that has begun, for the log; null: the stream is between two replies. */
  get missing(): string | null {
    if (this.#at === AT.DATA) return `${this.#left} bytes of data were still to come`;
    if (this.#at === AT.BODY) return `${this.#left} bytes of a chunk were still to come`;
    return this.#scratchBytes > 0 ? `${this.#scratchBytes} bytes of a header had come` : null;
  }

  /** Takes a chunk of the stream. A string: what the node did wrong; the connection must be closed and nothing more be fed. */
  feed(chunk: Buffer): string | null {
    let at = 0;
    while (at < chunk.length) {
      if (this.#at === AT.HEADER) {
        const used = this.#header(chunk, at);
        if (typeof used === 'string') return used;
        at = used;
      } else {
        const take = Math.min(this.#left, chunk.length - at);
        chunk.copy(this.#at === AT.DATA ? this.#slot!.data! : this.#body, this.#next, at, at + take);
        this.#next += take;
        this.#left -= take;
        at += take;
        if (this.#left === 0) {
          const wrong = this.#at === AT.DATA ? this.#dataEnded() : this.#bodyEnded();
          if (wrong !== null) return wrong;
        }
      }
    }
    return null;
  }

  /** Reads one header at `at`, or as much of it as there is; gives the position after what it used, or what is wrong. */
  #header(chunk: Buffer, at: number): number | string {
    let bytes = chunk;
    let start = at;
    let end: number;
    let need: number;
    if (this.#scratchBytes === 0 && chunk.length - at >= this.#headBytesMax) {
      const fixed = this.#headerBytes(chunk, at);
      if (typeof fixed === 'string') return fixed;
      end = at + fixed;
    } else {
      // Near the end of a chunk: gather, four bytes first for the magic, then what it asks for.
      bytes = this.#scratch;
      start = 0;
      for (;;) {
        if (this.#scratchBytes < 4) need = 4;
        else {
          const fixed = this.#headerBytes(this.#scratch, 0);
          if (typeof fixed === 'string') return fixed;
          need = fixed;
        }
        if (this.#scratchBytes >= need && need > 4) break;
        const take = Math.min(need - this.#scratchBytes, chunk.length - at);
        if (take === 0) return at;
        chunk.copy(this.#scratch, this.#scratchBytes, at, at + take);
        this.#scratchBytes += take;
        at += take;
      }
      this.#scratchBytes = 0;
      end = at;
    }
    const magic = readUint32(bytes, start);
    if (magic === SIMPLE_REPLY_MAGIC) return this.#simpleReply(bytes, start, chunk, end);
    return this.#chunkHeader(bytes, start, chunk, end);
  }

  /** Bytes of the header that begins at `at`, as far as its type can be seen: a data chunk's includes its offset. */
  #headerBytes(bytes: Buffer, at: number): number | string {
    const magic = readUint32(bytes, at);
    if (magic === SIMPLE_REPLY_MAGIC && !this.#extended) return SIZE.SIMPLE_REPLY;
    if (magic !== (this.#extended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC) || !this.#structured) return this.#wrongMagic(magic);
    const size = this.#chunkBytes;
    const here = bytes === this.#scratch ? this.#scratchBytes : size;
    if (here < size) return size;
    const isData = bytes[at + 7] === CHUNK.OFFSET_DATA && bytes[at + 6] === 0;
    const hasOffset = isData && this.#chunkLength(bytes, at) > 8;
    return hasOffset ? size + 8 : size;
  }

  #wrongMagic(magic: number): string {
    if (magic === SIMPLE_REPLY_MAGIC) return this.#wrong('magic', 'a simple reply came though extended headers were negotiated');
    if (magic === EXTENDED_REPLY_MAGIC) return this.#wrong('magic', 'an extended reply came though extended headers were not negotiated');
    if (magic === STRUCTURED_REPLY_MAGIC)
      return this.#wrong('magic', `a structured reply came though ${this.#extended ? 'extended headers' : 'none'} were negotiated`);
    return this.#wrong('magic', `a reply began with ${hex(magic)}, which is no reply magic`);
  }

  #chunkLength(bytes: Buffer, at: number): number {
    return this.#extended ? readUint64(bytes, at + 24) : readUint32(bytes, at + 16);
  }

  #simpleReply(bytes: Buffer, start: number, chunk: Buffer, end: number): number | string {
    const header = this.#simple;
    decodeSimpleReply(bytes, start, header);
    const slot = this.#sink.find(header.cookieHigh, header.cookieLow);
    if (slot === null) return this.#unknownCookie('reply', header);
    if (slot.errors > 0 || slot.covered > 0 || slot.extents !== null)
      return this.#wrong('reply', 'a reply that had begun in chunks went on as a simple one');
    if (slot.op === OP.READ && this.#structured)
      return this.#wrong('reply', 'a read was answered by a simple reply though structured replies were negotiated');
    if (header.error !== 0) {
      slot.errno = this.#errnoOf(slot, header.error);
      this.#sink.answered(slot);
      return end;
    }
    if (slot.op === OP.STATUS) return this.#wrong('reply', 'block status was answered by a simple reply');
    if (slot.op !== OP.READ) {
      this.#sink.answered(slot);
      return end;
    }
    return this.#startData(slot, 0, slot.length, chunk, end);
  }

  #chunkHeader(bytes: Buffer, start: number, chunk: Buffer, end: number): number | string {
    const header = this.#chunk;
    if (this.#extended) decodeExtendedChunkHeader(bytes, start, header);
    else decodeChunkHeader(bytes, start, header);
    const slot = this.#sink.find(header.cookieHigh, header.cookieLow);
    if (slot === null) return this.#unknownCookie('chunk', header);
    if (this.#extended && header.offset !== slot.offset)
      return this.#wrong('offset', `a reply to a request at offset ${slot.offset} came back with offset ${header.offset}`);
    this.#slot = slot;
    if (header.type === CHUNK.OFFSET_DATA) {
      if (slot.op !== OP.READ) return this.#wrong('reply', 'data came for a request that is no read');
      if (header.length <= 8) return this.#wrong('data', 'a data chunk without data');
      const from = readUint64(bytes, start + this.#chunkBytes) - slot.offset;
      const length = header.length - 8;
      const wrong = this.#cover(slot, from, length, 'data');
      if (wrong !== null) return wrong;
      return this.#startData(slot, from, length, chunk, end);
    }
    // What answers all but reads with extended headers.
    if (header.type === CHUNK.NONE && header.length === 0 && (header.flags & CHUNK_FLAG_DONE) !== 0) return this.#done(slot) ?? end;
    const bound = this.#bodyBytesMax(slot, header.type);
    if (typeof bound === 'string') return bound;
    if (header.length > bound) {
      const kind =
        (header.type & CHUNK_ERROR_BIT) !== 0
          ? 'error'
          : header.type === CHUNK.OFFSET_HOLE
            ? 'data'
            : this.#isStatus(header.type)
              ? 'status'
              : 'reply';
      return this.#wrong(kind, `a chunk of type ${header.type} of ${header.length} bytes, more than its ${bound}`);
    }
    if (header.length === 0) {
      const wrong = this.#chunkEnded(EMPTY);
      return wrong ?? end;
    }
    this.#at = AT.BODY;
    this.#body = Buffer.allocUnsafe(header.length);
    this.#next = 0;
    this.#left = header.length;
    return end;
  }

  /** What the body of a chunk other than data may have at most, which is gathered whole; a string: there can be no such chunk. */
  #bodyBytesMax(slot: LinkSlot<Job>, type: number): number | string {
    if (type === CHUNK.NONE) return 0;
    if ((type & CHUNK_ERROR_BIT) !== 0) return 6 + 8 + STRING_BYTES_MAX;
    if (type === CHUNK.OFFSET_HOLE) return slot.op === OP.READ ? 12 : this.#wrong('reply', 'a hole came for a request that is no read');
    if (!this.#isStatus(type)) return this.#wrong('reply', `a chunk of unknown type ${type}`);
    if (slot.op !== OP.STATUS) return this.#wrong('reply', 'extents came for a request that is no block status');
    const extents = slot.one ? 1 : Math.min(Math.ceil(slot.length / this.#blockMinimum), EXTENTS_MAX);
    return this.#extended ? 8 + 16 * extents : 4 + 8 * extents;
  }

  #isStatus(type: number): boolean {
    return type === (this.#extended ? CHUNK.BLOCK_STATUS_EXT : CHUNK.BLOCK_STATUS);
  }

  /** The data of a read begins at `end` of `chunk`. All of it here: a slice, no copy. */
  #startData(slot: LinkSlot<Job>, from: number, length: number, chunk: Buffer, end: number): number | string {
    this.#slot = slot;
    if (from === 0 && length === slot.length && chunk.length - end >= length) {
      slot.data = chunk.subarray(end, end + length);
      slot.covered = length;
      return this.#dataEnded() ?? end + length;
    }
    if (slot.data === null) slot.data = Buffer.allocUnsafe(slot.length);
    this.#at = AT.DATA;
    this.#next = from;
    this.#left = length;
    return end;
  }

  #dataEnded(): string | null {
    const slot = this.#slot!;
    this.#at = AT.HEADER;
    this.#slot = null;
    if (!this.#structured) {
      slot.covered = slot.length;
      this.#sink.answered(slot);
      return null;
    }
    return (this.#chunk.flags & CHUNK_FLAG_DONE) === 0 ? null : this.#done(slot);
  }

  #bodyEnded(): string | null {
    this.#at = AT.HEADER;
    const body = this.#body;
    this.#body = this.#scratch;
    return this.#chunkEnded(body);
  }

  #chunkEnded(body: Buffer): string | null {
    const slot = this.#slot!;
    const { type, flags } = this.#chunk;
    const done = (flags & CHUNK_FLAG_DONE) !== 0;
    this.#slot = null;
    let wrong: string | null = null;
    if (type === CHUNK.OFFSET_HOLE) wrong = this.#hole(slot, body);
    else if ((type & CHUNK_ERROR_BIT) !== 0) wrong = this.#error(slot, type, body);
    else if (type !== CHUNK.NONE) wrong = this.#blockStatus(slot, body);
    else if (!done) wrong = this.#wrong('reply', 'an empty chunk that does not end its reply');
    if (wrong !== null || !done) return wrong;
    return this.#done(slot);
  }

  #done(slot: LinkSlot<Job>): string | null {
    slot.errors = 0;
    if (slot.errno === 0) {
      if (slot.op === OP.READ && slot.covered !== slot.length)
        return this.#wrong('data', `a read of ${slot.length} bytes was answered with ${slot.covered}`);
      if (slot.op === OP.STATUS && slot.extents === null) return this.#wrong('status', 'block status was answered without extents');
    }
    this.#sink.answered(slot);
    return null;
  }

  #hole(slot: LinkSlot<Job>, body: Buffer): string | null {
    if (body.length !== 12) return this.#wrong('data', `a hole chunk of ${body.length} bytes instead of 12`);
    const from = readUint64(body, 0) - slot.offset;
    const length = readUint32(body, 8);
    const wrong = this.#cover(slot, from, length, 'a hole');
    if (wrong !== null) return wrong;
    if (slot.data === null) slot.data = Buffer.allocUnsafe(slot.length);
    slot.data.fill(0, from, from + length);
    return null;
  }

  #cover(slot: LinkSlot<Job>, from: number, length: number, what: string): string | null {
    if (length === 0 || from < 0 || from + length > slot.length)
      return this.#wrong(
        'data',
        `${what} outside its request: ${length} bytes at ${slot.offset + from} for a read of ${slot.length} at ${slot.offset}`,
      );
    if (slot.pieces === null) {
      // In order and without a gap, as all servers do: the count says it all.
      if (from === slot.covered) {
        slot.covered += length;
        return null;
      }
      slot.pieces = new Coverage();
      if (slot.covered > 0) slot.pieces.add(0, slot.covered);
    }
    const wrong = slot.pieces.add(from, from + length);
    if (wrong === 'overlap') return this.#wrong('data', 'two data chunks of one reply overlap');
    if (wrong === 'crumbs') return this.#wrong('data', 'the data of one reply came in more separate pieces than are kept');
    slot.covered += length;
    return null;
  }

  #error(slot: LinkSlot<Job>, type: number, body: Buffer): string | null {
    const placed = type === CHUNK.ERROR_OFFSET;
    const fixed = placed ? 14 : 6;
    if (body.length < fixed) return this.#wrong('error', `an error chunk of ${body.length} bytes`);
    const errno = readUint32(body, 0);
    if (errno === 0) return this.#wrong('error', 'an error chunk with error 0');
    const messageBytes = readUint16(body, 4);
    if (messageBytes > body.length - fixed)
      return this.#wrong('error', `an error's message of ${messageBytes} bytes in a chunk of ${body.length}`);
    if (placed) {
      const at = readUint64(body, 6 + messageBytes);
      if (at < slot.offset || at >= slot.offset + slot.length)
        return this.#wrong('error', `an error at offset ${at}, outside its request of ${slot.length} bytes at ${slot.offset}`);
    }
    slot.errors += 1;
    if (slot.errors > ERRORS_MAX) return this.#wrong('error', `more than ${ERRORS_MAX} errors in one reply`);
    if (slot.errno === 0) slot.errno = this.#errnoOf(slot, errno);
    return null;
  }

  #blockStatus(slot: LinkSlot<Job>, body: Buffer): string | null {
    if (slot.extents !== null) return this.#wrong('status', 'extents of one context came twice');
    const head = this.#extended ? 8 : 4;
    const each = this.#extended ? 16 : 8;
    if (body.length < head + each || (body.length - head) % each !== 0)
      return this.#wrong('status', `a block status chunk of ${body.length} bytes`);
    const context = readUint32(body, 0);
    if (context !== this.#metaContextId) return this.#wrong('status', `extents of a context that was not negotiated (${context})`);
    const count = (body.length - head) / each;
    if (this.#extended && readUint32(body, 4) !== count)
      return this.#wrong('status', `a block status chunk that says ${readUint32(body, 4)} extents and has ${count}`);
    const extents: Extent[] = [];
    let total = 0;
    for (let at = head; at < body.length; at += each) {
      const lengthBytes = this.#extended ? readUint64(body, at) : readUint32(body, at);
      const flags = readUint32(body, at + each - 4);
      if (lengthBytes === 0) return this.#wrong('status', 'an extent of length 0');
      if (total >= slot.length) return this.#wrong('status', `an extent behind the ${slot.length} bytes that were asked about`);
      total += lengthBytes;
      if (lengthBytes % this.#blockMinimum !== 0 && slot.offset + total !== this.#sizeBytes)
        return this.#wrong('status', `an extent of ${lengthBytes} bytes where the minimum block size is ${this.#blockMinimum}`);
      if (this.#extended && readUint32(body, at + 8) !== 0)
        return this.#wrong('status', `an extent with flags that base:allocation does not have`);
      extents.push({ lengthBytes, hole: (flags & EXTENT_FLAG.HOLE) !== 0, zero: (flags & EXTENT_FLAG.ZERO) !== 0 });
    }
    if (slot.one && total > slot.length)
      return this.#wrong('status', `one extent of ${total} bytes where ${slot.length} were asked about and no more may be told`);
    slot.extents = extents;
    return null;
  }

  /** What a node calls its error, as one of ours: an unknown number, or one that such a request cannot have, is EIO. */
  #errnoOf(slot: LinkSlot<Job>, errno: number): number {
    if (!ERRNOS.has(errno)) return ERRNO.EIO;
    if ((errno === ERRNO.ENOTSUP && !(slot.op === OP.ZEROES && slot.fast)) || errno === ERRNO.EOVERFLOW) {
      const name = errno === ERRNO.ENOTSUP ? 'ENOTSUP' : 'EOVERFLOW';
      this.#sink.misplaced?.(`${name} for a ${OP_NAMES[slot.op]} that cannot have it`);
      return ERRNO.EIO;
    }
    return errno;
  }

  #unknownCookie(what: string, { cookieHigh, cookieLow }: { cookieHigh: number; cookieLow: number }): string {
    return this.#wrong(
      'cookie',
      `a ${what} carried a cookie that was never sent or is answered already (${hex(cookieHigh)}:${hex(cookieLow)})`,
    );
  }

  #wrong(kind: ViolationKind, reason: string): string {
    this.#kind = kind;
    return reason;
  }
}

const OP_NAMES = ['read', 'write', 'flush', 'write of zeroes', 'block status'] as const;
const EMPTY = Buffer.alloc(0);

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
