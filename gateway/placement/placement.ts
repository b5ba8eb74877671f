// Chooses the node that takes a copy of a volume. Pure: the same facts give the same ranking, and every point and every
// refusal comes with a sentence. A node that cannot take the copy is refused, never merely ranked low; the site counts
// first, so that another site is chosen only where this one has no node left.
import { formatBytes } from '../../config/units.js';
import type { NodeFacts, PlacementPolicy, VolumeNeeds } from './node-facts.js';
import { PLACEMENT_POLICY } from './node-facts.js';
import { type Point, scorePoints } from './score.js';

export interface Ranked {
  node: string;
  /** Of a plain node: the spare to use; null: an agent makes an export. */
  export: string | null;
  score: number;
  reasons: string[];
}

export interface Refused {
  node: string;
  reason: string;
}

export interface Placement {
  chosen: Ranked | null;
  /** Best first. */
  ranking: Ranked[];
  refused: Refused[];
  /** The choice, or why there is none, in words. */
  explanation: string;
}

export interface Question {
  volume: VolumeNeeds;
  nodes: NodeFacts[];
  /** This node or none; null: any. */
  only?: string | null;
  policy?: PlacementPolicy;
}

export function choose({ volume, nodes, only = null, policy = PLACEMENT_POLICY }: Question): Placement {
  const refused: Refused[] = [];
  const able: { node: NodeFacts; spare: string | null }[] = [];
  for (const node of nodes) {
    if (only !== null && node.id !== only) continue;
    const fit = fits(volume, node, policy, only !== null);
    if (fit.ok) able.push({ node, spare: fit.spare });
    else refused.push({ node: node.id, reason: fit.reason });
  }
  const home = nodes.find((node) => node.id === volume.active) ?? null;
  const holders = nodes.filter((node) => volume.copies.includes(node.id));
  const points = scorePoints({ volume, home, holders, able: able.map(({ node }) => node), policy });
  const ranking = able.map(({ node, spare }, at) => ranked(node, spare, points[at]));
  ranking.sort((a, b) => b.score - a.score || (a.node < b.node ? -1 : 1));
  const chosen = ranking[0] ?? null;
  return { chosen, ranking, refused, explanation: explain(volume, ranking, refused, only) };
}

type Fit = { ok: true; spare: string | null } | { ok: false; reason: string };

function no(reason: string): Fit {
  return { ok: false, reason };
}

/** `insisted`: an operator named the node, so a verdict over it is his to weigh. */
function fits(volume: VolumeNeeds, node: NodeFacts, policy: PlacementPolicy, insisted: boolean): Fit {
  if (node.id === volume.active) return no(`serves ${volume.name} itself`);
  if (volume.copies.includes(node.id)) return no(`holds a copy of ${volume.name} already`);
  if (node.state === 'down') return no(`does not answer${node.reason === null ? '' : `: ${node.reason}`}`);
  if (node.verdict?.firing && !insisted) {
    const probability = node.verdict.probability === null ? '' : ` with ${percent(node.verdict.probability)}`;
    return no(`is itself predicted to fail${probability}`);
  }
  return node.kind === 'agent' ? fitsAgent(volume, node, policy) : fitsSpare(volume, node);
}

function fitsAgent({ sizeBytes }: VolumeNeeds, { freeBytes, capacityBytes }: NodeFacts, { reserveShare }: PlacementPolicy): Fit {
  if (freeBytes === null) return no('has not said how much space is free');
  const reserveBytes = Math.ceil((capacityBytes ?? 0) * reserveShare);
  if (freeBytes - sizeBytes >= reserveBytes) return { ok: true, spare: null };
  const reserve = reserveBytes > 0 ? `, of which ${formatBytes(reserveBytes)} stay in reserve` : '';
  return no(`has ${formatBytes(freeBytes)} free${reserve}; the copy needs ${formatBytes(sizeBytes)}`);
}

/** The smallest spare that is known to hold the volume; else one whose size is not known yet. */
function fitsSpare({ sizeBytes }: VolumeNeeds, { spares }: NodeFacts): Fit {
  if (spares.length === 0) return no('has no spare export that is free');
  const large = spares.filter((spare) => spare.sizeBytes !== null && spare.sizeBytes >= sizeBytes);
  large.sort((a, b) => (a.sizeBytes ?? 0) - (b.sizeBytes ?? 0));
  const spare = large[0] ?? spares.find((other) => other.sizeBytes === null);
  if (spare) return { ok: true, spare: spare.export };
  const sizes = spares.map((other) => `"${other.export}" with ${formatBytes(other.sizeBytes ?? 0)}`).join(', ');
  return no(`has only spares that are too small (${sizes}); the copy needs ${formatBytes(sizeBytes)}`);
}

function ranked(node: NodeFacts, spare: string | null, points: Point[]): Ranked {
  const score = points.reduce((sum, { value }) => sum + value, 0);
  return { node: node.id, export: spare, score: Math.round(score * 10) / 10, reasons: points.map(said) };
}

function said({ value, text }: Point): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(1)} ${text}`;
}

function explain(volume: VolumeNeeds, ranking: Ranked[], refused: Refused[], only: string | null): string {
  const [first, second] = ranking;
  const why = refused.map(({ node, reason }) => `${node} ${reason}`).join('; ');
  if (!first) {
    if (refused.length === 0) return only === null ? 'there is no other node' : `there is no node ${only}`;
    return `no node can take a copy of ${volume.name}: ${why}`;
  }
  const against = second ? `, ahead of ${second.node} with ${second.score}` : ', the only node that can take it';
  return `${first.node} takes the copy with ${first.score} points${against}: ${first.reasons.join(', ')}${why === '' ? '' : `. Refused: ${why}`}`;
}

function percent(probability: number): string {
  return `${Math.round(probability * 100)} %`;
}
