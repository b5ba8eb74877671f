// What must hold between volumes, nodes and policies: every reference leads somewhere, no two volumes share a target, and
// the mirrors a policy wants have a node to go to. Decides from the file alone; what nodes really offer is seen later.
import { accessRules } from './access.js';
import type { NodeConfig, PolicyConfig, VolumeConfig } from './config.js';
import { isName, nameRule } from './fields.js';
import type { Report } from './nodes.js';
import { plural } from './plural.js';
import { type KeyPath, shown } from './problem.js';
import type { VolumeInput } from './schema.js';
import { didYouMean } from './spelling.js';
import { formatBytes } from './units.js';

const sectorBytes = 512;

/** What a volume may refer to. A name in `nodeIds` or `policyNames` whose value is missing has been reported as wrong already. */
export interface References {
  nodeIds: string[];
  nodes: Map<string, NodeConfig>;
  policyNames: string[];
  policies: Map<string, PolicyConfig>;
}

/** An agent has no default export: what is left open there is called as the volume is. */
function exportOf(input: VolumeInput, node: NodeConfig, path: KeyPath, report: Report): string {
  if (node.kind === 'plain') return input.export;
  if (input.export !== '' && !isName(input.export))
    report([...path, 'export'], `on an agent must be ${nameRule}, is ${shown(input.export)}`);
  return input.export === '' ? input.name : input.export;
}

function reportUnknown(kind: string, name: string, known: string[], path: KeyPath, report: Report): void {
  const hint =
    didYouMean(name, known) ||
    `: there ${known.length === 1 ? 'is' : 'are'} ${known.slice(0, 10).join(', ')}${known.length > 10 ? ', ...' : ''}`;
  report(path, `there is no ${kind} ${shown(name)}${known.length === 0 ? '' : hint}`);
}

/** Looked at for themselves, so that nothing else that is wrong with the entry hides them. */
export function checkReferences(entry: { node?: unknown; policy?: unknown }, path: KeyPath, references: References, report: Report): void {
  const { nodeIds, policyNames } = references;
  const { node, policy } = entry;
  if (typeof node === 'string' && !nodeIds.includes(node)) reportUnknown('node', node, nodeIds, [...path, 'node'], report);
  if (typeof policy === 'string' && !policyNames.includes(policy))
    reportUnknown('policy', policy, policyNames, [...path, 'policy'], report);
}

/** Null when the volume cannot be made of the entry, for a reason that was reported here or by checkReferences. */
export function volumeConfig(input: VolumeInput, path: KeyPath, references: References, report: Report): VolumeConfig | null {
  const { nodes, policies } = references;
  if (input.size % sectorBytes !== 0) report([...path, 'size'], `must be a multiple of ${sectorBytes} bytes, is ${input.size}`);
  const node = nodes.get(input.node);
  const policy = policies.get(input.policy);
  if (node === undefined || policy === undefined) return null;
  const target = exportOf(input, node, path, report);
  if (node.capacityBytes !== null && node.capacityBytes < input.size) {
    report(
      [...path, 'size'],
      `${formatBytes(input.size)} does not fit on node "${node.id}", whose capacity is ${formatBytes(node.capacityBytes)}`,
    );
  }
  const { name, priority, labels, readOnly } = input;
  const access = accessRules(input.access, path, report);
  return { name, sizeBytes: input.size, node: node.id, export: target, policy, priority, labels, readOnly, access };
}

export interface PlacedVolume {
  volume: VolumeConfig;
  path: KeyPath;
}

/** The exports that are volumes' first placements, by node. Two volumes on one are reported. */
export function checkTargets(volumes: PlacedVolume[], report: Report): Map<string, Map<string, string>> {
  const taken = new Map<string, Map<string, string>>();
  for (const { volume, path } of volumes) {
    const exports = taken.get(volume.node) ?? new Map<string, string>();
    taken.set(volume.node, exports);
    const other = exports.get(volume.export);
    const target = `export ${shown(volume.export)} of node "${volume.node}"`;
    if (other === undefined) exports.set(volume.export, volume.name);
    else report(path, `is on ${target} as volume "${other}" is: give each volume an export of its own`);
  }
  return taken;
}

/** Why `node` can never take a mirror of `volume`, or null when it may be able to. `taken`: see checkTargets. */
function refusal(node: NodeConfig, volume: VolumeConfig, taken: ReadonlyMap<string, ReadonlyMap<string, string>>): string | null {
  if (node.capacityBytes !== null && node.capacityBytes < volume.sizeBytes) {
    return `"${node.id}" has a capacity of ${formatBytes(node.capacityBytes)} for ${formatBytes(volume.sizeBytes)}`;
  }
  if (node.kind !== 'plain') return null;
  if (node.spares.length === 0) return `"${node.id}" has no spares`;
  const free = node.spares.some((spare) => taken.get(node.id)?.has(spare) !== true);
  return free ? null : `"${node.id}" has no spare that is not a volume's own export`;
}

/** A policy that wants mirrors needs as many other nodes that could ever take one. */
export function checkMirrors(
  volumes: PlacedVolume[],
  nodes: NodeConfig[],
  taken: ReadonlyMap<string, ReadonlyMap<string, string>>,
  report: Report,
): void {
  for (const { volume, path } of volumes) {
    const { standing, onPrediction } = volume.policy.mirror;
    const wanted = Math.max(standing, onPrediction);
    const others = nodes.filter((node) => node.id !== volume.node);
    const refusals = others.map((node) => refusal(node, volume, taken)).filter((reason) => reason !== null);
    const able = others.length - refusals.length;
    if (able >= wanted) continue;
    const mirrors = `policy "${volume.policy.name}" wants ${plural(wanted, 'mirror')}`;
    const found = able === 0 ? 'no other node could take one' : `only ${plural(able, 'other node')} could take one`;
    const why = refusals.length === 0 ? '' : ` (${refusals.slice(0, 5).join('; ')}${refusals.length > 5 ? '; ...' : ''})`;
    report(
      path,
      `${mirrors}, but ${found}${why}: add spares, capacity or an agent, or lower mirror.standing and mirror.onPrediction in its policy`,
    );
  }
}
