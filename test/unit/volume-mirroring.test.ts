// Mirrors that are taken away, and wishes that the end of the volume overtakes: nothing is waited for that cannot come, and no
// connection is left behind.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/mirroring');
const WRITE = 1;

test('removing a mirror whose node is away does not wait for what it will not answer', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.hold = (request) => request.command === WRITE;
  const write = rig.write(0, filled(1));
  await turns();
  assert.equal(write.errno, 0);
  assert.equal(rig.nodes.b.held.length, 1, 'on its way to the mirror');
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await turns();
  const before = rig.clock.nowMs();
  const removed = await rig.finish(rig.volume.removeMirror(target('b'), 'test'));
  assert(removed.ok);
  assert(rig.clock.nowMs() - before < 1000, `it took ${rig.clock.nowMs() - before} ms`);
  await rig.stop();
});

test('removing a mirror waits for what its node is still doing', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.hold = (request) => request.command === WRITE;
  rig.write(0, filled(1));
  await turns();
  let removed = false;
  const removal = rig.volume.removeMirror(target('b'), 'test').then(() => {
    removed = true;
  });
  await rig.pass(1000);
  assert.equal(removed, false);
  rig.nodes.b.answerAll();
  await rig.finish(removal, 1000);
  await rig.stop();
});

test('a mirror that is being removed when the volume is closed leaves no connection', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.hold = (request) => request.command === WRITE;
  rig.write(0, filled(1));
  await turns();
  const removal = rig.volume.removeMirror(target('b'), 'test');
  await rig.pass(1000);
  await rig.finish(rig.volume.close());
  await rig.finish(removal);
  await turns();
  assert.equal(rig.nodes.b.connections.size, 0);
});

test('a mirror that is being added when the volume is closed is not begun', async () => {
  const rig = await VolumeRig.start();
  rig.nodes.b.hold = () => true;
  const adding = rig.volume.addMirror(target('b'), 'test');
  await rig.until(() => rig.nodes.b.held.length > 0, 'its target is being looked at');
  await rig.finish(rig.volume.close());
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  const added = await rig.finish(adding);
  assert(!added.ok);
  assert.equal(added.code, 'closing');
  await turns();
  assert.equal(rig.nodes.b.connections.size, 0);
  assert.deepEqual(rig.record().mirrors, []);
});

test('a copy begins when the source has flushed: nothing is copied that it may still lose', async () => {
  const rig = await VolumeRig.start();
  rig.nodes.a.volatile = true;
  rig.write(0, filled(1));
  await turns();
  const { log } = rig.nodes.a;
  assert(!log.includes('flush'));
  await rig.addMirror('b');
  const firstRead = log.findIndex((line) => line.startsWith('read'));
  assert(firstRead >= 0 && log.slice(0, firstRead).includes('flush'), log.join(', '));
  await rig.stop();
});

test('after a restart a new mirror on plain nodes is copied when nothing that was sent before can land any more', async () => {
  const before = await VolumeRig.start({ zombieMs: 5000 });
  before.write(0, filled(1));
  await turns();
  before.nodes.a.hold = (request) => request.command === 1;
  before.write(0, filled(2));
  await turns();
  const [late] = before.nodes.a.held;
  const rig = await VolumeRig.start({ zombieMs: 5000, records: before.records.crashed(), nodes: before.nodes });
  before.nodes.a.hold = () => false;
  before.nodes.a.cut();
  await rig.until(() => rig.volume.service.state === 'served', 'the volume is served');
  const added = await rig.finish(rig.volume.addMirror(target('b'), 'test'));
  assert(added.ok);
  await rig.pass(3000);
  assert.equal(rig.state('b'), 'copying');
  late.land();
  await rig.until(() => rig.state('b') === 'synced', 'the mirror is in step');
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  await rig.stop();
});

test('a mirror that could not be written down, and may be, is a copy until it is durable that it is none', async () => {
  const rig = await VolumeRig.start();
  const named = (): number => (rig.records.get('volume/v') as { mirrors: unknown[] }).mirrors.length;
  const commit = rig.records.commit.bind(rig.records);
  rig.records.commit = (changes) => {
    if (changes.some((change) => 'put' in change && change.put === 'ours/b/')) rig.records.failing = 'after';
    return commit(changes);
  };
  const adding = rig.volume.addMirror(target('b'), 'test');
  for (let round = 0; round < 100 && named() === 0; round += 1) await turns(1);
  rig.records.failing = 'before';
  const added = await rig.finish(adding);
  assert(!added.ok && added.code === 'store-unwritable');
  assert(!added.ok && added.code === 'store-unwritable');
  assert.deepEqual([named(), rig.volume.copies.length], [1, 2], 'the store names it, so nobody may free its target');
  await rig.pass(1000);
  assert.deepEqual([named(), rig.volume.copies.length], [1, 2]);
  assert.deepEqual(rig.volume.mirrors(), [], 'for everybody else there is none');
  const again = await rig.finish(rig.volume.addMirror(target('b'), 'test'));
  assert(!again.ok && again.code === 'busy');
  rig.records.commit = commit;
  rig.records.failing = null;
  await rig.until(() => rig.volume.copies.length === 1, 'it is none');
  assert.equal(named(), 0);
  await rig.addMirror('b');
  await rig.stop();
});

test('checksums are learnt from a mirror that was added while another was still being disowned', async () => {
  const rig = await VolumeRig.start();
  rig.write(0, filled(1));
  const commit = rig.records.commit.bind(rig.records);
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  let namings = 0;
  rig.records.commit = async (changes) => {
    if (changes.some((change) => 'put' in change && change.put === 'volume/v')) {
      namings += 1;
      if (namings === 1) throw new Error('full');
      await gate;
    }
    return commit(changes);
  };
  const refused = await rig.finish(rig.volume.addMirror(target('b'), 'test'));
  assert(!refused.ok && refused.code === 'store-unwritable');
  await rig.pass(1000);
  const adding = rig.volume.addMirror(target('c'), 'test');
  await rig.until(() => rig.volume.copies.length === 3, 'both are there');
  open();
  const added = await rig.finish(adding);
  assert(added.ok, added.ok ? '' : added.message);
  await rig.until(() => rig.volume.copies.length === 2 && rig.state('c') === 'synced', 'the other is none any more');
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  const flipped = await rig.finish(rig.volume.flip(target('c'), { kind: 'flip', reason: 'test', verdict: null }));
  assert(flipped.ok && flipped.value.roots.verifiedRegions > 0, 'regions are known');
  await rig.stop();
});

test('a scrub compares all copies that there are for people, not one that could not be written down', async () => {
  const rig = await VolumeRig.mirrored();
  const commit = rig.records.commit.bind(rig.records);
  rig.records.commit = async (changes) => {
    if (changes.some((change) => 'put' in change && change.put === 'volume/v')) throw new Error('full');
    return commit(changes);
  };
  const refused = await rig.finish(rig.volume.addMirror(target('c'), 'test'));
  assert(!refused.ok && refused.code === 'store-unwritable');
  assert.equal(rig.volume.copies.length, 3);
  const scrubbed = await rig.finish(rig.volume.scrub('test'));
  assert.equal(scrubbed.ok && scrubbed.value.state, 'done');
  rig.records.commit = commit;
  await rig.until(() => rig.volume.copies.length === 2, 'it is none');
  await rig.stop();
});

test.run();
