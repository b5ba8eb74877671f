// A volume reads its copies back by itself (rules 16 and 18): regions that rest become known and verified, what differs is mended
// or reported, a flip looks at a sample first and its certificate names the roots of what was read from each copy.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO } from '../../replication/device.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/scrubbing');
const why = { kind: 'flip' as const, reason: 'test', verdict: null };
const REGIONS = 64;

async function written(): Promise<VolumeRig> {
  const rig = await VolumeRig.start();
  for (let offset = 0; offset < rig.sizeBytes; offset += 1024) rig.write(offset, filled(1 + offset / 1024, 1024));
  await turns();
  return rig;
}

test('the certificate of a flip says what was read back of both copies', async () => {
  const rig = await written();
  await rig.addMirror('b');
  await rig.pass(1000);
  // A hot region is not read back.
  rig.write(5 * 1024, filled(0xaa));
  await turns();
  const flipped = await rig.finish(rig.volume.flip(target('b'), why));
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
  const { roots } = flipped.value;
  assert.match(roots.from!, /^[0-9a-f]{16}$/);
  assert.equal(roots.to, roots.from);
  assert.deepEqual([roots.verifiedRegions, roots.unverifiedRegions], [REGIONS - 1, 1]);
  assert.notEqual(roots.oldestVerification, null);
  await rig.stop();
});

test('what was written and rests becomes known again', async () => {
  const rig = await written();
  await rig.addMirror('b');
  rig.write(5 * 1024, filled(0xaa, 1024));
  await turns();
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  await rig.pass(1000);
  const flipped = await rig.finish(rig.volume.flip(target('b'), why));
  assert(flipped.ok);
  assert.equal(flipped.value.roots.unverifiedRegions, 0);
  await rig.stop();
});

test('a scrub goes on where a gateway that was killed was in it, and tells what that one had found', async () => {
  const rig = await written();
  await rig.addMirror('b');
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  rig.nodes.b.bytes.fill(0xee, 8192, 8200);
  // One chunk takes seconds, so that how far it is is written down in the middle.
  rig.nodes.b.hold = (request) => request.command === 0;
  const scrub = rig.volume.scrub('test');
  void scrub;
  const compared = (): number => rig.volume.scrubReport!.comparedBytes;
  while (compared() < rig.sizeBytes * 0.75) {
    await rig.pass(1000);
    rig.nodes.b.answerAll();
    await turns(10);
  }
  const { startedAt } = rig.volume.scrubReport!;
  const stored = rig.records.get('scrub/v') as { progress: { comparedBytes: number } };
  assert(stored.progress.comparedBytes > 0 && stored.progress.comparedBytes < rig.sizeBytes);
  rig.nodes.b.hold = () => false;
  const reads = rig.nodes.b.log.length;
  const again = await rig.restarted();
  await again.until(() => again.facts.some((fact) => fact.type === 'scrub-finished'), 'it ends by itself');
  const report = again.volume.scrubReport!;
  assert.deepEqual([report.state, report.startedAt, report.comparedBytes], ['done', startedAt, rig.sizeBytes]);
  assert.equal(report.mismatches.filter(({ offset, repaired }) => offset === 8192 && repaired).length, 1);
  const readAgain = new Set(again.nodes.b.log.slice(reads).filter((text) => text.startsWith('read') && text.endsWith('+4096')));
  assert.equal(readAgain.size, (rig.sizeBytes - stored.progress.comparedBytes) / 4096, 'not what was compared');
  assert.equal(again.records.get('scrub/v'), undefined);
  await again.stop();
});

test('an unfinished scrub of other copies means nothing', async () => {
  const rig = await written();
  await rig.addMirror('b');
  const progress = { first: 0, stride: 1, done: 15, comparedBytes: 15 * 4096, whole: true };
  const unfinished = { format: 1, copies: ['a', 'c'], startedAt: '2020-01-01T00:00:00.000Z', progress, mismatches: [] };
  await rig.records.commit([{ put: 'scrub/v', value: unfinished }]);
  const again = await rig.restarted();
  await again.until(() => again.records.get('scrub/v') === undefined, 'it is forgotten');
  const scrubbed = await again.finish(again.volume.scrub('test'));
  assert(scrubbed.ok && scrubbed.value.startedAt > unfinished.startedAt && scrubbed.value.comparedBytes === again.sizeBytes);
  await again.stop();
});

test('damage that the reading back finds is mended, and the next scrub reports it', async () => {
  const rig = await written();
  await rig.addMirror('b');
  rig.nodes.b.bytes.fill(0xee, 8192, 8200);
  await rig.pass(2000);
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes, 'mended before anyone asked');
  const scrubbed = await rig.finish(rig.volume.scrub('test'));
  assert(scrubbed.ok);
  assert.equal(scrubbed.value.state, 'done');
  assert.deepEqual(
    scrubbed.value.mismatches.map(({ offset, wrong, repaired }) => [offset, wrong, repaired]),
    [[8192, 'b', true]],
  );
  const again = await rig.finish(rig.volume.scrub('test'));
  assert(again.ok);
  assert.deepEqual(again.value.mismatches, []);
  await rig.stop();
});

test('damage that the reading back is mending when a scrub begins is in its report', async () => {
  const rig = await written();
  await rig.addMirror('b');
  rig.nodes.b.bytes.fill(0xee, 8192, 8200);
  // The repair by the reading back hangs.
  rig.nodes.b.hold = (request) => request.command === 1 && request.offset === 8192;
  await rig.until(() => rig.nodes.b.held.length > 0, 'the reading back mends');
  const scrub = rig.volume.scrub('test');
  await turns();
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  const scrubbed = await rig.finish(scrub);
  assert(scrubbed.ok);
  assert.deepEqual(
    scrubbed.value.mismatches.map(({ offset, repaired }) => [offset, repaired]),
    [[8192, true]],
  );
  await rig.stop();
});

test('a mirror that does not hold what it was given is not flipped to', async () => {
  const rig = await written();
  await rig.addMirror('b');
  rig.nodes.b.bytes.fill(0);
  const refused = await rig.finish(rig.volume.flip(target('b'), why));
  assert(!refused.ok);
  assert.equal(refused.code, 'copies-differ');
  assert.deepEqual(rig.volume.active, target('a'));
  await rig.stop();
});

test('where no copy is known to be right, hosts get an error and no bytes, until it was written again', async () => {
  const rig = await written();
  await rig.addMirror('b');
  rig.write(0, filled(9, 512));
  await turns();
  // Nothing is known of the region now.
  rig.nodes.b.bytes.fill(0xee, 600, 700);
  const scrubbed = await rig.finish(rig.volume.scrub('test'));
  assert(scrubbed.ok);
  assert.deepEqual(
    scrubbed.value.mismatches.map(({ offset, repaired }) => [offset, repaired]),
    [[0, false]],
  );
  const [fenced, beside] = [rig.read(512, 512), rig.read(1024, 512)];
  await turns();
  assert.deepEqual([fenced.errno, beside.errno], [ERRNO.EIO, 0]);
  const refused = await rig.finish(rig.volume.flip(target('b'), why));
  assert(!refused.ok);
  assert.equal(refused.code, 'copies-differ');
  rig.write(0, filled(8, 1024));
  await rig.pass(8000);
  const again = rig.read(512, 512);
  await turns();
  assert.deepEqual([again.errno, again.data], [0, filled(8)]);
  await rig.stop();
});

test('an active target that comes back with a rotten region goes on, and the region is mended from the mirror', async () => {
  const rig = await VolumeRig.start();
  // In one write: its beginning is the witness, the rest is known by checksums alone.
  rig.write(0, Buffer.alloc(rig.sizeBytes, 5));
  await turns();
  await rig.addMirror('b');
  await rig.pass(3000);
  rig.nodes.a.bytes.fill(0xee, 40_960, 40_964);
  rig.nodes.a.durable.fill(0xee, 40_960, 40_964);
  for (let round = 0; round < 8; round += 1) {
    rig.nodes.a.cut();
    await rig.pass(500);
  }
  assert.deepEqual(rig.volume.active, target('a'), 'no reason to leave it');
  assert.equal(rig.volume.service.state, 'served');
  const read = rig.read(40_960, 512);
  await turns();
  assert.deepEqual(read.data, filled(5));
  assert.deepEqual(rig.nodes.a.bytes, rig.nodes.b.bytes);
  await rig.stop();
});

test.run();
