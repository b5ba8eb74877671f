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

/** The mirror is slow once hosts are held: a flush before was quick. */
function slowWhileHeld(rig: VolumeRig): void {
  rig.nodes.b.hold = (request) => request.command === FLUSH && rig.volume.path.isHeld;
}

test('a flip that is not ready within its deadline lets everything go as if nothing had happened', async () => {
  const rig = await VolumeRig.mirrored();
  slowWhileHeld(rig);
  const flip = rig.volume.flip(target('b'), why);
  await turns();
  const held = rig.write(512, filled(2));
  const fromMs = rig.clock.nowMs();
  const outcome = await rig.finish(flip);
  assert.equal(outcome.ok ? null : outcome.code, 'flip-deadline');
  assert(rig.clock.nowMs() - fromMs <= 300);
  assert.equal(rig.volume.epoch, 0);
  assert.equal(held.errno, 0);
  assert.deepEqual(rig.nodes.a.read(512, 512), filled(2));
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  await turns();
  const again = await rig.finish(rig.volume.flip(target('b'), why));
  assert(again.ok);
  await rig.stop();
});

test('a flip that is called off is tried again with twice the time, as far as the policy allows; hosts go on between', async () => {
  const rig = await VolumeRig.mirrored({ settings: { flipDeadlineMaxMs: 900 } });
  const { path } = rig.volume;
  slowWhileHeld(rig);
  const flip = rig.volume.flip(target('b'), why);
  const pausesMs: number[] = [];
  for (let tries = 1; tries <= 3; tries += 1) {
    await rig.until(() => path.isHeld, 'hosts are held');
    const fromMs = rig.clock.nowMs();
    const held = rig.write(0, filled(tries));
    if (tries < 3) await rig.until(() => !path.isHeld, 'hosts go on');
    else await rig.pass(600);
    pausesMs.push(rig.clock.nowMs() - fromMs);
    rig.nodes.b.answerAll();
    await turns();
    assert.equal(held.errno, 0, `try ${tries}`);
  }
  const outcome = await rig.finish(flip);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  assert.deepEqual(pausesMs, [250, 500, 600]);
  assert.deepEqual(rig.nodes.b.read(0, 512), filled(3));
  await rig.stop();
});

test('hosts are not held for a try that the mirror has just been too slow for', async () => {
  const rig = await VolumeRig.mirrored({ settings: { flipDeadlineMaxMs: 1000 } });
  rig.nodes.b.hold = (request) => request.command === FLUSH;
  const flip = rig.volume.flip(target('b'), why);
  let heldMs = 0;
  for (let flushes = 0; flushes < 20; flushes += 1) {
    for (let passed = 0; passed < 400; passed += 50) {
      await rig.pass(50);
      if (rig.volume.path.isHeld) heldMs += 50;
    }
    rig.nodes.b.answerAll();
    await turns();
  }
  const outcome = await rig.finish(flip);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  assert(heldMs <= 500, `held for ${heldMs} ms: not for the 250 ms that a flush of 400 ms does not fit in`);
  await rig.stop();
});

test('an active target that keeps requests does not keep the flip: they go to the mirror, in order', async () => {
  const rig = await VolumeRig.mirrored();
  const { a, b } = rig.nodes;
  rig.write(1024, filled(9));
  await turns();
  a.hold = () => true;
  const first = rig.write(0, filled(1));
  const second = rig.write(0, filled(2));
  const read = rig.read(1024, 512);
  const flush = rig.flush();
  await turns();
  const flip = rig.volume.flip(target('b'), why);
  await rig.until(() => rig.volume.path.isHeld, 'hosts are held');
  const fromMs = rig.clock.nowMs();
  const held = rig.write(512, filled(3));
  const outcome = await rig.finish(flip);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  assert(rig.clock.nowMs() - fromMs <= 250, 'within the deadline');
  assert.equal(outcome.value.kind, 'flip');
  assert.match(outcome.value.cause, /a kept requests/);
  await turns();
  assert.deepEqual(
    [first, second, held, flush, read].map(({ errno }) => errno),
    [0, 0, 0, 0, 0],
  );
  assert.deepEqual(b.read(0, 1024), Buffer.concat([filled(2), filled(3)]));
  assert.deepEqual(read.data, filled(9));
  // What it kept lands after all, and is written over.
  a.hold = () => false;
  a.answerAll();
  await rig.until(() => rig.state('a') === 'synced', 'the old target is in step');
  assert.deepEqual(a.bytes, b.bytes);
  await rig.stop();
});

test('an active target that answers at last is not given up by a flip', async () => {
  const rig = await VolumeRig.mirrored();
  const { a, b } = rig.nodes;
  a.hold = (request) => request.command === WRITE;
  const write = rig.write(0, filled(1));
  await turns();
  b.hold = (request) => request.command === FLUSH && rig.volume.path.isHeld;
  const flip = rig.volume.flip(target('b'), why);
  await rig.until(() => rig.volume.path.isSuspended, 'it is waited for no more');
  const dials = a.dials;
  a.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  b.hold = () => false;
  b.answerAll();
  const outcome = await rig.finish(flip);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  assert.equal(a.dials, dials, 'its connection is the same');
  assert.deepEqual(b.read(0, 512), filled(1));
  await rig.until(() => rig.state('a') === 'synced', 'the old target is in step');
  await rig.stop();
});

test('what the active target answers during the last flush of its mirror is flushed there, too', async () => {
  const rig = await VolumeRig.mirrored();
  const { a, b } = rig.nodes;
  b.volatile = true;
  a.hold = (request) => request.command === WRITE;
  const write = rig.write(0, filled(7));
  await turns();
  b.hold = (request) => request.command === FLUSH && rig.volume.path.isSuspended;
  const flip = rig.volume.flip(target('b'), why);
  await rig.until(() => b.held.length === 1, 'the mirror flushes');
  b.hold = () => false;
  const [flushing] = b.held;
  flushing.land();
  a.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  assert.deepEqual(b.read(0, 512), filled(7));
  flushing.answer();
  const outcome = await rig.finish(flip);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  assert.deepEqual(b.durable.subarray(0, 512), filled(7));
  await rig.stop();
});

test('a queue that its mirror needs too long for is made short before hosts are held', async () => {
  const rig = await VolumeRig.mirrored({ settings: { queueBytesMax: 16 * 1024 * 1024 } });
  const { b } = rig.nodes;
  const { path } = rig.volume;
  b.hold = (request) => request.command === WRITE;
  const length = 32 * 1024;
  const unanswered: { errno: number | null }[] = [];
  const press = (): void => {
    while (unanswered.filter(({ errno }) => errno === null).length < 16) unanswered.push(rig.write(0, filled(unanswered.length, length)));
  };
  const queueBytes = (): number => rig.volume.mirrors()[0].lagBytes;
  for (let round = 0; round < 1000 && queueBytes() < 15 * 1024 * 1024; round += 1) {
    press();
    await turns(1);
  }
  assert(queueBytes() > 15 * 1024 * 1024, `${queueBytes()} bytes`);
  await rig.pass(100);
  const flip = rig.volume.flip(target('b'), why);
  let heldWith = -1;
  for (let round = 0; round < 2000 && heldWith < 0; round += 1) {
    press();
    b.held[0]?.answer();
    await rig.pass(5, 5);
    if (path.isHeld) heldWith = queueBytes();
  }
  assert(heldWith >= 0 && heldWith <= 1024 * 1024, `${heldWith} bytes when hosts are held`);
  b.hold = () => false;
  b.answerAll();
  // They overlap: one after the other.
  await turns(500);
  const outcome = await rig.finish(flip);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  await rig.pass(100);
  assert(
    unanswered.every(({ errno }) => errno === 0),
    'every write is answered',
  );
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

test('with sync a mirror that is lost holds hosts up once, for a moment, and flushes not at all', async () => {
  const rig = await VolumeRig.mirrored({ settings: { durability: 'sync' } });
  const { b } = rig.nodes;
  b.hold = (request) => request.command === FLUSH;
  const flush = rig.flush();
  await rig.until(() => b.held.length === 1, 'the mirror flushes');
  b.up = false;
  b.cut();
  await rig.pass(200);
  assert.equal(flush.errno, 0, 'it is not in step any more');
  const first = rig.write(0, filled(1));
  await rig.pass(1000);
  assert.equal(first.errno, null, 'it may be back in a moment');
  await rig.pass(1500);
  assert.equal(first.errno, 0);
  for (let at = 1; at < 20; at += 1) {
    const write = rig.write(at * 1024, filled(at));
    await rig.pass(100);
    assert.equal(write.errno, 0, `write ${at}`);
  }
  assert.equal((await rig.finish(Promise.resolve(rig.volume.mirrors()[0]))).lagBytes, 0, 'nothing is kept for it');
  b.up = true;
  b.hold = () => false;
  await rig.until(() => rig.state('b') === 'synced', 'in step again');
  assert.deepEqual(b.bytes, rig.nodes.a.bytes);
  await rig.stop();
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
