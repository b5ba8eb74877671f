// The server's handshake, one scenario a rule of the protocol: what a client may ask, ask wrongly, or ask to do harm.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ServerHandshake, type ServerNext } from '../../gateway/nbd/server-handshake.js';
import { MemoryDevice } from '../support/memory-device.js';
import { MemoryExports, memoryExport } from '../support/memory-exports.js';
import {
  contextData,
  hex,
  infoData,
  type OptionReply,
  optionBytes,
  parseOptionReplies,
  uint16,
  uint32,
  uint64,
} from '../support/nbd-bytes.js';

const test = suite('nbd server handshake');

const ACK = 1;
const SERVER = 2;
const INFO = 3;
const CONTEXT = 4;
const UNSUP = 0x80000001;
const POLICY = 0x80000002;
const INVALID = 0x80000003;
const UNKNOWN = 0x80000006;
const TOO_BIG = 0x80000009;
const EXT_HEADER_REQD = 0x8000000a;
const FLAGS = hex('00000003');

const device = new MemoryDevice(1 << 20);
const table = new MemoryExports(
  memoryExport('disk', device, { description: 'a disk' }),
  memoryExport('rot', device, { features: { readOnly: true, rotational: true, cache: false, multiConn: false }, block: { minimum: 512 } }),
  memoryExport('', device, { block: { maximumPayload: 65536 } }),
);

const known = new MemoryExports(
  memoryExport('known', device, { contexts: ['x-test:odd', 'x-test:even'].map((name) => ({ name, runs: () => [] })) }),
);

/** The handshake with an owner that attaches at once. */
class Talk {
  readonly handshake: ServerHandshake;
  sent = Buffer.alloc(0);
  next: ServerNext = { kind: 'read' };

  constructor(
    flags: Buffer | null = FLAGS,
    private readonly exports = table,
  ) {
    this.handshake = new ServerHandshake(exports);
    if (flags !== null) this.say(flags);
  }

  say(bytes: Buffer): this {
    assert(this.next.kind === 'read', 'the handshake still reads');
    let step = this.handshake.receive(bytes);
    for (;;) {
      this.sent = Buffer.concat([this.sent, ...step.send]);
      if (step.next.kind !== 'attach') break;
      step = this.handshake.attached(this.exports.find(step.next.name));
    }
    this.next = step.next;
    return this;
  }

  /** Replies to what was said since the last call. */
  replies(): OptionReply[] {
    const replies = parseOptionReplies(this.sent);
    this.sent = Buffer.alloc(0);
    return replies;
  }

  types(): number[] {
    return this.replies().map(({ type }) => type);
  }

  /** The connection is in step: an INFO gets its proper answer. */
  assertInStep(): void {
    this.replies();
    assert.deepEqual(this.say(optionBytes(6, infoData('disk'))).types(), [INFO, ACK]);
  }

  assertClosed(reason: RegExp): void {
    assert(this.next.kind === 'close', `closed, not ${this.next.kind}`);
    assert.match(this.next.reason, reason);
  }
}

test('greets with fixed newstyle and no zeroes', () => {
  assert.deepEqual(new ServerHandshake(table).greeting(), hex('4e42444d41474943 49484156454f5054 0003'));
});

test('GO describes the export, in golden bytes, and begins the transmission', () => {
  const talk = new Talk().say(optionBytes(7, infoData('disk', 3)));
  // 0d6d: HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN, SEND_CACHE, SEND_FAST_ZERO.
  assert.deepEqual(
    talk.sent,
    hex(`
      0003e889045565a9 00000007 00000003 0000000c 0000 0000000000100000 0d6d
      0003e889045565a9 00000007 00000003 0000000e 0003 00000001 00001000 02000000
      0003e889045565a9 00000007 00000001 00000000
    `),
  );
  assert(talk.next.kind === 'transmit');
  const { agreement } = talk.next;
  assert.equal(agreement.export.name, 'disk');
  assert.equal(agreement.headers, 'simple');
  assert.deepEqual(agreement.contexts, []);
});

test('understands the same wherever the bytes are cut', () => {
  const said = Buffer.concat([
    FLAGS,
    optionBytes(8),
    optionBytes(3),
    optionBytes(99, Buffer.alloc(30)),
    optionBytes(9, contextData('disk')),
    optionBytes(10, contextData('disk', 'base:allocation')),
    optionBytes(6, infoData('disk', 1, 2, 3)),
    optionBytes(7, infoData('disk')),
    hex('25609513 0000'),
  ]);
  const whole = new Talk(null).say(said);
  for (let cut = 1; cut < said.length - 6; cut++) {
    const talk = new Talk(null).say(said.subarray(0, cut)).say(said.subarray(cut));
    assert.deepEqual(talk.sent, whole.sent, `cut at ${cut}`);
    assert.deepEqual(talk.next, whole.next, `cut at ${cut}`);
  }
  assert(whole.next.kind === 'transmit');
  assert.deepEqual(whole.next.agreement.leftover, hex('25609513 0000'));
  assert.deepEqual(whole.next.agreement.contexts, [{ id: 1, known: null }]);
});

test('unknown client flags end the connection', () => {
  new Talk(hex('00000004')).assertClosed(/unknown client flags 0x4/);
  new Talk(hex('80000003')).assertClosed(/unknown client flags 0x80000003/);
});

test('a wrong option magic ends the connection', () => {
  new Talk().say(Buffer.alloc(16)).assertClosed(/wrong magic/);
});

test('unknown options, with and without data, get UNSUP and stay in step', () => {
  const talk = new Talk();
  for (const option of [0, 4, 12, 99, 0xffffffff]) {
    for (const data of [
      Buffer.alloc(0),
      Buffer.alloc(1),
      Buffer.alloc(16 * 1024),
      Buffer.alloc(16 * 1024 + 1),
      Buffer.alloc(1024 * 1024),
    ]) {
      const [reply] = talk.say(optionBytes(option, data)).replies();
      assert.equal(reply.option, option);
      assert.equal(reply.type, UNSUP);
    }
  }
  talk.assertInStep();
});

test('STARTTLS where TLS is off gets POLICY and stays in step', () => {
  const talk = new Talk();
  assert.deepEqual(talk.say(optionBytes(5)).types(), [POLICY]);
  assert.deepEqual(talk.say(optionBytes(5, Buffer.from('data'))).types(), [INVALID]);
  talk.assertInStep();
});

test('ABORT is acknowledged, then the connection is closed, whatever data it claims', () => {
  for (const abort of [optionBytes(2), optionBytes(2, Buffer.alloc(5)), optionBytes(2, Buffer.alloc(0), 0xffffffff)]) {
    const talk = new Talk().say(abort);
    assert.deepEqual(talk.types(), [ACK]);
    talk.assertClosed(/gave up/);
  }
});

test('LIST names every export, twice as well as once', () => {
  const talk = new Talk();
  for (let round = 0; round < 2; round++) {
    const replies = talk.say(optionBytes(3)).replies();
    assert.deepEqual(
      replies.map(({ type }) => type),
      [SERVER, SERVER, SERVER, ACK],
    );
    assert.deepEqual(
      replies.slice(0, 3).map(({ data }) => data),
      [hex('00000000'), Buffer.concat([uint32(4), Buffer.from('disk')]), Buffer.concat([uint32(3), Buffer.from('rot')])],
    );
  }
});

test('LIST with data is INVALID and stays in step', () => {
  const talk = new Talk();
  assert.deepEqual(talk.say(optionBytes(3, hex('00'))).types(), [INVALID]);
  talk.assertInStep();
});

test('an option that claims 4 GiB is neither kept nor waited for', () => {
  for (const option of [3, 6, 7, 8, 9, 10, 99]) {
    const talk = new Talk().say(optionBytes(option, Buffer.alloc(0), 0xffffffff));
    assert.deepEqual(talk.types(), [TOO_BIG]);
    talk.assertClosed(/4294967295 bytes/);
  }
});

test('an option over 16 KiB is drained, answered TOO_BIG, and stays in step', () => {
  const talk = new Talk();
  for (const option of [3, 6, 7, 8, 9, 10]) {
    assert.deepEqual(talk.say(optionBytes(option, Buffer.alloc(100_000))).types(), [TOO_BIG], `option ${option}`);
  }
  talk.assertInStep();
});

test('more than 256 options end the connection', () => {
  const talk = new Talk();
  for (let i = 0; i < 256; i++) talk.say(optionBytes(8));
  assert.equal(talk.next.kind, 'read');
  talk.say(optionBytes(8)).assertClosed(/more than 256 options/);
});

test('truncated and overlong INFO and GO are INVALID and stay in step', () => {
  const good = infoData('disk', 3);
  const bad: Buffer[] = [
    Buffer.concat([good, hex('00')]),
    Buffer.concat([uint32(5), Buffer.from('disk')]),
    Buffer.concat([uint32(0xffffffff), good]),
  ];
  for (let length = 0; length < good.length; length++) bad.push(good.subarray(0, length));
  const talk = new Talk();
  for (const data of bad) {
    for (const option of [6, 7]) assert.deepEqual(talk.say(optionBytes(option, data)).types(), [INVALID], data.toString('hex'));
  }
  talk.assertInStep();
});

test('names: no NUL, valid UTF-8, at most 4096 bytes', () => {
  const talk = new Talk();
  for (const option of [6, 7]) {
    assert.deepEqual(talk.say(optionBytes(option, infoData('di\0k'))).types(), [INVALID]);
    assert.deepEqual(talk.say(optionBytes(option, infoData(hex('ff')))).types(), [INVALID]);
    assert.deepEqual(talk.say(optionBytes(option, infoData('x'.repeat(4097)))).types(), [TOO_BIG]);
    assert.deepEqual(talk.say(optionBytes(option, infoData('x'.repeat(4096)))).types(), [UNKNOWN]);
  }
  talk.assertInStep();
  new Talk().say(optionBytes(1, Buffer.from('di\0k'))).assertClosed(/NUL/);
  new Talk().say(optionBytes(1, hex('ff'))).assertClosed(/UTF-8/);
  new Talk().say(optionBytes(1, Buffer.alloc(4097, 'x'))).assertClosed(/4096 bytes/);
  new Talk().say(optionBytes(1, Buffer.alloc(0), 0xffffffff)).assertClosed(/4294967295 bytes/);
});

test('an unknown export is UNKNOWN for INFO and GO, and closes EXPORT_NAME without a byte', () => {
  const talk = new Talk();
  const [reply] = talk.say(optionBytes(6, infoData('nope'))).replies();
  assert.equal(reply.type, UNKNOWN);
  assert.match(reply.data.toString(), /"nope"/);
  assert.deepEqual(talk.say(optionBytes(7, infoData('nope'))).types(), [UNKNOWN]);
  talk.assertInStep();
  const closed = new Talk().say(optionBytes(1, Buffer.from('nope')));
  assert.equal(closed.sent.length, 0);
  closed.assertClosed(/not known/);
});

test('EXPORT_NAME answers 134 bytes, or 10 when the client declines zeroes', () => {
  const head = Buffer.concat([uint64(1 << 20), uint16(0xd6d)]);
  assert.deepEqual(new Talk(hex('00000003')).say(optionBytes(1, Buffer.from('disk'))).sent, head);
  const long = new Talk(hex('00000001')).say(optionBytes(1, Buffer.from('disk')));
  assert.deepEqual(long.sent, Buffer.concat([head, Buffer.alloc(124)]));
  assert.equal(long.next.kind, 'transmit');
});

test('a client without fixed newstyle gets EXPORT_NAME and nothing else', () => {
  assert.equal(new Talk(hex('00000000')).say(optionBytes(1, Buffer.from('disk'))).next.kind, 'transmit');
  for (const option of [2, 3, 6, 7, 8, 99]) {
    const talk = new Talk(hex('00000000')).say(optionBytes(option));
    assert.equal(talk.sent.length, 0);
    talk.assertClosed(/fixed newstyle/);
  }
});

test('INFO sends what is asked and known, EXPORT always, and does not begin the transmission', () => {
  const talk = new Talk();
  const kinds = (name: string, ...asked: number[]): number[] =>
    talk
      .say(optionBytes(6, infoData(name, ...asked)))
      .replies()
      .slice(0, -1)
      .map(({ data }) => data.readUInt16BE(0));
  assert.deepEqual(kinds('disk'), [0]);
  assert.deepEqual(kinds('disk', 0), [0]);
  assert.deepEqual(kinds('disk', 1, 2, 3), [0, 1, 2, 3]);
  assert.deepEqual(kinds('disk', 3, 3, 77, 0xffff), [0, 3]);
  assert.deepEqual(kinds('rot'), [0, 3], 'a minimum block of 512 is enforced, so it is told');
  assert.deepEqual(kinds('', 2), [0, 3], 'no description; a payload bound below 32 MiB is told');
  assert.equal(talk.next.kind, 'read');
});

test('a read-only export offers nothing that changes it', () => {
  const [info] = new Talk().say(optionBytes(6, infoData('rot'))).replies();
  assert.equal(info.data.readUInt16BE(10), 0b1_1111 /* HAS_FLAGS READ_ONLY FLUSH FUA ROTATIONAL */);
});

test('DF is offered only with structured replies', () => {
  const talk = new Talk();
  const offered = (): boolean => {
    const [info] = talk.say(optionBytes(6, infoData('disk'))).replies();
    return (info.data.readUInt16BE(10) & 0x80) !== 0;
  };
  assert.equal(offered(), false);
  assert.deepEqual(talk.say(optionBytes(8)).types(), [ACK]);
  assert.equal(offered(), true);
});

test('STRUCTURED_REPLY with data is INVALID and changes nothing', () => {
  const talk = new Talk();
  assert.deepEqual(talk.say(optionBytes(8, hex('00'))).types(), [INVALID]);
  talk.say(optionBytes(7, infoData('disk')));
  assert(talk.next.kind === 'transmit');
  assert.equal(talk.next.agreement.headers, 'simple');
});

test('extended headers include structured replies, and there is no way back', () => {
  const talk = new Talk();
  const offered = (): number =>
    talk
      .say(optionBytes(6, infoData('disk')))
      .replies()[0]
      .data.readUInt16BE(10);
  const plain = offered();
  assert.deepEqual(talk.say(optionBytes(11)).types(), [ACK]);
  assert.deepEqual(talk.say(optionBytes(8)).types(), [EXT_HEADER_REQD]);
  assert.equal(offered(), plain | 0x80 /* DF */);
  assert.deepEqual(talk.say(optionBytes(10, contextData('disk', 'base:allocation'))).types(), [CONTEXT, ACK]);
  assert.equal(offered(), plain | 0x80 /* DF */ | 0x1000 /* BLOCK_STATUS_PAYLOAD */, 'for who has a context to name');
  talk.say(optionBytes(7, infoData('disk')));
  assert(talk.next.kind === 'transmit');
  assert.deepEqual([talk.next.agreement.headers, talk.next.agreement.contexts.length], ['extended', 1]);
});

test('extended headers may follow structured replies; with data they are INVALID and change nothing', () => {
  const talk = new Talk();
  assert.deepEqual(talk.say(optionBytes(8)).types(), [ACK]);
  assert.deepEqual(talk.say(optionBytes(11, hex('00'))).types(), [INVALID]);
  assert.deepEqual(talk.say(optionBytes(8)).types(), [ACK]);
  assert.deepEqual(talk.say(optionBytes(11)).types(), [ACK]);
  talk.say(optionBytes(7, infoData('disk')));
  assert(talk.next.kind === 'transmit');
  assert.equal(talk.next.agreement.headers, 'extended');
});

test('EXPORT_NAME after extended headers closes the connection', () => {
  const talk = new Talk().say(optionBytes(11));
  talk.say(optionBytes(1, Buffer.from('disk')));
  assert(talk.next.kind === 'close');
  assert.match(talk.next.reason, /has to use GO/);
});

test('metadata contexts before structured replies are INVALID', () => {
  const talk = new Talk();
  assert.deepEqual(talk.say(optionBytes(10, contextData('disk', 'base:allocation'))).types(), [INVALID]);
  assert.deepEqual(talk.say(optionBytes(9, contextData('disk'))).types(), [INVALID]);
  talk.say(optionBytes(8));
  talk.replies();
  talk.say(optionBytes(7, infoData('disk')));
  assert(talk.next.kind === 'transmit');
  assert.deepEqual(talk.next.agreement.contexts, []);
});

test('LIST_META answers id 0 for all, for the name and for the wildcard', () => {
  const talk = new Talk().say(optionBytes(8));
  talk.replies();
  const listed = Buffer.concat([uint32(0), Buffer.from('base:allocation')]);
  for (const queries of [[], ['base:allocation'], ['base:'], ['qemu:x', 'base:', 'base:allocation']]) {
    const replies = talk.say(optionBytes(9, contextData('disk', ...queries))).replies();
    assert.deepEqual(
      replies.map(({ type, data }) => [type, data]),
      [
        [CONTEXT, listed],
        [ACK, Buffer.alloc(0)],
      ],
    );
  }
  assert.deepEqual(talk.say(optionBytes(9, contextData('disk', 'qemu:', 'base:alloc', ''))).types(), [ACK]);
  assert.deepEqual(talk.say(optionBytes(9, contextData('nope'))).types(), [UNKNOWN]);
});

test('contexts of other namespaces are listed by theirs, and selected by name; the answer has the ids of the replies', () => {
  const talk = new Talk(FLAGS, known).say(optionBytes(8));
  talk.replies();
  const names = (option: number, ...queries: string[]): [number, string][] =>
    talk
      .say(optionBytes(option, contextData('known', ...queries)))
      .replies()
      .filter(({ type }) => type === CONTEXT)
      .map(({ data }) => [data.readUInt32BE(0), data.toString('utf8', 4)]);
  assert.deepEqual(names(9), [
    [0, 'base:allocation'],
    [0, 'x-test:odd'],
    [0, 'x-test:even'],
  ]);
  assert.deepEqual(names(9, 'x-test:'), [
    [0, 'x-test:odd'],
    [0, 'x-test:even'],
  ]);
  assert.deepEqual(names(9, 'x-test:even', 'x-test:no'), [[0, 'x-test:even']]);
  assert.deepEqual(names(10, 'x-test:'), []);
  assert.deepEqual(names(10, 'x-test:even', 'base:allocation'), [
    [1, 'base:allocation'],
    [3, 'x-test:even'],
  ]);
  talk.say(optionBytes(7, infoData('known')));
  assert(talk.next.kind === 'transmit');
  assert.deepEqual(
    talk.next.agreement.contexts.map((each) => [each.id, each.known?.name ?? 'base:allocation']),
    [
      [1, 'base:allocation'],
      [3, 'x-test:even'],
    ],
  );
});

test('SET_META selects by the exact name, once, and ignores the wildcard', () => {
  const talk = new Talk().say(optionBytes(8));
  talk.replies();
  assert.deepEqual(talk.say(optionBytes(10, contextData('disk', 'base:allocation', 'x:y', 'base:allocation'))).types(), [CONTEXT, ACK]);
  assert.deepEqual(talk.say(optionBytes(10, contextData('disk', 'base:'))).types(), [ACK]);
  assert.deepEqual(talk.say(optionBytes(10, contextData('disk'))).types(), [ACK]);
});

test('SET_META replaces what was selected, also when it fails', () => {
  const selected = (...then: Buffer[]): boolean => {
    const talk = new Talk().say(optionBytes(8)).say(optionBytes(10, contextData('disk', 'base:allocation')));
    for (const option of then) talk.say(option);
    talk.say(optionBytes(7, infoData('disk')));
    assert(talk.next.kind === 'transmit');
    return talk.next.agreement.contexts.length > 0;
  };
  assert.equal(selected(), true);
  assert.equal(selected(optionBytes(6, infoData('rot'))), true, 'INFO selects nothing');
  assert.equal(selected(optionBytes(9, contextData('disk'))), true, 'LIST_META selects nothing');
  assert.equal(selected(optionBytes(10, contextData('disk'))), false);
  assert.equal(selected(optionBytes(10, contextData('disk', 'base:'))), false);
  assert.equal(selected(optionBytes(10, contextData('nope', 'base:allocation'))), false);
  assert.equal(selected(optionBytes(10, hex('00'))), false);
  assert.equal(selected(optionBytes(10, Buffer.alloc(20_000))), false);
  assert.equal(selected(optionBytes(10, contextData('rot', 'base:allocation'))), false, 'selected for another export');
});

test('a context dies when GO or EXPORT_NAME names another export', () => {
  for (const last of [optionBytes(7, infoData('rot')), optionBytes(1, Buffer.from('rot'))]) {
    const talk = new Talk().say(optionBytes(8)).say(optionBytes(10, contextData('disk', 'base:allocation')));
    talk.say(last);
    assert(talk.next.kind === 'transmit');
    assert.deepEqual(talk.next.agreement.contexts, []);
  }
  const talk = new Talk().say(optionBytes(8)).say(optionBytes(10, contextData('disk', 'base:allocation')));
  talk.say(optionBytes(1, Buffer.from('disk')));
  assert(talk.next.kind === 'transmit');
  assert.deepEqual(talk.next.agreement.contexts, [{ id: 1, known: null }]);
});

test('metadata queries that overrun, fall short or leave bytes over are INVALID and stay in step', () => {
  const good = contextData('disk', 'base:allocation', 'x:y');
  const bad: Buffer[] = [Buffer.concat([good, hex('00')])];
  for (let length = 0; length < good.length; length++) bad.push(good.subarray(0, length));
  bad.push(Buffer.concat([uint32(4), Buffer.from('disk'), uint32(0xffffffff)]));
  bad.push(Buffer.concat([uint32(4), Buffer.from('disk'), uint32(1), uint32(0xffffffff), Buffer.from('base:')]));
  const talk = new Talk().say(optionBytes(8));
  for (const data of bad) {
    talk.replies();
    for (const option of [9, 10]) assert.deepEqual(talk.say(optionBytes(option, data)).types(), [INVALID], data.toString('hex'));
  }
  talk.assertInStep();
});

test('an export that cannot be used now is refused with its reason, and GO may be tried again', () => {
  const handshake = new ServerHandshake(table);
  handshake.receive(FLAGS);
  assert.deepEqual(handshake.receive(optionBytes(7, infoData('disk'))).next, { kind: 'attach', name: 'disk' });
  const step = handshake.attachRefused('older requests did not end');
  const [reply] = parseOptionReplies(Buffer.concat(step.send));
  assert.equal(reply.type, POLICY);
  assert.equal(reply.data.toString(), 'older requests did not end');
  assert.equal(handshake.receive(optionBytes(7, infoData('disk'))).next.kind, 'attach');
  assert.equal(handshake.attached(table.find('disk')).next.kind, 'transmit');
});

test('EXPORT_NAME of an export that cannot be used now closes the connection', () => {
  const handshake = new ServerHandshake(table);
  handshake.receive(FLAGS);
  handshake.receive(optionBytes(1, Buffer.from('disk')));
  const step = handshake.attachRefused('busy');
  assert.deepEqual(step, { send: [], next: { kind: 'close', reason: 'export refused: busy' } });
});

test('what arrives while an export is attached waits its turn', () => {
  const handshake = new ServerHandshake(table);
  handshake.receive(FLAGS);
  handshake.receive(Buffer.concat([optionBytes(7, infoData('nope')), optionBytes(3)]));
  assert.deepEqual(handshake.receive(optionBytes(7, infoData('disk'))), { send: [], next: { kind: 'read' } });
  const step = handshake.attached(undefined);
  assert.deepEqual(
    parseOptionReplies(Buffer.concat(step.send)).map(({ option, type }) => [option, type]),
    [
      [7, UNKNOWN],
      [3, SERVER],
      [3, SERVER],
      [3, SERVER],
      [3, ACK],
    ],
  );
  assert.deepEqual(step.next, { kind: 'attach', name: 'disk' });
});

test('never throws, answers every option once, and keeps nothing, whatever a client sends', () => {
  const random = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
  const data = fc.oneof(
    random,
    fc.constantFrom(infoData('disk', 3), infoData('nope'), contextData('disk', 'base:allocation'), Buffer.alloc(0)),
  );
  const option = fc.integer({ min: 0, max: 12 }).filter((number) => number !== 1 && number !== 2 && number !== 7);
  fc.assert(
    fc.property(fc.array(fc.tuple(option, data), { maxLength: 20 }), (options) => {
      const talk = new Talk();
      for (const [number, bytes] of options) {
        const replies = talk.say(optionBytes(number, bytes)).replies();
        assert.equal(replies.filter(({ type }) => type === ACK || type >= 0x80000000).length, 1);
        assert(replies.every((reply) => reply.option === number));
      }
      talk.assertInStep();
    }),
    { numRuns: 1000 },
  );
  fc.assert(
    fc.property(fc.array(random, { maxLength: 10 }), (chunks) => {
      const talk = new Talk(null);
      for (const chunk of chunks) if (talk.next.kind === 'read') talk.say(chunk);
    }),
    { numRuns: 1000 },
  );
});

test.run();
