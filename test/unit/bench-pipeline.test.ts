// The load generator's requests and replies, without sockets: what it sends byte for byte, and that it understands
// replies in any order and cut anywhere, counts errors, and refuses what it never asked for.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { decodeRequest, encodeSimpleReply, RequestHeader } from '../../gateway/nbd/codec.js';
import { BLOCK_BYTES, Contents } from '../../native-free-bench/contents.js';
import { Meter } from '../../native-free-bench/meter.js';
import { Pipeline } from '../../native-free-bench/pipeline.js';
import type { Workload } from '../../native-free-bench/workload.js';

const test = suite('bench pipeline');
const REQUEST_BYTES = 28;
const REPLY_BYTES = 16;
const SIZE_BYTES = 64 * BLOCK_BYTES;

function workload(change: Partial<Workload>): Workload {
  return { id: 'w', title: 'w', kind: 'read', order: 'sequential', blockBytes: BLOCK_BYTES, connections: 1, depth: 4, ...change };
}

/** A pipeline with the batches it sent and everything a test wants to look at. */
function start(change: Partial<Workload>, { contents = new Contents(SIZE_BYTES), requestsMax = Number.POSITIVE_INFINITY, seed = 1 } = {}) {
  const sent: Buffer[] = [];
  const buffers: ArrayBufferLike[] = [];
  const releases: (() => void)[] = [];
  const meter = new Meter();
  const pipeline = new Pipeline({ workload: workload(change), contents, meter, seed, requestsMax, thorough: true }, (bytes, done) => {
    sent.push(Buffer.from(bytes));
    buffers.push(bytes.buffer);
    releases.push(done);
  });
  return { pipeline, sent, buffers, releases, meter, contents };
}

function requests(batch: Buffer, payloadBytes: number): RequestHeader[] {
  const found: RequestHeader[] = [];
  for (let at = 0; at < batch.length; at += REQUEST_BYTES + payloadBytes) {
    const header = new RequestHeader();
    assert.equal(decodeRequest(batch, at, header), true);
    found.push(header);
  }
  return found;
}

function reply(request: RequestHeader, error: number, payload = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(REPLY_BYTES);
  encodeSimpleReply(header, 0, error, request.cookieHigh, request.cookieLow);
  return Buffer.concat([header, payload]);
}

/** What a correct node answers to a batch of 4 KiB writes and keeps of them. */
function store(node: Buffer, batch: Buffer): Buffer {
  const answers = requests(batch, BLOCK_BYTES).map((request, i) => {
    const payload = i * (REQUEST_BYTES + BLOCK_BYTES) + REQUEST_BYTES;
    batch.copy(node, request.offset, payload, payload + BLOCK_BYTES);
    return reply(request, 0);
  });
  return Buffer.concat(answers);
}

test('a read request is these bytes', () => {
  const { pipeline, sent } = start({ depth: 1 });
  pipeline.issue(0);
  assert.equal(sent[0].toString('hex'), '25609513' + '0000' + '0000' + '00000001' + '00000000' + '0000000000000000' + '00001000');
});

test('as many requests are in flight as the depth says, and each reply frees one', () => {
  const { pipeline, sent, meter } = start({});
  pipeline.issue(0);
  assert.equal(pipeline.outstanding, 4);
  const [first, second] = requests(sent[0], 0);
  const answer = reply(second, 0, Buffer.alloc(BLOCK_BYTES));
  assert.equal(pipeline.receive(answer, answer.length, 10), null);
  assert.equal(pipeline.outstanding, 3);
  pipeline.issue(10);
  assert.equal(requests(sent[1], 0).length, 1);
  assert.equal(pipeline.outstanding, 4);
  assert.notEqual(requests(sent[1], 0)[0].cookieHigh, first.cookieHigh);
  assert.equal(meter.read().operations, 1);
});

test('replies are understood when they are cut at any byte, and reads are compared with what was written', () => {
  const contents = new Contents(SIZE_BYTES);
  const node = Buffer.alloc(SIZE_BYTES);
  const writer = start({ kind: 'write' }, { contents, requestsMax: 4 });
  writer.pipeline.issue(0);
  const written = store(node, writer.sent[0]);
  assert.equal(writer.pipeline.receive(written, written.length, 1), null);
  const reader = start({}, { contents, requestsMax: 4 });
  reader.pipeline.issue(0);
  const answers = requests(reader.sent[0], 0).reverse();
  const whole = Buffer.concat(answers.map((request) => reply(request, 0, node.subarray(request.offset, request.offset + BLOCK_BYTES))));
  for (let cut = 0; cut <= whole.length; cut += 7) {
    const { pipeline, meter, sent } = start({}, { contents, requestsMax: 4 });
    pipeline.issue(0);
    assert.deepEqual(sent[0], reader.sent[0]);
    for (const part of [whole.subarray(0, cut), whole.subarray(cut)]) assert.equal(pipeline.receive(part, part.length, 5), null);
    assert.deepEqual([pipeline.outstanding, meter.read().allOperations, meter.read().mismatches], [0, 4, 0], `cut at ${cut}`);
  }
  for (const byte of whole) assert.equal(reader.pipeline.receive(Buffer.of(byte), 1, 5), null);
  assert.deepEqual([reader.pipeline.outstanding, reader.meter.read().mismatches], [0, 0]);
});

test('a read that brings a wrong byte is a mismatch', () => {
  const contents = new Contents(SIZE_BYTES);
  const node = Buffer.alloc(SIZE_BYTES);
  const writer = start({ kind: 'write' }, { contents, requestsMax: 1 });
  writer.pipeline.issue(0);
  const written = store(node, writer.sent[0]);
  writer.pipeline.receive(written, written.length, 1);
  node[1000] ^= 1;
  const { pipeline, sent, meter } = start({}, { contents, requestsMax: 1 });
  pipeline.issue(0);
  const answer = reply(requests(sent[0], 0)[0], 0, node.subarray(0, BLOCK_BYTES));
  assert.equal(pipeline.receive(answer, answer.length, 1), null);
  assert.equal(meter.read().mismatches, 1);
});

test('an error is counted, has no payload, and leaves the blocks of a write unknown', () => {
  const { pipeline, sent, meter } = start({}, { requestsMax: 2 });
  pipeline.issue(0);
  const [first, second] = requests(sent[0], 0);
  const answers = Buffer.concat([reply(first, 5), reply(second, 0, Buffer.alloc(BLOCK_BYTES))]);
  assert.equal(pipeline.receive(answers, answers.length, 1), null);
  assert.deepEqual([meter.read().errors, meter.read().allOperations, pipeline.outstanding], [1, 2, 0]);
  const writer = start({ kind: 'write' }, { requestsMax: 1 });
  writer.pipeline.issue(0);
  const refused = reply(requests(writer.sent[0], BLOCK_BYTES)[0], 28);
  assert.equal(writer.pipeline.receive(refused, refused.length, 1), null);
  assert.equal(writer.contents.matches(Buffer.alloc(BLOCK_BYTES), 0, BLOCK_BYTES, 0, 0, true), true);
});

test('a reply nobody asked for, one given twice and other bytes are refused', () => {
  const cases: [string, (request: RequestHeader) => Buffer][] = [
    ['unknown slot', (request) => reply({ ...request, cookieLow: 99 }, 0)],
    ['old use of a slot', (request) => reply({ ...request, cookieHigh: request.cookieHigh + 1 }, 0)],
    ['twice', (request) => Buffer.concat([reply(request, 5), reply(request, 5)])],
    ['no reply', () => Buffer.alloc(REPLY_BYTES, 0x41)],
  ];
  for (const [what, answer] of cases) {
    const { pipeline, sent } = start({}, { requestsMax: 2 });
    pipeline.issue(0);
    const bytes = answer(requests(sent[0], 0)[0]);
    assert.equal(typeof pipeline.receive(bytes, bytes.length, 1), 'string', what);
  }
});

test('a batch is not written again before its bytes have left', () => {
  const { pipeline, sent, buffers, releases } = start({ kind: 'write', depth: 2 });
  const answerLast = () => {
    const bytes = Buffer.concat(requests(sent.at(-1)!, BLOCK_BYTES).map((request) => reply(request, 0)));
    assert.equal(pipeline.receive(bytes, bytes.length, 1), null);
    pipeline.issue(1);
  };
  pipeline.issue(0);
  answerLast();
  assert.notEqual(buffers[1], buffers[0]);
  releases[1]();
  answerLast();
  assert.equal(buffers[2], buffers[1]);
  answerLast();
  assert.equal(new Set([buffers[0], buffers[2], buffers[3]]).size, 3);
});

test('random requests are aligned, cover the node, and writes in flight never overlap', () => {
  const { pipeline, sent } = start({ kind: 'write', order: 'random', depth: 16 });
  const seen = new Set<number>();
  for (let turn = 0; turn < 100; turn++) {
    pipeline.issue(turn);
    const batch = requests(sent[turn], BLOCK_BYTES);
    assert.equal(new Set(batch.map(({ offset }) => offset)).size, 16);
    for (const { offset } of batch) {
      assert.equal(offset % BLOCK_BYTES, 0);
      assert.equal(offset < SIZE_BYTES, true);
      seen.add(offset);
    }
    const bytes = Buffer.concat(batch.map((request) => reply(request, 0)));
    assert.equal(pipeline.receive(bytes, bytes.length, turn), null);
  }
  assert.equal(seen.size, 64);
});

test('the meter counts what ends within its window and the time each request took', () => {
  const meter = new Meter(100, 200);
  meter.completed(99, 7);
  for (let nowUs = 100; nowUs < 110; nowUs++) meter.completed(nowUs, 11);
  assert.equal(meter.isOpen(199), true);
  meter.completed(199, 13);
  assert.equal(meter.isOpen(200), false);
  meter.completed(200, 1000);
  const reading = meter.read();
  assert.deepEqual([reading.operations, reading.allOperations, reading.windowUs, reading.maxUs], [11, 13, 100, 13]);
});

test('a window that has seen next to nothing stays open until it has seen enough', () => {
  const meter = new Meter(100, 200);
  for (let nowUs = 300; nowUs < 310; nowUs++) {
    assert.equal(meter.isOpen(nowUs), true);
    meter.completed(nowUs, 1);
  }
  assert.equal(meter.isOpen(310), false);
  meter.completed(310, 1);
  assert.deepEqual([meter.read().operations, meter.read().windowUs], [10, 209]);
});

test.run();
