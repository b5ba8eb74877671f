// The replication queue: overlapping writes in order, others together, bounds that let hosts go on, and nothing that waits
// for a mirror which takes nothing.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ERRNO, OP } from '../../replication/device.js';
import { DROPPED, ORIGIN, ReplicationQueue } from '../../replication/replication-queue.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryDevice } from '../support/memory-device.js';

const test = suite('replication/queue');

class Rig {
  readonly clock = new ManualClock();
  readonly device: MemoryDevice;
  readonly queue: ReplicationQueue;
  readonly refused: string[] = [];
  rooms = 0;

  constructor(completion: 'sync' | 'later' | 'held' = 'held', sizeBytes = 64 * 1024) {
    this.device = new MemoryDevice(sizeBytes, { completion });
    this.queue = new ReplicationQueue(this.device, this.clock, {
      refused: (offset, length, errno) => this.refused.push(`${offset}+${length}: ${errno}`),
      room: () => {
        this.rooms += 1;
      },
    });
  }

  push(offset: number, data: Buffer, applied: ((errno: number) => void) | null = null, origin: number = ORIGIN.HOST): void {
    this.queue.push({ op: OP.WRITE, offset, length: data.length, data, punch: false }, origin, applied);
  }
}

test('overlapping writes reach the mirror in order, whatever is answered when', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ offset: fc.nat(60), length: fc.integer({ min: 1, max: 20 }) }), { maxLength: 60 }),
      fc.array(fc.nat(100), { maxLength: 200 }),
      (writes, choices) => {
        const rig = new Rig('held', 100);
        const expected = Buffer.alloc(100);
        writes.forEach(({ offset, length }, at) => {
          const data = Buffer.alloc(length, at + 1);
          data.copy(expected, offset);
          rig.push(offset, data);
          if (choices.length > 0 && rig.device.held.length > 0 && at % 2 === 0) rig.device.release(choices.pop()! % rig.device.held.length);
        });
        for (const [one, first] of rig.device.held.entries())
          for (const other of rig.device.held.slice(one + 1))
            assert(first.offset >= other.offset + other.length || other.offset >= first.offset + first.length, 'never two on one byte');
        while (rig.device.held.length > 0) rig.device.release((choices.pop() ?? 0) % rig.device.held.length);
        assert(rig.queue.empty);
        assert.deepEqual(rig.device.bytes, expected);
        assert.equal(rig.queue.hostBytes, 0);
      },
    ),
    { numRuns: 300 },
  );
});

test('no more than 64 are on their way at once', () => {
  const rig = new Rig();
  for (let at = 0; at < 200; at += 1) rig.push(at * 16, Buffer.alloc(16, 1));
  assert.equal(rig.device.held.length, 64);
  rig.device.release();
  assert.equal(rig.device.held.length, 64);
  rig.device.releaseAll();
  assert(rig.queue.empty && rig.queue.hostEmpty);
});

test('a refusal is told before anybody learns that the entry is gone', () => {
  const rig = new Rig();
  const order: string[] = [];
  rig.push(0, Buffer.alloc(8), (errno) => order.push(`applied ${errno} after ${rig.refused.length}`));
  rig.device.release(0, ERRNO.EIO);
  assert.deepEqual(order, ['applied 5 after 1']);
  assert.deepEqual(rig.refused, ['0+8: 5']);
});

test("a copy's bytes are not counted as hosts'", () => {
  const rig = new Rig();
  rig.push(0, Buffer.alloc(100), null, ORIGIN.COPY);
  assert.equal(rig.queue.hostBytes, 0);
  assert(rig.queue.hostEmpty && !rig.queue.empty);
  rig.push(0, Buffer.alloc(100));
  assert.equal(rig.queue.hostBytes, ReplicationQueue.cost(100, OP.WRITE));
  assert.equal(rig.device.held.length, 1, 'the host waits for the copy');
});

test('overlaps sees what waits and what is on its way; drained resolves when neither is left', async () => {
  const rig = new Rig();
  rig.push(0, Buffer.alloc(10));
  rig.push(5, Buffer.alloc(10));
  assert(rig.queue.overlaps(14, 1) && !rig.queue.overlaps(15, 1));
  let drained = false;
  const done = rig.queue.drained().then(() => {
    drained = true;
  });
  rig.device.release();
  await Promise.resolve();
  assert(!drained && rig.queue.overlaps(0, 6) && !rig.queue.overlaps(0, 5));
  rig.device.release();
  await done;
  assert(!rig.queue.overlaps(0, 100));
});

test('stalledMs tells how long nothing has reached the mirror while something waits', () => {
  const rig = new Rig();
  rig.clock.advance(5000);
  assert.equal(rig.queue.stalledMs, 0);
  rig.push(0, Buffer.alloc(8));
  rig.push(8, Buffer.alloc(8));
  rig.clock.advance(300);
  assert.equal(rig.queue.stalledMs, 300);
  rig.device.release();
  assert.equal(rig.queue.stalledMs, 0);
  rig.clock.advance(100);
  assert.equal(rig.queue.oldestMs, 400);
});

test('dropUnsent frees everything that waits, also behind what was sent, and nobody waits for what was sent', () => {
  const rig = new Rig();
  const told: number[] = [];
  for (let at = 0; at < 100; at += 1) rig.push(at * 16, Buffer.alloc(16, 1), (errno) => told.push(errno));
  for (let round = 0; round < 50; round += 1) rig.push(0, Buffer.alloc(16, 2), (errno) => told.push(errno));
  rig.queue.dropUnsent();
  assert.equal(told.length, 150);
  assert(told.every((errno) => errno === DROPPED));
  assert.equal(rig.queue.hostBytes, 0);
  assert(rig.queue.hostEmpty);
  assert.equal(rig.device.held.length, 64);
  assert.equal([...rig.queue.ranges()].length, 64, 'what was sent keeps its range');
  assert(rig.rooms > 0);
  rig.push(0, Buffer.alloc(16, 3));
  assert.equal(rig.device.held.length, 64, 'nothing overtakes what was sent');
  rig.device.releaseAll();
  assert(rig.queue.empty);
  assert.deepEqual(rig.device.bytes.subarray(0, 16), Buffer.alloc(16, 3));
  assert.equal(rig.queue.hostBytes, 0);
});

test('a copy that was sent is waited for, whatever is dropped', () => {
  const rig = new Rig();
  let copied: number | null = null;
  rig.push(
    0,
    Buffer.alloc(8),
    (errno) => {
      copied = errno;
    },
    ORIGIN.COPY,
  );
  rig.queue.dropUnsent();
  assert.equal(copied, null);
  rig.device.release();
  assert.equal(copied, 0);
});

test('pushes from inside what drops are kept in order', () => {
  const rig = new Rig();
  for (let at = 0; at < 70; at += 1) {
    rig.push(0, Buffer.alloc(8, at), () => {
      if (at === 30) rig.push(0, Buffer.alloc(8, 99));
    });
  }
  rig.queue.dropUnsent();
  rig.device.releaseAll();
  assert(rig.queue.empty);
  assert.deepEqual(rig.device.bytes.subarray(0, 8), Buffer.alloc(8, 99));
});

test.run();
