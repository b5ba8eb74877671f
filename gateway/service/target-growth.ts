// A volume's targets when it is to grow: is there room on their nodes, before anything is changed, and then agents are told to
// make theirs larger, fenced by the volume's epoch as always. A plain node's export only its owner can make larger.
import { formatBytes } from '../../config/units.js';
import type { AgentClient } from '../agent/client.js';
import { type Outcome, refuse, type TargetRef } from '../control.js';
import type { Fleet } from '../fleet/fleet.js';
import type { StorageNode } from '../fleet/node.js';
import { PLACEMENT_POLICY } from '../placement/node-facts.js';
import { describeTarget } from '../volume/copy.js';
import type { Enlarge } from '../volume/growth.js';

/** Not null: a node has no room for a target of this size. */
export async function findNoRoom(fleet: Fleet, targets: readonly TargetRef[], sizeBytes: number): Promise<Outcome<never> | null> {
  for (const target of targets) {
    const node = fleet.get(target.node);
    if (node === undefined) return refuse('node-not-found', `node ${target.node} is not in the configuration`);
    const { capacityBytes } = node.config;
    if (capacityBytes !== null && capacityBytes < sizeBytes)
      return noRoom(target, `its node's capacity is ${formatBytes(capacityBytes)} by the configuration`);
    const flaw = node.kind === 'agent' ? await findNoFreeSpace(node, target, sizeBytes) : null;
    if (flaw !== null) return flaw;
  }
  return null;
}

/** The same rule as for a new copy. */
async function findNoFreeSpace(node: StorageNode, target: TargetRef, sizeBytes: number): Promise<Outcome<never> | null> {
  const agent = agentOf(node, target);
  if (!agent.ok) return agent;
  const found = await agent.value.getExport(target.export);
  if (!found.ok) return found;
  if (found.value.sizeBytes >= sizeBytes || found.value.kind === 'block') return null;
  const info = await agent.value.info();
  if (!info.ok) return info;
  const { freeBytes, capacityBytes } = info.value;
  const reserveBytes = Math.ceil(capacityBytes * PLACEMENT_POLICY.reserveShare);
  const neededBytes = sizeBytes - found.value.sizeBytes;
  if (freeBytes - neededBytes >= reserveBytes) return null;
  return noRoom(
    target,
    `its node has ${formatBytes(freeBytes)} free, of which ${formatBytes(reserveBytes)} stay in reserve; it would take ${formatBytes(neededBytes)} more`,
  );
}

/** `epoch`: the volume's, now. */
export function enlargerOf(fleet: Fleet, volume: string, epoch: () => number): Enlarge {
  return async (target, sizeBytes) => {
    const node = fleet.get(target.node);
    if (node?.kind !== 'agent') return { ok: true, value: null };
    const agent = agentOf(node, target);
    if (!agent.ok) return agent;
    const found = await agent.value.getExport(target.export);
    if (!found.ok || found.value.sizeBytes >= sizeBytes) return found;
    return agent.value.resize(target.export, { sizeBytes, epoch: epoch(), volume });
  };
}

function agentOf(node: StorageNode, target: TargetRef): Outcome<AgentClient> {
  if (node.agent !== null) return { ok: true, value: node.agent };
  return refuse('node-down', `${describeTarget(target)}: ${node.state.reason ?? 'its agent does not run'}`);
}

function noRoom(target: TargetRef, why: string): Outcome<never> {
  return refuse('no-room', `${describeTarget(target)} cannot grow: ${why}`, { target });
}
