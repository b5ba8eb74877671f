// Regions that differ where nobody can tell which copy is right are known to a restarted gateway too (rule 16): it refuses
// flips until they are mended, however it was stopped.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { Damage } from '../../gateway/volume/damage.js';
import { MemoryRecords } from '../support/memory-records.js';
import { QuietLog } from '../support/quiet-log.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/damage');
const why = { kind: 'flip' as const, reason: 'test', verdict: null };
const KEY = 'damage/v';
const REGIONS_MAX = 10_000;

/** Neither copy holds what the checksum of the region at 8192 says. */
async function damaged(): Promise<VolumeRig> {
  const rig = await VolumeRig.start();
  for (let offset = 0; offset < rig.sizeBytes; offset += 1024) rig.write(offset, filled(1 + offset / 1024, 1024));
  await turns();
  await rig.addMirror('b');
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  rig.nodes.a.bytes.fill(0xdd, 8192, 8200);
  rig.nodes.b.bytes.fill(0xee, 8192, 8200);
  const scrubbed = await rig.finish(rig.volume.scrub('test'));
  assert(scrubbed.ok);
  return rig;
}

function reported(rig: VolumeRig): number[] {
  return rig.facts.flatMap((fact) => (fact.type === 'damage' ? [fact.offset] : []));
}

async function flipRefused(rig: VolumeRig): Promise<boolean> {
  const flipped = await rig.finish(rig.volume.flip(target('b'), why));
  return !flipped.ok && flipped.code === 'copies-differ';
}

test('a restarted gateway knows the damage, refuses a flip, and does not report it again', async () => {
  const rig = await damaged();
  assert.deepEqual(reported(rig), [8192]);
  const again = await rig.restarted();
  await again.until(() => again.state('b') === 'synced', 'in step');
  assert(await flipRefused(again));
  assert.deepEqual(reported(again), []);
  await again.stop();
});

test('damage of a region that was found equal before counts like any other', async () => {
  const rig = await damaged();
  await rig.pass(2000);
  rig.nodes.a.bytes.fill(0xdd, 1024, 1032);
  rig.nodes.b.bytes.fill(0xee, 1024, 1032);
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  const { regions } = rig.records.get(KEY) as { regions: [number, string][] };
  assert.deepEqual(
    regions.map(([offset]) => offset),
    [8192, 1024],
  );
  await rig.stop();
});

test('damage is reported when it is durable', async () => {
  const rig = await damaged();
  rig.nodes.a.bytes.fill(0xdd, 1024, 1032);
  rig.nodes.b.bytes.fill(0xee, 1024, 1032);
  rig.records.held = true;
  const scrub = rig.volume.scrub('test');
  await rig.pass(500);
  assert.deepEqual(reported(rig), [8192]);
  assert(await flipRefused(rig), 'it counts at once');
  rig.records.held = false;
  rig.records.release();
  assert((await rig.finish(scrub)).ok);
  assert.deepEqual(reported(rig), [8192, 1024]);
  const types = rig.facts.map(({ type }) => type);
  assert(types.lastIndexOf('damage') < types.lastIndexOf('scrub-finished'), 'before the end of the scrub');
  await rig.stop();
});

test('damage that cannot be stored is reported all the same, and stored as soon as it can be', async () => {
  const rig = await damaged();
  rig.nodes.a.bytes.fill(0xdd, 1024, 1032);
  rig.nodes.b.bytes.fill(0xee, 1024, 1032);
  rig.records.failing = 'before';
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  assert.deepEqual(reported(rig), [8192, 1024]);
  rig.records.failing = null;
  await rig.pass(500);
  const { regions } = rig.records.get(KEY) as { regions: [number, string][] };
  assert.deepEqual(
    regions.map(([offset]) => offset),
    [8192, 1024],
  );
  await rig.stop();
});

test('what is mended is forgotten for good', async () => {
  const rig = await damaged();
  rig.write(8192, filled(7, 1024));
  await rig.until(() => rig.records.get(KEY) === undefined, 'mended');
  const again = await rig.restarted();
  await again.until(() => again.state('b') === 'synced', 'in step');
  const flipped = await again.finish(again.volume.flip(target('b'), why));
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
  await again.stop();
});

test('damage goes with the last mirror, and not before', async () => {
  const rig = await damaged();
  await rig.addMirror('c');
  assert((await rig.finish(rig.volume.removeMirror(target('c'), 'test'))).ok);
  await turns();
  assert.notEqual(rig.records.get(KEY), undefined);
  assert((await rig.finish(rig.volume.removeMirror(target('b'), 'test'))).ok);
  await turns();
  assert.equal(rig.records.get(KEY), undefined);
  await rig.stop();
});

test('damage of a volume that a restart finds without a mirror counts for nothing', async () => {
  const records = new MemoryRecords([[KEY, { format: 1, regions: [[8192, 'the copies differ']], more: false }]]);
  const rig = await VolumeRig.start({ records });
  await rig.addMirror('b');
  assert.equal(rig.records.get(KEY), undefined);
  assert((await rig.finish(rig.volume.flip(target('b'), why))).ok);
  await rig.stop();
});

test('a record that cannot be read refuses flips until a scrub has looked', async () => {
  const rig = await VolumeRig.mirrored();
  await rig.records.commit([{ put: KEY, value: { format: 2 } }]);
  const again = await rig.restarted();
  await again.until(() => again.state('b') === 'synced', 'in step');
  assert(await flipRefused(again));
  assert((await again.finish(again.volume.scrub('test'))).ok);
  assert.equal(again.records.get(KEY), undefined);
  assert((await again.finish(again.volume.flip(target('b'), why))).ok);
  await again.stop();
});

test('no more regions are kept than there is room for, and that others differ is not forgotten', async () => {
  const records = new MemoryRecords();
  const damage = new Damage(records, 'v', new QuietLog());
  for (let at = 0; at <= REGIONS_MAX; at += 1) assert.equal(damage.add(at * 1024, 'they differ'), at < REGIONS_MAX);
  await damage.save();
  for (const offset of damage.offsets()) damage.delete(offset);
  assert(damage.any, 'one of them was not kept');
  await damage.save();
  const again = new Damage(records.crashed(), 'v', new QuietLog());
  assert.deepEqual([again.count, again.any], [0, true]);
  again.listed();
  assert(!again.any);
});

test.run();
