// Gateway and active node are killed together, the node for ever, and the mirror loses what it had not flushed with its power. With
// `durability: journal` all that was answered as durable is there when the gateway is started again.
import assert from 'node:assert/strict';
import { Random } from '../sim/random.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdkitNode, VOLATILE_CACHE } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import type { Site } from '../support/site.js';

const MIB = 1024 * 1024;

export interface DisasterOptions {
  seed: number;
  sizeBytes: number;
  /** Hosts write so often before it happens. */
  writes: number;
}

/** What was in the journal alone, and what hosts did. Rejects with what was not as promised. */
export async function disaster(site: Site, { seed, sizeBytes, writes }: DisasterOptions): Promise<{ records: number; writes: number }> {
  const a = await NodeAgentProcess.start(site, 'a');
  const b = await NbdkitNode.onFile(site, 'b', sizeBytes, VOLATILE_CACHE);
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', agent: a.url, zone: 'rack-1' },
      { id: 'b', nbd: b.uri, zone: 'rack-2', capacity: '1GiB', spares: [''], zombie: '1s' },
    ],
    volumes: [{ name: 'vol0', size: `${sizeBytes / MIB}MiB`, node: 'a' }],
    policies: { default: { mirror: { durability: 'journal' }, flip: { automatic: false }, scrub: { afterMirror: false } } },
  });
  const uri = gateway.uri('vol0');
  const random = new Random(seed, 'disaster');
  // Every write is one with FUA, or has a flush behind it.
  const how = { connections: 2, depth: 4, durableShare: 1, reconnects: true, forgetful: true };
  const writer = new ModelWriter({ uri, offset: 0, length: sizeBytes, random, ...how });
  site.onClose(() => writer.abandon());
  await writer.fill();
  await gateway.mirror('vol0', 'b');
  await gateway.untilVolume('vol0', 'the journal covers the mirror', ({ journal }) => journal?.covers.includes('b') === true);
  writer.start();
  await writer.progress(writes + random.int(writes));
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
  assert(replayed !== undefined, 'the mirror took over by the journal');
  await gateway.stop();
  return { records: replayed.details.records!, writes: writer.writes };
}
