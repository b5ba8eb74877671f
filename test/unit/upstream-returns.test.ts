// A target that comes back is asked for what it must hold before anything is sent there (rule 20): a blank one, an old state
// or another disk is noticed; what it may rightly have forgotten is not held against it.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { OP } from '../../replication/device.js';
import { TestHasher } from '../support/path-rig.js';
import { turns } from '../support/scripted-node.js';
import { filled, memoryOf, UpstreamRig } from '../support/upstream-rig.js';

const test = suite('upstream returns');
const hasher = new TestHasher();

async function wroteAndFlushed(): Promise<UpstreamRig> {
  const rig = await UpstreamRig.ready({ memory: memoryOf() });
  rig.write(4096, filled(1));
  rig.write(8192, filled(2));
  await turns();
  rig.flush();
  await turns();
  return rig;
}

test('one that restarts blank is blocked with the reason, and is looked at again until its contents are right', async () => {
  const rig = await wroteAndFlushed();
  const before = Buffer.from(rig.node.durable);
  rig.node.bytes.fill(0);
  rig.node.durable.fill(0);
  rig.node.cut();
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'blocked');
  assert.match(rig.upstream.reason!, /other contents: 2 of 2 samples are not .* first at offset 4096/);
  assert.equal(rig.told.filter((line) => line.startsWith('blocked')).length, 1, 'told once');
  assert(rig.told.includes('unlike: 2 of 2, blank'));
  const read = rig.read(4096, 512);
  await turns();
  assert.equal(read.errno, null, 'hosts wait');
  before.copy(rig.node.bytes);
  before.copy(rig.node.durable);
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'ready');
  assert.deepEqual(read.data, filled(1));
});

test('one with something else is not taken for blank, and goes on when that is mended', async () => {
  const rig = await wroteAndFlushed();
  rig.mends = true;
  rig.node.bytes.fill(7, 4096, 4608);
  rig.node.cut();
  await rig.reconnect();
  assert(rig.told.includes('unlike: 1 of 2'));
  assert.equal(rig.upstream.state, 'ready');
  rig.node.cut();
  await rig.reconnect();
  assert.equal(rig.told.filter((line) => line.startsWith('unlike')).length, 1, 'what was known before counts no more');
});

test('what was not flushed is replayed, not asked for', async () => {
  const rig = await wroteAndFlushed();
  rig.node.volatile = true;
  rig.write(4096, filled(3));
  rig.submit(OP.ZEROES, 8192, 512);
  await turns();
  rig.node.crash();
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'ready');
  assert.deepEqual(
    rig.told.filter((line) => line.startsWith('unlike')),
    [],
  );
  assert.deepEqual(rig.node.read(4096, 512), filled(3));
});

test('a write that was on its way when the connection broke is not asked for', async () => {
  const rig = await wroteAndFlushed();
  rig.node.hold = () => true;
  const write = rig.write(4096, filled(9));
  await turns();
  rig.node.held[0].land();
  rig.node.cut();
  rig.node.hold = () => false;
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'ready');
  assert.equal(write.errno, 0);
});

test('what the volume expects is asked for too, and what cannot be read is no evidence', async () => {
  const expected = [{ offset: 65_536, length: 1024, sum: hasher.sum(filled(4, 1024)) }];
  const rig = new UpstreamRig({ memory: memoryOf(undefined, expected) });
  rig.upstream.start();
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'blocked');
  rig.node.bytes.fill(4, 65_536, 66_560);
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'ready');
  rig.node.bytes.fill(0);
  rig.node.hold = (request) => request.offset === 65_536;
  rig.node.cut();
  await rig.reconnect(2);
  assert.notEqual(rig.upstream.state, 'ready', 'nothing is sent before the answer');
  rig.node.hold = () => false;
  rig.node.held[0].answer(5);
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'ready');
});

test('a node that shakes hands and does not say what it holds is tried again', async () => {
  const rig = await wroteAndFlushed();
  rig.node.hold = () => true;
  rig.node.cut();
  await rig.reconnect(2);
  const stuck = rig.node.held.length;
  assert(stuck > 0);
  rig.node.hold = () => false;
  await rig.reconnect(20);
  assert.equal(rig.upstream.state, 'ready');
});

test.run();
