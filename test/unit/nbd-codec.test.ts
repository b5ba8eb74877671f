// Golden bytes of every transmission header, both ways, and round trips over all values the fields can hold.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import {
  ChunkHeader,
  decodeChunkHeader,
  decodeExtendedChunkHeader,
  decodeExtendedRequest,
  decodeRequest,
  decodeSimpleReply,
  encodeChunkHeader,
  encodeExtendedChunkHeader,
  encodeExtendedRequest,
  encodeRequest,
  encodeSimpleReply,
  RequestHeader,
  readUint64,
  SimpleReplyHeader,
  writeUint64,
} from '../../gateway/nbd/codec.js';
import { hex, requestBytes, uint64 } from '../support/nbd-bytes.js';

const test = suite('nbd codec');

const REQUEST = hex('25609513 0001 0001 0102030405060708 0000001122334455 00001000');
const SIMPLE_REPLY = hex('67446698 0000001c 0102030405060708');
const CHUNK = hex('668e33ef 0001 8001 0102030405060708 00000106');

test('a request has its golden bytes', () => {
  const bytes = Buffer.alloc(30, 0xee);
  encodeRequest(bytes, 1, 1, 1, 0x01020304, 0x05060708, 0x1122334455, 4096);
  assert.deepEqual(bytes.subarray(1, 29), REQUEST);
  assert.equal(bytes[0], 0xee, 'the byte before is not touched');
  assert.equal(bytes[29], 0xee, 'the byte after is not touched');
});

test('a request is read from its golden bytes', () => {
  const header = new RequestHeader();
  assert.equal(decodeRequest(Buffer.concat([Buffer.alloc(3), REQUEST]), 3, header), true);
  const expected = { flags: 1, command: 1, cookieHigh: 0x01020304, cookieLow: 0x05060708, offset: 0x1122334455, length: 4096 };
  assert.deepEqual({ ...header }, { ...expected, offsetHigh: 0x11, offsetLow: 0x22334455 });
});

test('an extended request is read from its golden bytes, its offset to the last bit', () => {
  const header = new RequestHeader();
  const bytes = hex('21e41c71 0020 0001 0102030405060708 fedcba9876543210 0000001122334455');
  assert.equal(decodeExtendedRequest(Buffer.concat([Buffer.alloc(3), bytes]), 3, header), true);
  const { offset, ...rest } = header;
  const expected = { flags: 32, command: 1, cookieHigh: 0x01020304, cookieLow: 0x05060708, length: 0x1122334455 };
  assert.deepEqual(rest, { ...expected, offsetHigh: 0xfedcba98, offsetLow: 0x76543210 });
  assert(offset >= 2 ** 53);
  assert.equal(decodeExtendedRequest(REQUEST, 0, header), false, 'the magic of the compact one');
});

test('an extended chunk header has its golden bytes', () => {
  const bytes = Buffer.alloc(34, 0xee);
  encodeExtendedChunkHeader(bytes, 1, 1, 6, 0x01020304, 0x05060708, 0xfedcba98, 0x76543210, 0x1122334455);
  assert.deepEqual(bytes.subarray(1, 33), hex('6e8a278c 0001 0006 0102030405060708 fedcba9876543210 0000001122334455'));
  assert.deepEqual([bytes[0], bytes[33]], [0xee, 0xee], 'the bytes around are not touched');
});

test('an extended request has its golden bytes', () => {
  const bytes = Buffer.alloc(34, 0xee);
  encodeExtendedRequest(bytes, 1, 32, 1, 0x01020304, 0x05060708, 0x1122334455, 0x0102030405);
  assert.deepEqual(bytes.subarray(1, 33), hex('21e41c71 0020 0001 0102030405060708 0000001122334455 0000000102030405'));
  assert.deepEqual([bytes[0], bytes[33]], [0xee, 0xee], 'the bytes around are not touched');
});

test('an extended chunk header is read from its golden bytes', () => {
  const header = new ChunkHeader();
  const bytes = hex('ff 6e8a278c 0001 0006 0102030405060708 0000001122334455 0000000102030405');
  assert.equal(decodeExtendedChunkHeader(bytes, 1, header), true);
  const cookie = { cookieHigh: 0x01020304, cookieLow: 0x05060708 };
  assert.deepEqual({ ...header }, { flags: 1, type: 6, ...cookie, offset: 0x1122334455, length: 0x0102030405 });
  const untouched = new ChunkHeader();
  assert.equal(decodeExtendedChunkHeader(CHUNK, 0, untouched), false, 'the magic of the compact one');
  assert.deepEqual(untouched, new ChunkHeader());
});

test('a simple reply has its golden bytes and is read from them', () => {
  const bytes = Buffer.alloc(16);
  encodeSimpleReply(bytes, 0, 28, 0x01020304, 0x05060708);
  assert.deepEqual(bytes, SIMPLE_REPLY);
  const header = new SimpleReplyHeader();
  assert.equal(decodeSimpleReply(bytes, 0, header), true);
  assert.deepEqual({ ...header }, { error: 28, cookieHigh: 0x01020304, cookieLow: 0x05060708 });
});

test('a chunk header has its golden bytes and is read from them', () => {
  const bytes = Buffer.alloc(20);
  encodeChunkHeader(bytes, 0, 1, 0x8001, 0x01020304, 0x05060708, 262);
  assert.deepEqual(bytes, CHUNK);
  const header = new ChunkHeader();
  assert.equal(decodeChunkHeader(bytes, 0, header), true);
  assert.deepEqual({ ...header }, { flags: 1, type: 0x8001, cookieHigh: 0x01020304, cookieLow: 0x05060708, offset: 0, length: 262 });
});

test('a wrong magic is refused and leaves the header as it was', () => {
  for (const bit of [0, 7, 13, 31]) {
    const flip = (bytes: Buffer): Buffer => {
      const wrong = Buffer.from(bytes);
      wrong[bit >> 3] ^= 1 << (bit & 7);
      return wrong;
    };
    const request = new RequestHeader();
    assert.equal(decodeRequest(flip(REQUEST), 0, request), false);
    assert.deepEqual(request, new RequestHeader());
    const simple = new SimpleReplyHeader();
    assert.equal(decodeSimpleReply(flip(SIMPLE_REPLY), 0, simple), false);
    assert.deepEqual(simple, new SimpleReplyHeader());
    const chunk = new ChunkHeader();
    assert.equal(decodeChunkHeader(flip(CHUNK), 0, chunk), false);
    assert.deepEqual(chunk, new ChunkHeader());
  }
});

test('any request survives encoding and decoding, and has the bytes BigInt gives it', () => {
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const offset = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER));
  fc.assert(
    fc.property(u16, u16, u32, u32, offset, u32, (flags, command, cookieHigh, cookieLow, at, length) => {
      const bytes = Buffer.alloc(28);
      encodeRequest(bytes, 0, flags, command, cookieHigh, cookieLow, at, length);
      const cookie = (BigInt(cookieHigh) << 32n) | BigInt(cookieLow);
      assert.deepEqual(bytes, requestBytes({ flags, command, cookie, offset: at, length }));
      const header = new RequestHeader();
      assert(decodeRequest(bytes, 0, header));
      assert.deepEqual(
        { ...header },
        { flags, command, cookieHigh, cookieLow, offset: at, offsetHigh: Math.floor(at / 2 ** 32), offsetLow: at >>> 0, length },
      );
    }),
  );
});

test('any extended request and chunk survive encoding and decoding, and have the bytes BigInt gives them', () => {
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const u53 = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER));
  fc.assert(
    fc.property(u16, u16, u32, u32, u53, u53, (flags, kind, cookieHigh, cookieLow, at, length) => {
      const cookie = (BigInt(cookieHigh) << 32n) | BigInt(cookieLow);
      const request = Buffer.alloc(32);
      encodeExtendedRequest(request, 0, flags, kind, cookieHigh, cookieLow, at, length);
      assert.deepEqual(request, requestBytes({ flags, command: kind, cookie, offset: at, length }, true));
      const asked = new RequestHeader();
      assert(decodeExtendedRequest(request, 0, asked));
      assert.deepEqual([asked.offset, asked.length, asked.flags, asked.command], [at, length, flags, kind]);
      const chunk = Buffer.alloc(32);
      encodeExtendedChunkHeader(chunk, 0, flags, kind, cookieHigh, cookieLow, asked.offsetHigh, asked.offsetLow, length);
      const header = new ChunkHeader();
      assert(decodeExtendedChunkHeader(chunk, 0, header));
      assert.deepEqual({ ...header }, { flags, type: kind, cookieHigh, cookieLow, offset: at, length });
    }),
  );
});

test('an offset over 2^53 is never read as one below it', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }), (offset) => {
      assert(readUint64(uint64(offset), 0) >= 2 ** 53);
    }),
  );
});

test('what is no 64-bit integer is not written', () => {
  for (const value of [-1, 0.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => writeUint64(Buffer.alloc(8), 0, value), /64-bit/);
  }
});

test.run();
