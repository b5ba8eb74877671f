// What hosts hear of holes and zeroes: what the active target says, and where it cannot tell what is known by checksum. Never zero
// where a write may have been, at any moment, on any node. Regions are 1 KiB here, extents 4 KiB, the volume 64 KiB.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { Allocation } from '../../gateway/volume/allocation.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { ERRNO, type Extent, OP } from '../../replication/device.js';
import { turns } from '../support/scripted-node.js';
import { filled, type WatchedRequest } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/allocation');
const KIB = 1024;

/** `data 4096, zero 1024` */
function words(extents: readonly Extent[] | null): string {
  return extents!.map(({ lengthBytes, hole, zero }) => `${hole ? 'hole' : zero ? 'zero' : 'data'} ${lengthBytes}`).join(', ');
}

async function status(rig: VolumeRig, offset = 0, length = rig.sizeBytes): Promise<string> {
  const request = rig.submit(OP.STATUS, offset, length);
  await turns();
  assert.equal(request.errno, 0);
  return words(request.extents);
}

/** A volume on node a, which cannot tell, with 3 KiB of data at 5 KiB and a mirror in step. */
async function silent(): Promise<VolumeRig> {
  const rig = await VolumeRig.start();
  rig.nodes.a.structured = false;
  rig.nodes.a.cut();
  await rig.pass(1000);
  rig.write(5 * KIB, filled(7, 3 * KIB));
  await rig.addMirror('b');
  await rig.pass(1000);
  return rig;
}

test('where the target cannot tell and nobody keeps checksums true, all is data', async () => {
  const rig = await VolumeRig.start();
  rig.nodes.a.structured = false;
  rig.nodes.a.cut();
  await rig.pass(1000);
  assert.equal(await status(rig), 'data 65536');
  await rig.stop();
});

test('where the target cannot tell, regions whose checksum is that of zeroes read as zero, and what is written is data at once', async () => {
  const rig = await silent();
  assert.equal(await status(rig), 'zero 5120, data 3072, zero 57344');
  assert.equal(await status(rig, 512, 6 * KIB), 'zero 4608, data 1536');
  rig.nodes.a.hold = ({ command }) => command === 1;
  const write = rig.write(20 * KIB + 512, filled(9));
  await turns();
  assert.equal(write.errno, null, 'it is under way');
  assert.equal(await status(rig), 'zero 5120, data 3072, zero 12288, data 1024, zero 44032');
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  assert.equal(await status(rig), 'zero 5120, data 3072, zero 12288, data 1024, zero 44032');
  await rig.finish(rig.volume.removeMirror(target('b'), 'test'));
  assert.equal(await status(rig), 'data 65536', 'nobody keeps checksums true any more');
  await rig.stop();
});

test('zeroes stay zeroes from node to node, told by the target or not; data stays data', async () => {
  const rig = await silent();
  const before = await status(rig);
  const flipped = await rig.finish(rig.volume.flip(target('b'), { kind: 'flip', reason: 'test' } as never));
  assert(flipped.ok);
  assert.equal(rig.volume.copies[0].upstream.features!.status, true);
  assert.equal(await status(rig), before, 'b says data for all of it, the checksums say more');
  assert((await rig.finish(rig.volume.flip(target('a'), { kind: 'flip', reason: 'test' } as never))).ok);
  assert.equal(await status(rig), before);
  await rig.stop();
});

test('a target that refuses to say is no error for the host', async () => {
  const rig = await VolumeRig.start();
  rig.nodes.a.fail = ({ command }) => (command === 7 ? ERRNO.EIO : 0);
  assert.equal(await status(rig), 'data 65536');
  await rig.stop();
});

test('while a write that a read may have seen on a node that died is not on the next one, nothing is called zero', async () => {
  const rig = await VolumeRig.mirrored();
  const { a, b } = rig.nodes;
  // It lands on a, a read sees it, and a dies without having answered it.
  a.hold = ({ command }) => command === 1;
  const write = rig.write(20 * KIB, filled(9, KIB));
  await turns();
  a.held[0].land();
  const read = rig.read(20 * KIB, KIB);
  await turns();
  assert.deepEqual(read.data, filled(9, KIB));
  b.hold = ({ command }) => command === 1;
  // What b says of its holes is true: the write is not there yet.
  b.twist = (request) =>
    request.command === 7
      ? request.connection.chunk(request, 5, Buffer.from(`00000007${request.length.toString(16).padStart(8, '0')}00000003`, 'hex'))
      : null;
  a.up = false;
  a.cut();
  await rig.until(() => rig.volume.active.node === 'b' && b.held.length > 0, 'b took over and has the write');
  assert.equal(write.errno, null);
  assert.equal(await status(rig, 20 * KIB, KIB), 'data 1024');
  b.hold = () => false;
  b.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  await rig.stop();
});

test('a status that its target did not answer before it died is answered by the next one', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.hold = ({ command }) => command === 7;
  const request: WatchedRequest = rig.submit(OP.STATUS, 0, rig.sizeBytes);
  await turns();
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.until(() => request.errno !== null, 'it is answered');
  assert.equal(request.errno, 0);
  assert.equal(rig.volume.active.node, 'b');
  await rig.stop();
});

const ZERO = 1n;
function allocation(zero: (region: number) => boolean, tells: boolean) {
  const sums = {
    regionBytes: 65536,
    verified: { sizeBytes: 2 ** 33 },
    get: (region: number) => (zero(region) ? ZERO : null),
  } as unknown as RegionSums;
  return new Allocation({ sums, sum: () => ZERO, learns: () => true, targetTells: () => tells });
}

test('one answer looks at 256 MiB at most: it ends there where the target is silent, and believes the target behind', () => {
  const whole = { offset: 1024, length: 2 ** 31 };
  const data: Extent[] = [{ lengthBytes: 2 ** 31, hole: false, zero: false }];
  assert.equal(words(allocation(() => true, false).answer(whole, data)), `zero ${2 ** 28 - 1024}`);
  assert.equal(words(allocation(() => true, true).answer(whole, data)), `zero ${2 ** 28 - 1024}, data ${2 ** 31 - 2 ** 28 + 1024}`);
});

test('holes that the target tells of stay as they are, and only whole regions of known zeroes are added', () => {
  const told: Extent[] = [
    { lengthBytes: 65536, hole: false, zero: false },
    { lengthBytes: 65536, hole: true, zero: true },
    { lengthBytes: 4096, hole: true, zero: false },
    { lengthBytes: 200_000, hole: false, zero: false },
  ];
  const all = allocation((region) => region === 0 || region === 3, true);
  const answer = all.answer({ offset: 0, length: 327_680 }, told);
  assert.deepEqual(answer, [
    { lengthBytes: 65536, hole: false, zero: true },
    { lengthBytes: 65536, hole: true, zero: true },
    { lengthBytes: 4096, hole: true, zero: false },
    { lengthBytes: 61_440, hole: false, zero: false },
    { lengthBytes: 65536, hole: false, zero: true },
    { lengthBytes: 327_680 - 262_144, hole: false, zero: false },
  ]);
});

test('the short last region is held against its own zeroes', () => {
  const sums = { regionBytes: 65536, verified: { sizeBytes: 65536 + 100 }, get: () => 100n } as unknown as RegionSums;
  const tail = new Allocation({
    sums,
    sum: ({ length }) => BigInt(length),
    learns: () => true,
    targetTells: () => false,
  });
  assert.equal(words(tail.answer({ offset: 0, length: 65636 }, null)), 'data 65536, zero 100');
});

test.run();
