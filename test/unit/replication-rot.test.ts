// Copying from a source that is not what it was: bytes that a checksum denies do not become right by being copied (rule 16), and
// a source that hangs does not keep hosts from writing where a copy reads (rules 2 and 22).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO } from '../../replication/device.js';
import { PathRig } from '../support/path-rig.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const KIB = 1024;

/** Mirrors on b and, with `third`, on c; every region of 1 KiB is written and was read back. */
async function written({ third = false } = {}): Promise<VolumeRig> {
  const rig = await VolumeRig.start();
  for (let offset = 0; offset < rig.sizeBytes; offset += KIB) rig.write(offset, filled(1 + offset / KIB, KIB));
  await turns();
  await rig.addMirror('b');
  if (third) await rig.addMirror('c');
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  return rig;
}

/** What an old request may have hit, or a blank target had lost, is copied to b once more: here all of it. */
async function copiedAgain(rig: VolumeRig): Promise<void> {
  const { mirror } = rig.volume.copies[1];
  mirror!.copyAgain(0, rig.sizeBytes);
  assert.equal(rig.state('b'), 'catching-up');
  await rig.until(() => rig.state('b') === 'synced', 'all is copied');
}

const rot = suite('replication/rot');

rot('rot that is copied stays rot: it is told, nobody reads it, and both copies may still change places', async () => {
  const rig = await written();
  rig.nodes.a.bytes[8192] ^= 0xff;
  await copiedAgain(rig);
  await rig.until(() => rig.facts.some((fact) => fact.type === 'damage'), 'it is told');
  const told = rig.facts.find((fact) => fact.type === 'damage');
  assert(told?.type === 'damage' && told.offset === 8192 && told.reason.includes('checksum'));
  const [part, whole, beside] = [rig.read(8192, 512), rig.read(8192, KIB), rig.read(9216, KIB)];
  await turns(10);
  assert.deepEqual([part.errno, whole.errno, beside.errno], [ERRNO.EIO, ERRNO.EIO, 0]);
  const flipped = await rig.finish(rig.volume.flip(target('b'), { kind: 'flip', reason: 'test', verdict: null }));
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
  const still = rig.read(8192, KIB);
  await turns(10);
  assert.equal(still.errno, ERRNO.EIO);
  // What hosts write anew is right.
  rig.write(8192, filled(77, KIB));
  await turns();
  await rig.pass(10_000);
  const anew = rig.read(8192, KIB);
  await turns(10);
  assert.deepEqual([anew.errno, anew.data], [0, filled(77, KIB)]);
  await rig.stop();
});

rot('what the source has wrong is copied from the mirror that has it right, and the source is mended', async () => {
  const rig = await written({ third: true });
  rig.nodes.a.bytes[8192] ^= 0xff;
  await copiedAgain(rig);
  assert.deepEqual(rig.nodes.b.bytes.subarray(8192, 9216), filled(9, KIB));
  await rig.until(() => rig.nodes.a.bytes[8192] === 9, 'mended', 60_000);
  assert(!rig.facts.some((fact) => fact.type === 'damage'));
  await rig.stop();
});

rot('zeroes where the checksum says something else are no hole', async () => {
  const rig = new PathRig();
  rig.source.bytes.fill(7, 0, KIB);
  rig.source.extents = (request) => [{ lengthBytes: request.length, hole: true, zero: true }];
  rig.sums.set(0, rig.hasher.sum(filled(7, KIB)));
  const { device } = await rig.synced();
  assert.deepEqual([device.bytes.subarray(0, KIB), rig.wrong], [filled(7, KIB), []]);
});

rot.run();

const hang = suite('replication/rot: a source that hangs');

hang('hosts write where a copy waits for its source, and the copy has what they wrote', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced();
  rig.source.completion = 'held';
  mirror.copyAgain(0, KIB);
  await turns();
  assert.equal(rig.source.held.length, 1);
  const reading = rig.source.held[0];
  rig.source.completion = 'later';
  const write = rig.write(512, filled(9));
  const elsewhere = rig.write(2 * KIB, filled(8));
  await turns();
  assert.deepEqual([write.errno, elsewhere.errno], [null, 0]);
  rig.clock.advance(1000);
  await turns();
  assert.equal(write.errno, 0);
  // What the source had read before the write.
  reading.data = Buffer.alloc(KIB);
  reading.complete(0);
  for (let round = 0; round < 50 && !(mirror.usable && mirror.queue.empty); round += 1) await turns(2);
  assert.deepEqual(device.bytes, rig.source.bytes);
  assert.deepEqual(device.bytes.subarray(512, KIB), filled(9));
});

hang('what a slow source says counts when nobody wrote there meanwhile', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced();
  rig.source.completion = 'held';
  mirror.copyAgain(0, KIB);
  await turns();
  const reading = rig.source.held[0];
  rig.clock.advance(5000);
  rig.source.completion = 'later';
  const asked = rig.source.asked.length;
  reading.data = filled(3, KIB);
  rig.source.bytes.fill(3, 0, KIB);
  reading.complete(0);
  for (let round = 0; round < 50 && !(mirror.usable && mirror.queue.empty); round += 1) await turns(2);
  assert.deepEqual(device.bytes.subarray(0, KIB), filled(3, KIB));
  assert.equal(rig.source.asked.length, asked, 'it is not read again');
});

hang.run();
