// The answers of a node, byte for byte: golden simple and structured replies, split at every byte, and every way in which a
// node can break the protocol, each with its reason and nothing passed on.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { LinkSlot, ReplyReader } from '../../gateway/upstream/reply-reader.js';
import { ERRNO, type Extent, OP, type Op } from '../../replication/device.js';
import { hex, uint16, uint32, uint64 } from '../support/nbd-bytes.js';

const test = suite('upstream/reply-reader');

interface Answer {
  cookie: number;
  errno: number;
  data: string | null;
  extents: Extent[] | null;
}

/** A reader with requests 0, 1, ... of generation 7 on their way. */
function reader(
  requests: { op: Op; offset?: number; length?: number }[],
  structured: boolean,
): { feed(bytes: Buffer): string | null; answers: Answer[] } {
  const slots = requests.map(({ op, offset = 0, length = 0 }, at) => {
    const slot = new LinkSlot<string>(at);
    slot.job = `job ${at}`;
    slot.generation = 7;
    slot.op = op;
    slot.offset = offset;
    slot.length = length;
    return slot;
  });
  const answers: Answer[] = [];
  const machine = new ReplyReader<string>(
    {
      find: (high, low) => (high === 7 && slots[low]?.job != null ? slots[low] : null),
      answered: (slot) => {
        const ok = slot.errno === 0;
        answers.push({
          cookie: slot.index,
          errno: slot.errno,
          data: ok && slot.op === OP.READ ? slot.data!.toString('latin1') : null,
          extents: ok && slot.op === OP.STATUS ? slot.extents : null,
        });
        slot.job = null;
      },
    },
    { structured, metaContextId: structured ? 9 : null },
  );
  return { feed: (bytes) => machine.feed(bytes), answers };
}

const cookie = (index: number, generation = 7): Buffer => Buffer.concat([uint32(generation), uint32(index)]);
const simple = (index: number, errno = 0, data = ''): Buffer =>
  Buffer.concat([hex('67446698'), uint32(errno), cookie(index), Buffer.from(data, 'latin1')]);
const chunk = (index: number, type: number, done: boolean, body: Buffer = Buffer.alloc(0), length = body.length): Buffer =>
  Buffer.concat([hex('668e33ef'), uint16(done ? 1 : 0), uint16(type), cookie(index), uint32(length), body]);
const dataChunk = (index: number, offset: number, data: string, done = false): Buffer =>
  chunk(index, 1, done, Buffer.concat([uint64(offset), Buffer.from(data, 'latin1')]));
const holeChunk = (index: number, offset: number, length: number, done = false): Buffer =>
  chunk(index, 2, done, Buffer.concat([uint64(offset), uint32(length)]));
const errorChunk = (index: number, errno: number, done = true, message = 'no'): Buffer =>
  chunk(index, 0x8001, done, Buffer.concat([uint32(errno), uint16(message.length), Buffer.from(message)]));
const statusChunk = (index: number, context: number, extents: [number, number][], done = true): Buffer =>
  chunk(index, 5, done, Buffer.concat([uint32(context), ...extents.flatMap(([length, flags]) => [uint32(length), uint32(flags)])]));

const SIMPLE_REQUESTS = [
  { op: OP.READ, offset: 100, length: 5 },
  { op: OP.WRITE, offset: 0, length: 5 },
  { op: OP.FLUSH },
  { op: OP.READ, offset: 0, length: 3 },
  { op: OP.ZEROES, offset: 0, length: 3 },
];
const SIMPLE_STREAM = Buffer.concat([simple(1), simple(0, 0, 'hello'), simple(3, 5), simple(2, 108), simple(4, 9999)]);
const SIMPLE_ANSWERS: Answer[] = [
  { cookie: 1, errno: 0, data: null, extents: null },
  { cookie: 0, errno: 0, data: 'hello', extents: null },
  { cookie: 3, errno: ERRNO.EIO, data: null, extents: null },
  { cookie: 2, errno: ERRNO.ESHUTDOWN, data: null, extents: null },
  { cookie: 4, errno: ERRNO.EIO, data: null, extents: null },
];

const STRUCTURED_REQUESTS = [
  { op: OP.READ, offset: 100, length: 12 },
  { op: OP.WRITE, offset: 0, length: 5 },
  { op: OP.STATUS, offset: 0, length: 4096 },
  { op: OP.READ, offset: 0, length: 4 },
  { op: OP.READ, offset: 50, length: 4 },
  { op: OP.FLUSH },
];
const STRUCTURED_STREAM = Buffer.concat([
  dataChunk(0, 108, 'tail'),
  chunk(1, 0, true),
  holeChunk(0, 104, 4),
  statusChunk(2, 9, [
    [1024, 0],
    [3072, 3],
  ]),
  dataChunk(0, 100, 'head'),
  dataChunk(3, 0, 'full', true),
  dataChunk(4, 50, 'ha'),
  errorChunk(4, 28, false),
  chunk(0, 0, true),
  chunk(4, 0, true),
  simple(5),
]);
const STRUCTURED_ANSWERS: Answer[] = [
  { cookie: 1, errno: 0, data: null, extents: null },
  {
    cookie: 2,
    errno: 0,
    data: null,
    extents: [
      { lengthBytes: 1024, hole: false, zero: false },
      { lengthBytes: 3072, hole: true, zero: true },
    ],
  },
  { cookie: 3, errno: 0, data: 'full', extents: null },
  { cookie: 0, errno: 0, data: 'head\0\0\0\0tail', extents: null },
  { cookie: 4, errno: ERRNO.ENOSPC, data: null, extents: null },
  { cookie: 5, errno: 0, data: null, extents: null },
];

for (const [name, requests, stream, expected, structured] of [
  ['simple', SIMPLE_REQUESTS, SIMPLE_STREAM, SIMPLE_ANSWERS, false],
  ['structured', STRUCTURED_REQUESTS, STRUCTURED_STREAM, STRUCTURED_ANSWERS, true],
] as const) {
  test(`${name} replies are understood whole, and split at every byte`, () => {
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const { feed, answers } = reader([...requests], structured);
      assert.equal(feed(Buffer.from(stream.subarray(0, cut))), null);
      assert.equal(feed(Buffer.from(stream.subarray(cut))), null);
      assert.deepEqual(answers, expected, `cut at ${cut}`);
    }
  });

  test(`${name} replies are understood byte by byte and in pieces of any size`, () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (sizes) => {
        const { feed, answers } = reader([...requests], structured);
        for (let at = 0, turn = 0; at < stream.length; turn += 1) {
          const size = sizes[turn % sizes.length];
          assert.equal(feed(Buffer.from(stream.subarray(at, at + size))), null);
          at += size;
        }
        assert.deepEqual(answers, expected);
      }),
    );
  });
}

const READ_100 = [{ op: OP.READ, offset: 100, length: 12 }];
const STATUS_0 = [{ op: OP.STATUS, offset: 0, length: 4096 }];
const WRITE_0 = [{ op: OP.WRITE, offset: 0, length: 12 }];

const VIOLATIONS: [
  what: string,
  requests: { op: Op; offset?: number; length?: number }[],
  structured: boolean,
  stream: Buffer,
  reason: RegExp,
][] = [
  ['a wrong magic', WRITE_0, true, Buffer.alloc(40, 1), /no reply magic/],
  ['a structured reply nobody negotiated', WRITE_0, false, chunk(0, 0, true), /none were negotiated/],
  ['a cookie never sent', WRITE_0, true, simple(3), /never sent/],
  ['a cookie of another generation', WRITE_0, true, Buffer.concat([hex('67446698'), uint32(0), cookie(0, 8)]), /never sent/],
  ['an answer twice', WRITE_0, true, Buffer.concat([simple(0), simple(0)]), /answered already/],
  ['a chunk after its reply was done', WRITE_0, true, Buffer.concat([chunk(0, 0, true), chunk(0, 0, true)]), /answered already/],
  ['a simple answer to a read among structured ones', READ_100, true, simple(0, 0, 'x'.repeat(12)), /simple reply though/],
  ['a simple answer to block status', STATUS_0, true, simple(0), /block status was answered by a simple reply/],
  ['data for a write', WRITE_0, true, dataChunk(0, 0, 'x', true), /no read/],
  ['a hole for a write', WRITE_0, true, holeChunk(0, 0, 1, true), /no read/],
  ['data before the request', READ_100, true, dataChunk(0, 99, 'xx'), /outside/],
  ['data behind the request', READ_100, true, dataChunk(0, 110, 'xxx'), /outside/],
  ['data far outside', READ_100, true, chunk(0, 1, false, Buffer.concat([uint64(2n ** 63n), Buffer.from('x')])), /outside/],
  ['a hole outside', READ_100, true, holeChunk(0, 111, 2), /outside/],
  ['an empty hole', READ_100, true, holeChunk(0, 100, 0), /outside/],
  ['a data chunk without data', READ_100, true, chunk(0, 1, false, uint64(100)), /without data/],
  ['a data chunk too short for its offset', READ_100, true, chunk(0, 1, false, Buffer.alloc(4)), /without data/],
  ['pieces that overlap', READ_100, true, Buffer.concat([dataChunk(0, 100, 'xxxx'), dataChunk(0, 103, 'x')]), /overlap/],
  ['the same piece twice', READ_100, true, Buffer.concat([dataChunk(0, 104, 'xxxx'), holeChunk(0, 104, 4)]), /overlap/],
  ['a read that is not whole', READ_100, true, Buffer.concat([dataChunk(0, 100, 'xxxx'), chunk(0, 0, true)]), /answered with 4/],
  ['a read without data', READ_100, true, chunk(0, 0, true), /answered with 0/],
  ['a read with a gap', READ_100, true, Buffer.concat([dataChunk(0, 100, 'xxxx'), dataChunk(0, 108, 'xxxx', true)]), /answered with 8/],
  ['block status without extents', STATUS_0, true, chunk(0, 0, true), /without extents/],
  ['extents of another context', STATUS_0, true, statusChunk(0, 8, [[10, 0]]), /not negotiated/],
  ['extents twice', STATUS_0, true, Buffer.concat([statusChunk(0, 9, [[10, 0]], false), statusChunk(0, 9, [[10, 0]])]), /twice/],
  ['an extent of length 0', STATUS_0, true, statusChunk(0, 9, [[0, 0]]), /length 0/],
  ['a block status chunk of no extents', STATUS_0, true, statusChunk(0, 9, []), /of 4 bytes/],
  ['a block status chunk cut in an extent', STATUS_0, true, chunk(0, 5, true, Buffer.alloc(15)), /of 15 bytes/],
  ['extents for a read', READ_100, true, statusChunk(0, 9, [[10, 0]]), /no block status/],
  ['an error of 0', READ_100, true, errorChunk(0, 0), /error 0/],
  ['an error chunk too short', READ_100, true, chunk(0, 0x8001, true, Buffer.alloc(4)), /of 4 bytes/],
  ['an error chunk too long', READ_100, true, chunk(0, 0x8001, true, Buffer.alloc(0), 1 << 20), /more than/],
  ['a hole chunk of another length', READ_100, true, chunk(0, 2, true, Buffer.alloc(11)), /instead of 12/],
  ['an unknown type', READ_100, true, chunk(0, 77, true, Buffer.alloc(4)), /unknown type/],
  ['an empty chunk that ends nothing', READ_100, true, chunk(0, 0, false), /does not end/],
  ['an empty chunk with a body', READ_100, true, chunk(0, 0, true, Buffer.alloc(3)), /more than its 0/],
  ['a block status chunk beyond all bounds', STATUS_0, true, chunk(0, 5, true, Buffer.alloc(0), 0xffffffff), /more than/],
];

for (const [what, requests, structured, stream, reason] of VIOLATIONS) {
  test(`${what} ends the connection with its reason`, () => {
    for (const cut of [stream.length, 1, 4, 17, 21, 29]) {
      const { feed, answers } = reader(requests, structured);
      let wrong = feed(Buffer.from(stream.subarray(0, cut)));
      const before = answers.length;
      if (wrong === null) wrong = feed(Buffer.from(stream.subarray(cut)));
      assert.match(String(wrong), reason, `cut at ${cut}`);
      assert(answers.length <= 1 && before <= 1, 'nothing of the wrong answer is passed on');
    }
  });
}

test('any bytes at all end in an answer, a reason or a wait, never in an exception or an answer to nothing', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
    fc.constantFrom(...VIOLATIONS.map(([, , , stream]) => stream), SIMPLE_STREAM, STRUCTURED_STREAM),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), fc.boolean(), (pieces, structured) => {
      const { feed, answers } = reader([...STRUCTURED_REQUESTS], structured);
      for (const bytes of pieces) if (feed(bytes) !== null) break;
      assert(answers.length <= STRUCTURED_REQUESTS.length);
      assert.equal(new Set(answers.map((answer) => answer.cookie)).size, answers.length);
    }),
    { numRuns: 500 },
  );
});

test.run();
