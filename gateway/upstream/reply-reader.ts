// The answers of a storage node, read from its byte stream: simple and structured replies, in chunks cut anywhere.
// Strict: a cookie never sent, data outside the request, overlapping or missing pieces, an answer of the wrong kind end
// the connection with a reason; nothing of such an answer is passed on. Pure: no socket, no clock.
import { ERRNO, type Extent, OP, type Op } from '../../replication/device.js';
import { ChunkHeader, decodeChunkHeader, decodeSimpleReply, readUint16, readUint32, readUint64, SimpleReplyHeader } from '../nbd/codec.js';
import {
  CHUNK,
  CHUNK_ERROR_BIT,
  CHUNK_FLAG_DONE,
  EXTENT_FLAG,
  SIMPLE_REPLY_MAGIC,
  SIZE,
  STRING_BYTES_MAX,
  STRUCTURED_REPLY_MAGIC,
} from '../nbd/constants.js';

/** Chunks other than data are gathered whole; this bounds them: 2^20 extents, as the protocol does. */
const BODY_BYTES_MAX = 4 + 8 * 2 ** 20;
const ERRNOS: ReadonlySet<number> = new Set(Object.values(ERRNO));

/** A request on its way in one connection, found by its cookie. Pooled by the link. */
export class LinkSlot<Job> {
  job: Job | null = null;
  generation = 0;
  op: Op = OP.READ;
  offset = 0;
  length = 0;
  /** READ: what has come so far. */
  data: Buffer | null = null;
  covered = 0;
  /** READ in several data chunks: where they lie, as [from, to) pairs within the request. */
  pieces: { from: number; to: number }[] | null = null;
  extents: Extent[] | null = null;
  errno = 0;

  constructor(readonly index: number) {}
}

export interface ReplySink<Job> {
  /** The slot a cookie names, when that request is still unanswered. */
  find(cookieHigh: number, cookieLow: number): LinkSlot<Job> | null;
  answered(slot: LinkSlot<Job>): void;
}

/** What the next byte belongs to. */
const AT = { HEADER: 0, DATA: 1, BODY: 2 } as const;

export class ReplyReader<Job> {
  readonly #sink: ReplySink<Job>;
  readonly #structured: boolean;
  readonly #metaContextId: number | null;
  readonly #scratch = Buffer.allocUnsafe(SIZE.CHUNK_HEADER + 8);
  #scratchBytes = 0;
  readonly #simple = new SimpleReplyHeader();
  readonly #chunk = new ChunkHeader();
  #at: number = AT.HEADER;
  #slot: LinkSlot<Job> | null = null;
  /** Data: where in the slot's buffer the next byte goes, and how many are to come. Body: the same in #body. */
  #next = 0;
  #left = 0;
  #body: Buffer = this.#scratch;

  constructor(sink: ReplySink<Job>, negotiated: { structured: boolean; metaContextId: number | null }) {
    this.#sink = sink;
    this.#structured = negotiated.structured;
    this.#metaContextId = negotiated.metaContextId;
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
    if (this.#scratchBytes === 0 && chunk.length - at >= SIZE.CHUNK_HEADER + 8) {
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
    if (magic === SIMPLE_REPLY_MAGIC) return SIZE.SIMPLE_REPLY;
    if (magic !== STRUCTURED_REPLY_MAGIC) return `a reply began with ${hex(magic)}, which is no reply magic`;
    if (!this.#structured) return 'a structured reply came though none were negotiated';
    const here = bytes === this.#scratch ? this.#scratchBytes : SIZE.CHUNK_HEADER;
    if (here < SIZE.CHUNK_HEADER) return SIZE.CHUNK_HEADER;
    return readUint16(bytes, at + 6) === CHUNK.OFFSET_DATA && readUint32(bytes, at + 16) >= 8 ? SIZE.CHUNK_HEADER + 8 : SIZE.CHUNK_HEADER;
  }

  #simpleReply(bytes: Buffer, start: number, chunk: Buffer, end: number): number | string {
    const header = this.#simple;
    decodeSimpleReply(bytes, start, header);
    const slot = this.#sink.find(header.cookieHigh, header.cookieLow);
    if (slot === null)
      return `a reply carried a cookie that was never sent or is answered already (${hex(header.cookieHigh)}:${hex(header.cookieLow)})`;
    if (header.error !== 0) {
      slot.errno = knownErrno(header.error);
      this.#sink.answered(slot);
      return end;
    }
    if (slot.op === OP.STATUS) return 'block status was answered by a simple reply';
    if (slot.op !== OP.READ) {
      this.#sink.answered(slot);
      return end;
    }
    if (this.#structured) return 'a read was answered by a simple reply though structured replies were negotiated';
    return this.#startData(slot, 0, slot.length, chunk, end);
  }

  #chunkHeader(bytes: Buffer, start: number, chunk: Buffer, end: number): number | string {
    const header = this.#chunk;
    decodeChunkHeader(bytes, start, header);
    const slot = this.#sink.find(header.cookieHigh, header.cookieLow);
    if (slot === null)
      return `a chunk carried a cookie that was never sent or is answered already (${hex(header.cookieHigh)}:${hex(header.cookieLow)})`;
    this.#slot = slot;
    if (header.type === CHUNK.OFFSET_DATA) {
      if (slot.op !== OP.READ) return 'data came for a request that is no read';
      if (header.length <= 8) return 'a data chunk without data';
      const from = readUint64(bytes, start + SIZE.CHUNK_HEADER) - slot.offset;
      const length = header.length - 8;
      if (from < 0 || from + length > slot.length)
        return `data outside its request: ${length} bytes at ${slot.offset + from} for a read of ${slot.length} at ${slot.offset}`;
      const wrong = this.#cover(slot, from, length);
      if (wrong !== null) return wrong;
      return this.#startData(slot, from, length, chunk, end);
    }
    const bound =
      header.type === CHUNK.NONE
        ? 0
        : header.type === CHUNK.OFFSET_HOLE
          ? 12
          : header.type === CHUNK.BLOCK_STATUS
            ? BODY_BYTES_MAX
            : 6 + 8 + STRING_BYTES_MAX;
    if (header.length > bound) return `a chunk of type ${header.type} of ${header.length} bytes, more than its ${bound}`;
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
    this.#slot = null;
    if (type === CHUNK.OFFSET_HOLE) {
      if (slot.op !== OP.READ) return 'a hole came for a request that is no read';
      if (body.length !== 12) return `a hole chunk of ${body.length} bytes instead of 12`;
      const from = readUint64(body, 0) - slot.offset;
      const length = readUint32(body, 8);
      if (length === 0 || from < 0 || from + length > slot.length)
        return `a hole outside its request: ${length} bytes at ${slot.offset + from}`;
      const wrong = this.#cover(slot, from, length);
      if (wrong !== null) return wrong;
      if (slot.data === null) slot.data = Buffer.allocUnsafe(slot.length);
      slot.data.fill(0, from, from + length);
    } else if (type === CHUNK.BLOCK_STATUS) {
      const wrong = this.#blockStatus(slot, body);
      if (wrong !== null) return wrong;
    } else if ((type & CHUNK_ERROR_BIT) !== 0) {
      if (body.length < 6) return `an error chunk of ${body.length} bytes`;
      const errno = readUint32(body, 0);
      if (errno === 0) return 'an error chunk with error 0';
      slot.errno = knownErrno(errno);
    } else if (type !== CHUNK.NONE) return `a chunk of unknown type ${type}`;
    else if ((flags & CHUNK_FLAG_DONE) === 0) return 'an empty chunk that does not end its reply';
    return (flags & CHUNK_FLAG_DONE) === 0 ? null : this.#done(slot);
  }

  #done(slot: LinkSlot<Job>): string | null {
    if (slot.errno === 0) {
      if (slot.op === OP.READ && slot.covered !== slot.length) return `a read of ${slot.length} bytes was answered with ${slot.covered}`;
      if (slot.op === OP.STATUS && slot.extents === null) return 'block status was answered without extents';
    }
    this.#sink.answered(slot);
    return null;
  }

  #cover(slot: LinkSlot<Job>, from: number, length: number): string | null {
    if (slot.pieces === null) {
      // In order and without a gap, as all servers do: the count says it all.
      if (from === slot.covered) {
        slot.covered += length;
        return null;
      }
      slot.pieces = slot.covered > 0 ? [{ from: 0, to: slot.covered }] : [];
    }
    const to = from + length;
    for (const piece of slot.pieces) if (piece.from < to && piece.to > from) return 'two data chunks of one reply overlap';
    slot.pieces.push({ from, to });
    slot.covered += length;
    return null;
  }

  #blockStatus(slot: LinkSlot<Job>, body: Buffer): string | null {
    if (slot.op !== OP.STATUS) return 'extents came for a request that is no block status';
    if (slot.extents !== null) return 'extents of one context came twice';
    if (body.length < 12 || (body.length - 4) % 8 !== 0) return `a block status chunk of ${body.length} bytes`;
    if (readUint32(body, 0) !== this.#metaContextId) return `extents of a context that was not negotiated (${readUint32(body, 0)})`;
    const extents: Extent[] = [];
    for (let at = 4; at < body.length; at += 8) {
      const lengthBytes = readUint32(body, at);
      if (lengthBytes === 0) return 'an extent of length 0';
      const flags = readUint32(body, at + 4);
      extents.push({ lengthBytes, hole: (flags & EXTENT_FLAG.HOLE) !== 0, zero: (flags & EXTENT_FLAG.ZERO) !== 0 });
    }
    slot.extents = extents;
    return null;
  }
}

const EMPTY = Buffer.alloc(0);

/** What a node calls its error, as one of ours: an unknown number is EIO. */
function knownErrno(errno: number): number {
  return ERRNOS.has(errno) ? errno : ERRNO.EIO;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
