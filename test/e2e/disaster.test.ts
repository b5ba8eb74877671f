// deadline: 200s
// Gateway and active node are killed together, the node for ever, and the mirror forgets what it had not flushed: with
// `durability: journal` all that was answered as durable is there when the gateway is started again.
import assert from 'node:assert/strict';
import { truncate, writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { siteTest } from '../support/site.js';

const test = suite('e2e: disaster');
const MIB = 1024 * 1024;
const SIZE = 32 * MIB;
const SEED = Number(process.env.FORESTALL_SEED ?? Date.now() % 1_000_000);

siteTest(test, ['nbdkit'], 'a gateway and the active node killed together lose nothing that was answered as durable', async (site) => {
  process.stdout.write(`seed ${SEED}\n`);
  const a = await NodeAgentProcess.start(site, 'a');
  const path = site.path('b.img');
  await writeFile(path, '');
  await truncate(path, SIZE);
  const b = await NbdkitNode.start(site, ['--filter=cache', 'file', path, 'cache=writeback']);
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', agent: a.url, zone: 'rack-1' },
      { id: 'b', nbd: b.uri, zone: 'rack-2', capacity: '1GiB', spares: [''], zombie: '1s' },
    ],
    volumes: [{ name: 'vol0', size: '32MiB', node: 'a' }],
    policies: { default: { mirror: { durability: 'journal' }, flip: { automatic: false }, scrub: { afterMirror: false } } },
  });
  const uri = gateway.uri('vol0');
  const random = new Random(SEED, 'disaster');
  // Every write is one with FUA, or has a flush behind it.
  const how = { connections: 2, depth: 4, durableShare: 1, reconnects: true, forgetful: true };
  const writer = new ModelWriter({ uri, offset: 0, length: SIZE, random, ...how });
  site.onClose(() => writer.abandon());
  await writer.fill();
  await gateway.mirror('vol0', 'b');
  await gateway.untilVolume('vol0', 'the journal covers the mirror', ({ journal }) => journal?.covers.includes('b') === true);
  writer.start();
  await writer.progress(2000);
  await Promise.all([gateway.kill(), a.kill(), b.kill()]);
  await b.start();
  await gateway.start();
  const after = await gateway.volume('vol0');
  assert.equal(after.active.node, 'b');
  assert.equal(after.lastFlip?.kind, 'failover');
  await writer.progress(200);
  await writer.stop();
  assert.deepEqual(writer.errors, []);
  assert.deepEqual(await writer.check(), []);
  const { events } = await gateway.get<{ events: { type: string; details: { records?: number } }[] }>('/v1/events?limit=1000');
  const replayed = events.find(({ type }) => type === 'journal.replayed');
  assert(replayed !== undefined && replayed.details.records! > 0, 'the mirror lacked records');
  process.stdout.write(`  ${replayed.details.records} records were replayed; ${writer.writes} writes, ${writer.reconnects} reconnects\n`);
  await gateway.stop();
});

test.run();
