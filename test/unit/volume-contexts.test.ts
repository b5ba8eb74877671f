// What a volume tells of its regions in `x-forestall:dirty` and `x-forestall:scrubbed`. Regions are 1 KiB here, extents 4 KiB.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { volumeContexts } from '../../gateway/volume/volume-contexts.js';
import { Bitmap } from '../../replication/bitmap.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { ScrubTimes } from '../../gateway/volume/scrub-times.js';
import type { Clock } from '../../replication/world.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/contexts');
const KIB = 1024;
const NEVER = 0xffff_ffff;

function runs(rig: VolumeRig, name: string, offset = 0, length = rig.sizeBytes): [number, number][] {
  const context = rig.volume.contexts.find((each) => each.name === `x-forestall:${name}`);
  assert(context !== undefined, name);
  return context.runs(offset, length).map(({ lengthBytes, status }) => [lengthBytes, status]);
}

test('nothing is dirty where there is no mirror, all of it where one has just begun, nothing once it is in step', async () => {
  const rig = await VolumeRig.start();
  assert.deepEqual(runs(rig, 'dirty'), [[64 * KIB, 0]]);
  rig.nodes.a.hold = (request) => request.command === 0;
  void rig.volume.addMirror(target('b'), 'test');
  await turns();
  assert.deepEqual(runs(rig, 'dirty'), [[64 * KIB, 1]]);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await rig.until(() => rig.volume.copies[1]?.mirror?.complete === true, 'it is in step');
  assert.deepEqual(runs(rig, 'dirty'), [[64 * KIB, 0]]);
  await rig.stop();
});

test('what waits in the queue of a mirror is dirty, and what one that is away misses', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.b.hold = (request) => request.command === 1;
  rig.write(5 * KIB + 512, filled(0xaa, 1024));
  await turns();
  assert.deepEqual(runs(rig, 'dirty'), [
    [5 * KIB, 0],
    [2 * KIB, 1],
    [57 * KIB, 0],
  ]);
  assert.deepEqual(runs(rig, 'dirty', 6 * KIB, 2 * KIB), [
    [KIB, 1],
    [KIB, 0],
  ]);
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  await rig.until(() => runs(rig, 'dirty').length === 1, 'the mirror has it');
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await turns();
  rig.write(0, filled(0xbb, 1024));
  await turns();
  assert.deepEqual(runs(rig, 'dirty'), [
    [KIB, 1],
    [63 * KIB, 0],
  ]);
  await rig.stop();
});

test('the age of the last good comparison grows, begins anew with a scrub, and is unknown once a region is written', async () => {
  const rig = await VolumeRig.start();
  rig.write(0, filled(1, 64 * KIB));
  await turns();
  assert.deepEqual(runs(rig, 'scrubbed'), [[64 * KIB, NEVER]]);
  await rig.addMirror('b');
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  assert.deepEqual(runs(rig, 'scrubbed').length, 1);
  await rig.pass(10 * 60_000);
  const [[lengthBytes, age]] = runs(rig, 'scrubbed');
  assert.deepEqual([lengthBytes, age % 60], [64 * KIB, 0]);
  assert(age >= 600 && age <= 780, `${age} s`);
  rig.write(9 * KIB, filled(2, 1024));
  await turns();
  assert.deepEqual(
    runs(rig, 'scrubbed').map(([bytes, status]) => [bytes, status === NEVER]),
    [
      [9 * KIB, false],
      [KIB, true],
      [54 * KIB, false],
    ],
  );
  await rig.until(() => runs(rig, 'scrubbed').every(([, status]) => status !== NEVER), 'it was read back');
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  assert(runs(rig, 'scrubbed').every(([, status]) => status <= 60));
  await rig.stop();
});

test('one answer looks at a bounded part of a large volume', () => {
  const sizeBytes = 2 ** 40;
  const regionBytes = 65_536;
  const sums = { regionBytes, verified: new Bitmap(sizeBytes, regionBytes) } as unknown as RegionSums;
  const scrubTimes = new ScrubTimes({ clock: { nowMs: () => 0 } as Clock, sizeBytes, regionBytes, extentBytes: 4096 * KIB });
  for (const context of volumeContexts({ mirrors: () => [], sums, scrubTimes })) {
    const lengths = (offset: number) => context.runs(offset, 2 ** 31).map(({ lengthBytes }) => lengthBytes);
    assert.deepEqual(lengths(0), [256 * KIB * KIB]);
    assert.deepEqual(lengths(512), [256 * KIB * KIB - 512]);
    assert.deepEqual(lengths(sizeBytes - 512), [512]);
  }
});

test('no region is told to be compared later than it was: a part of an extent makes it no younger', () => {
  let nowMs = 5_000_000;
  const clock = { nowMs: () => nowMs } as Clock;
  const times = new ScrubTimes({ clock, sizeBytes: 14 * KIB, regionBytes: KIB, extentBytes: 4 * KIB });
  assert.equal(times.ageSeconds(0), null);
  times.compared(1, 3, nowMs);
  nowMs += 100_000;
  assert.deepEqual([times.ageSeconds(0), times.ageSeconds(3), times.ageSeconds(4)], [100, 100, null]);
  times.compared(2, 8, nowMs);
  nowMs += 7_000;
  assert.deepEqual([times.ageSeconds(0), times.ageSeconds(4), times.ageSeconds(7)], [107, 7, 7]);
  times.compared(0, 14, nowMs - 1000);
  assert.deepEqual([times.ageSeconds(0), times.ageSeconds(13)], [1, 1]);
});

test.run();
