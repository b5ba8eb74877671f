// An operator gives up an active target that will not come back: what is asked of him first, what hosts then read, and that
// nothing is changed where it cannot be.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { target, VolumeRig } from '../support/volume-rig.js';

import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';

const test = suite('volume: takeover');

const WRITE = 1;

/** What a restarted gateway finds: b lacks the last write of the extent at 0, and a does not answer any more. */
async function bereft(): Promise<VolumeRig> {
  const rig = await VolumeRig.mirrored();
  await rig.until(() => rig.records.list('dirty/').length === 0, 'it is written down that the mirror has everything');
  rig.write(0, filled(1, 1024));
  rig.write(8192, filled(9, 1024));
  await rig.pass(100);
  rig.nodes.b.hold = (request) => request.command === WRITE;
  const newest = rig.write(0, filled(2, 512));
  await turns();
  assert.equal(newest.errno, 0);
  rig.nodes.b.hold = () => false;
  rig.nodes.b.held.length = 0;
  rig.nodes.a.up = false;
  const again = await rig.restarted();
  await again.pass(4000);
  assert.equal(again.volume.service.state, 'waiting');
  return again;
}

test('what may be older is said, and nothing happens before somebody agrees to that', async () => {
  const rig = await bereft();
  const read = rig.read(0, 1024);
  const refused = await rig.finish(rig.volume.takeOver(target('b'), false));
  assert(!refused.ok);
  assert.equal(refused.code, 'loss-not-accepted');
  assert.deepEqual(refused.details, { lossBytes: 8192 }, 'the two extents that are marked');
  assert.deepEqual(rig.volume.active, target('a'));
  assert.equal(read.errno, null);
  await rig.stop();
});

test('hosts that waited are answered by the mirror, with what it has; the old target is brought in step when it comes back', async () => {
  const rig = await bereft();
  const read = rig.read(0, 1024);
  const taken = await rig.finish(rig.volume.takeOver(target('b'), true));
  assert(taken.ok, taken.ok ? '' : taken.message);
  const { kind, epoch, dirtyRegions, cause } = taken.value;
  assert.deepEqual({ kind, epoch, dirtyRegions }, { kind: 'failover', epoch: 1, dirtyRegions: 8 });
  assert.match(cause, /an operator gave up a; up to 8KiB may be older/);
  await turns();
  assert.equal(read.errno, 0);
  assert.deepEqual(read.data, filled(1, 1024), 'older, and no error');
  assert.deepEqual(rig.record().active, target('b'));
  const write = rig.write(4096, filled(3, 512));
  await turns();
  assert.equal(write.errno, 0);
  rig.nodes.a.up = true;
  await rig.until(() => rig.state('a') === 'synced', 'the old target is in step');
  await rig.pass(1000);
  assert.deepEqual(rig.nodes.a.bytes, rig.nodes.b.bytes);
  await rig.stop();
});

test('a gateway that is killed right after a takeover serves from the mirror, and knows what the old target has that it lacks', async () => {
  const rig = await bereft();
  const taken = await rig.finish(rig.volume.takeOver(target('b'), true));
  assert(taken.ok);
  const again = await rig.restarted();
  again.nodes.a.up = true;
  await again.until(() => again.state('a') === 'synced', 'the old target is in step');
  assert.deepEqual(again.volume.active, target('b'));
  assert.deepEqual(again.nodes.a.bytes, again.nodes.b.bytes);
  await again.stop();
});

/** b is away, and what a host wrote meanwhile, a whole region, is not kept for it any more. */
async function fallenBack(): Promise<VolumeRig> {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.cut();
  rig.nodes.b.up = false;
  await rig.pass(100);
  rig.write(0, filled(2, 1024));
  await rig.until(() => rig.volume.mirrors()[0].dirtyBytes > 0, 'it fell back', 60_000);
  return rig;
}

test('where the mirror is older its checksums say nothing', async () => {
  const rig = await fallenBack();
  // What was queued for it before it gets when it is back.
  rig.write(0, filled(3, 1024));
  await rig.pass(6000);
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  rig.nodes.b.up = true;
  await rig.pass(3000);
  const taken = await rig.finish(rig.volume.takeOver(target('b'), true));
  assert(taken.ok, taken.ok ? '' : taken.message);
  const read = rig.read(0, 1024);
  await rig.pass(100);
  assert.equal(read.errno, 0);
  assert.deepEqual(read.data, filled(2, 1024), 'older, and no error');
  await rig.stop();
});

test('a target that answers is not given up, nor is one for a mirror that is away or was never complete', async () => {
  const rig = await VolumeRig.mirrored();
  const alive = await rig.finish(rig.volume.takeOver(target('b'), true));
  assert.equal(alive.ok ? null : alive.code, 'active-answers');
  const nowhere = await rig.finish(rig.volume.takeOver(target('c'), true));
  assert.equal(nowhere.ok ? null : nowhere.code, 'no-such-mirror');
  await rig.stop();

  const both = await bereft();
  both.nodes.b.up = false;
  both.nodes.b.cut();
  await both.pass(500);
  const away = await both.finish(both.volume.takeOver(target('b'), true));
  assert.equal(away.ok ? null : away.code, 'mirror-unusable');
  await both.stop();

  const fresh = await VolumeRig.start();
  fresh.nodes.b.hold = (request) => request.command === WRITE;
  fresh.write(0, filled(1, 512));
  await turns();
  const added = await fresh.finish(fresh.volume.addMirror(target('b'), 'test'));
  assert(added.ok);
  await fresh.pass(200);
  fresh.nodes.a.up = false;
  fresh.nodes.a.cut();
  await fresh.pass(500);
  const incomplete = await fresh.finish(fresh.volume.takeOver(target('b'), true));
  assert.equal(incomplete.ok ? null : incomplete.code, 'mirror-incomplete');
  await fresh.stop();
});

test('a mirror that fails while it takes over lacks what it lacked, and the old target may come back', async () => {
  const rig = await bereft();
  rig.nodes.b.fail = (request) => (request.command === 3 ? 5 : 0);
  const failed = await rig.finish(rig.volume.takeOver(target('b'), true));
  assert(!failed.ok);
  assert.equal(rig.volume.mirrors()[0].dirtyBytes, 8192);
  assert.deepEqual(rig.record().active, target('a'));
  rig.nodes.b.fail = () => 0;
  rig.nodes.a.up = true;
  const read = rig.read(0, 1024);
  await rig.until(() => rig.state('b') === 'synced', 'the mirror is in step');
  assert.deepEqual(read.data, Buffer.concat([filled(2, 512), filled(1, 512)]));
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  await rig.stop();
});

test('while the store cannot be written nobody takes over', async () => {
  const rig = await fallenBack();
  await rig.until(() => rig.volume.markedExtents === 0, 'the mark is in the record of the mirror', 60_000);
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  rig.nodes.b.up = true;
  await rig.pass(3000);
  rig.records.failing = 'before';
  const refused = await rig.finish(rig.volume.takeOver(target('b'), true));
  assert.equal(refused.ok ? null : refused.code, 'store-unwritable');
  assert.deepEqual(rig.volume.active, target('a'));
  await rig.stop();
});

test.run();
