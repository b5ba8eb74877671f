// deadline: 400s
// Hostile clients of every kind at a live gateway: its memory stays within what its limits say, an honest client is answered all
// the while, and when they have gone nothing of them is left. Memory decides, never time.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { HostileCrowd, KINDS, type Kind } from '../../native-free-bench/hostile.js';
import { memoryUseBytes } from '../../native-free-bench/memory-use.js';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { NbdClient } from '../support/nbd-client.js';
import { siteTest } from '../support/site.js';

const test = suite('e2e: attack');
const MIB = 1024 * 1024;
const HOSTILE = 96;
const LIMITS = { handshake: '2s', memory: '64MiB', stall: '16s' };
/** What is held by the limits (64 MiB, and 256 KiB for each), what is under way to and from the node, and what a collector has not freed yet. */
const GROWTH_MAX = 420 * MIB;

function count(metrics: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(metrics)?.[1]);
}

siteTest(test, [], 'memory is bounded, an honest client is answered, and nothing is left', async (site) => {
  const gateway = await GatewayProcess.start(site, {
    nodes: [{ id: 'a', embedded: { dir: site.path('node-a') } }],
    volumes: [{ name: 'vol0', size: '64MiB', node: 'a' }],
    policies: { default: { mirror: { standing: 0, onPrediction: 0 } } },
    limits: LIMITS,
  });
  const honest = await NbdClient.connect(gateway.uri('vol0'));
  await honest.write(60 * MIB, Buffer.alloc(4096, 7));
  const before = memoryUseBytes(gateway.pid!);
  if (before === null) return;
  const endpoint = { host: '127.0.0.1', port: gateway.nbdPort, exportName: 'vol0' };
  const crowd = new HostileCrowd(endpoint, HOSTILE, Object.keys(KINDS) as Kind[]);
  let most = 0;
  try {
    // Each kind came, and some of those that hold memory and do nothing were cut off for it.
    await eventually(
      'clients that hold memory are cut off',
      async () => {
        assert.equal((await honest.read(60 * MIB, 4096))[0], 7);
        most = Math.max(most, memoryUseBytes(gateway.pid!)!);
        return count(await gateway.get<string>('/metrics'), 'forestall_nbd_stalled_total');
      },
      (stalled) => stalled > 3,
      200_000,
    );
  } finally {
    crowd.stop();
  }
  assert(crowd.counts.connected >= HOSTILE, `${crowd.counts.connected} connected`);
  assert(most - before < GROWTH_MAX, `from ${before} to ${most} bytes`);
  assert.equal((await honest.read(60 * MIB, 4096))[0], 7);
  const sessions = async (): Promise<number> => count(await gateway.get<string>('/metrics'), 'forestall_nbd_sessions');
  await eventually('one session is left', sessions, (left) => left === 1, 120_000);
  honest.destroy();
});

test.run();
