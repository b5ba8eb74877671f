// Our client's handshake against scripted servers: golden bytes both ways, every fallback, every way a server can lie.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ClientHandshake, type ClientStep, type ClientWishes } from '../../gateway/nbd/client-handshake.js';
import { contextData, hex, infoData, optionBytes, optionReplyBytes, uint16, uint32, uint64 } from '../support/nbd-bytes.js';

const test = suite('nbd client handshake');

const GREETING = hex('4e42444d41474943 49484156454f5054 0003');
const ACK = 1;
const EXPORT_INFO = Buffer.concat([uint16(0), uint64(1 << 30), uint16(0x0d6d)]);
const BLOCK_INFO = Buffer.concat([uint16(3), uint32(512), uint32(4096), uint32(33554432)]);
const CONTEXT = Buffer.concat([uint32(7), Buffer.from('base:allocation')]);

/** What a server with everything answers, in order. */
const FULL_SERVER = [
  GREETING,
  optionReplyBytes(8, ACK),
  optionReplyBytes(10, 4, CONTEXT),
  optionReplyBytes(10, ACK),
  optionReplyBytes(7, 3, EXPORT_INFO),
  optionReplyBytes(7, 3, BLOCK_INFO),
  optionReplyBytes(7, ACK),
];

/** What we say to it. */
const FULL_CLIENT = [
  hex('00000003'),
  optionBytes(8),
  optionBytes(10, contextData('disk', 'base:allocation')),
  optionBytes(7, infoData('disk', 3)),
];

/** The same from a server with extended headers, and what we say to it: what we do when nothing is held back. */
const EXTENDED_SERVER = [GREETING, optionReplyBytes(11, ACK), ...FULL_SERVER.slice(2)];
const EXTENDED_CLIENT = [FULL_CLIENT[0], optionBytes(11), ...FULL_CLIENT.slice(2)];

/** Feeds `chunks` until there is an outcome; gives it and all that was sent. */
function converse(
  chunks: Buffer[],
  wishes: ClientWishes = { exportName: 'disk', extended: false },
): { sent: Buffer; outcome: ClientStep['outcome'] } {
  const handshake = new ClientHandshake(wishes);
  const sent: Buffer[] = [];
  let outcome: ClientStep['outcome'] = null;
  for (const chunk of chunks) {
    assert.equal(outcome, null, 'nothing is expected after the outcome');
    const step = handshake.receive(chunk);
    sent.push(...step.send);
    outcome = step.outcome;
  }
  return { sent: Buffer.concat(sent), outcome };
}

function refused(chunks: Buffer[]): { code: string; message: string; sent: Buffer } {
  const { outcome, sent } = converse(chunks);
  assert(outcome !== null && !outcome.ok, 'refused');
  return { code: outcome.code, message: outcome.message, sent };
}

test('agrees on everything a full server has, byte for byte', () => {
  const { sent, outcome } = converse(FULL_SERVER);
  assert.deepEqual(sent, Buffer.concat(FULL_CLIENT));
  assert.deepEqual(outcome, {
    ok: true,
    value: {
      sizeBytes: 1 << 30,
      flags: 0x0d6d,
      structured: true,
      extended: false,
      metaContextId: 7,
      block: { minimum: 512, preferred: 4096, maximumPayload: 33554432 },
      leftover: Buffer.alloc(0),
    },
  });
});

/** Handshakes with every style of replies, and with a server that knows none of the options. */
const ASKS_FOR_ALL = { exportName: 'disk' };
const POOR_SERVER = [
  GREETING,
  optionReplyBytes(11, 0x80000001),
  optionReplyBytes(8, 0x80000001),
  optionReplyBytes(7, 0x80000001),
  Buffer.concat([uint64(1 << 30), uint16(0x0d6d)]),
];
for (const [style, server, client] of [
  ['extended', EXTENDED_SERVER, EXTENDED_CLIENT],
  [
    'structured',
    [GREETING, optionReplyBytes(11, 0x80000001), ...FULL_SERVER.slice(1)],
    [FULL_CLIENT[0], optionBytes(11), ...FULL_CLIENT.slice(1)],
  ],
  [
    'simple',
    POOR_SERVER,
    [hex('00000003'), optionBytes(11), optionBytes(8), optionBytes(7, infoData('disk', 3)), optionBytes(1, Buffer.from('disk'))],
  ],
] as const) {
  test(`asks for extended headers first and agrees on ${style} replies, byte for byte, wherever the bytes are cut`, () => {
    const expected = converse([...server], ASKS_FOR_ALL);
    assert.deepEqual(expected.sent, Buffer.concat([...client]));
    assert(expected.outcome?.ok);
    const { structured, extended, metaContextId, sizeBytes, flags } = expected.outcome.value;
    assert.deepEqual([structured, extended], [style !== 'simple', style === 'extended']);
    assert.deepEqual([metaContextId, sizeBytes, flags], [style === 'simple' ? null : 7, 1 << 30, 0x0d6d]);
    const whole = Buffer.concat([...server]);
    for (let cut = 1; cut < whole.length; cut++) {
      assert.deepEqual(converse([whole.subarray(0, cut), whole.subarray(cut)], ASKS_FOR_ALL), expected, `cut at ${cut}`);
    }
    assert.deepEqual(
      converse(
        [...whole].map((byte) => Buffer.from([byte])),
        ASKS_FOR_ALL,
      ),
      expected,
      'one byte at a time',
    );
  });
}

test('block status is not asked for when it is not wished', () => {
  const { sent, outcome } = converse([GREETING, optionReplyBytes(11, ACK), ...FULL_SERVER.slice(4)], { exportName: 'disk', status: false });
  assert.deepEqual(sent, Buffer.concat([hex('00000003'), optionBytes(11), optionBytes(7, infoData('disk', 3))]));
  assert(outcome?.ok);
  assert.deepEqual([outcome.value.extended, outcome.value.metaContextId], [true, null]);
});

test('says which option waits for its answer', () => {
  const handshake = new ClientHandshake(ASKS_FOR_ALL);
  assert.equal(handshake.asking, null);
  const asked = EXTENDED_SERVER.map((chunk) => {
    handshake.receive(chunk);
    return handshake.asking;
  });
  assert.deepEqual(asked, [11, 10, 10, 7, 7, 7, null]);
});

test('a server that offers extended headers badly is refused with what it did', () => {
  for (const [name, chunks, message] of [
    ['without GO', [GREETING, optionReplyBytes(11, ACK), optionReplyBytes(10, ACK), optionReplyBytes(7, 0x80000001)], /must know GO/],
    ['an ACK with data', [GREETING, optionReplyBytes(11, ACK, hex('00'))], /ACK with 1 bytes/],
    ['an answer to the other option', [GREETING, optionReplyBytes(8, ACK)], /option 8, but 11/],
    ['an answer of another kind', [GREETING, optionReplyBytes(11, 4, CONTEXT)], /reply type 4/],
    ['replies without end', [GREETING, Buffer.concat(new Array(65).fill(optionReplyBytes(11, 3, BLOCK_INFO)))], /reply type 3/],
  ] as const) {
    const { outcome } = converse([...chunks], ASKS_FOR_ALL);
    assert(outcome !== null && !outcome.ok, name);
    assert.equal(outcome.code, 'protocol-error', name);
    assert.match(outcome.message, message, name);
  }
});

test('an export that is described twice, and differently, is refused; the same twice is not', () => {
  const other = Buffer.concat([uint16(0), uint64(1 << 20), uint16(0x0d6d)]);
  const again = (info: Buffer): Buffer[] => [...EXTENDED_SERVER.slice(0, 5), optionReplyBytes(7, 3, info), ...EXTENDED_SERVER.slice(5)];
  assert.equal(converse(again(EXPORT_INFO), ASKS_FOR_ALL).outcome?.ok, true);
  const { outcome } = converse(again(other).slice(0, 6), ASKS_FOR_ALL);
  assert(outcome !== null && !outcome.ok);
  assert.match(outcome.message, /twice, and differently/);
});

test('hands on what came behind the handshake', () => {
  const { outcome } = converse([Buffer.concat([...FULL_SERVER, hex('0102')])]);
  assert(outcome?.ok);
  assert.deepEqual(outcome.value.leftover, hex('0102'));
});

test('goes on without structured replies, context or block sizes where a server has none', () => {
  const { sent, outcome } = converse([
    GREETING,
    optionReplyBytes(8, 0x80000001, Buffer.from('no')),
    optionReplyBytes(7, 3, EXPORT_INFO),
    optionReplyBytes(7, ACK),
  ]);
  assert.deepEqual(sent, Buffer.concat([hex('00000003'), optionBytes(8), optionBytes(7, infoData('disk', 3))]));
  assert(outcome?.ok);
  assert.equal(outcome.value.structured, false);
  assert.equal(outcome.value.metaContextId, null);
  assert.deepEqual(outcome.value.block, { minimum: 1, preferred: 4096, maximumPayload: 33554432 });
});

test('has no context where the server knows none, or refuses after naming one', () => {
  const rest = [optionReplyBytes(7, 3, EXPORT_INFO), optionReplyBytes(7, ACK)];
  for (const answer of [
    [optionReplyBytes(10, ACK)],
    [optionReplyBytes(10, 0x80000001)],
    [optionReplyBytes(10, 4, CONTEXT), optionReplyBytes(10, 0x80000003)],
  ]) {
    const { outcome } = converse([GREETING, optionReplyBytes(8, ACK), ...answer, ...rest]);
    assert(outcome?.ok);
    assert.equal(outcome.value.metaContextId, null);
    assert.equal(outcome.value.structured, true);
  }
});

test('a context with id 0 is a context', () => {
  const zero = Buffer.concat([uint32(0), Buffer.from('base:allocation')]);
  const chunks = [...FULL_SERVER];
  chunks[2] = optionReplyBytes(10, 4, zero);
  const { outcome } = converse(chunks);
  assert(outcome?.ok);
  assert.equal(outcome.value.metaContextId, 0);
});

test('asks for nothing structured when it is not wished', () => {
  const { sent, outcome } = converse([GREETING, optionReplyBytes(7, 3, EXPORT_INFO), optionReplyBytes(7, ACK)], {
    exportName: '',
    structured: false,
  });
  assert.deepEqual(sent, Buffer.concat([hex('00000003'), optionBytes(7, infoData('', 3))]));
  assert.equal(outcome?.ok, true);
});

test('falls back to EXPORT_NAME where GO is unknown, with 10 bytes when zeroes are declined', () => {
  const { sent, outcome } = converse([
    GREETING,
    optionReplyBytes(8, 0x80000001),
    optionReplyBytes(7, 0x80000001),
    Buffer.concat([uint64(4096), uint16(1), hex('aa')]),
  ]);
  assert.deepEqual(sent.subarray(-20), optionBytes(1, Buffer.from('disk')));
  assert(outcome?.ok);
  assert.equal(outcome.value.sizeBytes, 4096);
  assert.deepEqual(outcome.value.leftover, hex('aa'));
});

test('a server of plain newstyle gets EXPORT_NAME alone and sends 134 bytes', () => {
  const { sent, outcome } = converse([
    hex('4e42444d41474943 49484156454f5054 0000'),
    Buffer.concat([uint64(4096), uint16(1), Buffer.alloc(123)]),
    hex('00'),
  ]);
  assert.deepEqual(sent, Buffer.concat([hex('00000000'), optionBytes(1, Buffer.from('disk'))]));
  assert(outcome?.ok);
  assert.equal(outcome.value.leftover.length, 0);
});

test('unknown information is ignored', () => {
  const chunks = [...FULL_SERVER];
  chunks.splice(4, 0, optionReplyBytes(7, 3, Buffer.concat([uint16(77), Buffer.alloc(100)])));
  assert.equal(converse(chunks).outcome?.ok, true);
});

test('what is no NBD server is called so', () => {
  assert.match(refused([Buffer.from('HTTP/1.1 400 Bad Request')]).message, /wrong magic 485454502f312e31: not an NBD server/);
  assert.match(refused([hex('4e42444d41474943 0000420281861253 0003')]).message, /old style/);
  assert.match(refused([hex('4e42444d41474943 0000000000000000 0003')]).message, /wrong magic 0000000000000000/);
});

test('each refusal of GO has its code, its reason and a parting ABORT', () => {
  const start = [GREETING, optionReplyBytes(8, 0x80000001)];
  const cases: [number, string, RegExp][] = [
    [0x80000006, 'export-unknown', /export not known: "disk" \(the server says: why not\)/],
    [0x80000005, 'tls-required', /requires TLS/],
    [0x80000002, 'policy', /does not let us/],
    [0x80000007, 'shutting-down', /shutting down/],
    [0x80000008, 'block-size-required', /block size/],
    [0x80000003, 'refused', /refused with error 3/],
    [0x8000ffff, 'refused', /refused with error 65535/],
  ];
  for (const [type, code, message] of cases) {
    const answer = refused([...start, optionReplyBytes(7, type, Buffer.from('why not'))]);
    assert.equal(answer.code, code);
    assert.match(answer.message, message);
    assert.deepEqual(answer.sent.subarray(-16), optionBytes(2));
  }
});

test('a server that demands TLS at the first option is refused, not tried without', () => {
  assert.equal(refused([GREETING, optionReplyBytes(8, 0x80000005)]).code, 'tls-required');
  const { outcome } = converse([GREETING, optionReplyBytes(11, 0x80000005)], ASKS_FOR_ALL);
  assert.equal(outcome?.ok === false && outcome.code, 'tls-required');
});

test('a server that breaks the protocol is refused with what it did', () => {
  const afterStructured = [GREETING, optionReplyBytes(8, ACK)];
  const afterContexts = [...afterStructured, optionReplyBytes(10, ACK)];
  const info = (data: Buffer): Buffer => optionReplyBytes(7, 3, data);
  const blocks = (minimum: number, preferred: number, maximum: number): Buffer =>
    info(Buffer.concat([uint16(3), uint32(minimum), uint32(preferred), uint32(maximum)]));
  const end = optionReplyBytes(7, ACK);
  const cases: [string, Buffer[], RegExp][] = [
    ['wrong reply magic', [GREETING, Buffer.alloc(20)], /wrong magic/],
    ['another option', [GREETING, optionReplyBytes(9, ACK)], /option 9, but 8/],
    [
      'a reply of 4 GiB',
      [GREETING, Buffer.concat([hex('0003e889045565a9'), uint32(8), uint32(ACK), uint32(0xffffffff)])],
      /4294967295 bytes/,
    ],
    ['an ACK with data', [GREETING, optionReplyBytes(8, ACK, hex('00'))], /ACK with 1 bytes/],
    ['INFO to STRUCTURED_REPLY', [GREETING, optionReplyBytes(8, 3, EXPORT_INFO)], /reply type 3/],
    [
      'a context nobody asked for',
      [...afterStructured, optionReplyBytes(10, 4, Buffer.concat([uint32(1), Buffer.from('qemu:x')]))],
      /not asked for/,
    ],
    ['a context without a name', [...afterStructured, optionReplyBytes(10, 4, hex('0001'))], /not asked for/],
    ['a context twice', [...afterStructured, optionReplyBytes(10, 4, CONTEXT), optionReplyBytes(10, 4, CONTEXT)], /answered twice/],
    ['INFO without a type', [...afterContexts, info(hex('00'))], /without a type/],
    ['a short EXPORT', [...afterContexts, info(Buffer.concat([uint16(0), uint64(1)]))], /10 bytes instead of 12/],
    ['a long BLOCK_SIZE', [...afterContexts, info(Buffer.concat([BLOCK_INFO, hex('00')]))], /15 bytes instead of 14/],
    ['a minimum of 0', [...afterContexts, blocks(0, 4096, 4096)], /minimum block size of 0/],
    ['a minimum of 3', [...afterContexts, blocks(3, 4096, 4096)], /minimum block size of 3/],
    ['preferred below minimum', [...afterContexts, blocks(4096, 512, 4096)], /preferred block size of 512/],
    ['a maximum below minimum', [...afterContexts, blocks(4096, 4096, 0)], /maximum payload of 0/],
    ['a crooked maximum', [...afterContexts, blocks(4096, 4096, 5000)], /maximum payload of 5000/],
    ['GO without EXPORT', [...afterContexts, info(BLOCK_INFO), end], /without the export being described/],
    ['no HAS_FLAGS', [...afterContexts, info(Buffer.concat([uint16(0), uint64(1), uint16(0)])), end], /HAS_FLAGS/],
    [
      'a size over 2^53',
      [...afterContexts, info(Buffer.concat([uint16(0), uint64(2n ** 63n), uint16(1)])), end],
      /more than can be addressed/,
    ],
    ['replies without end', [...afterContexts, Buffer.concat(new Array(65).fill(info(BLOCK_INFO)))], /more than 64 replies/],
  ];
  for (const [name, chunks, message] of cases) {
    const answer = refused(chunks);
    assert.equal(answer.code, 'protocol-error', name);
    assert.match(answer.message, message, name);
  }
});

test('an unlimited maximum payload is taken as announced', () => {
  const chunks = [...FULL_SERVER];
  chunks[5] = optionReplyBytes(7, 3, Buffer.concat([uint16(3), uint32(1), uint32(4096), uint32(0xffffffff)]));
  const { outcome } = converse(chunks);
  assert(outcome?.ok);
  assert.equal(outcome.value.block.maximumPayload, 0xffffffff);
});

test('never throws and never asks without end, whatever a server sends', () => {
  const random = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes));
  const reply = fc
    .record({
      option: fc.constantFrom(7, 8, 10, 11, 1),
      type: fc.oneof(fc.constantFrom(1, 2, 3, 4, 0x80000001, 0x80000006), fc.nat()),
      data: fc.oneof(random, fc.constantFrom(EXPORT_INFO, BLOCK_INFO, CONTEXT, Buffer.alloc(0))),
    })
    .map(({ option, type, data }) => optionReplyBytes(option, type, data));
  fc.assert(
    fc.property(fc.array(fc.oneof({ weight: 5, arbitrary: reply }, random), { maxLength: 12 }), (chunks) => {
      const handshake = new ClientHandshake({ exportName: 'disk' });
      let outcome = handshake.receive(GREETING).outcome;
      for (const chunk of chunks) {
        if (outcome !== null) break;
        const step = handshake.receive(chunk);
        assert(step.send.length <= 3);
        outcome = step.outcome;
      }
    }),
    { numRuns: 2000 },
  );
});

test.run();
