// STARTTLS in both handshakes: what is refused before it, what is forgotten by it, and that nothing said in plain is ever
// taken for something said in TLS.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ClientHandshake } from '../../gateway/nbd/client-handshake.js';
import { ServerHandshake, type ServerStep, type TlsMode } from '../../gateway/nbd/server-handshake.js';
import { MemoryDevice } from '../support/memory-device.js';
import { MemoryExports, memoryExport } from '../support/memory-exports.js';
import { contextData, hex, infoData, optionBytes, optionReplyBytes, parseOptionReplies, uint16, uint64 } from '../support/nbd-bytes.js';

const test = suite('nbd starttls');

const [ACK, INFO] = [1, 3];
const [UNSUP, POLICY, INVALID, TLS_REQD, TOO_BIG] = [0x80000001, 0x80000002, 0x80000003, 0x80000005, 0x80000009];
const FLAGS = hex('00000003');
const STARTTLS = optionBytes(5);
const INFO_DISK = optionBytes(6, infoData('disk'));
const GO_DISK = optionBytes(7, infoData('disk'));

const table = new MemoryExports(memoryExport('disk', new MemoryDevice(1 << 20)));

/** A server's handshake past the flags. */
class Talk {
  readonly handshake: ServerHandshake;
  next: ServerStep['next'] = { kind: 'read' };

  constructor(mode: TlsMode, flags = FLAGS) {
    this.handshake = new ServerHandshake({ names: () => table.names(), find: (name) => table.find(name) }, mode);
    this.#took(this.handshake.receive(flags));
  }

  /** Types of the answers. */
  say(...bytes: Buffer[]): number[] {
    return this.#took(this.handshake.receive(Buffer.concat(bytes)));
  }

  secured(refusal: string | null = null): this {
    assert.deepEqual(this.say(STARTTLS), [ACK]);
    assert.equal(this.next.kind, 'starttls');
    assert.deepEqual(this.#took(this.handshake.secured(refusal)), []);
    return this;
  }

  #took({ send, next }: ServerStep): number[] {
    this.next = next;
    return parseOptionReplies(Buffer.concat(send)).map(({ type }) => type);
  }
}

test('required: every option but STARTTLS and ABORT gets TLS_REQD, known or not, right or wrong, long or short', () => {
  const talk = new Talk('required');
  for (const option of [3, 6, 7, 8, 9, 10, 11, 99]) {
    assert.deepEqual(talk.say(optionBytes(option)), [TLS_REQD], `option ${option}`);
    assert.deepEqual(talk.say(optionBytes(option, Buffer.alloc(20_000))), [TLS_REQD], `option ${option} with much data`);
  }
  assert.deepEqual(talk.say(INFO_DISK, GO_DISK), [TLS_REQD, TLS_REQD]);
  assert.equal(talk.next.kind, 'read');
  assert.deepEqual(talk.say(optionBytes(2)), [ACK]);
  assert.equal(talk.next.kind, 'close');
});

test('required: EXPORT_NAME ends the connection, from an old client too', () => {
  for (const flags of [FLAGS, hex('00000000')]) {
    const talk = new Talk('required', flags);
    assert.deepEqual(talk.say(optionBytes(1, Buffer.from('disk'))), []);
    assert(talk.next.kind === 'close');
    assert.match(talk.next.reason, /wants TLS first/);
  }
});

test('over TLS nothing gets TLS_REQD, and what is there can be used', () => {
  for (const mode of ['required', 'optional'] as const) {
    const talk = new Talk(mode).secured();
    assert.deepEqual(talk.say(INFO_DISK), [INFO, ACK]);
    assert.deepEqual(talk.say(optionBytes(99)), [UNSUP]);
    assert.deepEqual(talk.say(optionBytes(3, Buffer.alloc(20_000))), [TOO_BIG]);
    talk.say(GO_DISK);
    assert.deepEqual(talk.next, { kind: 'attach', name: 'disk' });
  }
});

test('optional: without STARTTLS all goes on as ever', () => {
  assert.deepEqual(new Talk('optional').say(INFO_DISK), [INFO, ACK]);
});

test('STARTTLS with data, or a second time, is INVALID and changes nothing', () => {
  const talk = new Talk('required');
  assert.deepEqual(talk.say(optionBytes(5, Buffer.alloc(1))), [INVALID]);
  assert.deepEqual(talk.say(optionBytes(5, Buffer.alloc(20_000))), [TOO_BIG]);
  assert.deepEqual(talk.say(INFO_DISK), [TLS_REQD]);
  talk.secured();
  assert.deepEqual(talk.say(STARTTLS), [INVALID]);
  assert.deepEqual(talk.say(INFO_DISK), [INFO, ACK]);
});

test('off: STARTTLS gets POLICY', () => {
  const talk = new Talk('off');
  assert.deepEqual(talk.say(STARTTLS, INFO_DISK), [POLICY, INFO, ACK]);
});

test('what was agreed on in plain is gone', () => {
  const context = optionBytes(10, contextData('disk', 'base:allocation'));
  const talk = new Talk('optional');
  assert.deepEqual(talk.say(optionBytes(11), context), [ACK, 4, ACK]);
  talk.secured();
  // Simple headers again: contexts need more.
  assert.deepEqual(talk.say(context), [INVALID]);
  assert.deepEqual(talk.say(optionBytes(8)), [ACK]);
  talk.say(GO_DISK);
  const step = talk.handshake.attached(table.find('disk'));
  assert(step.next.kind === 'transmit');
  assert.equal(step.next.agreement.headers, 'structured');
  assert.deepEqual(step.next.agreement.contexts, []);
});

test('plaintext behind STARTTLS ends the connection without an answer, be it one byte or a request (CVE-2021-3716)', () => {
  for (const behind of [Buffer.alloc(1), GO_DISK, INFO_DISK, STARTTLS]) {
    const talk = new Talk('optional');
    assert.deepEqual(talk.say(STARTTLS, behind), []);
    assert(talk.next.kind === 'close');
    assert.match(talk.next.reason, /bytes in plain behind STARTTLS/);
  }
  const talk = new Talk('optional');
  assert.deepEqual(talk.say(STARTTLS), [ACK]);
  assert.throws(() => talk.say(GO_DISK), /between STARTTLS and TLS/);
});

test('a client that is not who it has to be is told so, whatever it asks, and sees no export', () => {
  const talk = new Talk('optional').secured('who are you');
  for (const bytes of [
    INFO_DISK,
    GO_DISK,
    optionBytes(3),
    optionBytes(8),
    STARTTLS,
    optionBytes(99),
    optionBytes(99, Buffer.alloc(20_000)),
  ])
    assert.deepEqual(talk.say(bytes), [POLICY]);
  assert.deepEqual(talk.say(optionBytes(1, Buffer.from('disk'))), []);
  assert(talk.next.kind === 'close');
  assert.match(talk.next.reason, /who are you/);
  const other = new Talk('optional').secured('who are you');
  assert.deepEqual(other.say(optionBytes(2)), [ACK]);
});

test('STARTTLS counts among the options a client has', () => {
  const talk = new Talk('off');
  for (let i = 0; i < 256; i++) talk.say(STARTTLS);
  assert.equal(talk.next.kind, 'read');
  talk.say(STARTTLS);
  assert.equal(talk.next.kind, 'close');
});

const GREETING = hex('4e42444d41474943 49484156454f5054 0003');

function client(): ClientHandshake {
  return new ClientHandshake({ exportName: 'disk', structured: false, tls: true });
}

test('our side asks for TLS before anything else and goes on in it', () => {
  const handshake = client();
  assert.deepEqual(Buffer.concat(handshake.receive(GREETING).send), Buffer.concat([FLAGS, STARTTLS]));
  assert.deepEqual(handshake.receive(optionReplyBytes(5, ACK)), { send: [], outcome: null, starttls: true });
  assert.throws(() => handshake.receive(Buffer.alloc(1)), /between STARTTLS and TLS/);
  assert.deepEqual(handshake.secured(), { send: [optionBytes(7, infoData('disk', 3))], outcome: null });
  const described = Buffer.concat([uint16(0), uint64(4096), uint16(1)]);
  const { outcome } = handshake.receive(Buffer.concat([optionReplyBytes(7, 3, described), optionReplyBytes(7, ACK)]));
  assert(outcome?.ok);
});

test('our side never goes on in plain: a server without TLS is left', () => {
  for (const type of [UNSUP, POLICY, INVALID, TLS_REQD]) {
    const handshake = client();
    handshake.receive(GREETING);
    const { send, outcome } = handshake.receive(optionReplyBytes(5, type, Buffer.from('no')));
    assert(outcome !== null && !outcome.ok);
    assert.equal(outcome.code, 'tls-refused');
    assert.match(outcome.message, /does not speak TLS.*\(the server says: no\)/);
    assert.deepEqual(send, [optionBytes(2)], 'nothing but ABORT');
  }
  const { send, outcome } = client().receive(hex('4e42444d41474943 49484156454f5054 0000'));
  assert(outcome !== null && !outcome.ok);
  assert.equal(outcome.code, 'tls-refused');
  assert.deepEqual(Buffer.concat(send), hex('00000000'), 'no name is said');
});

test('our side takes nothing that came in plain behind the answer, nor an answer of another kind', () => {
  for (const [bytes, code] of [
    [Buffer.concat([optionReplyBytes(5, ACK), Buffer.alloc(1)]), 'protocol-error'],
    [Buffer.concat([optionReplyBytes(5, ACK), optionReplyBytes(7, ACK)]), 'protocol-error'],
    [optionReplyBytes(5, INFO), 'protocol-error'],
    [optionReplyBytes(5, ACK, Buffer.alloc(1)), 'protocol-error'],
    [optionReplyBytes(7, ACK), 'protocol-error'],
  ] as const) {
    const handshake = client();
    handshake.receive(GREETING);
    const step = handshake.receive(bytes);
    assert(step.outcome !== null && !step.outcome.ok);
    assert.equal(step.outcome.code, code);
    assert.equal(step.starttls, undefined);
  }
});

test.run();
