// deadline: 400s
// False alarms: before the flip the copy is dropped, after it the volume goes back. Either way hosts notice nothing, what
// they wrote meanwhile is there, and the space of the copy is free again.
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: false alarm');
const MIB = 1024 * 1024;
const SIZE = 32 * MIB;
const SEED = 20_261_001;

/** A node that may take the copy, and how much of its disk is used. */
interface Target {
  config: Record<string, unknown>;
  usedBytes(): number;
  /** Nothing of the copy is left. */
  isFree(gateway: GatewayProcess): Promise<boolean>;
}

function allocatedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

const TARGETS: Record<string, (site: Site) => Promise<Target>> = {
  async nbdkit(site) {
    const node = await NbdkitNode.onFile(site, 'b', SIZE);
    const usedBytes = () => allocatedBytes(site.path('b.img'));
    return {
      config: { nbd: node.uri, capacity: '1GiB', spares: [''] },
      usedBytes,
      isFree: async (gateway) => usedBytes() === 0 && (await gateway.node('b')).freeSpares.includes(''),
    };
  },
  async agent(site) {
    const agent = await NodeAgentProcess.start(site, 'b');
    const exports = async () => ((await (await fetch(`${agent.url}/v1/exports`)).json()) as { exports: { name: string }[] }).exports;
    return {
      config: { agent: agent.url },
      usedBytes: () => readdirSync(agent.directory).reduce((sum, file) => sum + allocatedBytes(`${agent.directory}/${file}`), 0),
      isFree: async () => (await exports()).length === 0 && readdirSync(agent.directory).every((file) => !file.endsWith('.img')),
    };
  },
};

for (const [kind, startTarget] of Object.entries(TARGETS)) {
  siteTest(
    test,
    ['nbdkit'],
    `with the copy on an ${kind} node: false alarms while copying, when synced, and after the flip leave nothing behind`,
    async (site) => {
      const a = await NbdkitNode.onFile(site, 'a', SIZE);
      const target = await startTarget(site);
      const nodes = [
        { id: 'a', nbd: a.uri, zone: 'rack-1', capacity: '1GiB', zombie: '1s' },
        { id: 'b', ...target.config, zone: 'rack-2' },
      ];
      const volumes = [{ name: 'vol0', size: '32MiB', node: 'a', export: '' }];
      const policy = (automatic: boolean, bandwidth: string) => ({
        default: { flip: { automatic }, rollback: { observe: '2s' }, copy: { bandwidth, hostLatencyGuard: 100 } },
      });
      const gateway = await GatewayProcess.start(site, { nodes, volumes, policies: policy(false, '4MiB') });
      const random = new Random(SEED, kind);
      const writer = new ModelWriter({ uri: gateway.uri('vol0'), offset: 0, length: SIZE, random, connections: 2, depth: 2 });
      site.onClose(() => writer.abandon());
      await writer.fill();
      writer.start();

      // Before the flip, while copying.
      await gateway.verdict('a', 0.99, 'a false alarm');
      await gateway.untilVolume('vol0', 'is being copied', ({ mirrors }) =>
        mirrors.some((mirror) => mirror.state === 'copying' && mirror.copiedBytes > 0),
      );
      assert(target.usedBytes() > 0);
      await gateway.verdict('a', 0.01, 'it was the sensor');
      await rolledBack(gateway, target);

      // Before the flip, with the copy complete.
      await gateway.configure({ nodes, volumes, policies: policy(false, '500MiB') });
      await gateway.post('/v1/config/reload');
      await gateway.verdict('a', 0.99, 'a false alarm');
      await gateway.untilSynced('vol0', 'b');
      await writer.progress(100);
      await gateway.verdict('a', 0.01, 'it was the sensor');
      await rolledBack(gateway, target);
      assert.equal((await gateway.volume('vol0')).epoch, 0);

      // After the flip.
      await gateway.configure({ nodes, volumes, policies: policy(true, '500MiB') });
      await gateway.post('/v1/config/reload');
      await gateway.verdict('a', 0.99, 'a false alarm');
      await gateway.untilVolume('vol0', 'flipped to b', ({ active }) => active.node === 'b');
      await writer.progress(200);
      const { lastFlip } = await gateway.untilVolume('vol0', 'flipped back', ({ active, epoch }) => epoch === 2 && active.node === 'a');
      assert.equal(lastFlip?.kind, 'rollback');
      await writer.progress(100);
      await rolledBack(gateway, target);
      await writer.stop();
      assert.deepEqual(writer.errors, []);
      assert.equal(writer.reconnects, 0);
      assert.deepEqual(await writer.check(), []);
      const freed = (await gateway.events('&type=target.freed')).map(({ node }) => node);
      assert.deepEqual(freed, ['b', 'b', 'b']);
      await gateway.stop();
      assert.deepEqual(await writer.check(a.uri), [], 'the first node has everything');
    },
  );
}

async function rolledBack(gateway: GatewayProcess, target: Target): Promise<void> {
  const done = await gateway.untilVolume(
    'vol0',
    'nothing is left of the alarm',
    ({ state, mirrors }) => state === 'healthy' && mirrors.length === 0,
  );
  assert.equal(done.active.node, 'a');
  await eventually('the space of the copy is free', () => target.isFree(gateway), Boolean);
}

siteTest(test, ['nbdkit'], 'an operator rolls back by hand, before and after a flip, and policy "stay" stays', async (site) => {
  const a = await NbdkitNode.onFile(site, 'a', SIZE);
  const target = await TARGETS.agent(site);
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', nbd: a.uri, zone: 'rack-1', capacity: '1GiB', zombie: '1s' },
      { id: 'b', ...target.config, zone: 'rack-2' },
    ],
    volumes: [{ name: 'vol0', size: '32MiB', node: 'a', export: '' }],
    policies: { default: { rollback: { observe: '1s', onFalseAlarm: 'stay' } } },
  });
  const random = new Random(SEED, 'by hand');
  const writer = new ModelWriter({ uri: gateway.uri('vol0'), offset: 0, length: SIZE, random });
  site.onClose(() => writer.abandon());
  writer.start();
  await writer.progress(50);
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  const before = await gateway.post<{ kind: string; dropped: unknown[] }>('/v1/volumes/vol0/rollback');
  assert.deepEqual([before.kind, before.dropped.length], ['mirrors-dropped', 1]);
  await rolledBack(gateway, target);
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  await gateway.flip('vol0');
  await writer.progress(100);
  const after = await gateway.post<{ kind: string; certificate: { kind: string; to: { node: string } } }>('/v1/volumes/vol0/rollback');
  assert.deepEqual([after.kind, after.certificate.kind, after.certificate.to.node], ['flipped-back', 'rollback', 'a']);
  await rolledBack(gateway, target);
  const refused = await gateway.ask<{ code: string; message: string }>('POST', '/v1/volumes/vol0/rollback');
  assert.equal(refused.status, 409, JSON.stringify(refused.body));
  await gateway.verdict('a', 0.99, 'a false alarm');
  await gateway.untilVolume('vol0', 'moved to b', ({ active }) => active.node === 'b');
  await gateway.untilVolume(
    'vol0',
    'stays on b alone',
    ({ state, mirrors, active }) => state === 'healthy' && mirrors.length === 0 && active.node === 'b',
  );
  await writer.progress(50);
  await writer.stop();
  assert.deepEqual(writer.errors, []);
  assert.deepEqual(await writer.check(), []);
});

test.run();
