// A copy that comes back with other contents (rule 20): a mirror that lost what it held begins anew and does not take over
// before it is whole; one with somebody else's data is left alone; an active target like that is never served from.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO } from '../../replication/device.js';
import { MemoryJournals } from '../support/memory-journals.js';
import { MemoryLatch } from '../support/memory-latch.js';
import type { ScriptedNode } from '../support/scripted-node.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/returns');
const READ = 0;
const WRITE = 1;

/** A volume with contents on a, mirrored on b, all flushed. */
async function written(): Promise<VolumeRig> {
  const rig = await VolumeRig.start();
  for (let offset = 0; offset < rig.sizeBytes; offset += 1024) rig.write(offset, filled(1 + offset / 1024, 1024));
  await turns();
  rig.flush();
  await rig.addMirror('b');
  await rig.until(() => rig.records.list('dirty/v/').length === 0, 'the mirror has flushed all it lacked');
  return rig;
}

/** The last three conditions of the mirror on b. */
function conditions(rig: VolumeRig): string[] {
  const told: string[] = [];
  for (const fact of rig.facts) if (fact.type === 'mirror-state' && fact.target.node === 'b') told.push(fact.to);
  return told.slice(-3);
}

function replaceDisk(node: ScriptedNode, value: number): void {
  node.crash();
  node.bytes.fill(value);
  node.durable.fill(value);
}

test('a mirror that comes back blank is copied anew before it may take over', async () => {
  const rig = await written();
  replaceDisk(rig.nodes.b, 0);
  await turns();
  await rig.until(() => rig.state('b') === 'synced', 'the mirror is whole again');
  assert.deepEqual(conditions(rig), ['lost', 'copying', 'synced']);
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  await rig.stop();
});

test('a mirror that is blank and not copied yet is as such in the record: a restart does not take it for whole', async () => {
  const rig = await written();
  // Nothing can be copied.
  rig.nodes.a.hold = () => true;
  replaceDisk(rig.nodes.b, 0);
  await rig.pass(1000);
  assert.equal(rig.state('b'), 'copying');
  assert.deepEqual(
    rig.record().mirrors.map(({ synced }) => synced),
    [false],
  );
  rig.nodes.a.hold = () => false;
  await rig.stop();
});

test("a mirror that comes back with somebody else's data is latched and not overwritten", async () => {
  const rig = await written();
  replaceDisk(rig.nodes.b, 0xee);
  await rig.pass(2000);
  assert.equal(rig.state('b'), 'failed');
  assert.match(rig.volume.mirrors()[0].reason!, /other contents/);
  rig.write(0, filled(9));
  await rig.pass(1000);
  assert(
    rig.nodes.b.bytes.every((byte) => byte === 0xee),
    'nothing was written there',
  );
  // A restart does not forget it, also where no checksum is known.
  const records = rig.records.crashed();
  await records.commit(records.list('sum/').map(([key]) => ({ remove: key })));
  for (const node of Object.values(rig.nodes)) node.cut();
  const again = await VolumeRig.start({ records, nodes: rig.nodes });
  await again.pass(2000);
  assert.equal(again.state('b'), 'failed');
  assert(
    again.nodes.b.bytes.every((byte) => byte === 0xee),
    'nothing was written there',
  );
  const removed = await again.finish(again.volume.removeMirror(target('b'), 'test'));
  assert(removed.ok);
  const added = await again.finish(again.volume.addMirror(target('b'), 'test'));
  assert(!added.ok);
  assert.equal(added.code, 'target-not-blank');
  await again.stop();
});

test('an active target that comes back blank is failed over from, and then copied anew', async () => {
  const rig = await written();
  replaceDisk(rig.nodes.a, 0);
  await turns();
  const read = rig.read(0, 1024);
  await rig.until(() => read.errno !== null, 'the read is answered');
  assert.deepEqual(read.data, filled(1, 1024));
  assert.deepEqual(rig.volume.active, target('b'));
  await rig.until(() => rig.state('a') === 'synced', 'the old target is a mirror again');
  assert.deepEqual(rig.nodes.a.bytes, rig.nodes.b.bytes);
  await rig.stop();
});

test('an old target that comes back blank after a failover is copied anew, not taken for a mirror in step', async () => {
  const rig = await written();
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.until(() => rig.volume.active.node === 'b', 'failed over');
  rig.nodes.a.bytes.fill(0);
  rig.nodes.a.durable.fill(0);
  rig.nodes.a.up = true;
  await rig.until(() => rig.state('a') === 'synced', 'it is a mirror again');
  assert.deepEqual(rig.nodes.a.bytes, rig.nodes.b.bytes);
  await rig.stop();
});

test('without a mirror, an active target that comes back blank is not served from, and hosts are told why they wait', async () => {
  const rig = await VolumeRig.start();
  rig.write(4096, filled(5));
  await turns();
  rig.flush();
  await turns();
  const before = Buffer.from(rig.nodes.a.bytes);
  replaceDisk(rig.nodes.a, 0);
  await rig.pass(3000);
  const read = rig.read(4096, 512);
  await rig.pass(1000);
  assert.equal(read.errno, null);
  assert.equal(rig.volume.service.state, 'blocked');
  assert.match(rig.volume.service.reason!, /other contents/);
  before.copy(rig.nodes.a.bytes);
  await rig.until(() => read.errno !== null, 'its data is back');
  assert.deepEqual(read.data, filled(5));
  await rig.stop();
});

test('copies that a restart of the gateway finds blank are noticed by their stored checksums', async () => {
  const rig = await written();
  replaceDisk(rig.nodes.b, 0);
  const again = await rig.restarted();
  await again.until(() => again.state('b') === 'synced', 'copied anew');
  assert.deepEqual(conditions(again), ['lost', 'copying', 'synced']);
  assert.deepEqual(again.nodes.b.bytes, again.nodes.a.bytes);
  await again.stop();
});

test('a write that was given up on and lands after its region was copied makes no difference between the copies', async () => {
  const rig = await VolumeRig.start({ settings: { giveUpAfterMs: 1000, hangAfterMs: 60_000 } });
  rig.write(2048, filled(1, 1024));
  await turns();
  rig.nodes.a.hold = (request) => request.command === 1;
  const late = rig.write(2048, filled(2, 512));
  // It answers others: a node that says nothing at all is cut off, and then what it has is guarded against.
  await rig.pass(10);
  rig.read(0, 512);
  await rig.until(() => late.errno !== null, 'the host is told');
  assert.equal(late.errno, 5);
  await rig.addMirror('b');
  assert.deepEqual(rig.nodes.b.read(2048, 512), filled(1));
  await rig.pass(5000);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await rig.pass(1000);
  assert(rig.nodes.a.log.filter((line) => line.startsWith('write 2048')).length > 2, 'what the copy had seen was written over it');
  assert.deepEqual(rig.nodes.a.read(2048, 512), filled(1));
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  const scrubbed = await rig.finish(rig.volume.scrub('test'));
  assert(scrubbed.ok);
  assert.deepEqual(scrubbed.value.mismatches, [], 'no stale checksum was believed');
  await rig.stop();
});

test('zeroes are no sign that a target is what it was: a blank mirror of a volume that is mostly empty is copied anew', async () => {
  // No witness is taken so early after the start.
  const rig = await VolumeRig.start({ zombieMs: 1000 });
  rig.write(rig.sizeBytes - 8192, filled(7, 8192));
  await turns();
  rig.flush();
  await rig.addMirror('b');
  await rig.until(() => rig.records.list('dirty/v/').length === 0, 'the mirror has flushed all it lacked');
  replaceDisk(rig.nodes.b, 0);
  await turns();
  await rig.until(() => rig.state('b') === 'synced', 'the mirror is whole again');
  assert.deepEqual(conditions(rig), ['lost', 'copying', 'synced']);
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  await rig.stop();
});

for (const role of ['active target', 'mirror'] as const) {
  test(`a volume whose ${role} is on a node that is not configured does not start, lets its files go, and keeps its record`, async () => {
    const journals = new MemoryJournals();
    const latch = new MemoryLatch();
    const first = await VolumeRig.mirrored({ settings: { durability: 'journal' }, journals, latches: latch });
    first.write(0, filled(1), true);
    await turns();
    const records = first.records.crashed();
    const record = records.get('volume/v');
    const { a, b, c } = first.nodes;
    const nodes: Record<string, ScriptedNode> = role === 'mirror' ? { a, c } : { b, c };
    const left = { settings: { durability: 'journal' }, records, journals: journals.crashed(), latches: latch.crashed() } as const;
    const started = await new VolumeRig({ ...left, nodes }).volume.start();
    assert.equal(started.ok ? null : started.code, 'node-not-found');
    assert.deepEqual([left.journals.files.get('v')?.closed, left.latches.closed], [true, true]);
    assert.deepEqual(records.get('volume/v'), record);

    const again = await VolumeRig.start({ ...left, nodes: { a, b, c } });
    await again.until(() => again.state('b') === 'synced', 'once the node is configured again the mirror is in step');
    const read = again.read(0, 512);
    await again.until(() => read.errno !== null, 'it is read');
    assert.deepEqual(read.data, filled(1));
    await again.stop();
  });
}

test('what is left of a write that failed is not copied before the active target would keep it', async () => {
  const rig = await VolumeRig.start();
  const { a, b } = rig.nodes;
  a.volatile = true;
  // So that the mirror cannot take over.
  a.fail = ({ command, offset }) => (command === READ && offset === 0 ? ERRNO.EIO : 0);
  assert((await rig.finish(rig.volume.addMirror(target('b'), 'test'))).ok);
  await rig.pass(2000);
  assert.equal(rig.volume.mirrors()[0].dirtyBytes, 1024);
  a.hold = ({ command }) => command === WRITE;
  const write = rig.write(8192, filled(7, 1024));
  await turns();
  a.hold = () => false;
  // All of it is there, and the answer says otherwise.
  const [held] = a.held;
  held.land();
  held.answer(ERRNO.EIO);
  await rig.until(() => write.errno !== null, 'it is answered');
  await rig.until(() => b.bytes[8192] === 7, 'it is copied');
  a.crash();
  await rig.pass(3000);
  assert.equal(rig.volume.service.state, 'served');
  assert.deepEqual(a.bytes.subarray(8192, 9216), b.bytes.subarray(8192, 9216));
  await rig.stop();
});

test('where a request of an earlier gateway may still land, the gateway after the next one knows it, too', async () => {
  const zombieMs = 5000;
  const rig = await VolumeRig.mirrored({ zombieMs });
  const { a } = rig.nodes;
  a.hold = ({ command }) => command === WRITE;
  rig.write(8192, filled(7, 1024));
  await turns();
  const [late] = a.held;
  a.hold = () => false;
  const second = await rig.restarted({ zombieMs });
  await second.pass(3500);
  assert(second.volume.markedExtents > 0, 'no sweep takes the mark away');
  await second.finish(second.volume.close());
  const third = await second.restarted({ zombieMs });
  assert(third.volume.mayStillCopyAgain);
  late.land();
  await third.pass(12_000);
  assert.equal(third.volume.markedExtents, 0);
  assert.deepEqual(third.nodes.b.bytes, third.nodes.a.bytes);
  await third.stop();
});

test.run();
