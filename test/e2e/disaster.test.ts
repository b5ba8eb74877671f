// deadline: 200s
// Gateway and active node killed together: with a journal (test/torture/disaster.ts; `npm run torture -- --disasters 100` does it again
// and again), and without one, where an operator decides.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { runForestall } from '../support/forestall-program.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { NbdClient } from '../support/nbd-client.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { siteTest } from '../support/site.js';
import { disaster } from '../torture/disaster.js';

const test = suite('e2e: disaster');
const SEED = Number(process.env.FORESTALL_SEED ?? Date.now() % 1_000_000);

siteTest(test, ['nbdkit'], 'a gateway and the active node killed together lose nothing that was answered as durable', async (site) => {
  process.stdout.write(`seed ${SEED}\n`);
  const { records, writes } = await disaster(site, { seed: SEED, sizeBytes: 32 * 1024 * 1024, writes: 2000 });
  assert(records > 0, 'the mirror lacked records');
  process.stdout.write(`  ${records} records were replayed; ${writes} writes\n`);
});

siteTest(test, [], 'without a journal the volume waits, until an operator gives the node up and accepts what may be lost', async (site) => {
  const [a, b] = [await NodeAgentProcess.start(site, 'a'), await NodeAgentProcess.start(site, 'b')];
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', agent: a.url },
      { id: 'b', agent: b.url },
    ],
    volumes: [{ name: 'vol0', size: '64MiB', node: 'a' }],
  });
  const host = await NbdClient.connect(gateway.uri('vol0'));
  await host.write(0, Buffer.alloc(65536, 7));
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  await host.write(65536, Buffer.alloc(65536, 8));
  await host.flush();
  const early = await gateway.ask<{ code: string }>('POST', '/v1/volumes/vol0/takeover', { acceptLoss: true });
  assert.deepEqual([early.status, early.body.code], [409, 'active-answers']);
  host.destroy();
  await Promise.all([gateway.kill(), a.kill()]);
  await gateway.start({ ready: false });
  await gateway.untilVolume('vol0', 'the mirror answers', ({ service, mirrors }) => service === 'waiting' && mirrors.length === 1);
  const read = (await NbdClient.connect(gateway.uri('vol0'))).read(0, 131072);
  const api = ['--api', gateway.apiUrl];
  const refused = await runForestall(['takeover', 'vol0', ...api]);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /may be older than what hosts wrote to vol0: accept the loss/);
  const taken = await runForestall(['takeover', 'vol0', '--accept-loss', ...api]);
  assert.equal(taken.status, 0, taken.stderr);
  assert.match(taken.stdout, /^failover +vol0 from a\/vol0 to b\/vol0/m);
  assert.deepEqual(await read, Buffer.concat([Buffer.alloc(65536, 7), Buffer.alloc(65536, 8)]), 'it was in step, though nobody could know');
  const { lastFlip } = await gateway.volume('vol0');
  assert.match(lastFlip!.cause, /an operator gave up a\/vol0/);
});

test.run();
