// The main job, on nbdkit nodes and on an agent: hosts write while a node is predicted to fail, its volume is mirrored and
// flipped, the node is killed. No request fails, no acknowledged write is lost. Pauses are printed, never judged.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { eventually } from '../support/eventually.js';
import { FioJob } from '../support/fio-job.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { runPeer } from '../support/nbd-testbed.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: evacuation');
const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
const SEED = 20_260_714;

/** A writer that ends with its site. */
function startWriter(site: Site, options: ConstructorParameters<typeof ModelWriter>[0]): ModelWriter {
  const writer = new ModelWriter(options);
  site.onClose(() => writer.abandon());
  writer.start();
  return writer;
}

for (const plugin of ['memory', 'file'] as const) {
  siteTest(
    test,
    ['nbdkit', 'fio', 'qemu-img'],
    `between two nbdkit ${plugin} nodes a verdict moves the volume under fio at depth 16, and the old node may die`,
    async (site) => {
      const node = (name: string) =>
        plugin === 'memory' ? NbdkitNode.start(site, ['memory', `${SIZE}`]) : NbdkitNode.onFile(site, name, SIZE);
      const [a, b] = [await node('a'), await node('b')];
      const gateway = await GatewayProcess.start(site, {
        nodes: [
          { id: 'a', nbd: a.uri, zone: 'rack-1', capacity: '1GiB' },
          { id: 'b', nbd: b.uri, zone: 'rack-2', capacity: '1GiB', spares: [''] },
        ],
        volumes: [{ name: 'vol0', size: '64MiB', node: 'a', export: '' }],
      });
      mkdirSync(site.path('fio'));
      const job = FioJob.start(site, gateway.uri('vol0'), [
        '--rw=randwrite',
        '--bs=4k',
        '--iodepth=16',
        '--size=32M',
        '--time_based',
        '--runtime=12s',
        '--verify=crc32c',
        '--verify_backlog=512',
        '--verify_fatal=1',
      ]);
      const random = new Random(SEED, plugin);
      const writer = startWriter(site, { uri: gateway.uri('vol0'), offset: 32 * MIB, length: 32 * MIB, random, connections: 2, depth: 2 });
      await writer.progress(200);
      await eventually(
        'fio is at it',
        () => gateway.volume('vol0'),
        ({ clients }) => clients.length >= 3,
      );
      const startedMs = Date.now();
      await gateway.verdict('a', 0.99, 'the operator smells smoke');
      const { lastFlip } = await gateway.untilVolume('vol0', 'flipped to b', ({ active }) => active.node === 'b');
      const totalMs = Date.now() - startedMs;
      await writer.progress(100);
      assert(job.running, 'fio writes across the whole move');
      await a.kill();
      await writer.progress(200);
      assert(job.running, 'fio still writes after the old node was killed');
      const result = await job.result();
      await writer.stop();
      assert.equal(result.errors, 0);
      assert.deepEqual(writer.errors, []);
      assert.deepEqual(await writer.check(), [], 'through the gateway');
      assert.deepEqual(await writer.check(b.uri), [], 'on the surviving node');
      const compared = await runPeer('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', gateway.uri('vol0'), b.uri], { timeoutMs: 60_000 });
      assert.equal(compared.status, 0, compared.stdout + compared.stderr);
      assert(lastFlip !== null);
      assert.deepEqual([lastFlip.kind, lastFlip.from.node, lastFlip.to.node, lastFlip.epoch], ['flip', 'a', 'b', 1]);
      assert.notEqual(lastFlip.verdict, null);
      const [verdict] = await gateway.events('&type=node.verdict&node=a');
      assert.match(JSON.stringify(verdict), /the operator smells smoke/);
      print(`nbdkit ${plugin}: pause ${lastFlip.pauseMs.toFixed(1)} ms (${lastFlip.held} held), ${totalMs} ms from verdict to flip`);
      print(
        `  fio ${result.writes} writes, ${result.reads} verified reads, ${result.writeIops} write IOPS, slowest ${result.writeMsMax.toFixed(0)} ms`,
      );
      print(`  model ${writer.writes} writes, ${writer.flushes} flushes, slowest ${writer.slowestMs.toFixed(0)} ms`);
    },
  );
}

siteTest(
  test,
  ['nbdkit'],
  'a node killed before the flip, with its copy on an agent complete, loses nothing that was acknowledged',
  async (site) => {
    const a = await NbdkitNode.onFile(site, 'a', SIZE);
    const b = await NodeAgentProcess.start(site, 'b');
    const gateway = await GatewayProcess.start(site, {
      nodes: [
        { id: 'a', nbd: a.uri, zone: 'rack-1' },
        { id: 'b', agent: b.url, zone: 'rack-2' },
      ],
      volumes: [{ name: 'vol0', size: '64MiB', node: 'a', export: '' }],
      policies: { default: { flip: { automatic: false } } },
    });
    const random = new Random(SEED, 'agent');
    const writer = startWriter(site, { uri: gateway.uri('vol0'), offset: 0, length: SIZE, random, connections: 4, depth: 4 });
    await writer.progress(200);
    const startedMs = Date.now();
    await gateway.verdict('a', 0.97, 'reallocated sectors climb');
    await gateway.untilSynced('vol0', 'b');
    const syncedMs = Date.now() - startedMs;
    await writer.progress(500);
    assert.equal((await gateway.volume('vol0')).active.node, 'a', 'nobody flipped');
    const killedMs = Date.now();
    await a.kill();
    const { lastFlip } = await gateway.untilVolume('vol0', 'failed over to b', ({ active }) => active.node === 'b');
    const failoverMs = Date.now() - killedMs;
    await writer.progress(1000);
    await writer.stop();
    assert.deepEqual(writer.errors, []);
    assert.equal(writer.reconnects, 0, 'the same connections all the time');
    assert.deepEqual(await writer.check(), []);
    assert.deepEqual([lastFlip?.kind, lastFlip?.epoch], ['failover', 1]);
    print(`agent: synced after ${syncedMs} ms; failed over ${failoverMs} ms after the kill, pause ${lastFlip?.pauseMs.toFixed(1)} ms`);
    print(`  ${writer.writes} writes, ${writer.flushes} flushes, slowest ${writer.slowestMs.toFixed(0)} ms`);
  },
);

siteTest(test, ['nbdkit'], 'a node without a mirror that is killed and started again is not noticed by its hosts', async (site) => {
  const a = await NbdkitNode.onFile(site, 'a', SIZE);
  const gateway = await GatewayProcess.start(site, {
    nodes: [{ id: 'a', nbd: a.uri, zombie: '1s' }],
    volumes: [{ name: 'vol0', size: '64MiB', node: 'a', export: '', policy: 'alone' }],
    policies: { alone: { mirror: { onPrediction: 0 } } },
  });
  const random = new Random(SEED, 'restart');
  const writer = startWriter(site, { uri: gateway.uri('vol0'), offset: 0, length: 16 * MIB, random, connections: 2, depth: 8 });
  for (let round = 0; round < 3; round += 1) {
    await writer.progress(300);
    await a.kill();
    await gateway.untilVolume('vol0', 'waits for its node', ({ service }) => service === 'waiting');
    await a.start();
  }
  await writer.progress(300);
  await writer.stop();
  assert.deepEqual(writer.errors, []);
  assert.equal(writer.reconnects, 0);
  assert.deepEqual(await writer.check(), []);
});

siteTest(
  test,
  ['nbdkit'],
  'a node that hangs is failed over, and when it goes on it is brought in line and can be flipped back to',
  async (site) => {
    const [a, b] = [await NbdkitNode.onFile(site, 'a', SIZE), await NbdkitNode.onFile(site, 'b', SIZE)];
    const gateway = await GatewayProcess.start(site, {
      nodes: [
        { id: 'a', nbd: a.uri, zone: 'rack-1', capacity: '1GiB', spares: [''], zombie: '1s' },
        { id: 'b', nbd: b.uri, zone: 'rack-2', capacity: '1GiB', spares: [''], zombie: '1s' },
      ],
      volumes: [{ name: 'vol0', size: '64MiB', node: 'a', export: '' }],
      policies: { default: { flip: { automatic: false, deadline: '2s' }, failover: { hangAfter: '1500ms' } } },
    });
    const random = new Random(SEED, 'hang');
    const writer = startWriter(site, { uri: gateway.uri('vol0'), offset: 0, length: 16 * MIB, random, connections: 2, depth: 8 });
    await gateway.mirror('vol0', 'b');
    await gateway.untilSynced('vol0', 'b');

    // The mirror hangs: hosts do not wait for it.
    b.program.signal('SIGSTOP');
    await writer.progress(500);
    b.program.signal('SIGCONT');
    await gateway.untilSynced('vol0', 'b');

    // The source hangs, with requests in it.
    a.program.signal('SIGSTOP');
    const { lastFlip } = await gateway.untilVolume('vol0', 'failed over to b', ({ active }) => active.node === 'b');
    assert.equal(lastFlip?.kind, 'failover');
    await writer.progress(300);
    a.program.signal('SIGCONT');
    await gateway.untilSynced('vol0', 'a');
    await writer.progress(100);
    await gateway.flip('vol0');
    await writer.progress(100);
    await writer.stop();
    assert.deepEqual(writer.errors, []);
    assert.equal(writer.reconnects, 0);
    assert.deepEqual(await writer.check(), []);
    assert.equal((await gateway.volume('vol0')).active.node, 'a');
    await gateway.untilSynced('vol0', 'b');
    await gateway.untilVolume('vol0', 'the queue is empty', ({ mirrors }) =>
      mirrors.every(({ lagBytes, dirtyBytes }) => lagBytes + dirtyBytes === 0),
    );
    await gateway.stop();
    const compared = await runPeer('cmp', [site.path('a.img'), site.path('b.img')]);
    assert.equal(compared.status, 0, compared.stdout + compared.stderr);
  },
);

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

test.run();
