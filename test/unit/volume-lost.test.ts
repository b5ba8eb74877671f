// What the active target cannot read and no other copy has: its mirror becomes complete without it, a flip is possible, and nobody
// reads anything else in its place (rule 16).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO } from '../../replication/device.js';
import type { NodeRequest, ScriptedNode } from '../support/scripted-node.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/lost');
const why = { kind: 'flip' as const, reason: 'test', verdict: null };
const READ = 0;
const WRITE = 1;
const ZEROES = 6;
const BAD = 8704;
const REGION = 8192;

function touches(request: NodeRequest, offset: number, length: number): boolean {
  return request.offset < offset + length && request.offset + request.length > offset;
}

/** Reads of these sectors fail until somebody writes there. */
function breakSectors(node: ScriptedNode, ...sectors: { offset: number; length: number }[]): void {
  let bad = sectors;
  node.fail = (request) => {
    if (request.command === READ) return bad.some(({ offset, length }) => touches(request, offset, length)) ? ERRNO.EIO : 0;
    if (request.command === WRITE || request.command === ZEROES)
      bad = bad.filter(({ offset, length }) => request.offset > offset || request.offset + request.length < offset + length);
    return 0;
  };
}

async function written(options: ConstructorParameters<typeof VolumeRig>[0] = {}): Promise<VolumeRig> {
  const rig = await VolumeRig.start(options);
  for (let offset = 0; offset < rig.sizeBytes; offset += 1024) rig.write(offset, filled(1 + offset / 1024, 1024));
  await turns();
  return rig;
}

/** Node a cannot read one sector, and the mirror on b has all else. */
async function salvaged(): Promise<VolumeRig> {
  const rig = await written();
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 });
  await rig.addMirror('b');
  return rig;
}

function lostFacts(rig: VolumeRig): string[] {
  return rig.facts.flatMap((fact) => (fact.type === 'lost' ? [`${fact.offset}+${fact.lengthBytes}`] : []));
}

async function read(rig: VolumeRig, offset: number, length: number): Promise<Buffer | number> {
  const request = rig.read(offset, length);
  await rig.until(() => request.errno !== null, 'the read is answered');
  return request.errno === 0 ? request.data! : request.errno!;
}

async function write(rig: VolumeRig, offset: number, data: Buffer): Promise<void> {
  const request = rig.write(offset, data);
  await rig.until(() => request.errno !== null, 'the write is answered');
  assert.equal(request.errno, 0);
}

async function flip(rig: VolumeRig, to: string): Promise<void> {
  const flipped = await rig.finish(rig.volume.flip(target(to), why));
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
}

test('a mirror gets all that can be read of a disk with a bad sector, and only that sector is lost', async () => {
  const rig = await salvaged();
  assert.deepEqual(lostFacts(rig), [`${BAD}+512`]);
  assert.equal(rig.volume.lostBytes, 512);
  for (const [from, to] of [
    [0, BAD],
    [BAD + 512, rig.sizeBytes],
  ])
    assert.deepEqual(rig.nodes.b.bytes.subarray(from, to), rig.nodes.a.bytes.subarray(from, to));
  assert.deepEqual(rig.nodes.b.bytes.subarray(BAD, BAD + 512), Buffer.alloc(512));
  await rig.stop();
});

test('nobody reads anything in place of what is lost, before and after a flip, and all around it', async () => {
  const rig = await salvaged();
  assert.equal(await read(rig, BAD, 512), ERRNO.EIO);
  await flip(rig, 'b');
  for (const [offset, length] of [
    [BAD, 512],
    [BAD - 1, 2],
    [REGION, 1024],
    [0, rig.sizeBytes],
  ])
    assert.equal(await read(rig, offset, length), ERRNO.EIO);
  assert.deepEqual(await read(rig, REGION, 512), filled(9, 512));
  assert.deepEqual(await read(rig, REGION + 1024, 1024), filled(10, 1024));
  await rig.stop();
});

test('a restarted gateway knows what is lost', async () => {
  const rig = await salvaged();
  await flip(rig, 'b');
  const again = await rig.restarted();
  await again.until(() => again.state('a') === 'synced', 'in step');
  assert.equal(await read(again, BAD, 512), ERRNO.EIO);
  assert.deepEqual(await read(again, REGION, 512), filled(9, 512));
  assert.equal(again.volume.lostBytes, 512);
  await again.stop();
});

test('what a host writes is there again, no more than that, and for a restarted gateway too', async () => {
  const rig = await salvaged();
  await flip(rig, 'b');
  await write(rig, BAD + 100, filled(7, 200));
  assert.deepEqual(await read(rig, BAD + 100, 200), filled(7, 200));
  assert.equal(await read(rig, BAD, 101), ERRNO.EIO);
  assert.equal(await read(rig, BAD + 299, 2), ERRNO.EIO);
  const again = await rig.restarted();
  assert.deepEqual(await read(again, BAD + 100, 200), filled(7, 200));
  assert.equal(await read(again, BAD, 100), ERRNO.EIO);
  await write(again, REGION, filled(8, 1024));
  assert.equal(again.volume.lostBytes, 0);
  assert.deepEqual(await read(again, REGION, 1024), filled(8, 1024));
  await again.until(() => again.state('a') === 'synced', 'in step');
  assert.equal((again.records.get('volume/v') as { format: number }).format, 1);
  await again.stop();
});

test('a write into what is lost goes to stable storage and is answered when a restart would find it', async () => {
  const rig = await salvaged();
  await flip(rig, 'b');
  rig.write(BAD, filled(6, 1));
  await rig.until(() => rig.volume.lostBytes === 511, 'the marks are there');
  rig.records.held = true;
  const request = rig.write(BAD, filled(7, 512));
  await turns();
  assert(rig.nodes.b.log.includes(`write fua ${BAD}+512`));
  assert.equal(request.errno, null);
  rig.records.held = false;
  rig.records.release();
  await rig.until(() => request.errno !== null, 'it is answered');
  assert.equal(request.errno, 0);
  assert.deepEqual(await read(rig, BAD, 512), filled(7, 512));
  await rig.stop();
});

test('the records cannot be written: nothing is given up, and hosts are told nothing, until they can', async () => {
  const rig = await written();
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 });
  const added = rig.volume.addMirror(target('b'), 'test');
  assert((await rig.finish(added)).ok);
  rig.records.failing = 'before';
  await rig.pass(30_000, 250);
  assert.equal(rig.volume.lostBytes, 0);
  assert.deepEqual(lostFacts(rig), []);
  assert.notEqual(rig.state('b'), 'synced');
  assert.deepEqual(rig.nodes.b.bytes.subarray(REGION, BAD), Buffer.alloc(512));
  const tries = rig.nodes.a.log.filter((line) => line === `read ${REGION}+1024`).length;
  assert(tries > 20 && tries < 80, `${tries} tries in 30 s`);
  rig.records.failing = null;
  await rig.until(() => rig.state('b') === 'synced', 'in step');
  assert.equal(rig.volume.lostBytes, 512);
  await rig.stop();
});

test('a commit that fails after all had landed leaves nothing lost that a mirror got', async () => {
  const rig = await written();
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 });
  assert((await rig.finish(rig.volume.addMirror(target('b'), 'test'))).ok);
  await rig.until(() => rig.nodes.a.log.filter((line) => line === `read ${BAD}+512`).length > 0, 'it is read piece by piece');
  rig.records.failing = 'after';
  await rig.pass(1000);
  rig.nodes.a.fail = () => 0;
  rig.records.failing = null;
  await rig.until(() => rig.state('b') === 'synced', 'in step');
  await rig.pass(1000);
  await flip(rig, 'b');
  const again = await rig.restarted();
  const found = await read(again, REGION, 1024);
  if (again.volume.lostBytes === 0) assert.deepEqual(found, filled(9, 1024));
  else assert.equal(found, ERRNO.EIO);
  await again.stop();
});

test('a disk that refuses everything loses nothing: it may come back', async () => {
  const rig = await written();
  rig.nodes.a.fail = ({ command }) => (command === READ ? ERRNO.EIO : 0);
  assert((await rig.finish(rig.volume.addMirror(target('b'), 'test'))).ok);
  const pieces = (): number => rig.nodes.a.log.filter((line) => /^read .*\+512$/.test(line)).length;
  await rig.until(() => pieces() > 64, 'it is read piece by piece, again and again', 300_000);
  assert.equal(rig.volume.lostBytes, 0);
  rig.nodes.a.fail = () => 0;
  await rig.until(() => rig.state('b') === 'synced', 'in step');
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  assert.deepEqual(lostFacts(rig), []);
  await rig.stop();
});

test('a read that is refused for some seconds loses nothing, and holds up nothing else', async () => {
  const rig = await written();
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 });
  assert((await rig.finish(rig.volume.addMirror(target('b'), 'test'))).ok);
  await rig.pass(3000);
  const [mirror] = rig.volume.mirrors();
  assert.equal(mirror.dirtyBytes, 1024);
  assert.match(mirror.reason ?? '', /refused to read 1024 bytes at 8192 \(error 5\)/);
  rig.nodes.a.fail = () => 0;
  await rig.until(() => rig.state('b') === 'synced', 'in step');
  assert.deepEqual(rig.nodes.b.bytes, rig.nodes.a.bytes);
  assert.deepEqual(lostFacts(rig), []);
  await rig.stop();
});

test('what another mirror has is copied from there', async () => {
  const rig = await written();
  await rig.addMirror('b');
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 });
  await rig.addMirror('c');
  assert.deepEqual(rig.nodes.c.bytes, rig.nodes.a.bytes);
  assert.deepEqual(lostFacts(rig), []);
  await rig.stop();
});

test('what a mirror has that is away is not given up', async () => {
  const rig = await written();
  await rig.addMirror('b');
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 });
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  assert((await rig.finish(rig.volume.addMirror(target('c'), 'test'))).ok);
  await rig.pass(30_000, 250);
  assert.equal(rig.volume.lostBytes, 0);
  rig.nodes.b.up = true;
  await rig.until(() => rig.state('c') === 'synced', 'in step');
  assert.deepEqual(rig.nodes.c.bytes, rig.nodes.b.bytes);
  assert.deepEqual(lostFacts(rig), []);
  await rig.stop();
});

test('a region of which something is lost already loses no more because a read is refused for a moment', async () => {
  const rig = await salvaged();
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await rig.until(() => rig.state('b') === 'lost', 'it is away');
  await write(rig, REGION, filled(7, 100));
  await rig.pass(4000);
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 }, { offset: REGION, length: 512 });
  rig.nodes.b.up = true;
  await rig.pass(3000);
  assert.notEqual(rig.state('b'), 'synced');
  breakSectors(rig.nodes.a, { offset: BAD, length: 512 });
  await rig.until(() => rig.state('b') === 'synced', 'in step');
  assert.equal(rig.volume.lostBytes, 512);
  await flip(rig, 'b');
  assert.deepEqual(await read(rig, REGION, 100), filled(7, 100));
  await rig.stop();
});

test('an active target that answers after all is believed as long as it is the active one', async () => {
  const rig = await salvaged();
  rig.nodes.a.fail = () => 0;
  assert.deepEqual(await read(rig, BAD, 512), filled(9, 512));
  await flip(rig, 'b');
  assert.equal(await read(rig, BAD, 512), ERRNO.EIO);
  await rig.stop();
});

test('without its mirrors a volume has lost nothing that its active target may have', async () => {
  const rig = await salvaged();
  assert((await rig.finish(rig.volume.removeMirror(target('b'), 'test'))).ok);
  await rig.until(() => rig.volume.lostBytes === 0, 'nothing is lost');
  rig.nodes.a.fail = () => 0;
  await rig.addMirror('b');
  await flip(rig, 'b');
  assert.deepEqual(await read(rig, REGION, 1024), filled(9, 1024));
  await rig.stop();
});

test('without its mirrors a volume still lacks what was lost before the flip', async () => {
  const rig = await salvaged();
  await flip(rig, 'b');
  assert((await rig.finish(rig.volume.removeMirror(target('a'), 'test'))).ok);
  await rig.pass(500);
  assert.equal(await read(rig, BAD, 512), ERRNO.EIO);
  await write(rig, BAD, filled(7, 512));
  assert.deepEqual(await read(rig, BAD, 512), filled(7, 512));
  const again = await rig.restarted();
  assert.deepEqual(await read(again, BAD, 512), filled(7, 512));
  await again.stop();
});

test('a mirror that comes later lacks the same, however it is copied', async () => {
  const rig = await salvaged();
  await flip(rig, 'b');
  await rig.addMirror('c');
  await flip(rig, 'c');
  assert.equal(await read(rig, BAD, 512), ERRNO.EIO);
  assert.deepEqual(lostFacts(rig), [`${BAD}+512`]);
  await rig.stop();
});

test('what is lost stays lost when the next active target cannot read it either, and then can', async () => {
  const rig = await salvaged();
  await flip(rig, 'b');
  breakSectors(rig.nodes.b, { offset: BAD - 512, length: 1024 });
  await rig.finish(rig.volume.removeMirror(target('a'), 'test'));
  await rig.addMirror('c');
  assert.deepEqual(lostFacts(rig), [`${BAD}+512`, `${BAD - 512}+512`]);
  rig.nodes.b.fail = () => 0;
  assert.equal(await read(rig, BAD, 512), ERRNO.EIO);
  assert.deepEqual(await read(rig, BAD - 512, 512), filled(9, 512));
  await rig.stop();
});

test('a scrub finds no damage in what is lost, and overwrites nothing there', async () => {
  const rig = await salvaged();
  rig.nodes.a.fail = () => 0;
  const scrubbed = await rig.finish(rig.volume.scrub('test'));
  assert(scrubbed.ok && scrubbed.value.state === 'done');
  assert.deepEqual(scrubbed.value.mismatches, []);
  assert.deepEqual(rig.nodes.a.bytes.subarray(REGION, REGION + 1024), filled(9, 1024));
  await flip(rig, 'b');
  await flip(rig, 'a');
  assert.equal(await read(rig, BAD, 512), ERRNO.EIO);
  await rig.stop();
});

test('a record that cannot be read counts as the whole extent', async () => {
  const rig = await salvaged();
  await flip(rig, 'b');
  await rig.records.commit([{ put: 'lost/v/00000002', value: [[1, 2]] }]);
  const again = await rig.restarted();
  assert.equal(again.volume.lostBytes, 4096);
  assert.equal(await read(again, REGION, 512), ERRNO.EIO);
  assert.deepEqual(await read(again, REGION + 4096, 512), filled(13, 512));
  await again.stop();
});

test('many bad sectors, also at the ends of the disk, are lost and nothing else', async () => {
  const rig = await written();
  const sectors = [0, 512, 5120, 12_288, 12_800, 13_312, 13_824, rig.sizeBytes - 512].map((offset) => ({ offset, length: 512 }));
  const before = Buffer.from(rig.nodes.a.bytes);
  for (const { offset, length } of sectors) before.fill(0, offset, offset + length);
  breakSectors(rig.nodes.a, ...sectors);
  await rig.addMirror('b');
  assert.deepEqual(rig.nodes.b.bytes, before);
  assert.equal(rig.volume.lostBytes, sectors.length * 512);
  await flip(rig, 'b');
  for (let offset = 0; offset < rig.sizeBytes; offset += 512) {
    const bad = sectors.some((sector) => sector.offset === offset);
    assert.deepEqual(await read(rig, offset, 512), bad ? ERRNO.EIO : before.subarray(offset, offset + 512));
  }
  await rig.stop();
});

for (const found of ['by a scrub', 'by a read'] as const) {
  test(`a region that went bad alike on every copy, found ${found}: a write of a part lets nobody read the rest`, async () => {
    const rig = await written();
    await rig.addMirror('b');
    assert((await rig.finish(rig.volume.scrub('test'))).ok);
    for (const node of [rig.nodes.a, rig.nodes.b]) node.bytes.fill(0xdd, REGION, REGION + 8);
    if (found === 'by a scrub') assert((await rig.finish(rig.volume.scrub('test'))).ok);
    assert.equal(await read(rig, REGION, 1024), ERRNO.EIO);
    await write(rig, REGION + 900, filled(7, 24));
    await rig.pass(15_000, 250);
    assert.deepEqual(await read(rig, REGION + 900, 24), filled(7, 24));
    assert.equal(await read(rig, REGION, 512), ERRNO.EIO);
    assert.equal(await read(rig, REGION, 1024), ERRNO.EIO);
    assert.equal(rig.volume.lostBytes, 1000);
    await flip(rig, 'b');
    const again = await rig.restarted();
    assert.equal(await read(again, REGION, 512), ERRNO.EIO);
    await again.until(() => again.state('a') === 'synced', 'in step');
    await write(again, REGION, filled(8, 1024));
    assert.deepEqual(await read(again, REGION, 1024), filled(8, 1024));
    assert.equal(again.volume.lostBytes, 0);
    await again.pass(15_000, 250);
    assert.deepEqual(await read(again, REGION, 1024), filled(8, 1024));
    await again.stop();
  });
}

test.run();
