// A volume reads its copies back by itself (rules 16 and 18): regions that rest become known and verified, what differs is mended
// or reported, a flip looks at a sample first and its certificate names the roots of what was read from each copy.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
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

test.run();
