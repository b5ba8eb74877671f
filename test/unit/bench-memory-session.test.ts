// The benchmark's own node and the load generator's handshake, back to back without sockets and cut at every byte.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { decodeSimpleReply, encodeRequest, SimpleReplyHeader } from '../../gateway/nbd/codec.js';
import { COMMAND } from '../../gateway/nbd/constants.js';
import { Attach } from '../../native-free-bench/attach.js';
import { MemorySession } from '../../native-free-bench/memory-session.js';

const test = suite('bench memory session');
const SIZE_BYTES = 1024 * 1024;

/** A session whose answers are collected; `take` gives them and forgets them. */
function serve(memory = Buffer.alloc(SIZE_BYTES)) {
  let answers: Buffer[] = [];
  const session = new MemorySession(memory, (bytes) => answers.push(bytes));
  const take = () => {
    const all = Buffer.concat(answers);
    answers = [];
    return all;
  };
  return { session, take, memory };
}

function attached() {
  const served = serve();
  const attach = new Attach('');
  const asked = attach.receive(served.take());
  served.session.receive(asked.send!);
  assert.equal(attach.receive(served.take()).sizeBytes, SIZE_BYTES);
  return served;
}

function request(command: number, offset: number, length: number, payload = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(28);
  encodeRequest(header, 0, 0, command, 7, 9, offset, length);
  return Buffer.concat([header, payload]);
}

function errorOf(answer: Buffer): number {
  const header = new SimpleReplyHeader();
  assert.equal(decodeSimpleReply(answer, 0, header), true);
  assert.deepEqual([header.cookieHigh, header.cookieLow], [7, 9]);
  return header.error;
}

test('a client attaches when both sides get their bytes one by one', () => {
  const { session, take } = serve();
  const attach = new Attach('');
  let size: number | null = null;
  for (let turn = 0; size === null && turn < 4; turn++) {
    for (const byte of take()) {
      const step = attach.receive(Buffer.of(byte));
      assert.equal(step.flaw, null);
      if (step.send !== null) for (const sent of step.send) session.receive(Buffer.of(sent));
      size ??= step.sizeBytes;
    }
  }
  assert.equal(size, SIZE_BYTES);
});

test('what is no NBD server, refuses the export or ends oddly is told apart', () => {
  const hello = serve().take();
  const refusal = Buffer.concat([
    Buffer.from('0003e889045565a900000007', 'hex'),
    Buffer.from('8000000600000004', 'hex'),
    Buffer.from('nope'),
  ]);
  const lone = Buffer.from('0003e889045565a9000000070000000100000000', 'hex');
  const told = (...answers: Buffer[]) => {
    const attach = new Attach('x');
    return answers.map((answer) => attach.receive(answer)).at(-1)!.flaw;
  };
  assert.match(told(Buffer.from('HTTP/1.1 400 Bad Request\r\n'))!, /no NBD server/);
  assert.match(told(hello, refusal)!, /export "x" was refused.*nope/);
  assert.match(told(hello, lone)!, /ended oddly/);
});

test('what is written is read back, whatever pieces the write came in', () => {
  const payload = Buffer.from(Array.from({ length: 3000 }, (_, i) => i * 7));
  for (const cut of [1, 27, 28, 29, 1000, 3027]) {
    const { session, take } = attached();
    const write = request(COMMAND.WRITE, 5000, payload.length, payload);
    session.receive(write.subarray(0, cut));
    session.receive(write.subarray(cut));
    assert.equal(errorOf(take()), 0);
    session.receive(request(COMMAND.READ, 5000, payload.length));
    const answer = take();
    assert.equal(errorOf(answer), 0);
    assert.deepEqual(answer.subarray(16), payload);
  }
});

test('a reply larger than the gather buffer is whole, and a later write does not change what is to be sent', () => {
  const { session, take, memory } = attached();
  memory.fill(0x55);
  const length = 512 * 1024;
  session.receive(
    Buffer.concat([
      request(COMMAND.READ, 0, 4096),
      request(COMMAND.READ, 0, length),
      request(COMMAND.WRITE, 0, 4096, Buffer.alloc(4096, 0x66)),
    ]),
  );
  const answers = take();
  assert.equal(answers.length, 16 + 4096 + 16 + length + 16);
  assert.equal(answers.subarray(16, 16 + 4096).equals(Buffer.alloc(4096, 0x55)), true);
  assert.equal(answers.subarray(16 + 4096 + 16, -16).equals(Buffer.alloc(length, 0x55)), true);
  assert.equal(memory[0], 0x66);
});

test('TRIM and WRITE_ZEROES leave zeroes, FLUSH succeeds, the unknown and the out of range are refused', () => {
  const { session, take, memory } = attached();
  memory.fill(0x55);
  const answer = (command: number, offset: number, length: number) => {
    session.receive(request(command, offset, length));
    return errorOf(take());
  };
  assert.equal(answer(COMMAND.TRIM, 0, 512), 0);
  assert.equal(answer(COMMAND.WRITE_ZEROES, 512, 512), 0);
  assert.equal(memory.subarray(0, 1025).lastIndexOf(0), 1023);
  assert.equal(answer(COMMAND.FLUSH, 0, 0), 0);
  assert.equal(answer(COMMAND.CACHE, 0, 512), 95);
  assert.equal(answer(COMMAND.READ, SIZE_BYTES - 1, 2), 22);
  assert.equal(answer(COMMAND.TRIM, SIZE_BYTES, 1), 28);
  assert.equal(session.ended, false);
});

test('DISC, a wrong magic and a write that cannot be taken end the session', () => {
  const endings = [request(COMMAND.DISC, 0, 0), Buffer.alloc(28, 1), request(COMMAND.WRITE, SIZE_BYTES, 512)];
  for (const bytes of endings) {
    const { session } = attached();
    session.receive(bytes);
    assert.equal(session.ended, true);
  }
});

test.run();
