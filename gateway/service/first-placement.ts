// The first placement of a volume (rule 19): on a plain node the export that is there, on an agent an export of the
// volume's own, made when it is missing. An export that another gateway's epochs claim is refused until it is adopted.
import type { Clock } from '../../replication/world.js';
import { type Outcome, refuse, type TargetRef } from '../control.js';
import type { Fleet } from '../fleet/fleet.js';
import { probeExport } from '../fleet/probe.js';
import type { AgentClient } from '../agent/client.js';
import { NetDialer } from '../net-wire.js';
import { describeTarget } from '../volume/copy.js';
import { findMismatch } from '../upstream/features.js';

export interface Place {
  epoch: number;
  blockMinimum: number;
}

/** Hosts may use any unit up to this before a node that insists on more is refused. */
const BLOCK_MINIMUM_MAX = 4096;

export async function findPlace(
  world: { fleet: Fleet; clock: Clock; adopt: boolean },
  target: TargetRef,
  volume: { name: string; sizeBytes: number },
): Promise<Outcome<Place>> {
  const node = world.fleet.get(target.node);
  if (node === undefined) return refuse('node-not-found', `node ${target.node} is not in the configuration`);
  let epoch = 0;
  if (node.kind === 'agent') {
    if (node.agent === null) return refuse('node-down', `node ${target.node}: ${node.state.reason ?? 'its agent does not run'}`);
    const claimed = await claim(node.agent, target, volume, world.adopt);
    if (!claimed.ok) return claimed;
    epoch = claimed.value;
    if (node.info === null) await node.look();
  }
  const address = node.address();
  if (typeof address === 'string') return refuse('node-down', `node ${target.node}: ${address}`);
  const probed = await probeExport(new NetDialer(), world.clock, address, target.export);
  if (!probed.ok) return refuse('node-down', `${describeTarget(target)} does not answer: ${probed.message}`);
  const mismatch = findMismatch(probed.value, { sizeBytes: volume.sizeBytes, blockMinimum: BLOCK_MINIMUM_MAX });
  if (mismatch !== null) return refuse('target-unusable', `${describeTarget(target)} cannot hold volume ${volume.name}: ${mismatch}`);
  return { ok: true, value: { epoch, blockMinimum: probed.value.block.minimum } };
}

/** Gives the epoch from which the volume goes on. */
async function claim(
  agent: AgentClient,
  target: TargetRef,
  volume: { name: string; sizeBytes: number },
  adopt: boolean,
): Promise<Outcome<number>> {
  const found = await agent.getExport(target.export);
  if (!found.ok) {
    if (found.code !== 'export-unknown') return found;
    const made = await agent.createExport({
      name: target.export,
      sizeBytes: volume.sizeBytes,
      volume: volume.name,
      epoch: 0,
      role: 'active',
    });
    return made.ok ? { ok: true, value: 0 } : made;
  }
  const { epoch, volume: owner, role } = found.value;
  const foreign = (owner !== '' && owner !== volume.name) || epoch > 0;
  if (!foreign) return { ok: true, value: 0 };
  if (!adopt) {
    const stale = role === 'mirror' ? ' as a mirror, which may lack its newest writes,' : '';
    return refuse(
      'not-ours',
      `${describeTarget(target)} belongs to volume ${owner}${stale} at epoch ${epoch}, which this data directory knows nothing of: restore the data directory, or start with --adopt if no other gateway serves it`,
    );
  }
  const adopted = await agent.setEpoch(target.export, { volume: volume.name, epoch: epoch + 1, role: 'active', adopt: true });
  return adopted.ok ? { ok: true, value: epoch + 1 } : adopted;
}
