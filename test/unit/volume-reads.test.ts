// What becomes of hosts' reads: bytes that a checksum denies never reach a host (rule 16), and a mirror is asked for what the
// active target takes long to answer, and believed only where it lacks nothing (rule 17).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO } from '../../replication/device.js';
import { PathRig } from '../support/path-rig.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { SETTINGS, target, VolumeRig } from '../support/volume-rig.js';

const READ = 0;
const WRITE = 1;
const KIB = 1024;

/** Every region of 1 KiB is written, on both copies, and was read back. */
async function written(): Promise<VolumeRig> {
  const rig = await VolumeRig.start();
  for (let offset = 0; offset < rig.sizeBytes; offset += KIB) rig.write(offset, filled(1 + offset / KIB, KIB));
  await turns();
  await rig.addMirror('b');
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  return rig;
}

const checked = suite('volume/reads: held against checksums');

checked('a host never sees a byte that went bad on the active copy, and the copy is mended', async () => {
  const rig = await written();
  rig.nodes.a.bytes[8192 + 100] ^= 0xff;
  const read = rig.read(8192 - 512, 2 * KIB);
  await turns(10);
  assert.deepEqual([read.errno, read.data], [0, Buffer.concat([filled(8, 512), filled(9, KIB), filled(10, 512)])]);
  await rig.until(() => rig.nodes.a.bytes[8192 + 100] === 9, 'mended');
  await rig.stop();
});

checked('where no copy has what the checksum says, a read fails, and so do those that only touch the region', async () => {
  const rig = await written();
  rig.nodes.a.bytes[8192] ^= 0xff;
  rig.nodes.b.bytes[8193] ^= 0xff;
  const read = rig.read(8192, KIB);
  await rig.until(() => read.errno !== null, 'answered');
  assert.equal(read.errno, ERRNO.EIO);
  const touching = rig.read(8192, 512);
  const beside = rig.read(8192 + KIB, KIB);
  await turns(10);
  assert.deepEqual([touching.errno, beside.errno], [ERRNO.EIO, 0]);
  await rig.until(() => rig.facts.some((fact) => fact.type === 'damage'), 'it is told');
  await rig.stop();
});

checked('a region without a checksum is given as it is', async () => {
  const rig = await written();
  rig.nodes.a.hold = rig.nodes.b.hold = (request) => request.command === READ;
  rig.write(8192, filled(200));
  await turns();
  rig.nodes.a.bytes[8192 + 600] ^= 0xff;
  rig.nodes.a.hold = () => false;
  const read = rig.read(8192, KIB);
  await turns();
  assert.equal(read.errno, 0);
  await rig.stop();
});

checked('without a mirror nothing is held against a checksum: nobody keeps it', async () => {
  const rig = await written();
  assert((await rig.finish(rig.volume.removeMirror(target('b'), 'test'))).ok);
  rig.write(8192, filled(200, KIB));
  await turns();
  const read = rig.read(8192, KIB);
  await turns();
  assert.deepEqual([read.errno, read.data], [0, filled(200, KIB)]);
  await rig.stop();
});

checked('a write that comes between the reading and the looking is no damage', async () => {
  const rig = new PathRig();
  const { mirror } = await rig.synced();
  rig.source.completion = 'held';
  const read = rig.read(0, KIB);
  const old = rig.source.held[0];
  rig.source.completion = 'later';
  rig.write(0, filled(7, KIB));
  await turns();
  mirror.copyAgain(0, KIB);
  for (let round = 0; round < 200 && rig.sums.get(0) !== rig.hasher.sum(filled(7, KIB)); round += 1) await turns(2);
  assert.equal(rig.sums.get(0), rig.hasher.sum(filled(7, KIB)), 'it is known again');
  // What the device had read before the write.
  old.data = Buffer.alloc(KIB);
  old.complete(0);
  await turns(10);
  assert.deepEqual([read.errno, read.data, rig.wrong], [0, filled(7, KIB), []]);
});

checked('large reads are looked at piece by piece, wherever they begin', async () => {
  const sizeBytes = 4 * KIB * KIB;
  const rig = new PathRig({ sizeBytes, regionBytes: 64 * KIB, extentBytes: 256 * KIB });
  for (let at = 0; at < sizeBytes; at += 4096) rig.source.bytes.writeUInt32LE(at, at);
  await rig.synced();
  const good = Buffer.from(rig.source.bytes);
  const bad = 2_500_000;
  rig.source.bytes[bad] ^= 0xff;
  for (const offset of [0, 512, 65_536, 100_352]) {
    rig.wrong.length = 0;
    const read = rig.read(offset, 3 * KIB * KIB);
    for (let round = 0; round < 100 && read.errno === null; round += 1) {
      rig.clock.advance(1);
      await turns(2);
    }
    assert.equal(read.errno, 0);
    assert(read.data!.equals(good.subarray(offset, offset + 3 * KIB * KIB)), `from ${offset}`);
    assert.deepEqual(rig.wrong, [bad - (bad % 65_536)]);
  }
});

checked.run();

const hedged = suite('volume/reads: asked twice');
const HEDGED = { hedgeAfterMs: 20 };

/** A volume whose active target keeps its reads to itself. */
async function slow(settings: { hedgeAfterMs: number | null } = HEDGED): Promise<VolumeRig> {
  const rig = await VolumeRig.mirrored({ settings });
  rig.write(0, filled(1));
  await rig.pass(300);
  rig.nodes.a.hold = (request) => request.command === READ;
  return rig;
}

hedged('a read that the active target takes long to answer is answered by the mirror, once', async () => {
  const rig = await slow();
  const read = rig.read(0, 512);
  await rig.pass(15, 5);
  assert.equal(read.errno, null, 'it has its time');
  await rig.pass(10, 5);
  assert.deepEqual([read.errno, read.data, rig.volume.path.counters.hedgedReads], [0, filled(1), 1]);
  assert.deepEqual([rig.volume.path.inFlight, rig.volume.path.unanswered], [0, 0]);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await turns();
  const next = rig.read(0, 512);
  await turns();
  assert.deepEqual([next.errno, rig.volume.path.inFlight], [0, 0]);
  await rig.stop();
});

hedged('nothing is asked twice unless the policy says so, nor what the active target answers in time', async () => {
  const rig = await slow({ hedgeAfterMs: null });
  const asked = rig.nodes.b.log.length;
  const read = rig.read(0, 512);
  await rig.pass(200, 10);
  assert.equal(read.errno, null);
  rig.nodes.a.answerAll();
  await turns();
  rig.volume.configure({ ...SETTINGS, hedgeAfterMs: 20 });
  await rig.pass(300);
  rig.nodes.a.hold = () => false;
  for (let reads = 0; reads < 10; reads += 1) {
    rig.read(0, 512);
    await rig.pass(30, 10);
  }
  assert.equal(rig.nodes.b.log.slice(asked).filter((text) => text.startsWith('read 0+512')).length, 0);
  await rig.stop();
});

hedged('a mirror that lacks a write there is not asked before it has it', async () => {
  const rig = await slow();
  rig.nodes.b.hold = (request) => request.command === WRITE;
  rig.write(0, filled(2));
  await turns();
  const read = rig.read(0, 512);
  await rig.pass(100, 5);
  assert.equal(read.errno, null);
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  await rig.pass(30, 5);
  assert.deepEqual([read.errno, read.data], [0, filled(2)]);
  await rig.stop();
});

hedged('what a mirror read before a write counts for nothing when the write is under way or not there yet', async () => {
  const rig = await slow();
  rig.nodes.b.hold = (request) => request.command === READ || request.command === WRITE;
  const read = rig.read(0, 512);
  await rig.pass(30, 5);
  const [early] = rig.nodes.b.held;
  rig.write(0, filled(2));
  await turns();
  early.answer();
  await turns();
  assert.equal(read.errno, null, 'the mirror lacks what was acknowledged');
  rig.nodes.a.answerAll();
  await turns();
  assert.deepEqual([read.errno, read.data, rig.volume.path.counters.hedgedReads], [0, filled(2), 0]);
  await rig.stop();
});

hedged('a mirror that is slow itself is given more time before it is asked', async () => {
  const rig = await slow();
  for (let reads = 0; reads < 120; reads += 1) rig.volume.copies[1].upstream.counters.recent.record(500_000);
  await rig.pass(300);
  const read = rig.read(0, 512);
  await rig.pass(400, 20);
  assert.equal(read.errno, null);
  await rig.pass(200, 20);
  assert.equal(read.errno, 0);
  await rig.stop();
});

hedged('bytes that the checksum denies are not taken from a mirror that is quicker', async () => {
  const rig = await slow();
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  assert((await rig.finish(rig.volume.scrub('test'))).ok);
  rig.nodes.a.hold = (request) => request.command === READ;
  rig.nodes.b.bytes[5] ^= 0xff;
  const read = rig.read(0, KIB);
  await rig.pass(100, 5);
  assert.equal(read.errno, null);
  rig.nodes.a.answerAll();
  await turns();
  assert.deepEqual([read.errno, read.data!.subarray(0, 512)], [0, filled(1)]);
  await rig.stop();
});

hedged('a failover takes nothing back of what a mirror has answered, and a flip does not wait for it', async () => {
  const rig = await slow();
  const read = rig.read(0, 512);
  await rig.pass(30, 5);
  assert.equal(read.errno, 0);
  const flipped = await rig.finish(rig.volume.flip(target('b'), { kind: 'flip', reason: 'test', verdict: null }), 5000);
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await rig.until(() => rig.state('a') === 'synced', 'the old target follows');
  rig.nodes.b.hold = (request) => request.command === READ;
  const other = rig.read(0, 512);
  await rig.pass(500, 10);
  assert.deepEqual([other.errno, other.data], [0, filled(1)]);
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await rig.until(() => rig.volume.active.node === 'a', 'a failover');
  const last = rig.read(0, 512);
  await turns();
  assert.deepEqual([last.errno, rig.volume.path.inFlight, rig.volume.path.unanswered], [0, 0, 0]);
  await rig.stop();
});

hedged.run();
