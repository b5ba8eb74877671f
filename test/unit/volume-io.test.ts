// A volume's I/O and its records: durability of flush, FUA and sync, reads answered by a mirror (rule 17), a mirror's
// troubles never at a host (rule 7), mirrors added and removed, and what a restart finds.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ERRNO, OP } from '../../replication/device.js';
import { PathRig } from '../support/path-rig.js';
import { ScriptedNode, turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/io');
const READ = 0;
const WRITE = 1;
const FLUSH = 3;

test('a read that fails on the active target is answered by a mirror in step', async () => {
  const rig = await VolumeRig.mirrored();
  rig.write(0, filled(1));
  await turns();
  rig.nodes.a.fail = (request) => (request.command === READ ? ERRNO.EIO : 0);
  const read = rig.read(0, 512);
  await turns();
  assert.equal(read.errno, 0);
  assert.deepEqual(read.data, filled(1));
  await rig.stop();
});

test('a mirror answers a read only when it has what was written there: before, and since it was asked', async () => {
  const rig = await VolumeRig.mirrored();
  const { a, b } = rig.nodes;
  a.fail = (request) => (request.command === READ ? ERRNO.EIO : 0);
  b.hold = (request) => request.command === WRITE;
  rig.write(0, filled(1));
  await turns();
  const queued = rig.read(0, 512);
  await turns();
  assert.equal(queued.errno, null, 'the mirror lacks the write');
  b.answerAll();
  await turns();
  assert.deepEqual([queued.errno, queued.data], [0, filled(1)]);
  a.hold = (request) => request.command === WRITE;
  const writing = rig.write(8192, filled(2));
  await turns();
  const written = rig.read(8192, 512);
  await turns();
  a.answerAll();
  await turns();
  assert.deepEqual([writing.errno, written.errno], [0, null], 'the mirror lacks it still');
  b.answerAll();
  await turns();
  assert.deepEqual([written.errno, written.data], [0, filled(2)]);
  // The mirror is asked, and before it answers a write comes.
  b.hold = (request) => request.command === READ || request.command === WRITE;
  const during = rig.read(16_384, 512);
  await turns();
  const late = rig.write(16_384, filled(3));
  await turns();
  b.held.find((request) => request.command === READ)!.answer();
  await turns();
  assert.equal(during.errno, null, 'those bytes are old');
  a.answerAll();
  await turns();
  assert.equal(late.errno, 0);
  b.hold = () => false;
  b.answerAll();
  await turns();
  assert.deepEqual([during.errno, during.data], [0, filled(3)]);
  await rig.stop();
});

test('a read that the active target refused waits no longer than a mirror may stall, and then has its error', async () => {
  const rig = await VolumeRig.mirrored();
  const { a, b } = rig.nodes;
  a.fail = (request) => (request.command === READ ? ERRNO.EIO : 0);
  b.hold = (request) => request.command === WRITE;
  rig.write(0, filled(1));
  await turns();
  const read = rig.read(0, 512);
  const other = rig.read(1024, 512);
  await rig.pass(1000);
  assert.deepEqual([read.errno, other.errno], [null, 0]);
  await rig.pass(2000);
  assert.equal(read.errno, ERRNO.EIO);
  const dirty = rig.read(0, 512);
  await turns();
  assert.equal(dirty.errno, ERRNO.EIO);
  await rig.stop();
});

test('a read that waits for its mirror goes to it as the active target when there is a failover meanwhile', async () => {
  const rig = await VolumeRig.mirrored();
  const { a, b } = rig.nodes;
  a.fail = (request) => (request.command === READ ? ERRNO.EIO : 0);
  b.hold = (request) => request.command === WRITE;
  rig.write(0, filled(1));
  await turns();
  const read = rig.read(0, 512);
  await turns();
  a.up = false;
  a.cut();
  await rig.pass(500);
  b.hold = () => false;
  b.answerAll();
  await rig.until(() => rig.volume.active.node === 'b', 'a failover');
  await turns();
  assert.deepEqual([read.errno, read.data], [0, filled(1)]);
  await rig.stop();
});

test('a read that a mirror was to answer does not wait for a mirror that is gone', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.fail = (request) => (request.command === READ ? ERRNO.EIO : 0);
  rig.nodes.b.hold = (request) => request.command === READ;
  const read = rig.read(0, 512);
  await turns();
  assert.equal(rig.nodes.b.held.length, 1);
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await rig.pass(40_000, 250);
  assert.equal(read.errno, ERRNO.EIO);
  await rig.stop();
});

test("a mirror's errors, hangs and losses never reach a host", async () => {
  for (const durability of ['async', 'sync'] as const) {
    const rig = await VolumeRig.mirrored({ settings: { durability } });
    rig.nodes.b.fail = (request) => (request.command === WRITE ? ERRNO.ENOSPC : 0);
    const refused = rig.write(0, filled(1));
    await turns();
    assert.equal(refused.errno, 0);
    rig.nodes.b.fail = () => 0;
    await rig.until(() => rig.state('b') === 'synced', 'in step again');
    rig.nodes.b.hold = () => true;
    const hung = rig.write(512, filled(2));
    await rig.until(() => hung.errno !== null, 'answered', 5000);
    assert.equal(hung.errno, 0);
    rig.nodes.b.up = false;
    rig.nodes.b.cut();
    const lost = rig.write(1024, filled(3));
    const flush = rig.flush();
    await rig.until(() => lost.errno !== null && flush.errno !== null, 'answered', 5000);
    assert.deepEqual([lost.errno, flush.errno], [0, 0]);
    rig.nodes.b.hold = () => false;
    rig.nodes.b.held.length = 0;
    rig.nodes.b.up = true;
    await rig.until(() => {
      const [{ state, lagBytes }] = rig.volume.mirrors();
      return state === 'synced' && lagBytes === 0;
    }, 'in step in the end');
    assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
    await rig.stop();
  }
});

test('sync: a write is answered when every mirror in step has it, FUA when it is on their stable storage', async () => {
  const rig = await VolumeRig.mirrored({ settings: { durability: 'sync' } });
  rig.nodes.a.volatile = true;
  rig.nodes.b.volatile = true;
  rig.nodes.b.hold = () => true;
  const write = rig.write(0, filled(1));
  await turns();
  assert.deepEqual(rig.nodes.a.read(0, 512), filled(1));
  assert.equal(write.errno, null);
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  const fua = rig.write(512, filled(2), true);
  await turns();
  assert.equal(fua.errno, 0);
  assert.deepEqual(rig.nodes.b.durable.subarray(512, 1024), filled(2));
  const flush = rig.flush();
  await turns();
  assert.equal(flush.errno, 0);
  assert.deepEqual(rig.nodes.b.durable.subarray(0, 512), filled(1));
  assert.deepEqual(rig.nodes.a.durable.subarray(0, 512), filled(1));
  await rig.stop();
});

test('sync: a mirror that refuses a flush is in step no longer than that', async () => {
  const rig = await VolumeRig.mirrored({ settings: { durability: 'sync' } });
  rig.nodes.b.fail = (request) => (request.command === FLUSH ? ERRNO.EIO : 0);
  rig.write(0, filled(1));
  await turns();
  const flush = rig.flush();
  await turns();
  assert.equal(flush.errno, 0);
  assert(rig.facts.some((fact) => fact.type === 'mirror-state' && fact.to === 'catching-up' && fact.reason?.includes('flush')));
  rig.nodes.b.fail = () => 0;
  await rig.until(() => rig.state('b') === 'synced', 'all is copied again');
  await rig.stop();
});

test('sync: a mirror that never answers a flush holds hosts for a bounded time', async () => {
  const rig = await VolumeRig.mirrored({ settings: { durability: 'sync' } });
  rig.nodes.b.hold = (request) => request.command === FLUSH;
  const flush = rig.flush();
  await rig.until(() => flush.errno !== null, 'answered', 15_000);
  assert.equal(flush.errno, 0);
  await rig.stop();
});

test('sync: a write and a flush do not wait for a mirror that is being removed', async () => {
  const rig = await VolumeRig.mirrored({ settings: { durability: 'sync' } });
  rig.nodes.b.hold = () => true;
  const write = rig.write(0, filled(1));
  const flush = rig.flush();
  await turns();
  assert((await rig.finish(rig.volume.removeMirror(target('b'), 'test'))).ok);
  await turns();
  assert.deepEqual([write.errno, flush.errno], [0, 0]);
  await rig.stop();
});

test('flush answers when the active target has flushed what was answered before', async () => {
  const rig = await VolumeRig.start();
  rig.nodes.a.volatile = true;
  rig.write(0, filled(1));
  await turns();
  rig.nodes.a.hold = (request) => request.command === FLUSH;
  const flush = rig.flush();
  await turns();
  assert.equal(flush.errno, null);
  rig.nodes.a.answerAll();
  await turns();
  assert.equal(flush.errno, 0);
  assert.deepEqual(rig.nodes.a.durable.subarray(0, 512), filled(1));
  await rig.stop();
});

test('a removed mirror is forgotten durably, gets nothing more, and the volume goes on', async () => {
  const rig = await VolumeRig.mirrored();
  rig.write(0, filled(1));
  await turns();
  assert((await rig.finish(rig.volume.removeMirror(target('b'), 'test'))).ok);
  assert.deepEqual(rig.record().mirrors, []);
  assert.deepEqual(rig.records.list('dirty/'), []);
  assert.deepEqual(rig.records.list('sum/'), []);
  const before = rig.nodes.b.log.length;
  const write = rig.write(512, filled(2));
  await rig.pass(1000);
  assert.equal(write.errno, 0);
  assert(rig.nodes.b.log.slice(before).every((line) => line === 'disc'));
  assert.equal(rig.nodes.b.connections.size, 0);
  assert.equal(rig.volume.mirrors().length, 0);
  await rig.stop();
});

test('a mirror removed while a scrub reads it ends the scrub', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.hold = (request) => request.command === READ;
  const scrub = rig.volume.scrub('test');
  await turns();
  assert(rig.nodes.b.held.length > 0);
  assert((await rig.finish(rig.volume.removeMirror(target('b'), 'test'))).ok);
  const outcome = await rig.finish(scrub);
  assert(outcome.ok);
  assert.equal(outcome.value.state, 'stopped');
  await rig.stop();
});

test('a mirror is refused on what holds data that is not ours, is too small, or holds a copy already', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.c.bytes[60_000] = 1;
  const notBlank = await rig.finish(rig.volume.addMirror(target('c'), 'test'));
  assert(!notBlank.ok && notBlank.code === 'target-not-blank');
  rig.nodes.c = new ScriptedNode(1024);
  const small = await rig.finish(rig.volume.addMirror(target('c'), 'test'));
  assert(!small.ok && small.code === 'target-unusable');
  const twice = await rig.finish(rig.volume.addMirror(target('b'), 'test'));
  assert(!twice.ok && twice.code === 'already-a-copy');
  assert.equal(rig.volume.mirrors().length, 1);
  await rig.stop();
});

test('a target that was ours before may be taken again, whatever it holds', async () => {
  const rig = await VolumeRig.mirrored();
  rig.write(0, filled(1));
  await turns();
  assert((await rig.finish(rig.volume.removeMirror(target('b'), 'test'))).ok);
  rig.write(0, filled(2));
  await turns();
  await rig.addMirror('b');
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  await rig.stop();
});

test('a write in flight when the first mirror comes is on both copies in the end', async () => {
  const rig = await VolumeRig.start();
  rig.nodes.a.hold = (request) => request.command === WRITE;
  const write = rig.write(0, filled(1));
  await turns();
  const adding = rig.volume.addMirror(target('b'), 'test');
  await rig.pass(500);
  assert.equal(rig.state('b'), 'copying');
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  assert((await rig.finish(adding)).ok);
  await rig.until(() => rig.state('b') === 'synced', 'in step');
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  await rig.stop();
});

test('a restart resumes from its records: the same active target, and only what was marked or dirty is copied', async () => {
  const rig = await VolumeRig.mirrored();
  for (let extent = 0; extent < 16; extent += 1) rig.write(extent * 4096, filled(extent + 1));
  await turns();
  // Cold marks go.
  await rig.pass(8000, 250);
  assert.equal(rig.volume.markedExtents, 0);
  rig.write(5 * 4096, filled(99));
  await turns();
  const again = await rig.restarted();
  assert.deepEqual(again.volume.active, target('a'));
  const before = again.nodes.b.log.length;
  await again.until(() => again.state('b') === 'synced', 'in step');
  const written = again.nodes.b.log.slice(before).filter((line) => line.startsWith('write') || line.startsWith('zeroes'));
  for (const line of written) {
    const [offset, length] = line.replace(/^\w+ /, '').split('+').map(Number);
    assert(offset >= 5 * 4096 && offset + length <= 6 * 4096, line);
  }
  assert.deepEqual(again.nodes.b.bytes, again.nodes.a.bytes);
  await again.stop();
});

test('a restart after a power loss of the mirror copies what the mirror had answered and not flushed', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.volatile = true;
  rig.write(0, filled(1));
  rig.write(20 * 1024, filled(2));
  await turns();
  assert.deepEqual(rig.nodes.b.read(0, 512), filled(1));
  await rig.pass(200);
  rig.nodes.b.crash();
  const again = await rig.restarted();
  await again.until(() => again.state('b') === 'synced', 'in step');
  assert.deepEqual(again.nodes.b.bytes, again.nodes.a.bytes);
  await again.stop();
});

test('a mirror that was away at a clean end is caught up after the restart', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await turns();
  for (let extent = 0; extent < 4; extent += 1) rig.write(extent * 4096, filled(extent + 1));
  await rig.pass(12_000, 250);
  assert.equal(rig.volume.markedExtents, 0, 'marks went with the words of what the mirror lacks');
  const again = await rig.restarted();
  again.nodes.b.up = true;
  await again.until(() => again.state('b') === 'synced', 'in step');
  assert.deepEqual(again.nodes.b.bytes, again.nodes.a.bytes);
  await again.stop();
});

test('while marks cannot be written, writes wait and reads go on', async () => {
  const rig = await VolumeRig.mirrored();
  rig.records.failing = 'before';
  const write = rig.write(0, filled(1));
  await rig.pass(1000);
  assert.equal(write.errno, null);
  const read = rig.read(0, 512);
  await turns();
  assert.equal(read.errno, 0);
  rig.records.failing = null;
  await rig.pass(500);
  assert.equal(write.errno, 0);
  await rig.stop();
});

test('the gates of the path: hold keeps new requests out, drained tells when none is inside, release lets them in in order', async () => {
  const rig = new PathRig();
  rig.source.completion = 'held';
  const inside = rig.write(0, filled(1));
  await turns(2);
  rig.path.hold();
  const outside = [rig.write(0, filled(2)), rig.write(0, filled(3)), rig.read(0, 512)];
  let drained = false;
  void rig.path.drained().then(() => {
    drained = true;
  });
  await turns(2);
  assert.equal(rig.path.inFlight, 1);
  assert.equal(rig.path.heldRequests, 3);
  assert(!drained);
  rig.source.release();
  await turns(2);
  assert(drained);
  assert.equal(inside.errno, 0);
  assert(outside.every((request) => request.errno === null));
  rig.source.completion = 'later';
  rig.path.release();
  await turns(10);
  assert(outside.every((request) => request.errno === 0));
  assert.deepEqual(rig.source.bytes.subarray(0, 512), filled(3));
});

test('overlapping writes reach the target one after the other, in order', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ offset: fc.nat(40), length: fc.integer({ min: 1, max: 15 }) }), { maxLength: 40 }),
      fc.array(fc.nat(100), { maxLength: 80 }),
      (writes, choices) => {
        const rig = new PathRig({ sizeBytes: 4096 });
        rig.source.completion = 'held';
        const expected = Buffer.alloc(4096);
        const all = writes.map(({ offset, length }, at) => {
          const data = Buffer.alloc(length, at + 1);
          data.copy(expected, offset);
          return rig.write(offset, data);
        });
        while (rig.source.held.length > 0) {
          const held = rig.source.held;
          for (const [at, one] of held.entries())
            for (const other of held.slice(at + 1))
              assert(one.offset >= other.offset + other.length || other.offset >= one.offset + one.length);
          rig.source.release((choices.pop() ?? 0) % held.length);
        }
        assert(all.every((request) => request.errno === 0));
        assert.deepEqual(rig.source.bytes, expected);
        assert.equal(rig.path.lock.entries, 0);
      },
    ),
  );
});

test('a trim and a status of an odd range go through as they are', async () => {
  const rig = await VolumeRig.start();
  rig.write(0, filled(1, 4096));
  await turns();
  const zeroes = rig.submit(OP.ZEROES, 100, 1000);
  const status = rig.submit(OP.STATUS, 0, 4096);
  await turns();
  assert.equal(zeroes.errno, 0);
  assert.equal(status.errno, 0);
  assert(status.extents!.length > 0);
  assert(rig.nodes.a.bytes.subarray(100, 1100).every((byte) => byte === 0));
  await rig.stop();
});

test("a host's deadline counts from its asking, also behind another write to the same place", async () => {
  const rig = await VolumeRig.start({ settings: { giveUpAfterMs: 2000, hangAfterMs: 60_000 } });
  rig.nodes.a.hold = () => true;
  const writes = [rig.write(0, filled(1)), rig.write(0, filled(2)), rig.write(0, filled(3))];
  await rig.pass(3000);
  assert.deepEqual(
    writes.map(({ errno }) => errno),
    [ERRNO.EIO, ERRNO.EIO, ERRNO.EIO],
  );
  await rig.stop();
});

test('a mirror whose node does not answer after a restart is said to be lost', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.up = false;
  const again = await rig.restarted();
  await again.pass(2000);
  assert.equal(again.state('b'), 'catching-up', 'it may answer in a moment');
  await again.pass(2000);
  assert.equal(again.state('b'), 'lost');
  assert.equal(again.volume.mirrors()[0].reason, 'its node does not answer');
  assert(again.facts.some((fact) => fact.type === 'mirror-state' && fact.to === 'lost'));
  rig.nodes.b.up = true;
  await again.until(() => again.state('b') === 'synced', 'in step');
  await again.stop();
});

test.run();
