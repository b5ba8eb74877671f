// Flips and failovers of a whole volume on scripted nodes (rules 11, 12, 14): hosts see a pause and never an error, every
// step can fail, and a restart at any step finds exactly one side.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO, OP } from '../../replication/device.js';
import { type NodeRequest, turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/flip');
const why = { kind: 'flip' as const, reason: 'test', verdict: null };
const WRITE = 1;
const FLUSH = 3;

test('a flip moves hosts to the mirror, keeps the old target in step, and can go back', async () => {
  const rig = await VolumeRig.mirrored();
  rig.write(0, filled(1));
  await turns();
  const flipped = await rig.finish(rig.volume.flip(target('b'), why));
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
  assert.equal(flipped.value.epoch, 1);
  assert.deepEqual(rig.volume.active, target('b'));
  const write = rig.write(512, filled(2));
  await turns();
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.nodes.b.read(0, 1024), Buffer.concat([filled(1), filled(2)]));
  assert.deepEqual(rig.nodes.a.read(0, 1024), rig.nodes.b.read(0, 1024), 'reverse replication');
  assert.equal(rig.state('a'), 'synced');
  const back = await rig.finish(rig.volume.flip(target('a'), { ...why, kind: 'rollback' }));
  assert(back.ok);
  assert.deepEqual(rig.record().active, target('a'));
  assert.equal(rig.record().epoch, 2);
  assert.deepEqual(
    rig.record().mirrors.map((mirror) => mirror.target.node),
    ['b'],
  );
  await rig.stop();
});

test('a flip that is not ready within its deadline lets everything go as if nothing had happened', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.hold = (request) => request.command === WRITE;
  const slow = rig.write(0, filled(1));
  await turns();
  const flip = rig.volume.flip(target('b'), why);
  await turns();
  const held = rig.write(512, filled(2));
  const outcome = await rig.finish(flip);
  assert(!outcome.ok);
  assert.equal(outcome.code, 'flip-deadline');
  assert.equal(rig.volume.epoch, 0);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await turns();
  assert.equal(slow.errno, 0);
  assert.equal(held.errno, 0);
  const again = await rig.finish(rig.volume.flip(target('b'), why));
  assert(again.ok);
  await rig.stop();
});

test('once its commit is submitted a flip waits for the outcome: nothing is released before, whatever the deadline', async () => {
  for (const failing of ['before', 'after'] as const) {
    const rig = await VolumeRig.mirrored();
    rig.records.failing = failing;
    const flip = rig.volume.flip(target('b'), why);
    await turns();
    const held = rig.write(0, filled(3));
    await rig.pass(1000);
    assert.equal(held.errno, null);
    rig.records.failing = null;
    const outcome = await rig.finish(flip);
    assert(outcome.ok);
    await turns();
    assert.equal(held.errno, 0);
    assert.deepEqual(rig.nodes.b.read(0, 512), filled(3));
    assert.equal(rig.record().epoch, 1);
    await rig.stop();
  }
});

test('a restart in the middle of a commit finds exactly one side, and both copies equal in the end', async () => {
  for (const landed of [false, true]) {
    const rig = await VolumeRig.mirrored();
    rig.write(0, filled(4));
    await turns();
    rig.records.held = true;
    void rig.volume.flip(target('b'), why);
    await rig.pass(100);
    if (landed) rig.records.release();
    await turns(1);
    const again = await rig.restarted();
    assert.deepEqual(again.volume.active, target(landed ? 'b' : 'a'));
    assert.equal(again.volume.mirrors().length, 1);
    await again.until(() => again.volume.mirrors()[0].state === 'synced', 'in step');
    const write = again.write(512, filled(5));
    await again.pass(100);
    assert.equal(write.errno, 0);
    assert.deepEqual(again.nodes.a.bytes, again.nodes.b.bytes);
    await again.stop();
  }
});

test('a change of the record that waits behind a flip does not undo it', async () => {
  const rig = await VolumeRig.mirrored();
  await rig.addMirror('c');
  rig.records.held = true;
  const flip = rig.volume.flip(target('b'), why);
  await rig.pass(100);
  assert.equal(rig.records.waiting, 1);
  // c loses a write and catches up: its state is stored behind the flip.
  rig.nodes.c.fail = (request) => (request.command === WRITE ? ERRNO.EIO : 0);
  rig.nodes.c.cut();
  await rig.pass(200);
  rig.nodes.c.fail = () => 0;
  for (let round = 0; round < 10; round += 1) {
    rig.records.release(1);
    await turns(4);
    const record = rig.record();
    const places = [record.active, ...record.mirrors.map((mirror) => mirror.target)].map((place) => place.node);
    assert.deepEqual([...new Set(places)].sort(), ['a', 'b', 'c'], `each node once: ${places.join()}`);
    assert.equal(places.length, 3);
  }
  rig.records.held = false;
  rig.records.release();
  assert((await rig.finish(flip)).ok);
  await rig.stop();
});

test('an error of the active target while a flip waits for it becomes a failover, not an error for the host', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.hold = (request) => request.command === WRITE;
  const write = rig.write(0, filled(6));
  const behind = rig.write(0, filled(7));
  await turns();
  const flip = rig.volume.flip(target('b'), why);
  await turns();
  rig.nodes.a.held[0].answer(ERRNO.EIO);
  const outcome = await rig.finish(flip);
  await turns();
  assert.deepEqual([write.errno, behind.errno], [0, 0]);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  assert.equal(outcome.value.kind, 'failover');
  assert.deepEqual(rig.nodes.b.read(0, 512), filled(7));
  await rig.stop();
});

test('an error of the active target while the flip still flushes its mirror becomes a failover', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.hold = (request) => request.command === FLUSH;
  const flip = rig.volume.flip(target('b'), why);
  await turns();
  assert.equal(rig.nodes.b.held.length, 1);
  rig.nodes.a.fail = (request) => (request.command === WRITE ? ERRNO.EIO : 0);
  const write = rig.write(0, filled(6));
  await turns();
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  await rig.until(() => write.errno !== null, 'the host is answered');
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.volume.active, target('b'));
  await rig.finish(flip);
  await rig.stop();
});

test('a mirror that never answers the flush of a flip does not keep the volume from anything else', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.hold = (request) => request.command === FLUSH;
  const outcome = await rig.finish(rig.volume.flip(target('b'), why), 120_000);
  assert(!outcome.ok);
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  const write = rig.write(0, filled(1));
  await turns();
  assert.equal(write.errno, 0);
  const again = await rig.finish(rig.volume.flip(target('b'), why));
  assert(again.ok);
  await rig.stop();
});

test('an active target that dies is failed over: what it did not answer is sent to the mirror, in order', async () => {
  const rig = await VolumeRig.mirrored();
  rig.write(0, filled(1));
  await turns();
  rig.nodes.a.hold = () => true;
  const writes = [rig.write(512, filled(2)), rig.write(512, filled(3)), rig.write(1024, filled(4))];
  const read = rig.read(0, 2048);
  await turns();
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.until(() => writes.every((write) => write.errno === 0), 'hosts go on');
  assert.deepEqual(rig.volume.active, target('b'));
  assert.equal(rig.volume.lastFlip!.kind, 'failover');
  await turns();
  assert.equal(read.errno, 0);
  assert.deepEqual(rig.nodes.b.read(0, 1536), Buffer.concat([filled(1), filled(3), filled(4)]));
  // The old one comes back and gets what it lacks.
  rig.nodes.a.up = true;
  rig.nodes.a.hold = () => false;
  rig.nodes.a.held.length = 0;
  await rig.until(() => rig.state('a') === 'synced', 'a is back in step');
  assert.deepEqual(rig.nodes.a.bytes, rig.nodes.b.bytes);
  await rig.stop();
});

test('an active target that hangs is failed over, and what lands there late is copied over', async () => {
  const rig = await VolumeRig.mirrored({ zombieMs: 2000 });
  rig.nodes.a.hold = () => true;
  const write = rig.write(0, filled(1));
  await rig.until(() => write.errno !== null, 'the host goes on');
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.volume.active, target('b'));
  rig.write(0, filled(2));
  await turns();
  // The hung request lands and is answered: only then the old target is taken up again.
  assert.equal(rig.state('a'), 'catching-up');
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await rig.until(() => rig.state('a') === 'synced', 'a is back in step');
  assert.deepEqual(rig.nodes.a.read(0, 512), filled(2));
  await rig.stop();
});

test('a write the active target refuses is failed over while the mirror is complete, and passed on when it is not', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.fail = (request) => (request.command === WRITE ? ERRNO.ENOSPC : 0);
  const write = rig.write(0, filled(1));
  await rig.until(() => write.errno !== null, 'answered');
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.volume.active, target('b'));
  rig.nodes.b.fail = (request) => (request.command === WRITE ? ERRNO.EIO : 0);
  const refused = rig.write(512, filled(2));
  await rig.until(() => refused.errno !== null, 'answered');
  assert.equal(refused.errno, ERRNO.EIO);
  await rig.stop();
});

test('after one failover there can be another', async () => {
  const rig = await VolumeRig.mirrored();
  for (const [from, to] of [
    ['a', 'b'],
    ['b', 'a'],
    ['a', 'b'],
  ]) {
    await rig.until(() => rig.state(to) === 'synced', `${to} in step`);
    rig.nodes[from].up = false;
    rig.nodes[from].cut();
    const write = rig.write(0, filled(9));
    await rig.until(() => write.errno === 0, 'hosts go on');
    assert.deepEqual(rig.volume.active, target(to));
    rig.nodes[from].up = true;
  }
  assert.equal(rig.volume.epoch, 3);
  await rig.stop();
});

test('a short loss of the connection is waited for, not failed over', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.cut();
  const write = rig.write(0, filled(1));
  await rig.pass(200);
  assert.equal(write.errno, 0);
  await rig.pass(1000);
  assert.deepEqual(rig.volume.active, target('a'));
  assert.equal(rig.volume.epoch, 0);
  await rig.stop();
});

test('without a complete mirror hosts wait, and get EIO only at the deadline of the policy', async () => {
  const rig = await VolumeRig.start();
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await turns();
  const write = rig.write(0, filled(1));
  await rig.pass(29_000, 250);
  assert.equal(write.errno, null);
  await rig.pass(3000, 250);
  assert.equal(write.errno, ERRNO.EIO);
  rig.nodes.a.up = true;
  const next = rig.write(0, filled(2));
  await rig.pass(3000, 250);
  assert.equal(next.errno, 0);
  await rig.stop();
});

test('when both nodes hang hosts get EIO at the deadline rather than wait for ever', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.hold = () => true;
  rig.nodes.b.hold = () => true;
  const write = rig.write(0, filled(1));
  const read = rig.read(4096, 512);
  await rig.pass(120_000, 250);
  assert.equal(write.errno, ERRNO.EIO);
  assert.equal(read.errno, ERRNO.EIO);
  rig.nodes.a.hold = () => false;
  rig.nodes.b.hold = () => false;
  rig.nodes.a.answerAll();
  rig.nodes.b.answerAll();
  await rig.until(() => rig.volume.mirrors().every((mirror) => mirror.state === 'synced'), 'in step again');
  assert.deepEqual(rig.nodes.a.bytes, rig.nodes.b.bytes);
  await rig.stop();
});

test('a failover whose mirror fails meanwhile lets everything go to the old target again', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.hold = () => true;
  rig.nodes.b.hold = (request) => request.command === FLUSH;
  const write = rig.write(0, filled(1));
  await rig.until(() => rig.nodes.b.held.length > 0, 'the failover flushes the mirror');
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await rig.pass(500);
  assert.equal(rig.volume.epoch, 0);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  const next = rig.write(512, filled(2));
  await turns();
  assert.equal(next.errno, 0);
  await rig.stop();
});

test('a failover over a second mirror that is still copying leaves every copy right', async () => {
  const rig = await VolumeRig.mirrored();
  for (let at = 0; at < 64; at += 2) rig.write(at * 1024, filled(at + 1, 1024));
  await rig.pass(200);
  rig.nodes.a.volatile = true;
  rig.nodes.c.hold = (request: NodeRequest) => request.command === WRITE;
  const added = await rig.finish(rig.volume.addMirror(target('c'), 'test'));
  assert(added.ok);
  await rig.pass(200);
  rig.write(0, filled(200, 4096));
  await turns();
  // The active target loses its power, and what it had not flushed with it.
  rig.nodes.a.up = false;
  rig.nodes.a.crash();
  rig.records.held = true;
  await rig.pass(1000);
  rig.nodes.a.up = true;
  await rig.pass(1000);
  rig.records.held = false;
  rig.records.release();
  rig.nodes.c.hold = () => false;
  rig.nodes.c.answerAll();
  const write = rig.write(60 * 1024, filled(201, 1024));
  await rig.until(() => rig.state('a') === 'synced' && rig.state('c') === 'synced', 'all in step');
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.volume.active, target('b'));
  assert.deepEqual(rig.nodes.c.bytes, rig.nodes.b.bytes);
  assert.deepEqual(rig.nodes.a.bytes, rig.nodes.b.bytes);
  await rig.stop();
});

test('a mirror added while a failover is under way gets an id of its own', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.c.hold = (request) => request.command === 7 || request.command === 0;
  const adding = rig.volume.addMirror(target('c'), 'test');
  await rig.pass(200);
  assert(rig.nodes.c.held.length > 0, 'the new target is being looked at');
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.until(() => rig.volume.epoch === 1, 'failed over');
  rig.nodes.c.hold = () => false;
  rig.nodes.c.answerAll();
  assert((await rig.finish(adding)).ok);
  const ids = rig.record().mirrors.map((mirror) => mirror.id);
  assert.equal(new Set(ids).size, 2, ids.join());
  await rig.stop();
});

test('a mirror cannot be removed while it takes over, and the record never names one copy twice', async () => {
  const rig = await VolumeRig.mirrored();
  rig.records.held = true;
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.pass(1000);
  assert.equal(rig.records.waiting, 1, 'the failover commits');
  const removal = await rig.finish(rig.volume.removeMirror(target('b'), 'test'), 1000);
  assert(!removal.ok);
  rig.records.held = false;
  rig.records.release();
  await rig.pass(200);
  const write = rig.write(0, filled(1));
  await rig.pass(100);
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.record().active, target('b'));
  assert.deepEqual(
    rig.record().mirrors.map((mirror) => mirror.target.node),
    ['a'],
  );
  await rig.stop();
});

test('a failover while another mirror is being removed keeps the old target in the record', async () => {
  const rig = await VolumeRig.mirrored();
  await rig.addMirror('c');
  rig.records.held = true;
  const removal = rig.volume.removeMirror(target('c'), 'test');
  await turns();
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.pass(1000);
  rig.records.held = false;
  rig.records.release();
  assert((await rig.finish(removal)).ok);
  await rig.until(() => rig.volume.epoch === 1, 'failed over');
  assert.deepEqual(rig.record().active, target('b'));
  assert.deepEqual(
    rig.record().mirrors.map((mirror) => mirror.target.node),
    ['a'],
  );
  const again = await rig.restarted();
  assert.deepEqual(again.volume.active, target('b'));
  await again.stop();
});

test('FLUSH and FUA hold through a failover', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.volatile = true;
  rig.nodes.a.hold = () => true;
  const fua = rig.write(0, filled(1), true);
  const flush = rig.submit(OP.FLUSH);
  await turns();
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.until(() => fua.errno === 0 && flush.errno === 0, 'answered');
  assert.deepEqual(rig.nodes.b.durable.subarray(0, 512), filled(1));
  await rig.stop();
});

test('what reached the mirror last is flushed there before the flip is committed', async () => {
  const rig = await VolumeRig.mirrored();
  const { b } = rig.nodes;
  b.volatile = true;
  b.hold = (request) => request.command === WRITE;
  const write = rig.write(0, filled(5), true);
  await turns();
  assert.equal(write.errno, 0);
  const flipping = rig.volume.flip(target('b'), { kind: 'flip', reason: 'test', verdict: null });
  await rig.until(() => rig.volume.path.isHeld, 'the flip waits for the queue');
  b.hold = () => false;
  b.answerAll();
  const flipped = await rig.finish(flipping);
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
  b.crash();
  const again = await rig.restarted();
  const read = again.read(0, 512);
  await again.until(() => read.errno !== null, 'a read is answered');
  assert.equal(again.volume.active.node, 'b');
  assert.deepEqual(read.data, filled(5));
  await again.stop();
});

test.run();
