// Writes whose connection was lost and that land in the node later (rule 13): no newer write is ever undone, whenever they
// land, however often the connection breaks, and reads never show their bytes.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ERRNO, OP } from '../../replication/device.js';
import { MemoryRecords } from '../support/memory-records.js';
import { FLAG, type NodeRequest, ScriptedNode, turns } from '../support/scripted-node.js';
import { filled, memoryOf, UpstreamRig, type WatchedRequest } from '../support/upstream-rig.js';

const test = suite('upstream zombies');
const ZOMBIE_MS = 10_000;

/** A write hangs, its connection breaks, and it is answered on the next one. Gives the zombie. */
async function withZombie(rig: UpstreamRig, offset = 0, value = 1): Promise<NodeRequest> {
  rig.node.hold = () => true;
  const write = rig.write(offset, filled(value));
  await turns();
  const zombie = rig.node.held[0];
  rig.node.cut();
  rig.node.held.length = 0;
  rig.node.hold = () => false;
  await rig.reconnect();
  assert.equal(write.errno, 0);
  return zombie;
}

test('a zombie that lands over a newer write is not seen, and is written over before the guard ends', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  const zombie = await withZombie(rig);
  const newer = rig.write(0, filled(2));
  await turns();
  assert.equal(newer.errno, 0);
  zombie.land();
  assert.deepEqual(rig.node.read(0, 512), filled(1));
  const read = rig.read(0, 1024);
  await turns();
  assert.deepEqual(read.data, Buffer.concat([filled(2), filled(0)]));
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  assert.deepEqual(rig.node.durable.subarray(0, 512), filled(2));
  assert.equal(rig.upstream.guardedRanges, 0);
});

test('zeroes written over a guarded range are kept as such', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  const zombie = await withZombie(rig);
  rig.submit(OP.ZEROES, 100, 200);
  await turns();
  zombie.land();
  const read = rig.read(0, 512);
  await turns();
  const expected = filled(1);
  expected.fill(0, 100, 300);
  assert.deepEqual(read.data, expected);
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  assert.deepEqual(rig.node.read(0, 512), expected);
});

test('a fencing node needs no guard', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 0 });
  await withZombie(rig);
  assert.equal(rig.upstream.guardedRanges, 0);
});

test('a write into a range that is being settled waits for that, and is not undone by it', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  await withZombie(rig);
  rig.node.hold = () => true;
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  assert.deepEqual(
    rig.node.held.map((request) => request.text),
    ['write 0+512'],
  );
  const write = rig.write(0, filled(3));
  const elsewhere = rig.write(4096, filled(4));
  await turns();
  assert.deepEqual(
    rig.node.held.map((request) => request.text),
    ['write 0+512', 'write 4096+512'],
  );
  rig.node.hold = () => false;
  rig.node.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  assert.equal(elsewhere.errno, 0);
  assert.deepEqual(rig.node.read(0, 512), filled(3));
});

test('a range is not settled while an older write of the same range is on its way', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  await withZombie(rig);
  rig.node.hold = () => true;
  const write = rig.write(256, filled(5));
  await turns();
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  assert.equal(rig.node.held.length, 1);
  rig.node.held[0].answer();
  await turns();
  assert.equal(write.errno, 0);
  rig.node.hold = () => false;
  rig.node.answerAll();
  await turns();
  assert.deepEqual(rig.node.read(256, 512), filled(5));
  assert.equal(rig.upstream.guardedRanges, 0);
});

test('a range is not settled between the parts of a write that covers it', async () => {
  const node = new ScriptedNode(1024 * 1024);
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, node });
  await withZombie(rig, 60_000, 1);
  // From now on the node takes small payloads only: the next write goes in parts, four at a time.
  node.payloadBytesMax = 4096;
  node.cut();
  await rig.reconnect();
  node.hold = () => true;
  const data = Buffer.alloc(65_536, 'newest');
  const write = rig.write(0, data);
  await turns();
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  assert(
    node.held.every((request) => request.offset < 16_384),
    node.held.map((request) => request.text).join(),
  );
  node.hold = () => false;
  node.answerAll();
  await turns(200);
  assert.equal(write.errno, 0);
  assert.deepEqual(node.read(0, data.length), data);
});

test('a node that refuses to settle keeps its guard, is not asked again and again, and holds no write up', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  const zombie = await withZombie(rig);
  rig.write(0, filled(2));
  await turns();
  zombie.land();
  rig.node.fail = (request) => (request.command === 1 ? ERRNO.EIO : 0);
  rig.node.log.length = 0;
  rig.clock.advance(ZOMBIE_MS);
  await turns(100);
  assert.equal(rig.node.log.filter((line) => line === 'write 0+512').length, 1);
  assert.equal(rig.upstream.guardedRanges, 1);
  const read = rig.read(0, 512);
  await turns();
  assert.deepEqual(read.data, filled(2));
  rig.node.fail = () => 0;
  rig.clock.advance(1000);
  await turns();
  assert.equal(rig.upstream.guardedRanges, 0);
  assert.deepEqual(rig.node.read(0, 512), filled(2));
});

test('two orphans answered in the same moment are both written over', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  rig.node.hold = () => true;
  const old = [rig.write(0, filled(1)), rig.write(4096, filled(1))];
  await turns();
  await rig.hear();
  rig.clock.advance(60_000);
  assert.equal(rig.upstream.expire(1000), 2);
  assert(old.every((request) => request.errno === ERRNO.EIO));
  const orphans = [...rig.node.held];
  rig.node.hold = () => false;
  rig.write(0, filled(2));
  rig.write(4096, filled(2));
  await turns();
  // Old bytes land over the newer ones, both with one piece of answers.
  for (const orphan of orphans) orphan.answer();
  assert.deepEqual(rig.node.read(0, 512), filled(1));
  await turns();
  assert.deepEqual(rig.node.read(0, 512), filled(2));
  assert.deepEqual(rig.node.read(4096, 512), filled(2));
  assert.equal(rig.upstream.guardedRanges, 0);
});

test('what the node says of its holes counts for nothing while bytes are kept for it', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  await withZombie(rig);
  rig.node.log.length = 0;
  const status = rig.submit(OP.STATUS, 0, 4096);
  await turns();
  assert.deepEqual(status.extents, [{ lengthBytes: 4096, hole: false, zero: false }]);
  assert.deepEqual(rig.node.log, []);
});

test('a gateway that was killed takes its guards up again: what lands after its restart is not seen either', async () => {
  const records = new MemoryRecords();
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
  const zombie = await withZombie(rig);
  const newer = rig.write(0, filled(2));
  await turns();
  assert.equal(newer.errno, 0);
  rig.node.cut();
  rig.upstream.close();
  const again = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records), node: rig.node });
  zombie.land();
  const read = again.read(0, 512);
  await turns();
  assert.deepEqual(read.data, filled(2));
  again.clock.advance(ZOMBIE_MS);
  await turns(60);
  assert.deepEqual(again.node.durable.subarray(0, 512), filled(2));
  assert.equal(again.upstream.guardedRanges, 0);
  await turns();
  assert.deepEqual(records.list('doubt/'), []);
});

for (const failing of ['before', 'after'] as const) {
  test(`while guards cannot be written down (failing ${failing} the store did it) nothing is acknowledged there`, async () => {
    const records = new MemoryRecords();
    const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
    rig.node.hold = () => true;
    const write = rig.write(0, filled(1));
    await turns();
    records.failing = failing;
    rig.node.cut();
    rig.node.held.length = 0;
    rig.node.hold = () => false;
    await rig.reconnect(3);
    assert.equal(write.errno, null);
    records.failing = null;
    await rig.reconnect();
    rig.clock.advance(2000);
    await turns();
    assert.equal(write.errno, 0);
    assert(records.list('doubt/').length > 0);
  });
}

test('while guards cannot be written down, whatever touches none of those is answered, flushes too', async () => {
  const records = new MemoryRecords();
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
  await withZombie(rig, 0);
  await withZombie(rig, 4096);
  records.failing = 'before';
  const guarded = rig.write(0, filled(2));
  await turns();
  const others = [rig.write(8192, filled(3)), rig.read(4096, 512), rig.read(8192, 512), rig.flush()];
  await turns();
  assert.equal(guarded.errno, null);
  assert.deepEqual(
    others.map((request) => request.errno),
    [0, 0, 0, 0],
  );
  records.failing = null;
  rig.clock.advance(1000);
  await turns();
  assert.equal(guarded.errno, 0);
});

test('a node that hung, was given up for its silence and is heard of again is guarded against from then on', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS });
  rig.node.hold = () => true;
  const old = rig.write(0, filled(1));
  await turns();
  const zombie = rig.node.held[0];
  rig.node.up = false;
  rig.clock.advance(60_000);
  rig.upstream.expire(1000);
  await turns();
  assert.equal(old.errno, ERRNO.EIO);
  assert.match(rig.told.at(-1)!, /lost: the node has not sent anything/);
  // Longer away than any request of a lost connection is thought to live.
  rig.clock.advance(5 * ZOMBIE_MS);
  rig.node.held.length = 0;
  rig.node.hold = () => false;
  rig.node.up = true;
  await rig.reconnect();
  const newer = rig.write(0, filled(2));
  await turns();
  assert.equal(newer.errno, 0);
  zombie.land();
  const read = rig.read(0, 512);
  await turns();
  assert.deepEqual(read.data, filled(2));
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  assert.deepEqual(rig.node.read(0, 512), filled(2));
  assert.equal(rig.upstream.guardedRanges, 0);
});

test('an upstream that is closed while its store fails leaves no timer running for ever', async () => {
  const records = new MemoryRecords();
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
  rig.node.hold = () => true;
  rig.write(0, filled(1));
  await turns();
  records.failing = 'before';
  rig.node.cut();
  await rig.reconnect(2);
  rig.upstream.close();
  for (let round = 0; round < 5; round += 1) {
    rig.clock.advance(2000);
    await turns();
  }
  assert.equal(rig.clock.pending, 0);
});

// A model of what hosts were told, block by block, against a node whose connections break at any moment, whose lost
// requests land at any later one within zombieMs, and which forgets what it did not flush when it restarts.
const BLOCKS = 8;
type Step =
  | { kind: 'write'; block: number; blocks: number }
  | { kind: 'zeroes'; block: number; blocks: number }
  | { kind: 'read'; block: number; blocks: number }
  | { kind: 'flush' }
  | { kind: 'answer'; which: number }
  | { kind: 'cut' }
  | { kind: 'crash' }
  | { kind: 'zombie'; which: number }
  | { kind: 'time'; ms: number };

const range = { block: fc.nat(BLOCKS - 1), blocks: fc.integer({ min: 1, max: 3 }) };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), ...range }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('zeroes' as const), ...range }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('read' as const), ...range }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'flush' as const }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('answer' as const), which: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'cut' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'crash' as const }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('zombie' as const), which: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(10, 500, 4000) }) },
);

test('whatever breaks, restarts and lands late: reads show the newest answered bytes, and the node has them in the end', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 10, maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      fc.boolean(),
      async (steps, connections, parts) => {
        const node = new ScriptedNode(BLOCKS * 512);
        if (parts) node.payloadBytesMax = 512;
        if (parts) node.flags &= ~(FLAG.FUA | FLAG.ZEROES);
        node.volatile = true;
        const rig = await UpstreamRig.ready({ node, sizeBytes: node.sizeBytes, connections, zombieMs: 5000, unflushedBytesMax: 8192 });
        node.hold = () => true;
        let zombies: { request: NodeRequest; untilMs: number }[] = [];
        const newest = new Array<number>(BLOCKS).fill(0);
        /** Blocks with a request that touches them on its way: the user of an upstream serialises them. */
        const busy = new Array<number>(BLOCKS).fill(0);
        let value = 0;
        const all: WatchedRequest[] = [];
        const watch = (request: WatchedRequest, block: number, blocks: number, done: () => void): void => {
          all.push(request);
          for (let at = block; at < block + blocks; at += 1) busy[at] += 1;
          void request.done.then((errno) => {
            assert.equal(errno, 0);
            for (let at = block; at < block + blocks; at += 1) busy[at] -= 1;
            done();
          });
        };
        const lose = (): void => {
          const untilMs = rig.clock.nowMs() + 5000;
          for (const request of node.held) if (request.command === 1 || request.command === 6) zombies.push({ request, untilMs });
          node.held.length = 0;
        };
        for (const each of steps) {
          zombies = zombies.filter((zombie) => zombie.untilMs > rig.clock.nowMs());
          if (each.kind === 'write' || each.kind === 'zeroes' || each.kind === 'read') {
            const blocks = Math.min(each.blocks, BLOCKS - each.block);
            if (busy.slice(each.block, each.block + blocks).some((count) => count > 0)) continue;
            const offset = each.block * 512;
            if (each.kind === 'read') {
              const read = rig.read(offset, blocks * 512);
              watch(read, each.block, blocks, () => {
                const seen = Array.from({ length: blocks }, (_, at) => read.data![at * 512]);
                assert.deepEqual(seen, newest.slice(each.block, each.block + blocks), `read of block ${each.block}`);
              });
            } else {
              value = each.kind === 'zeroes' ? value : (value % 250) + 1;
              const written = each.kind === 'zeroes' ? 0 : value;
              const request =
                each.kind === 'zeroes'
                  ? rig.submit(OP.ZEROES, offset, blocks * 512)
                  : rig.write(offset, filled(value, blocks * 512), each.block);
              watch(request, each.block, blocks, () => newest.fill(written, each.block, each.block + blocks));
            }
          } else if (each.kind === 'flush') {
            all.push(rig.flush());
          } else if (each.kind === 'answer') {
            if (node.held.length > 0) node.held[each.which % node.held.length].answer();
          } else if (each.kind === 'cut') {
            lose();
            node.cut();
          } else if (each.kind === 'crash') {
            zombies = [];
            node.crash();
          } else if (each.kind === 'zombie') {
            const zombie = zombies.splice(each.which % Math.max(1, zombies.length), 1)[0];
            zombie?.request.land();
          } else rig.clock.advance(each.ms);
          await turns(8);
        }
        node.hold = () => false;
        for (
          let round = 0;
          round < 30 && (!rig.upstream.ready || rig.upstream.guardedRanges > 0 || all.some((request) => request.errno === null));
          round += 1
        ) {
          node.answerAll();
          zombies = zombies.filter((zombie) => zombie.untilMs > rig.clock.nowMs());
          for (const zombie of zombies.splice(0, 1)) zombie.request.land();
          rig.clock.advance(1000);
          await turns(20);
        }
        assert(
          all.every((request) => request.errno === 0),
          'everything is answered',
        );
        assert.equal(rig.upstream.guardedRanges, 0, 'every guard ends');
        await rig.reconnect();
        const flush = rig.flush();
        await turns(20);
        assert.equal(flush.errno, 0);
        const durable = Array.from({ length: BLOCKS }, (_, at) => node.durable[at * 512]);
        assert.deepEqual(durable, newest, 'on stable storage');
      },
    ),
    { numRuns: 100 },
  );
});

test('what a read has shown of a range in doubt stays so, when the old request lands later', async () => {
  const records = new MemoryRecords();
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
  rig.node.hold = (request) => request.command === 1;
  const late = rig.write(0, filled(1));
  await turns();
  const zombie = rig.node.held[0];
  rig.clock.advance(5000);
  // The node answers others: its connection is kept.
  rig.read(4096, 512);
  await turns();
  assert.equal(rig.upstream.expire(1000), 1);
  assert.equal(late.errno, 5);
  const before = rig.read(0, 512);
  await turns();
  assert.deepEqual(before.data, filled(0));
  assert(records.list('doubt/').length > 0, 'a restart would know what was seen');
  zombie.land();
  const after = rig.read(0, 512);
  await turns();
  assert.deepEqual(after.data, filled(0));
  rig.node.hold = () => false;
  zombie.answer();
  await turns();
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  assert.deepEqual(rig.node.read(0, 512), filled(0), 'and on the node in the end');
});

test('a read of a range whose record is being struck off brings the record not back', async () => {
  const records = new MemoryRecords();
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
  const doubts = (): string[] => [...records.list('doubt/')].map(([key]) => key).filter((key) => !key.endsWith('/replay'));
  rig.node.hold = (request) => request.command === 1;
  rig.write(0, filled(1));
  rig.clock.advance(5000);
  rig.read(4096, 512);
  await turns();
  rig.upstream.expire(1000);
  rig.read(0, 256);
  await turns();
  assert.equal(doubts().length, 1, 'guarded, and half of it was seen');
  rig.node.hold = (request) => request.command === 3;
  rig.node.held[0].answer();
  await turns();
  records.held = true;
  rig.node.held[0].answer();
  await turns();
  const read = rig.read(0, 512);
  await turns();
  records.held = false;
  records.release();
  await turns();
  assert.equal(read.errno, 0);
  assert.equal(rig.upstream.guardedRanges, 0);
  assert.deepEqual(doubts(), [], 'a restart would write old bytes again');
});

test('a write that waits for the end of a guard to be written down waits no longer than its deadline', async () => {
  const records = new MemoryRecords();
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
  await withZombie(rig);
  records.held = true;
  rig.clock.advance(ZOMBIE_MS);
  await turns();
  const write = rig.write(0, filled(2));
  await turns();
  assert.deepEqual([write.errno, rig.node.held.length], [null, 0], 'the node has all it was sent');
  rig.clock.advance(2000);
  rig.upstream.expire(1000);
  assert.equal(write.errno, ERRNO.EIO);
  records.held = false;
  records.release();
  for (let second = 0; second < 3; second += 1) {
    rig.clock.advance(1000);
    await turns();
  }
  const read = rig.read(0, 512);
  await turns();
  assert.deepEqual([read.errno, read.data, rig.upstream.guardedRanges], [0, filled(1), 0]);
});

test('a write that waits for its guard to be written down waits no longer than its deadline', async () => {
  const records = new MemoryRecords();
  const rig = await UpstreamRig.ready({ zombieMs: ZOMBIE_MS, memory: memoryOf(records) });
  const zombie = await withZombie(rig);
  records.held = true;
  const write = rig.write(0, filled(4));
  await turns();
  assert.deepEqual([write.errno, rig.node.read(0, 1)[0]], [null, 4], 'the node has it, and a restart would not guard it');
  rig.clock.advance(2000);
  assert.equal(rig.upstream.expire(1000), 1);
  assert.equal(write.errno, ERRNO.EIO);
  records.held = false;
  records.release();
  zombie.land();
  const read = rig.read(0, 512);
  await turns();
  assert.deepEqual([read.errno, read.data], [0, filled(4)]);
});

test.run();
