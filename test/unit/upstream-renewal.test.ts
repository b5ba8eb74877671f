// An upstream connects anew to see what its node has become (a larger export) without a loss: nothing is sent twice, nothing is in
// doubt, nobody is told; a node that does not come back at once is a loss like any other.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { OP } from '../../replication/device.js';
import { turns } from '../support/scripted-node.js';
import { filled, UpstreamRig } from '../support/upstream-rig.js';

const test = suite('upstream/renewal');
const WRITE = 1;
const SIZE = 1024 * 1024;

function writes(rig: UpstreamRig): string[] {
  return rig.node.log.filter((line) => line.startsWith('write'));
}

test('what is on its way is answered first, what comes meanwhile is sent after, and nobody hears of it', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 1000 });
  rig.node.hold = ({ command }) => command === WRITE;
  const first = rig.write(0, filled(1));
  await turns();
  rig.upstream.renew('test');
  const second = rig.write(512, filled(2));
  await turns();
  assert.deepEqual([rig.upstream.ready, rig.upstream.renewing, rig.node.dials], [true, true, 1]);
  assert.deepEqual(writes(rig), ['write 0+512']);
  rig.node.sizeBytes = 2 * SIZE;
  rig.node.hold = () => false;
  rig.node.answerAll();
  await rig.reconnect();
  rig.clock.advance(20);
  await turns();
  assert.deepEqual([first.errno, second.errno, rig.upstream.renewing], [0, 0, false]);
  assert.deepEqual([rig.node.dials, rig.upstream.features!.sizeBytes, rig.upstream.guardedRanges], [2, 2 * SIZE, 0]);
  assert.deepEqual(writes(rig).slice(-1), ['write 512+512']);
  assert.deepEqual(rig.told, ['connected']);
  assert.equal(rig.upstream.counters.disconnects, 0);
});

test('what was not flushed is sent again, as to any new incarnation', async () => {
  const rig = await UpstreamRig.ready();
  assert.equal(await rig.write(0, filled(1)).done, 0);
  rig.upstream.renew('test');
  await turns();
  rig.clock.advance(20);
  await turns();
  assert.equal(rig.upstream.renewing, false);
  assert.deepEqual(writes(rig), ['write 0+512', 'write 0+512']);
});

test('what the node gets again is no request that hangs', async () => {
  const rig = await UpstreamRig.ready();
  rig.clock.advance(60_000);
  assert.equal(await rig.write(0, filled(1)).done, 0);
  rig.upstream.renew('test');
  rig.node.hold = ({ command }) => command === WRITE;
  await turns();
  rig.clock.advance(20);
  await turns();
  assert.deepEqual(writes(rig), ['write 0+512', 'write 0+512'], 'it is under way');
  assert.deepEqual([rig.upstream.ready, rig.upstream.oldestMs()], [true, 0]);
  rig.node.answerAll();
  await turns();
  assert.equal(rig.upstream.renewing, false);
});

test('a request that stays unanswered, or a node that does not come back, is a loss after two seconds', async () => {
  const hung = await UpstreamRig.ready();
  hung.node.hold = ({ command }) => command === WRITE;
  const write = hung.write(0, filled(1));
  await turns();
  hung.upstream.renew('test');
  hung.clock.advance(2001);
  await turns();
  assert.match(hung.told[1], /^lost: .*test, and it does not answer/);
  hung.node.hold = () => false;
  await hung.reconnect();
  assert.equal(await write.done, 0);
  assert.deepEqual(hung.told.slice(2), ['connected']);

  const gone = await UpstreamRig.ready();
  gone.node.up = false;
  gone.upstream.renew('test');
  await turns();
  assert.deepEqual(gone.told, ['connected']);
  gone.clock.advance(2001);
  await turns();
  assert.equal(gone.upstream.ready, false);
  assert.match(gone.told[1], /^lost: /);
  gone.node.up = true;
  await gone.reconnect();
  assert.deepEqual(gone.told.slice(2), ['connected']);
});

test('a target that comes back smaller than is needed by then is blocked', async () => {
  const rig = await UpstreamRig.ready();
  rig.upstream.require(2 * SIZE);
  assert.equal(rig.upstream.sizeBytes, 2 * SIZE);
  rig.upstream.renew('test');
  await turns();
  rig.clock.advance(20);
  await turns();
  assert.deepEqual([rig.upstream.state, rig.upstream.ready], ['blocked', false]);
  assert.match(rig.told[1], /^blocked: the export has 1MiB \(1048576 bytes\), the volume needs 2MiB/);
});

test('one that is closed or given up meanwhile hands everything back', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.stallHandshakes = true;
  rig.upstream.renew('test');
  await turns();
  const read = rig.submit(OP.READ, 0, 512);
  const { requests } = rig.upstream.abandon(() => {});
  assert.deepEqual(requests, [read]);
  rig.clock.advance(5000);
  await turns();
  assert.deepEqual(rig.told, ['connected']);
});

test.run();
