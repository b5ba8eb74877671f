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
import { hex, requestBytes, uint16, uint32, uint64 } from '../support/nbd-bytes.js';

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

const U16 = fc.integer({ min: 0, max: 0xffff });
const U32 = fc.integer({ min: 0, max: 0xffffffff });
/** Any 64 bits, those around the limits of 32 and 53 bits often. */
const U64 = fc
  .oneof(
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.constantFrom(...[0n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n].flatMap((n) => [n - 1n, n, n + 1n])),
  )
  .filter((value) => value >= 0n && value < 2n ** 64n);

function halves(value: bigint): [high: number, low: number] {
  return [Number(value >> 32n), Number(value & 0xffffffffn)];
}

/** `bytes` somewhere in the middle of others. */
function amid(bytes: Buffer, at: number): Buffer {
  return Buffer.concat([Buffer.alloc(at, 0xee), bytes, Buffer.alloc(3, 0xee)]);
}

test('any 64 bits of offset and length are read: to the last bit in halves, as a number exactly below 2^53 and rounded beyond', () => {
  fc.assert(
    fc.property(U16, U16, U64, U64, U64, fc.nat(40), (flags, command, cookie, offset, length, at) => {
      const header = new RequestHeader();
      assert(decodeExtendedRequest(amid(requestBytes({ flags, command, cookie, offset, length }, true), at), at, header));
      const [cookieHigh, cookieLow] = halves(cookie);
      const [offsetHigh, offsetLow] = halves(offset);
      const numbers = { offset: Number(offset), length: Number(length) };
      assert.deepEqual({ ...header }, { flags, command, cookieHigh, cookieLow, offsetHigh, offsetLow, ...numbers });
      assert.equal(header.length >= 2 ** 53, length >= 2n ** 53n, 'never rounded across 2^53');

      const compact = new RequestHeader();
      const short = length & 0xffffffffn;
      assert(decodeRequest(amid(requestBytes({ flags, command, cookie, offset, length: short }), at), at, compact));
      assert.deepEqual({ ...compact }, { ...header, length: Number(short) });
    }),
  );
});

test('any simple reply and chunk header has the bytes BigInt gives it, wherever it is, and is read from them', () => {
  fc.assert(
    fc.property(U16, U16, U64, U32, U32, fc.nat(40), (flags, type, cookie, error, length, at) => {
      const [cookieHigh, cookieLow] = halves(cookie);
      const simple = amid(Buffer.concat([hex('67446698'), uint32(error), uint64(cookie)]), at);
      const written = amid(Buffer.alloc(16), at);
      encodeSimpleReply(written, at, error, cookieHigh, cookieLow);
      assert.deepEqual(written, simple);
      const reply = new SimpleReplyHeader();
      assert(decodeSimpleReply(simple, at, reply));
      assert.deepEqual({ ...reply }, { error, cookieHigh, cookieLow });

      const chunk = amid(Buffer.concat([hex('668e33ef'), uint16(flags), uint16(type), uint64(cookie), uint32(length)]), at);
      const encoded = amid(Buffer.alloc(20), at);
      encodeChunkHeader(encoded, at, flags, type, cookieHigh, cookieLow, length);
      assert.deepEqual(encoded, chunk);
      const header = new ChunkHeader();
      assert(decodeChunkHeader(chunk, at, header));
      assert.deepEqual({ ...header }, { flags, type, cookieHigh, cookieLow, offset: 0, length });
    }),
  );
});

test('any extended chunk header echoes 64 bits of offset, and is read as a request is', () => {
  fc.assert(
    fc.property(U16, U16, U64, U64, U64, fc.nat(40), (flags, type, cookie, offset, length, at) => {
      const head = Buffer.concat([hex('6e8a278c'), uint16(flags), uint16(type), uint64(cookie), uint64(offset)]);
      const [cookieHigh, cookieLow] = halves(cookie);
      const header = new ChunkHeader();
      assert(decodeExtendedChunkHeader(amid(Buffer.concat([head, uint64(length)]), at), at, header));
      assert.deepEqual({ ...header }, { flags, type, cookieHigh, cookieLow, offset: Number(offset), length: Number(length) });

      const written = amid(Buffer.alloc(32), at);
      const encode = () => encodeExtendedChunkHeader(written, at, flags, type, cookieHigh, cookieLow, ...halves(offset), Number(length));
      if (length >= 2n ** 53n) {
        assert.throws(encode, /64-bit/);
      } else {
        encode();
        assert.deepEqual(written, amid(Buffer.concat([head, uint64(length)]), at));
      }
    }),
  );
});

test('a request whose offset or length a number cannot hold is not written', () => {
  const beyond = fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }).map(Number);
  fc.assert(
    fc.property(beyond, fc.maxSafeNat(), (over, fine) => {
      const bytes = Buffer.alloc(32);
      assert.throws(() => encodeRequest(bytes, 0, 0, 0, 0, 0, over, 1), /64-bit/);
      assert.throws(() => encodeExtendedRequest(bytes, 0, 0, 0, 0, 0, over, fine), /64-bit/);
      assert.throws(() => encodeExtendedRequest(bytes, 0, 0, 0, 0, 0, fine, over), /64-bit/);
    }),
  );
});

test('whatever follows any other magic leaves the header as the one before filled it', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), U32, U32, (tail, magic, before) => {
      const bytes = Buffer.concat([uint32(magic), tail]);
      const request = Object.assign(new RequestHeader(), { flags: 1, command: 2, cookieHigh: before, cookieLow: 3, offset: 4, length: 5 });
      const simple = Object.assign(new SimpleReplyHeader(), { error: before, cookieHigh: 1, cookieLow: 2 });
      const chunk = Object.assign(new ChunkHeader(), { flags: 1, type: 2, cookieHigh: before, cookieLow: 3, offset: 4, length: 5 });
      const untouched = structuredClone([{ ...request }, { ...simple }, { ...chunk }]);
      const read = [
        magic !== 0x25609513 && decodeRequest(bytes, 0, request),
        magic !== 0x21e41c71 && decodeExtendedRequest(bytes, 0, request),
        magic !== 0x67446698 && decodeSimpleReply(bytes, 0, simple),
        magic !== 0x668e33ef && decodeChunkHeader(bytes, 0, chunk),
        magic !== 0x6e8a278c && decodeExtendedChunkHeader(bytes, 0, chunk),
      ];
      assert.deepEqual(read, [false, false, false, false, false]);
      assert.deepEqual([{ ...request }, { ...simple }, { ...chunk }], untouched);
    }),
    // The magics themselves too: each is wrong for the four decoders of the others.
    { examples: [0x25609513, 0x21e41c71, 0x67446698, 0x668e33ef, 0x6e8a278c].map((magic) => [new Uint8Array(32).fill(0xa5), magic, 7]) },
  );
});

test.run();
