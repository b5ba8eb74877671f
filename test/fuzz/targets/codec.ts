// The transmission headers: what is decoded and encoded again is what it was, what is encoded is what Node's own readers
// find there, and a wrong magic changes nothing.
import assert from 'node:assert/strict';
import {
  ChunkHeader,
  decodeChunkHeader,
  decodeExtendedRequest,
  decodeRequest,
  decodeSimpleReply,
  encodeChunkHeader,
  encodeExtendedChunkHeader,
  encodeRequest,
  encodeSimpleReply,
  RequestHeader,
  SimpleReplyHeader,
} from '../../../gateway/nbd/codec.js';
import { anyBytes, edge64 } from '../grammar.js';
import { bytesStep, streamBytes } from '../input.js';
import type { Target } from '../target.js';

const MAGICS = [0x25609513, 0x67446698, 0x668e33ef, 0x21e41c71, 0x6e8a278c];
const HEADER_BYTES = 32;
const SAFE = 2n ** 53n;

export const CODEC: Target = {
  name: 'codec',

  draw(random) {
    const bytes = Buffer.alloc(HEADER_BYTES);
    anyBytes(random, HEADER_BYTES).copy(bytes);
    if (random.chance(0.9)) bytes.writeUInt32BE(random.pick(MAGICS));
    if (random.chance(0.5)) bytes.writeBigUInt64BE(edge64(random), 16);
    if (random.chance(0.5)) bytes.writeBigUInt64BE(edge64(random), 24);
    return [bytesStep(bytes.subarray(0, random.chance(0.5) ? HEADER_BYTES : 28))];
  },

  run(steps) {
    const stream = Buffer.concat(steps.flatMap((step) => streamBytes(step) ?? []));
    // At a place that is aligned to nothing.
    const bytes = Buffer.alloc(HEADER_BYTES + 3);
    stream.copy(bytes, 3);
    checkRequest(bytes, 3);
    checkReplies(bytes, 3);
  },
};

function checkRequest(bytes: Buffer, at: number): void {
  const header = new RequestHeader();
  const extended = new RequestHeader();
  const isRequest = decodeRequest(bytes, at, header);
  const isExtended = decodeExtendedRequest(bytes, at, extended);
  const magic = bytes.readUInt32BE(at);
  assert.deepEqual([isRequest, isExtended], [magic === 0x25609513, magic === 0x21e41c71], 'which request it is');
  if (!isRequest) assert.deepEqual(header, new RequestHeader(), 'a header that is none changes nothing');
  if (!isExtended) assert.deepEqual(extended, new RequestHeader(), 'a header that is none changes nothing');
  if (!isRequest && !isExtended) return;
  const found = isRequest ? header : extended;
  const length = isRequest ? BigInt(bytes.readUInt32BE(at + 24)) : bytes.readBigUInt64BE(at + 24);
  const offset = bytes.readBigUInt64BE(at + 16);
  const { flags, command, cookieHigh, cookieLow, offsetHigh, offsetLow } = found;
  assert.deepEqual([flags, command], [bytes.readUInt16BE(at + 4), bytes.readUInt16BE(at + 6)], 'flags and command');
  assert.deepEqual(
    [cookieHigh, cookieLow, offsetHigh, offsetLow],
    [8, 12, 16, 20].map((place) => bytes.readUInt32BE(at + place)),
    'cookie and offset, in halves',
  );
  checkNumber(found.offset, offset);
  checkNumber(found.length, length);
  if (!isRequest || offset >= SAFE) return;
  const again = Buffer.alloc(40, 0xee);
  encodeRequest(again, 5, flags, command, cookieHigh, cookieLow, found.offset, found.length);
  assert(again.subarray(5, 33).equals(bytes.subarray(at, at + 28)), 'a request encoded again');
  assert(again[4] === 0xee && again[33] === 0xee, 'nothing beside it is written');
}

/** Exact below 2^53, never below that above. */
function checkNumber(found: number, value: bigint): void {
  if (value < SAFE) assert.equal(BigInt(found), value, 'a 64-bit number');
  else assert.equal(found, Number(value), 'a 64-bit number, rounded');
}

function checkReplies(bytes: Buffer, at: number): void {
  const simple = new SimpleReplyHeader();
  const magic = bytes.readUInt32BE(at);
  const again = Buffer.alloc(40, 0xee);
  const same = (length: number): void => {
    assert(again.subarray(5, 5 + length).equals(bytes.subarray(at, at + length)), 'a reply encoded again');
    assert(again[4] === 0xee && again[5 + length] === 0xee, 'nothing beside it is written');
  };
  assert.equal(decodeSimpleReply(bytes, at, simple), magic === 0x67446698, 'whether it is a simple reply');
  if (magic === 0x67446698) {
    encodeSimpleReply(again, 5, simple.error, simple.cookieHigh, simple.cookieLow);
    same(16);
  } else assert.deepEqual(simple, new SimpleReplyHeader(), 'a header that is none changes nothing');
  const chunk = new ChunkHeader();
  assert.equal(decodeChunkHeader(bytes, at, chunk), magic === 0x668e33ef, 'whether it is a chunk');
  if (magic === 0x668e33ef) {
    encodeChunkHeader(again, 5, chunk.flags, chunk.type, chunk.cookieHigh, chunk.cookieLow, chunk.length);
    same(20);
  } else assert.deepEqual(chunk, new ChunkHeader(), 'a header that is none changes nothing');
  if (magic === 0x6e8a278c && bytes.readBigUInt64BE(at + 24) < SAFE) {
    const [cookieHigh, cookieLow, offsetHigh, offsetLow] = [8, 12, 16, 20].map((place) => bytes.readUInt32BE(at + place));
    const length = Number(bytes.readBigUInt64BE(at + 24));
    encodeExtendedChunkHeader(
      again,
      5,
      bytes.readUInt16BE(at + 4),
      bytes.readUInt16BE(at + 6),
      cookieHigh,
      cookieLow,
      offsetHigh,
      offsetLow,
      length,
    );
    same(32);
  }
}
