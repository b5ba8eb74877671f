// The answers of a node, byte for byte: golden simple, structured and extended replies, split at every byte, and every way in which a
// node can break the protocol, each with its reason and nothing passed on.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { LinkSlot, ReplyReader, type ReplyRules } from '../../gateway/upstream/reply-reader.js';
import type { ViolationKind } from '../../gateway/upstream/violation.js';
import { ERRNO, type Extent, OP, type Op } from '../../replication/device.js';
import { hex, uint16, uint32, uint64 } from '../support/nbd-bytes.js';

const test = suite('upstream/reply-reader');

type Style = 'simple' | 'structured' | 'extended';

interface Request {
  op: Op;
  offset?: number;
  length?: number;
  fast?: boolean;
  one?: boolean;
}

interface Answer {
  cookie: number;
  errno: number;
  data: string | null;
  extents: Extent[] | null;
}

/** A reader with requests 0, 1, ... of generation 7 on their way. */
function reader(
  requests: readonly Request[],
  style: Style,
  rules: Partial<ReplyRules> = {},
): { feed(bytes: Buffer): string | null; answers: Answer[]; machine: ReplyReader<string>; misplaced: string[] } {
  const misplaced: string[] = [];
  const slots = requests.map(({ op, offset = 0, length = 0, fast = false, one = false }, at) => {
    const slot = new LinkSlot<string>(at);
    slot.job = `job ${at}`;
    slot.generation = 7;
    slot.op = op;
    slot.offset = offset;
    slot.length = length;
    slot.fast = fast;
    slot.one = one;
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
      misplaced: (reason) => misplaced.push(reason),
    },
    { structured: style !== 'simple', extended: style === 'extended', metaContextId: style === 'simple' ? null : 9, ...rules },
  );
  return { feed: (bytes) => machine.feed(bytes), answers, machine, misplaced };
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

/** The same as an extended reply to a request at `offset`. */
const wide = (
  index: number,
  offset: number | bigint,
  type: number,
  done: boolean,
  body: Buffer = Buffer.alloc(0),
  length: number | bigint = body.length,
): Buffer => Buffer.concat([hex('6e8a278c'), uint16(done ? 1 : 0), uint16(type), cookie(index), uint64(offset), uint64(length), body]);
const wideData = (index: number, of: number, offset: number, data: string, done = false): Buffer =>
  wide(index, of, 1, done, Buffer.concat([uint64(offset), Buffer.from(data, 'latin1')]));
const wideExtents = (context: number, extents: [number, number][], count = extents.length): Buffer =>
  Buffer.concat([uint32(context), uint32(count), ...extents.flatMap(([length, flags]) => [uint64(length), uint64(flags)])]);
const errorAt = (errno: number, offset: number, message = 'bad'): Buffer =>
  Buffer.concat([uint32(errno), uint16(message.length), Buffer.from(message), uint64(offset)]);

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

const EXTENDED_REQUESTS = [
  ...STRUCTURED_REQUESTS.slice(0, 2),
  { op: OP.STATUS, offset: 2 ** 33, length: 2 ** 40 },
  ...STRUCTURED_REQUESTS.slice(3),
];
const EXTENDED_STREAM = Buffer.concat([
  wideData(0, 100, 108, 'tail'),
  wide(1, 0, 0, true),
  wide(0, 100, 2, false, Buffer.concat([uint64(104), uint32(4)])),
  wide(
    2,
    2 ** 33,
    6,
    true,
    wideExtents(9, [
      [2 ** 36, 0],
      [2 ** 41, 3],
    ]),
  ),
  wideData(0, 100, 100, 'head'),
  wideData(3, 0, 0, 'full', true),
  wideData(4, 50, 50, 'ha'),
  wide(4, 50, 0x8002, false, errorAt(28, 52)),
  wide(4, 50, 0x8002, false, errorAt(5, 53, '')),
  wide(0, 100, 0, true),
  wide(4, 50, 0, true),
  wide(5, 0, 0, true),
]);
const EXTENDED_ANSWERS = STRUCTURED_ANSWERS.map((answer) =>
  answer.cookie === 2
    ? {
        ...answer,
        extents: [
          { lengthBytes: 2 ** 36, hole: false, zero: false },
          { lengthBytes: 2 ** 41, hole: true, zero: true },
        ],
      }
    : answer,
);

for (const [name, requests, stream, expected] of [
  ['simple', SIMPLE_REQUESTS, SIMPLE_STREAM, SIMPLE_ANSWERS],
  ['structured', STRUCTURED_REQUESTS, STRUCTURED_STREAM, STRUCTURED_ANSWERS],
  ['extended', EXTENDED_REQUESTS, EXTENDED_STREAM, EXTENDED_ANSWERS],
] as const) {
  test(`${name} replies are understood whole, and split at every byte`, () => {
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const { feed, answers } = reader(requests, name);
      assert.equal(feed(Buffer.from(stream.subarray(0, cut))), null);
      assert.equal(feed(Buffer.from(stream.subarray(cut))), null);
      assert.deepEqual(answers, expected, `cut at ${cut}`);
    }
  });

  test(`${name} replies are understood byte by byte and in pieces of any size`, () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (sizes) => {
        const { feed, answers } = reader(requests, name);
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

const ZEROES_0 = [{ op: OP.ZEROES, offset: 0, length: 12 }];
const ONE_0 = [{ op: OP.STATUS, offset: 0, length: 4096, one: true }];
const BLOCKS = { block: { minimum: 512 }, sizeBytes: 1_000_000 };

const VIOLATIONS: [
  what: string,
  requests: Request[],
  structured: boolean | 'extended',
  stream: Buffer,
  reason: RegExp,
  kind: ViolationKind,
  rules?: Partial<ReplyRules>,
][] = [
  ['a wrong magic', WRITE_0, true, Buffer.alloc(40, 1), /no reply magic/, 'magic'],
  ['a structured reply nobody negotiated', WRITE_0, false, chunk(0, 0, true), /none were negotiated/, 'magic'],
  ['a cookie never sent', WRITE_0, true, simple(3), /never sent/, 'cookie'],
  ['a cookie of another generation', WRITE_0, true, Buffer.concat([hex('67446698'), uint32(0), cookie(0, 8)]), /never sent/, 'cookie'],
  ['an answer twice', WRITE_0, true, Buffer.concat([simple(0), simple(0)]), /answered already/, 'cookie'],
  ['a chunk after its reply was done', WRITE_0, true, Buffer.concat([chunk(0, 0, true), chunk(0, 0, true)]), /answered already/, 'cookie'],
  ['a simple answer to a read among structured ones', READ_100, true, simple(0, 0, 'x'.repeat(12)), /simple reply though/, 'reply'],
  ['a simple error to a read among structured ones', READ_100, true, simple(0, 5), /simple reply though/, 'reply'],
  ['a simple answer to block status', STATUS_0, true, simple(0), /block status was answered by a simple reply/, 'reply'],
  ['data for a write', WRITE_0, true, dataChunk(0, 0, 'x', true), /no read/, 'reply'],
  ['a hole for a write', WRITE_0, true, holeChunk(0, 0, 1, true), /no read/, 'reply'],
  ['data before the request', READ_100, true, dataChunk(0, 99, 'xx'), /outside/, 'data'],
  ['data behind the request', READ_100, true, dataChunk(0, 110, 'xxx'), /outside/, 'data'],
  ['data far outside', READ_100, true, chunk(0, 1, false, Buffer.concat([uint64(2n ** 63n), Buffer.from('x')])), /outside/, 'data'],
  ['a hole outside', READ_100, true, holeChunk(0, 111, 2), /outside/, 'data'],
  ['an empty hole', READ_100, true, holeChunk(0, 100, 0), /outside/, 'data'],
  ['a data chunk without data', READ_100, true, chunk(0, 1, false, uint64(100)), /without data/, 'data'],
  ['a data chunk too short for its offset', READ_100, true, chunk(0, 1, false, Buffer.alloc(4)), /without data/, 'data'],
  ['pieces that overlap', READ_100, true, Buffer.concat([dataChunk(0, 100, 'xxxx'), dataChunk(0, 103, 'x')]), /overlap/, 'data'],
  ['the same piece twice', READ_100, true, Buffer.concat([dataChunk(0, 104, 'xxxx'), holeChunk(0, 104, 4)]), /overlap/, 'data'],
  ['a read that is not whole', READ_100, true, Buffer.concat([dataChunk(0, 100, 'xxxx'), chunk(0, 0, true)]), /answered with 4/, 'data'],
  ['a read without data', READ_100, true, chunk(0, 0, true), /answered with 0/, 'data'],
  [
    'a read with a gap',
    READ_100,
    true,
    Buffer.concat([dataChunk(0, 100, 'xxxx'), dataChunk(0, 108, 'xxxx', true)]),
    /answered with 8/,
    'data',
  ],
  ['block status without extents', STATUS_0, true, chunk(0, 0, true), /without extents/, 'status'],
  ['extents of another context', STATUS_0, true, statusChunk(0, 8, [[10, 0]]), /not negotiated/, 'status'],
  ['extents twice', STATUS_0, true, Buffer.concat([statusChunk(0, 9, [[10, 0]], false), statusChunk(0, 9, [[10, 0]])]), /twice/, 'status'],
  ['an extent of length 0', STATUS_0, true, statusChunk(0, 9, [[0, 0]]), /length 0/, 'status'],
  ['a block status chunk of no extents', STATUS_0, true, statusChunk(0, 9, []), /of 4 bytes/, 'status'],
  ['a block status chunk cut in an extent', STATUS_0, true, chunk(0, 5, true, Buffer.alloc(15)), /of 15 bytes/, 'status'],
  ['extents for a read', READ_100, true, statusChunk(0, 9, [[10, 0]]), /no block status/, 'reply'],
  ['an error of 0', READ_100, true, errorChunk(0, 0), /error 0/, 'error'],
  ['an error chunk too short', READ_100, true, chunk(0, 0x8001, true, Buffer.alloc(4)), /of 4 bytes/, 'error'],
  ['an error chunk too long', READ_100, true, chunk(0, 0x8001, true, Buffer.alloc(0), 1 << 20), /more than/, 'error'],
  ['a hole chunk of another length', READ_100, true, chunk(0, 2, true, Buffer.alloc(11)), /instead of 12/, 'data'],
  ['an unknown type', READ_100, true, chunk(0, 77, true, Buffer.alloc(4)), /unknown type/, 'reply'],
  ['an empty chunk that ends nothing', READ_100, true, chunk(0, 0, false), /does not end/, 'reply'],
  ['an empty chunk with a body', READ_100, true, chunk(0, 0, true, Buffer.alloc(3)), /more than its 0/, 'reply'],
  ['a block status chunk beyond all bounds', STATUS_0, true, chunk(0, 5, true, Buffer.alloc(0), 0xffffffff), /more than/, 'status'],
  // What only a strict client sees.
  [
    'a reply in chunks that goes on as a simple one',
    READ_100,
    true,
    Buffer.concat([errorChunk(0, 5, false), simple(0, 5)]),
    /went on as a simple one/,
    'reply',
  ],
  ['an unknown type, however long', READ_100, true, chunk(0, 77, true, Buffer.alloc(0), 0xffffffff), /unknown type 77/, 'reply'],
  ['wide extents that nobody negotiated', STATUS_0, true, chunk(0, 6, true, wideExtents(9, [[4096, 0]])), /unknown type 6/, 'reply'],
  [
    'a read in chunks without an end and something else after',
    READ_100,
    true,
    Buffer.concat([dataChunk(0, 100, 'x'.repeat(12)), dataChunk(0, 100, 'x')]),
    /overlap/,
    'data',
  ],
  [
    'a piece over two others',
    READ_100,
    true,
    Buffer.concat([dataChunk(0, 108, 'xx'), dataChunk(0, 104, 'xx'), dataChunk(0, 105, 'xxxx')]),
    /overlap/,
    'data',
  ],
  [
    "an error's message longer than its chunk",
    READ_100,
    true,
    chunk(0, 0x8001, true, Buffer.concat([uint32(5), uint16(3), Buffer.from('no')])),
    /message of 3 bytes/,
    'error',
  ],
  [
    'a message that leaves no room for the offset',
    READ_100,
    true,
    chunk(0, 0x8002, true, Buffer.concat([uint32(5), uint16(3), Buffer.alloc(10)])),
    /message of 3 bytes/,
    'error',
  ],
  ['an error at an offset before the request', READ_100, true, chunk(0, 0x8002, true, errorAt(5, 99)), /at offset 99, outside/, 'error'],
  ['an error at an offset behind the request', READ_100, true, chunk(0, 0x8002, true, errorAt(5, 112)), /at offset 112, outside/, 'error'],
  ['an error with an offset that has none', [{ op: OP.FLUSH }], true, chunk(0, 0x8002, true, errorAt(5, 0)), /outside/, 'error'],
  ['an error of a type nobody knows, too short', READ_100, true, chunk(0, 0x8077, true, uint32(5)), /of 4 bytes/, 'error'],
  [
    'two extents where one was asked for',
    ONE_0,
    true,
    statusChunk(0, 9, [
      [512, 0],
      [512, 3],
    ]),
    /more than its 12/,
    'status',
  ],
  ['one extent that goes beyond the request', ONE_0, true, statusChunk(0, 9, [[8192, 0]]), /8192 bytes where 4096/, 'status'],
  [
    'an extent behind the request',
    STATUS_0,
    true,
    statusChunk(0, 9, [
      [4096, 0],
      [512, 3],
    ]),
    /behind the 4096/,
    'status',
  ],
  [
    'more extents than the range has blocks',
    STATUS_0,
    true,
    chunk(0, 5, true, Buffer.alloc(4 + 8 * 9)),
    /more than its 68/,
    'status',
    BLOCKS,
  ],
  [
    'an extent that is no multiple of the block',
    STATUS_0,
    true,
    statusChunk(0, 9, [[1000, 0]]),
    /minimum block size is 512/,
    'status',
    BLOCKS,
  ],
  ['a data chunk for block status', STATUS_0, true, dataChunk(0, 0, 'x', true), /no read/, 'reply'],
  ['an extended reply nobody negotiated', WRITE_0, true, wide(0, 0, 0, true), /extended headers were not negotiated/, 'magic'],
  [
    'a structured reply among extended ones',
    WRITE_0,
    'extended',
    Buffer.concat([chunk(0, 0, true), Buffer.alloc(40)]),
    /extended headers were negotiated/,
    'magic',
  ],
  ['a simple reply among extended ones', WRITE_0, 'extended', Buffer.concat([simple(0), Buffer.alloc(40)]), /a simple reply came/, 'magic'],
  ['a wrong magic among extended ones', WRITE_0, 'extended', Buffer.alloc(48, 1), /no reply magic/, 'magic'],
  ['another offset', READ_100, 'extended', wideData(0, 101, 100, 'x'.repeat(12), true), /offset 100 came back with offset 101/, 'offset'],
  ['an offset off by 2^63', READ_100, 'extended', wide(0, 2n ** 63n + 100n, 0, true), /came back with offset/, 'offset'],
  ['an extended cookie never sent', WRITE_0, 'extended', wide(3, 0, 0, true), /never sent/, 'cookie'],
  ['an extended data chunk of 2^64 bytes', READ_100, 'extended', wide(0, 100, 1, true, uint64(100), 2n ** 64n - 1n), /outside/, 'data'],
  ['an extended chunk beyond all bounds', STATUS_0, 'extended', wide(0, 0, 6, true, Buffer.alloc(0), 2n ** 40n), /more than its/, 'status'],
  [
    'narrow extents among extended ones',
    STATUS_0,
    'extended',
    wide(0, 0, 5, true, Buffer.concat([uint32(9), uint32(4096), uint32(0)])),
    /unknown type 5/,
    'reply',
  ],
  [
    'a count of extents that is not theirs',
    STATUS_0,
    'extended',
    wide(0, 0, 6, true, wideExtents(9, [[4096, 0]], 2)),
    /says 2 extents and has 1/,
    'status',
  ],
  ['no extents at all among extended ones', STATUS_0, 'extended', wide(0, 0, 6, true, wideExtents(9, [])), /of 8 bytes/, 'status'],
  ['a wide extent of length 0', STATUS_0, 'extended', wide(0, 0, 6, true, wideExtents(9, [[0, 0]])), /length 0/, 'status'],
  [
    'a wide extent with flags of 64 bits',
    STATUS_0,
    'extended',
    wide(0, 0, 6, true, wideExtents(9, [[4096, 2 ** 32]])),
    /flags that base:allocation/,
    'status',
  ],
  ['wide extents cut in one', STATUS_0, 'extended', wide(0, 0, 6, true, Buffer.alloc(23)), /of 23 bytes/, 'status'],
  [
    'a read that is not whole among extended ones',
    READ_100,
    'extended',
    Buffer.concat([wideData(0, 100, 100, 'x'), wide(0, 100, 0, true)]),
    /answered with 1/,
    'data',
  ],
  ['zeroes answered with data', ZEROES_0, 'extended', wideData(0, 0, 0, 'x', true), /no read/, 'reply'],
];

for (const [what, requests, structured, stream, reason, kind, rules] of VIOLATIONS) {
  const style = structured === 'extended' ? 'extended' : structured ? 'structured' : 'simple';
  test(`${what} ends the connection with its reason`, () => {
    for (let cut = 1; cut <= Math.min(stream.length, 100); cut += 1) {
      const { feed, answers, machine } = reader(requests, style, rules);
      let wrong = feed(Buffer.from(stream.subarray(0, cut)));
      const before = answers.length;
      if (wrong === null) wrong = feed(Buffer.from(stream.subarray(cut)));
      assert.match(String(wrong), reason, `cut at ${cut}`);
      assert.equal(machine.kind, kind);
      assert(answers.length <= 1 && before <= 1, 'nothing of the wrong answer is passed on');
    }
  });
}

test('a last extent may go beyond the request, and be no multiple of the block where the export ends', () => {
  const end = [{ op: OP.STATUS, offset: 999_424, length: 512 }];
  const beyond = reader(STATUS_0, 'structured', BLOCKS);
  assert.equal(
    beyond.feed(
      statusChunk(0, 9, [
        [512, 0],
        [8192, 3],
      ]),
    ),
    null,
  );
  assert.equal(beyond.answers.length, 1);
  const atEnd = reader(end, 'structured', BLOCKS);
  assert.equal(atEnd.feed(statusChunk(0, 9, [[576, 0]])), null);
  assert.equal(atEnd.answers.length, 1);
});

test('an error of a type nobody knows is an error, and the first of several counts', () => {
  const { feed, answers } = reader(READ_100, 'structured');
  assert.equal(
    feed(Buffer.concat([chunk(0, 0x8077, false, Buffer.concat([uint32(28), uint16(2), Buffer.from('nope')])), errorChunk(0, 1)])),
    null,
  );
  assert.deepEqual(
    answers.map(({ errno }) => errno),
    [ERRNO.ENOSPC],
  );
});

test('ENOTSUP is only for zeroes that are to be fast, EOVERFLOW for nothing that we ask: elsewhere it is EIO, and noticed', () => {
  const requests = [
    { op: OP.ZEROES, length: 4, fast: true },
    { op: OP.ZEROES, length: 4 },
    { op: OP.WRITE, length: 4 },
    { op: OP.READ, length: 4 },
  ];
  for (const style of ['simple', 'extended'] as const) {
    const { feed, answers, misplaced } = reader(requests, style);
    const refuse = (index: number, errno: number): Buffer =>
      style === 'simple' ? simple(index, errno) : wide(index, 0, 0x8001, true, Buffer.concat([uint32(errno), uint16(0)]));
    assert.equal(feed(Buffer.concat([refuse(0, 95), refuse(1, 95), refuse(2, 95), refuse(3, 75)])), null);
    assert.deepEqual(
      answers.map(({ errno }) => errno),
      [ERRNO.ENOTSUP, ERRNO.EIO, ERRNO.EIO, ERRNO.EIO],
    );
    assert.equal(misplaced.length, 3);
    assert.match(misplaced[1], /ENOTSUP for a write that cannot have it/);
  }
});

test('says what is missing of a reply that has begun, and nothing between two', () => {
  const { feed, machine } = reader(STRUCTURED_REQUESTS, 'structured');
  assert.equal(machine.missing, null);
  feed(dataChunk(0, 100, 'hello').subarray(0, 10));
  assert.match(machine.missing!, /10 bytes of a header had come/);
  feed(dataChunk(0, 100, 'hello').subarray(10, 31));
  assert.match(machine.missing!, /2 bytes of data/);
  feed(dataChunk(0, 100, 'hello').subarray(31));
  assert.equal(machine.missing, null);
  feed(errorChunk(1, 5).subarray(0, 24));
  assert.match(machine.missing!, /4 bytes of a chunk/);
});

test('the data of a read in crumbs, in any order, is put together; more crumbs than are kept end the connection', () => {
  fc.assert(
    fc.property(
      fc.shuffledSubarray(
        Array.from({ length: 40 }, (_, at) => at),
        { minLength: 40 },
      ),
      (order) => {
        const { feed, answers } = reader([{ op: OP.READ, offset: 0, length: 40 }], 'structured');
        for (const at of order) assert.equal(feed(dataChunk(0, at, String.fromCharCode(65 + at))), null);
        assert.equal(feed(chunk(0, 0, true)), null);
        assert.equal(answers[0].data, String.fromCharCode(...Array.from({ length: 40 }, (_, at) => 65 + at)));
      },
    ),
    { numRuns: 50 },
  );
  const { feed, machine } = reader([{ op: OP.READ, offset: 0, length: 20_000 }], 'structured');
  let wrong: string | null = null;
  let crumbs = 0;
  for (let at = 19_998; at >= 0 && wrong === null; at -= 2, crumbs += 1) wrong = feed(dataChunk(0, at, 'x'));
  assert.match(String(wrong), /more separate pieces/);
  assert.equal(machine.kind, 'data');
  assert.equal(crumbs, 4097);
});

test('any bytes at all end in an answer, a reason or a wait, never in an exception or an answer to nothing', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
    fc.constantFrom(...VIOLATIONS.map(([, , , stream]) => stream), SIMPLE_STREAM, STRUCTURED_STREAM, EXTENDED_STREAM),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), fc.constantFrom('simple', 'structured', 'extended'), (pieces, style) => {
      const { feed, answers } = reader(STRUCTURED_REQUESTS, style as Style);
      for (const bytes of pieces) if (feed(bytes) !== null) break;
      assert(answers.length <= STRUCTURED_REQUESTS.length);
      assert.equal(new Set(answers.map((answer) => answer.cookie)).size, answers.length);
    }),
    { numRuns: 500 },
  );
});

test.run();
