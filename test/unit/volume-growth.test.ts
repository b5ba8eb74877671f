// A volume becomes larger while hosts go on: every copy is large enough and reads as zero before anybody sees it, the short last
// region of before loses its checksum and nothing else, and whatever fails or crashes on the way leaves it as it was, or grown.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { Outcome } from '../../gateway/control.js';
import { DirtyRecord } from '../../replication/dirty-record.js';
import { putVolume, type VolumeRecord } from '../../gateway/volume/volume-record.js';
import type { Change } from '../../replication/world.js';
import { MemoryRecords } from '../support/memory-records.js';
import { ScriptedNode, turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/growth');
const REGION = 1024;
/** Ends in the middle of a region, and of an extent of 4. */
const BEFORE = 9 * REGION + 512;
const AFTER = 21 * REGION + 512;
const OLD = 0x5a;
const why = { kind: 'flip' as const, reason: 'test', verdict: null };
const nothing = async (): Promise<Outcome<null>> => ({ ok: true, value: null });
const READ = 0;
const FLUSH = 3;
const ZEROES = 6;

function code(outcome: Outcome<unknown>): string {
  return outcome.ok ? 'ok' : outcome.code;
}

/** As an operator does it: what is new on the node is somebody else's. */
function enlarge(node: ScriptedNode, sizeBytes: number): void {
  const more = Buffer.alloc(sizeBytes - node.sizeBytes, OLD);
  node.sizeBytes = sizeBytes;
  node.bytes = Buffer.concat([node.bytes, more]);
  node.durable = Buffer.concat([node.durable, more]);
}

/** A small volume on nodes that have just as much. */
async function small(options: { zombieMs?: number } = {}): Promise<VolumeRig> {
  const nodes = { a: new ScriptedNode(BEFORE), b: new ScriptedNode(BEFORE), c: new ScriptedNode(BEFORE) };
  const record: VolumeRecord = {
    format: 1,
    name: 'v',
    sizeBytes: BEFORE,
    blockMinimum: 1,
    epoch: 0,
    active: target('a'),
    mirrors: [],
    nextMirror: 1,
    lastFlip: null,
  };
  const records = new MemoryRecords();
  await records.commit([putVolume(record), { put: 'ours/a/', value: { volume: 'v' } }]);
  const rig = await VolumeRig.start({ records, nodes, ...options });
  for (let offset = 0; offset < BEFORE; offset += 512) rig.write(offset, filled(1 + offset / 512, 512));
  await turns();
  return rig;
}

/** With a mirror on b that has everything and was read back, and both nodes' exports grown. */
async function mirrored(): Promise<VolumeRig> {
  const rig = await small();
  await rig.addMirror('b');
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  await rig.pass(1000);
  for (const node of [rig.nodes.a, rig.nodes.b]) enlarge(node, AFTER);
  return rig;
}

async function grown(rig: VolumeRig, sizeBytes = AFTER): Promise<void> {
  const outcome = await rig.finish(rig.volume.grow(sizeBytes, nothing));
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
}

function stored(records: MemoryRecords): VolumeRecord {
  return records.get('volume/v') as VolumeRecord;
}

async function readAll(rig: VolumeRig): Promise<Buffer> {
  const read = rig.read(0, rig.volume.sizeBytes);
  assert.equal(await rig.finish(read.done), 0);
  return read.data!;
}

async function verified(rig: VolumeRig): Promise<string> {
  const report = await rig.finish(rig.volume.scrub('test'));
  assert(report.ok);
  const { state, mismatches, totalBytes } = report.value;
  assert.deepEqual(mismatches, []);
  return `${state} ${totalBytes}`;
}

test('it is as large on every copy, the new part is zero whatever the nodes had there, and the old part is as it was', async () => {
  const rig = await mirrored();
  const before = await readAll(rig);
  await grown(rig);
  assert.equal(rig.volume.sizeBytes, AFTER);
  assert.equal(stored(rig.records).sizeBytes, AFTER);
  const after = await readAll(rig);
  assert.deepEqual(after.subarray(0, BEFORE), before);
  assert(after.subarray(BEFORE).every((byte) => byte === 0));
  assert.equal(rig.state('b'), 'synced', 'the mirror was in step all the time');
  assert.deepEqual(rig.nodes.b.durable, rig.nodes.a.durable, 'and both have it on stable storage');
  assert.deepEqual(rig.facts.filter(({ type }) => type === 'grown' || type === 'target-lost' || type === 'mirror-state').slice(-1), [
    { type: 'grown', from: BEFORE, sizeBytes: AFTER },
  ]);
  assert.equal(await verified(rig), `done ${AFTER}`);
  await rig.stop();
});

test('what is written in the new part is on the mirror after a flip, and is read back', async () => {
  const rig = await mirrored();
  await grown(rig);
  // Over the old end, and over the new one's last blocks.
  for (const [offset, value] of [
    [BEFORE - 512, 0xa1],
    [AFTER - 512, 0xa2],
    [15 * REGION, 0xa3],
  ] as const)
    assert.equal(await rig.finish(rig.write(offset, filled(value, offset === BEFORE - 512 ? 1024 : 512)).done), 0);
  const flipped = await rig.finish(rig.volume.flip(target('b'), why));
  assert(flipped.ok, flipped.ok ? '' : flipped.message);
  const after = await readAll(rig);
  assert.deepEqual(
    [after[BEFORE - 1], after[BEFORE], after[BEFORE + 511], after[BEFORE + 512], after[AFTER - 1]],
    [0xa1, 0xa1, 0xa1, 0, 0xa2],
  );
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  assert.equal(await verified(rig), `done ${AFTER}`);
  await rig.stop();
});

test('the short last region of before has no checksum after it, in memory and for a restart; the others of its extent keep theirs', async () => {
  const rig = await mirrored();
  assert.equal(await verified(rig), `done ${BEFORE}`);
  const flips = await rig.finish(rig.volume.flip(target('b'), why));
  assert(flips.ok && flips.value.roots.unverifiedRegions === 0);
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  const known = (records: MemoryRecords): number => (records.get('sum/v/00000002') as Uint8Array | undefined)?.[0] ?? 0;
  assert.equal(known(rig.records), 0b11, 'regions 8 and 9');
  await grown(rig);
  // As a gateway finds it that was killed right then.
  const again = await rig.restarted();
  assert.equal(known(again.records), 0, 'none of a region that was half as long');
  const read = again.read(9 * REGION, REGION);
  assert.equal(await again.finish(read.done), 0);
  assert.deepEqual([read.data![0], read.data![511], read.data![512]], [19, 19, 0]);
  await again.until(() => again.state('b') === null && again.state('a') === 'synced', 'in step');
  assert.equal(await verified(again), `done ${AFTER}`);
  await again.stop();
});

test('copies that are too small are all named, and nothing has changed; once they are large enough it grows', async () => {
  const rig = await small();
  await rig.addMirror('b');
  enlarge(rig.nodes.a, AFTER);
  enlarge(rig.nodes.b, BEFORE + 512);
  const refused = await rig.finish(rig.volume.grow(AFTER, nothing));
  assert(!refused.ok);
  assert.equal(refused.code, 'copies-too-small');
  assert.match(refused.message, new RegExp(`b has ${BEFORE + 512} bytes`));
  assert.deepEqual(refused.details, { copies: [{ ...target('b'), sizeBytes: BEFORE + 512 }] });
  assert.equal(rig.volume.sizeBytes, BEFORE);
  assert(rig.nodes.a.bytes.subarray(BEFORE).every((byte) => byte === OLD));
  enlarge(rig.nodes.b, AFTER);
  await grown(rig);
  assert(rig.nodes.a.bytes.subarray(BEFORE).every((byte) => byte === 0));
  await rig.stop();
});

test('it never shrinks, is as large as it is without an error, and has whole sectors', async () => {
  const rig = await small();
  assert.equal(code(await rig.volume.grow(BEFORE - 512, nothing)), 'shrink-refused');
  assert.deepEqual(await rig.volume.grow(BEFORE, nothing), { ok: true, value: BEFORE });
  assert.equal(code(await rig.volume.grow(AFTER + 1, nothing)), 'size-unaligned');
  assert.equal(rig.volume.sizeBytes, BEFORE);
  await rig.stop();
});

test('its targets are made larger before anything else, and a refusal of that is the answer', async () => {
  const rig = await small();
  const asked: string[] = [];
  const refusal = { ok: false, code: 'no-space', message: 'there is no space' } as const;
  const refused = await rig.finish(
    rig.volume.grow(AFTER, async (to, sizeBytes) => {
      asked.push(`${to.node} ${sizeBytes}`);
      return refusal;
    }),
  );
  assert.equal(code(refused), 'no-space');
  assert.deepEqual(asked, [`a ${AFTER}`]);
  await rig.stop();
});

test('a copy that does not answer is waited for, one that was given up is not: all of its new part is dirty, durably', async () => {
  const rig = await small();
  await rig.addMirror('b');
  await rig.addMirror('c');
  for (const node of Object.values(rig.nodes)) enlarge(node, AFTER);
  rig.nodes.b.up = false;
  rig.nodes.b.cut();
  await turns();
  const refused = await rig.finish(rig.volume.grow(AFTER, nothing));
  assert.equal(code(refused), 'copy-unreachable');
  rig.nodes.b.up = true;
  await rig.until(() => rig.state('b') === 'synced', 'b is back');
  // Sixteen refusals, and it is latched.
  rig.nodes.c.fail = ({ command }) => (command === READ || command === FLUSH ? 0 : 5);
  for (let block = 0; block < 16 && rig.state('c') !== 'failed'; block += 1) {
    rig.write(0, filled(0x70 + block, 512));
    await rig.pass(500);
  }
  await rig.until(() => rig.state('c') === 'failed', 'c is given up');
  await grown(rig);
  assert(rig.nodes.c.bytes.subarray(BEFORE).every((byte) => byte === OLD));
  rig.nodes.c.fail = () => 0;
  const again = await rig.restarted();
  const [, c] = stored(again.records).mirrors;
  assert.equal(c.target.node, 'c');
  const dirty = new DirtyRecord(again.records, 'v', c.id, Math.ceil(AFTER / 4096));
  assert.deepEqual([...dirty].slice(-4), [2, 3, 4, 5]);
  await again.until(() => again.state('c') === 'synced', 'c is copied');
  assert.deepEqual(again.nodes.c.bytes, again.nodes.a.bytes);
  await again.stop();
});

test('a commit that fails leaves it as large as it was, written or not; another try makes it so', async () => {
  for (const failing of ['before', 'after'] as const) {
    const rig = await mirrored();
    // Only the commit of the growth: the sweeps' may go through.
    const commit = rig.records.commit.bind(rig.records);
    rig.records.commit = (changes: Change[]) => {
      rig.records.failing = changes.some((change) => 'put' in change && change.put === 'volume/v') ? failing : null;
      return commit(changes);
    };
    const refused = await rig.finish(rig.volume.grow(AFTER, nothing));
    assert.equal(code(refused), 'store-unwritable');
    assert.equal(rig.volume.sizeBytes, BEFORE);
    rig.records.commit = commit;
    rig.records.failing = null;
    const crashed = rig.records.crashed();
    assert.equal(stored(crashed).sizeBytes, failing === 'before' ? BEFORE : AFTER);
    await grown(rig);
    assert.equal(stored(rig.records).sizeBytes, AFTER);
    assert.equal(await verified(rig), `done ${AFTER}`);
    await rig.stop();
  }
});

test('a gateway that is killed anywhere in it leaves a volume that a next one serves and makes as large', async () => {
  const commands: [string, (rig: VolumeRig) => boolean][] = [
    ['a handshake', (rig) => rig.nodes.a.stalled.length > 0],
    ['zeroes', (rig) => rig.nodes.b.held.some(({ command }) => command === ZEROES)],
    ['a flush', (rig) => rig.nodes.b.held.some(({ command }) => command === FLUSH)],
    ['the commit', (rig) => rig.records.waiting > 0],
  ];
  for (const [where, reached] of commands) {
    const rig = await mirrored();
    const before = await readAll(rig);
    if (where === 'a handshake') rig.nodes.a.stallHandshakes = true;
    else if (where === 'the commit') rig.records.held = true;
    else rig.nodes.b.hold = ({ command }) => command === (where === 'zeroes' ? ZEROES : FLUSH);
    void rig.volume.grow(AFTER, nothing);
    await rig.until(() => reached(rig), where);
    rig.nodes.a.stallHandshakes = false;
    rig.nodes.b.hold = () => false;
    const again = await rig.restarted();
    assert.equal(again.volume.sizeBytes, BEFORE, where);
    assert.deepEqual(await readAll(again), before);
    await again.until(() => again.state('b') === 'synced', `${where}: in step`);
    await grown(again);
    assert.equal(await verified(again), `done ${AFTER}`, where);
    await again.stop();
  }
});

test('hosts go on while it grows, and no request is in doubt on a plain node for it', async () => {
  const rig = await mirrored();
  const held: { answer(): void }[] = [];
  rig.nodes.a.hold = (request) => {
    if (held.length === 0 && request.command === READ && request.offset === 512) held.push(request);
    return held.includes(request);
  };
  const slow = rig.read(512, 512);
  await turns();
  const growing = rig.volume.grow(AFTER, nothing);
  await rig.pass(200);
  // It waits to connect anew until that is answered; what comes meanwhile waits for it.
  const dials = rig.nodes.a.dials;
  const write = rig.write(0, filled(0x99, 512));
  await rig.pass(200);
  assert.deepEqual([slow.errno, write.errno, rig.nodes.a.dials], [null, null, dials]);
  held[0].answer();
  const outcome = await rig.finish(growing);
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  assert.deepEqual([slow.errno, write.errno, rig.nodes.a.dials], [0, 0, dials + 1]);
  assert.equal(rig.facts.filter(({ type }) => type === 'target-lost').length, 0);
  await rig.stop();
});

test('nothing grows before what a gateway that was killed has sent can no longer land', async () => {
  const rig = await small();
  enlarge(rig.nodes.a, AFTER);
  const again = await rig.restarted({ zombieMs: 5000 });
  let ended = false;
  const growing = again.volume.grow(AFTER, nothing).then((outcome) => {
    ended = true;
    return outcome;
  });
  await again.pass(4500);
  assert.equal(ended, false);
  assert(
    again.nodes.a.bytes.subarray(BEFORE).every((byte) => byte === OLD),
    'not even zeroes were sent',
  );
  assert((await again.finish(growing)).ok);
  await again.stop();
});

test('one wish at a time: it holds off others, and others hold it off', async () => {
  const rig = await mirrored();
  rig.nodes.b.hold = ({ command }) => command === ZEROES;
  const growing = rig.volume.grow(AFTER, nothing);
  await rig.until(() => rig.nodes.b.held.length > 0, 'it zeroes');
  assert.equal(code(await rig.volume.flip(target('b'), why)), 'busy');
  assert.equal(code(await rig.volume.addMirror(target('c'), 'test')), 'busy');
  assert.equal(code(await rig.volume.grow(AFTER, nothing)), 'busy');
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  assert((await rig.finish(growing)).ok);
  enlarge(rig.nodes.c, AFTER);
  rig.nodes.c.bytes.fill(0);
  await rig.addMirror('c');
  assert.deepEqual(rig.nodes.c.bytes, rig.nodes.a.bytes, 'a mirror that is added later has all of it');
  await rig.stop();
});

test('a failover in the middle of it refuses it, and what was zeroed late does no harm', async () => {
  const rig = await mirrored();
  rig.nodes.a.hold = ({ command }) => command === ZEROES;
  const growing = rig.volume.grow(AFTER, nothing);
  await rig.until(() => rig.nodes.a.held.length > 0, 'it zeroes');
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.until(() => rig.volume.active.node === 'b', 'b has taken over');
  assert(!(await rig.finish(growing)).ok);
  rig.nodes.a.hold = () => false;
  rig.nodes.a.answerAll();
  rig.nodes.a.up = true;
  await rig.until(() => rig.state('a') === 'synced', 'a is back');
  await grown(rig);
  assert.equal(await rig.finish(rig.write(AFTER - 512, filled(0x44, 512)).done), 0);
  assert.equal(await verified(rig), `done ${AFTER}`);
  await rig.stop();
});

test('a scrub that is interrupted begins anew after a growth, in this gateway and the next', async () => {
  const rig = await mirrored();
  rig.nodes.b.hold = (request) => request.command === READ;
  void rig.volume.scrub('test');
  await rig.pass(15_000);
  rig.nodes.b.hold = () => false;
  rig.nodes.b.answerAll();
  await rig.pass(500);
  await grown(rig);
  const again = await rig.restarted();
  await again.until(() => again.state('b') === 'synced', 'in step');
  assert.equal(await verified(again), `done ${AFTER}`);
  await again.stop();
});

test.run();
