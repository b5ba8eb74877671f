// Holds what a session said against what it must say: a parser of replies of its own, strict to the last byte, that fails at
// the first thing that is not as the protocol or the model has it.
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import type { HeaderStyle } from '../../../gateway/nbd/codec.js';
import { READ, STATUS, type ExpectedReply, type SessionExpectation } from './session-model.js';

const [SIMPLE, STRUCTURED, EXTENDED] = [0x67446698, 0x668e33ef, 0x6e8a278c];
const [NONE, DATA, HOLE, BLOCK_STATUS, BLOCK_STATUS_EXT] = [0, 1, 2, 5, 6];

interface Chunk {
  type: number;
  done: boolean;
  payload: Buffer;
}

export interface ReplyOrder {
  /** In the order of the requests, and of the contents the model knows; else in any, of contents nobody knows. */
  exact: boolean;
  /** Errors that a device may have answered with besides. */
  deviceErrnos: readonly number[];
}

/** Checks that `output` is the replies that `expectation` wants. */
export function checkReplies(output: Buffer, expectation: SessionExpectation, headers: HeaderStyle, order: ReplyOrder): void {
  const reader = new ReplyStream(output, headers);
  const waiting = [...expectation.replies];
  while (!reader.atEnd) {
    const cookie = reader.peekCookie();
    const at = order.exact ? 0 : waiting.findIndex((reply) => reply.cookie === cookie);
    const expected = waiting[at] as ExpectedReply | undefined;
    assert(expected !== undefined && expected.cookie === cookie, `a reply with cookie ${cookie} that nobody waits for`);
    // Those with one cookie are alike for a reader only by their order.
    const candidates = order.exact ? [expected] : unlike(waiting.filter((reply) => reply.cookie === cookie));
    const start = reader.at;
    let match: ExpectedReply | null = null;
    let flaw: unknown = null;
    for (const candidate of candidates) {
      reader.at = start;
      try {
        reader.take(candidate, order);
        match = candidate;
        break;
      } catch (error) {
        flaw ??= error;
      }
    }
    if (match === null) throw flaw;
    waiting.splice(waiting.indexOf(match), 1);
  }
  if (expectation.end !== 'violation') assert.equal(waiting.length, 0, `${waiting.length} requests were never answered`);
}

/** Of those for which the same is right, one. */
function unlike(replies: readonly ExpectedReply[]): ExpectedReply[] {
  const shapes = new Map<string, ExpectedReply>();
  for (const reply of replies) {
    const { command, offset, errnos, readBytes, status } = reply;
    const shape = `${command} ${offset} ${errnos} ${readBytes} ${status.map(({ id, extents }) => `${id} ${extents.length}`)}`;
    if (!shapes.has(shape)) shapes.set(shape, reply);
  }
  return [...shapes.values()];
}

class ReplyStream {
  at = 0;
  readonly #bytes: Buffer;
  readonly #headers: HeaderStyle;

  constructor(bytes: Buffer, headers: HeaderStyle) {
    this.#bytes = bytes;
    this.#headers = headers;
  }

  get atEnd(): boolean {
    return this.at === this.#bytes.length;
  }

  peekCookie(): bigint {
    assert(this.at + 16 <= this.#bytes.length, 'half a reply');
    return this.#bytes.readBigUInt64BE(this.at + 8);
  }

  take(expected: ExpectedReply, order: ReplyOrder): void {
    const magic = this.#bytes.readUInt32BE(this.at);
    if (magic === SIMPLE) this.#takeSimple(expected, order);
    else this.#takeChunks(expected, order);
  }

  #takeSimple(expected: ExpectedReply, order: ReplyOrder): void {
    assert(this.#headers !== 'extended', 'a simple reply though extended headers are agreed on');
    const errno = this.#piece(16).readUInt32BE(4);
    const chunked = this.#headers === 'structured' && (expected.command === READ || expected.command === STATUS);
    assert(!chunked, 'READ and BLOCK_STATUS get no simple replies where structured ones are agreed on');
    checkErrno(errno, expected, order);
    if (errno === 0 && expected.command === READ) checkData(this.#piece(expected.readBytes), expected, order);
  }

  #takeChunks(expected: ExpectedReply, order: ReplyOrder): void {
    assert(this.#headers !== 'simple', 'a chunk though only simple replies are agreed on');
    const chunks: Chunk[] = [];
    do chunks.push(this.#chunk(expected));
    while (!chunks.at(-1)!.done);
    const errors = chunks.filter(({ type }) => type >= 0x8000);
    const errno = errors.length === 0 ? 0 : errorOf(errors[0]);
    checkErrno(errno, expected, order);
    if (errno !== 0) {
      assert.equal(chunks.length, 1, 'nothing but the error');
      return;
    }
    if (expected.command === READ) checkData(dataOf(chunks, expected), expected, order);
    else if (expected.command === STATUS && expected.status.length > 0) checkStatus(chunks, expected, this.#headers === 'extended');
    else assert.deepEqual([chunks.length, chunks[0].type, chunks[0].payload.length], [1, NONE, 0], 'an empty chunk alone');
  }

  #chunk(expected: ExpectedReply): Chunk {
    const extended = this.#headers === 'extended';
    const head = this.#piece(extended ? 32 : 20);
    assert.equal(head.readUInt32BE(0), extended ? EXTENDED : STRUCTURED, 'the magic of a reply');
    assert.equal(head.readBigUInt64BE(8), expected.cookie, 'chunks of one reply follow each other');
    const flags = head.readUInt16BE(4);
    assert.equal(flags & ~1, 0, 'no flag of a chunk but DONE');
    if (extended) assert.equal(head.readBigUInt64BE(16), expected.offset, 'the offset of the request');
    const length = extended ? Number(head.readBigUInt64BE(24)) : head.readUInt32BE(16);
    return { type: head.readUInt16BE(6), done: flags === 1, payload: this.#piece(length) };
  }

  #piece(length: number): Buffer {
    const end = this.at + length;
    assert(end <= this.#bytes.length, `half a reply: ${length} bytes are announced`);
    const piece = this.#bytes.subarray(this.at, end);
    this.at = end;
    return piece;
  }
}

function checkErrno(errno: number, expected: ExpectedReply, { deviceErrnos }: ReplyOrder): void {
  const right = expected.errnos.includes(errno) || (expected.carriedOut && deviceErrnos.includes(errno));
  assert(right, `command ${expected.command} got error ${errno} instead of ${expected.errnos.join(' or ')}`);
}

function errorOf({ payload }: Chunk): number {
  assert(payload.length >= 6, 'an error has a number and a length');
  assert.equal(payload.length, 6 + payload.readUInt16BE(4), 'an error and its message');
  assert(isUtf8(payload.subarray(6)), 'a message in UTF-8');
  const errno = payload.readUInt32BE(0);
  assert.notEqual(errno, 0, 'an error that is one');
  return errno;
}

/** The pieces put together: each inside the request, none over another, no gap. */
function dataOf(chunks: Chunk[], { offset, readBytes }: ExpectedReply): Buffer {
  const data = Buffer.alloc(readBytes);
  let covered = 0;
  const pieces: [number, number][] = [];
  for (const { type, payload } of chunks) {
    if (type === NONE) continue;
    assert(type === DATA || type === HOLE, `a chunk of type ${type} for a READ`);
    const from = Number(payload.readBigUInt64BE(0) - offset);
    const length = type === DATA ? payload.length - 8 : payload.readUInt32BE(8);
    assert(length > 0 && from >= 0 && from + length <= readBytes, 'data inside the request');
    assert(
      pieces.every(([start, end]) => end <= from || from + length <= start),
      'data chunks that do not overlap',
    );
    pieces.push([from, from + length]);
    covered += length;
    if (type === DATA) payload.copy(data, from, 8);
  }
  assert.equal(covered, readBytes, 'data for all that was asked');
  return data;
}

function checkData(data: Buffer, expected: ExpectedReply, { exact }: ReplyOrder): void {
  if (exact && expected.data !== null) assert(data.equals(expected.data), 'the bytes that were written last');
}

function checkStatus(chunks: Chunk[], { status }: ExpectedReply, wide: boolean): void {
  assert.equal(chunks.length, status.length, 'a chunk for each context');
  for (const [i, { type, payload }] of chunks.entries()) {
    assert.equal(type, wide ? BLOCK_STATUS_EXT : BLOCK_STATUS, 'the type of chunk that belongs to the headers');
    const head = wide ? 8 : 4;
    const each = wide ? 16 : 8;
    assert.equal((payload.length - head) % each, 0, 'whole extents');
    const extents: { length: bigint; flags: bigint }[] = [];
    for (let at = head; at < payload.length; at += each) {
      extents.push(
        wide
          ? { length: payload.readBigUInt64BE(at), flags: payload.readBigUInt64BE(at + 8) }
          : { length: BigInt(payload.readUInt32BE(at)), flags: BigInt(payload.readUInt32BE(at + 4)) },
      );
    }
    if (wide) assert.equal(payload.readUInt32BE(4), extents.length, 'the number of extents');
    assert.deepEqual({ id: payload.readUInt32BE(0), extents }, status[i], 'the extents of a context');
  }
}
