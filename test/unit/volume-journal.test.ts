// A volume with `durability: journal`: what a flush waits for, what is left when gateway and active node fail together, what
// becomes of it when the journal's disk fails, its file is lost, or the policy changes.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO } from '../../replication/device.js';
import type { VolumeRecord } from '../../gateway/volume/volume-record.js';
import { MemoryJournals } from '../support/memory-journals.js';
import { turns } from '../support/scripted-node.js';
import { filled, type WatchedRequest } from '../support/upstream-rig.js';
import { SETTINGS, target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/journal');
const WRITE = 1;
const FLUSH = 3;
const settings = { durability: 'journal' } as const;

/** On node a, with a mirror on b that the journal covers. */
async function covered(): Promise<{ rig: VolumeRig; journals: MemoryJournals }> {
  const journals = new MemoryJournals();
  const rig = await VolumeRig.mirrored({ settings, journals });
  // What a node answers it forgets, unless it was flushed.
  for (const node of Object.values(rig.nodes)) node.volatile = true;
  await rig.until(() => rig.volume.journal?.covers.includes('b') ?? false, 'the journal covers the mirror');
  return { rig, journals };
}

/** Gateway and node a are gone at once; the gateway starts again, and what b had not flushed is lost there. */
async function disaster({ rig, journals }: { rig: VolumeRig; journals: MemoryJournals }): Promise<VolumeRig> {
  const { a, b } = rig.nodes;
  a.up = false;
  a.cut();
  b.crash();
  await turns();
  return VolumeRig.start({ settings, records: rig.records.crashed(), nodes: rig.nodes, journals: journals.crashed() });
}

function record(rig: VolumeRig): VolumeRecord {
  return rig.records.get('volume/v') as VolumeRecord;
}

test('a flush, and a write with FUA, is answered when the journal is on disk, a write without before', async () => {
  const { rig, journals } = await covered();
  journals.held = [];
  const write = rig.write(0, filled(1));
  await turns();
  assert.equal(write.errno, 0);
  const flush = rig.flush();
  const forced = rig.write(4096, filled(2), true);
  await rig.pass(500);
  assert.equal(flush.errno, null);
  assert.equal(forced.errno, null);
  journals.go();
  await turns();
  assert.equal(flush.errno, 0);
  assert.equal(forced.errno, 0);
  await rig.stop();
});

test('gateway and active node fail together: the mirror takes over with all that was flushed', async () => {
  const both = await covered();
  const { rig } = both;
  // The mirror answers and keeps nothing: only the journal has it.
  for (let i = 0; i < 20; i += 1) rig.write(i * 1024, filled(i + 1, 1024));
  const forced = rig.write(20 * 1024, filled(99, 1024), true);
  const flush = rig.flush();
  await turns(20);
  assert.equal(flush.errno, 0);
  assert.equal(forced.errno, 0);
  const again = await disaster(both);
  const read = again.read(0, 21 * 1024);
  await again.until(() => read.errno !== null, 'a read is answered');
  assert.equal(read.errno, 0);
  for (let i = 0; i < 20; i += 1) assert.deepEqual(read.data!.subarray(i * 1024, (i + 1) * 1024), filled(i + 1, 1024), `write ${i}`);
  assert.deepEqual(read.data!.subarray(20 * 1024), filled(99, 1024));
  assert.equal(again.volume.active.node, 'b');
  assert(again.facts.some((fact) => fact.type === 'journal-replayed' && fact.records >= 21));
  // The old target has what was never flushed: it is brought in step.
  again.nodes.a.up = true;
  await again.until(() => again.state('a') === 'synced', 'the old target is in step');
  assert.deepEqual(again.nodes.a.bytes, again.nodes.b.bytes);
  await again.stop();
});

test('the active node answers again before the mirror takes over: nothing that it acknowledged is missing', async () => {
  const both = await covered();
  both.rig.write(0, filled(1));
  await turns();
  const again = await disaster(both);
  await again.until(() => again.facts.some((fact) => fact.type === 'journal-replayed'), 'the mirror could take over');
  again.nodes.a.up = true;
  const read = again.read(0, 512);
  await again.until(() => read.errno !== null, 'a read is answered');
  assert.equal(again.volume.active.node, 'a');
  assert.deepEqual(read.data, filled(1));
  await again.until(() => again.state('b') === 'synced', 'the mirror is in step');
  assert.deepEqual(again.nodes.b.bytes, again.nodes.a.bytes);
  await again.stop();
});

test('what a mirror has flushed is not kept: the journal is empty when all is quiet', async () => {
  const { rig } = await covered();
  for (let i = 0; i < 50; i += 1) rig.write((i % 60) * 1024, filled(i + 1, 1024));
  await turns();
  await rig.until(() => {
    const { b } = rig.nodes;
    return b.durable.equals(rig.nodes.a.bytes);
  }, 'the mirror has flushed');
  await rig.pass(2000);
  const { rig: again } = { rig: await disaster({ rig, journals: new MemoryJournals() }) };
  assert.equal(again.volume.journal?.covers.length, 0, 'without its file the journal covers nobody');
  await again.stop();
});

test('more is written than the journal holds: hosts wait for room and go on', async () => {
  const { rig } = await covered();
  const writes: WatchedRequest[] = [];
  for (let i = 0; i < 200; i += 1) writes.push(rig.write((i % 4) * 16_384, filled((i % 250) + 1, 16_384)));
  await rig.until(() => writes.every(({ errno }) => errno === 0), 'all is answered');
  assert.deepEqual(rig.volume.journal?.covers, ['b']);
  await rig.stop();
});

test('a mirror that hangs does not hold the hosts for long: the journal goes on without it', async () => {
  const { rig } = await covered();
  rig.nodes.b.hold = (request) => request.command === WRITE || request.command === FLUSH;
  const writes: WatchedRequest[] = [];
  for (let i = 0; i < 200; i += 1) writes.push(rig.write((i % 4) * 16_384, filled((i % 250) + 1, 16_384)));
  await rig.until(() => writes.every(({ errno }) => errno === 0), 'all is answered', 12_000);
  assert.deepEqual(rig.volume.journal?.covers, []);
  await rig.stop();
});

test('the journal is refused by its disk: flushes wait until that is written down, then for the mirror, and it is made anew', async () => {
  const { rig, journals } = await covered();
  rig.write(0, filled(2));
  await turns();
  rig.records.held = true;
  journals.refusing = true;
  rig.write(0, filled(1));
  await rig.pass(500);
  assert.equal(rig.volume.journal?.state, 'failed');
  const flush = rig.flush();
  await rig.pass(1000);
  assert.equal(flush.errno, null, 'the store does not say yet that the journal does not count');
  rig.nodes.b.hold = (request) => request.command === FLUSH;
  rig.records.held = false;
  rig.records.release();
  await rig.pass(1000);
  assert.equal(record(rig).journal, undefined);
  assert.equal(flush.errno, null, 'the mirror has not flushed');
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  await turns();
  assert.equal(flush.errno, 0);
  assert.deepEqual(rig.nodes.b.durable.subarray(0, 512), filled(1));
  assert.equal(rig.volume.journal?.state, 'failed');
  assert.equal(rig.volume.journal?.reason, 'writing failed: the disk refuses');
  journals.refusing = false;
  await rig.until(() => rig.volume.journal?.covers.includes('b') ?? false, 'there is a journal again');
  await rig.stop();
});

test('a new journal that its disk does not give back is not used, and made again later', async () => {
  const journals = new MemoryJournals();
  journals.unreadable = true;
  const rig = await VolumeRig.mirrored({ settings, journals });
  assert.equal(rig.volume.journal?.state, 'failed');
  assert.match(rig.volume.journal?.reason ?? '', /the disk cannot read it/);
  const flush = rig.flush();
  await turns();
  assert.equal(flush.errno, 0, 'the mirror is flushed instead');
  journals.unreadable = false;
  await rig.until(() => rig.volume.journal?.covers.includes('b') ?? false, 'the journal covers the mirror');
  await rig.stop();
});

test('a policy without a journal ends it; with one again, it begins empty', async () => {
  const { rig } = await covered();
  assert.equal(record(rig).format, 2);
  rig.volume.configure({ ...SETTINGS, durability: 'async' });
  await rig.until(() => record(rig).journal === undefined, 'it does not count any more');
  assert.equal(record(rig).format, 1);
  assert.equal(rig.volume.journal, null);
  const flush = rig.flush();
  await turns();
  assert.equal(flush.errno, 0);
  rig.volume.configure({ ...SETTINGS, durability: 'journal' });
  await rig.until(() => rig.volume.journal?.covers.includes('b') ?? false, 'it covers the mirror again');
  await rig.stop();
});

test('a write is not answered by `sync` before a journal that still counts has it, or counts no more', async () => {
  const both = await covered();
  const { rig, journals } = both;
  rig.write(0, filled(1));
  const flush = rig.flush();
  await turns(20);
  assert.equal(flush.errno, 0);
  rig.volume.configure({ ...SETTINGS, durability: 'sync' });
  journals.held = [];
  const forced = rig.write(0, filled(2), true);
  await turns(20);
  assert.equal(forced.errno, null, 'a restart now would put the older write over it on the mirror');
  rig.records.failing = 'before';
  await rig.pass(1000);
  const plain = rig.write(1024, filled(3));
  await turns(20);
  assert.equal(plain.errno, null, 'the store still names the journal');
  journals.go();
  rig.records.failing = null;
  await rig.until(() => forced.errno === 0 && plain.errno === 0, 'they are answered when it counts no more');
  assert.equal(record(rig).journal, undefined);
  const again = await disaster(both);
  const read = again.read(0, 512);
  await again.until(() => read.errno !== null || again.volume.service.state === 'waiting', 'nothing old takes over');
  assert(!again.facts.some((fact) => fact.type === 'journal-replayed'));
  await again.stop();
});

test('after a flip the old target is covered, and takes over when gateway and new target fail together', async () => {
  const both = await covered();
  const { rig } = both;
  const flipped = await rig.finish(rig.volume.flip({ node: 'b', export: '' }, { kind: 'flip', reason: 'test', verdict: null }));
  assert(flipped.ok);
  await rig.until(() => rig.volume.journal?.covers.includes('a') ?? false, 'the old target is covered');
  rig.write(0, filled(7), true);
  await turns();
  const { a, b } = rig.nodes;
  b.up = false;
  b.cut();
  a.crash();
  await turns();
  const again = await VolumeRig.start({ settings, records: rig.records.crashed(), nodes: rig.nodes, journals: both.journals.crashed() });
  const read = again.read(0, 512);
  await again.until(() => read.errno !== null, 'a read is answered');
  assert.deepEqual(read.data, filled(7));
  assert.equal(again.volume.active.node, 'a');
  await again.stop();
});

test('a flip keeps the records that another mirror lacks: it takes over with them when gateway and new target fail together', async () => {
  const both = await covered();
  const { rig } = both;
  await rig.addMirror('c');
  rig.nodes.c.volatile = true;
  await rig.until(() => rig.volume.journal?.covers.includes('c') ?? false, 'the journal covers c');
  await rig.pass(2000);
  rig.nodes.c.hold = (request) => request.command === FLUSH;
  for (let i = 0; i < 10; i += 1) rig.write(i * 512, filled(i + 1), true);
  await turns(20);
  const flipped = await rig.finish(rig.volume.flip({ node: 'b', export: '' }, { kind: 'flip', reason: 'test', verdict: null }));
  assert(flipped.ok);
  const { a, b, c } = rig.nodes;
  for (const node of [a, b]) {
    node.up = false;
    node.cut();
  }
  c.hold = () => false;
  c.crash();
  await turns();
  const again = await VolumeRig.start({ settings, records: rig.records.crashed(), nodes: rig.nodes, journals: both.journals.crashed() });
  const read = again.read(0, 5120);
  await again.until(() => read.errno !== null, 'a read is answered');
  for (let i = 0; i < 10; i += 1) assert.deepEqual(read.data?.subarray(i * 512, (i + 1) * 512), filled(i + 1), `write ${i}`);
  assert.equal(again.volume.active.node, 'c');
  await again.stop();
});

test('a mirror does not rely on a new journal while writes are under way that will not be in it', async () => {
  const rig = await VolumeRig.mirrored({ journals: new MemoryJournals() });
  rig.nodes.a.hold = (request) => request.command === WRITE;
  const write = rig.write(0, filled(1));
  await turns();
  rig.volume.configure({ ...SETTINGS, durability: 'journal' });
  await rig.until(() => rig.volume.journal?.state === 'ready', 'there is a journal');
  await rig.pass(1000);
  assert.deepEqual(rig.volume.journal?.covers, []);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  await turns();
  assert.equal(write.errno, 0);
  await rig.until(() => rig.volume.journal?.covers.includes('b') ?? false, 'the journal covers the mirror');
  await rig.stop();
});

test('the mark of an extent stays until the journal has on disk what was written there', async () => {
  const { rig, journals } = await covered();
  const marks = (): number => rig.records.list('mark/v/').length;
  await rig.until(() => marks() === 0, 'nothing is marked');
  journals.held = [];
  rig.write(0, filled(1));
  await rig.pass(8000);
  assert.equal(marks(), 1);
  journals.go();
  await rig.until(() => marks() === 0, 'the mark goes');
  await rig.stop();
});

test('before a mirror gets records, it is written down that it is older there until it has them all', async () => {
  const both = await covered();
  await both.rig.until(() => both.rig.records.list('dirty/v/').length === 0, 'nothing is written down of the first copy');
  both.rig.write(8192, filled(1), true);
  await turns();
  both.rig.nodes.b.hold = (request) => request.command === WRITE;
  const again = await disaster(both);
  await again.until(() => again.nodes.b.held.length > 0, 'the mirror gets a record');
  // The extent of 4096 bytes that begins at 8192.
  const [[, bits]] = again.records.list('dirty/v/m1/') as [string, Uint8Array][];
  assert.equal(bits[0] & 4, 4);
  again.nodes.b.hold = () => false;
  again.nodes.b.answerAll();
  await again.until(() => again.volume.active.node === 'b', 'the mirror takes over');
  await again.stop();
});

test('hosts wait for the nodes after a restart until their deadline, not for ever, and what the journal has is kept', async () => {
  const both = await covered();
  both.rig.write(0, filled(1), true);
  await turns();
  both.rig.nodes.b.up = false;
  const again = await disaster(both);
  const read = again.read(0, 512);
  await again.until(() => read.errno !== null, 'a read is answered', 40_000);
  assert.equal(read.errno, ERRNO.EIO);
  again.nodes.b.up = true;
  const later = again.read(0, 512);
  await again.until(() => later.errno !== null, 'a read is answered');
  assert.deepEqual(later.data, filled(1));
  await again.stop();
});

test('a mirror that has what was flushed by the journal is flipped to: where nobody knows the old target is copied over', async () => {
  const both = await covered();
  const { a, b } = both.rig.nodes;
  // Everywhere: no checksum is known after the crash, and the flip need not read the old target.
  for (let offset = 0; offset < both.rig.sizeBytes; offset += 4096) both.rig.write(offset, filled(1), true);
  await turns();
  b.hold = (request) => request.command === WRITE;
  // On node a only, and no host has flushed it.
  both.rig.write(8192, filled(2));
  await turns();
  const again = await disaster(both);
  b.hold = () => false;
  // Before the gateway itself lets it take over.
  while (again.state('b') !== 'synced') await again.pass(5, 5);
  const flipped = await again.finish(again.volume.flip(target('b'), { kind: 'flip', reason: 'test', verdict: null }));
  assert.equal(flipped.ok ? flipped.value.kind : flipped.message, 'flip');
  a.up = true;
  await again.until(() => again.state('a') === 'synced', 'node a is in step');
  await again.pass(500);
  assert(a.bytes.equals(b.bytes), 'the copies are alike');
  const read = again.read(8192, 512);
  await again.until(() => read.errno !== null, 'it is read');
  assert.deepEqual(read.data, filled(1));
  await again.stop();
});

test('hosts wait until it is durable that no mirror may take over by the journal, though its disk refuses', async () => {
  const { rig, journals } = await covered();
  const { a, b } = rig.nodes;
  b.hold = (request) => request.command === WRITE;
  rig.write(0, filled(1), true);
  await turns();
  for (const node of Object.values(rig.nodes)) node.cut();
  b.hold = () => false;
  const left = journals.crashed();
  left.refusing = true;
  const records = rig.records.crashed();
  records.failing = 'before';
  const again = new VolumeRig({ settings, records, nodes: rig.nodes, journals: left });
  // Opening it syncs it once.
  left.refusing = false;
  assert((await again.volume.start()).ok);
  left.refusing = true;
  const read = again.read(0, 512);
  await again.pass(5000);
  assert(a.up && read.errno === null, 'a restart now would let the mirror take over');
  records.failing = null;
  await again.until(() => read.errno !== null, 'it is read');
  assert.deepEqual(read.data, filled(1));
  assert.equal(record(again).journal, undefined);
  await again.stop();
});

for (const how of ['gone', 'damaged'] as const) {
  test(`a journal whose file is ${how} after a restart is given up: the mirrors stay, and are brought in step from the active target`, async () => {
    const { rig, journals } = await covered();
    const { b } = rig.nodes;
    b.hold = (request) => request.command === WRITE;
    rig.write(0, filled(1), true);
    await turns();
    for (const node of Object.values(rig.nodes)) node.cut();
    b.hold = () => false;
    if (how === 'gone') journals.files.clear();
    else journals.files.get('v')!.durable.fill(0xdb);
    await turns();
    const again = await VolumeRig.start({ settings, records: rig.records.crashed(), nodes: rig.nodes, journals: journals.crashed() });
    assert.deepEqual(
      record(again).mirrors.map(({ target: { node } }) => node),
      ['b'],
    );
    await again.until(() => again.volume.journal?.covers.includes('b') ?? false, 'a new journal covers the mirror');
    assert(again.nodes.a.bytes.equals(b.bytes), 'the copies are alike');
    assert.deepEqual(b.bytes.subarray(0, 512), filled(1));
    await again.stop();
  });
}

test('a journal that fails while the volume is closed keeps it from nothing, and its file is closed', async () => {
  const { rig, journals } = await covered();
  rig.write(0, filled(1));
  await turns();
  journals.refusing = true;
  await rig.finish(rig.volume.close());
  assert.deepEqual(
    [...journals.files.values()].map(({ closed }) => closed),
    [true],
  );
});

test.run();
