// The points a node gets for a copy of a volume, each with the sentence that explains it. The weights say what matters
// more: staying at the site, leaving the zone, the risk of the next failure, then speed, space and an even spread.
import { plural } from '../../config/plural.js';
import { formatBytes } from '../../config/units.js';
import type { NodeFacts, PlacementPolicy, VolumeNeeds } from './node-facts.js';

export interface Point {
  value: number;
  text: string;
}

/** The site outweighs everything else together. */
const WEIGHT = { site: 200, zone: 30, risk: 40, latency: 20, headroom: 15, capacity: 10, spread: 10 } as const;
/** A request costs a node about as much as moving this many bytes. */
const REQUEST_BYTES = 64 * 1024;
/** Shares of a weight for what is not known: neither the best nor the worst. */
const UNKNOWN = 0.5;
/** A node this many times as slow as what hosts see now gets nothing for its latency. */
const SLOW_RATIO = 8;

export interface Field {
  volume: VolumeNeeds;
  /** The node that serves the volume, and those with other copies of it. */
  home: NodeFacts | null;
  holders: NodeFacts[];
  able: NodeFacts[];
  policy: PlacementPolicy;
}

/** For each node of `field.able`, in that order. */
export function scorePoints(field: Field): Point[][] {
  return field.able.map((node) => [
    ...site(field, node),
    zone(field, node),
    risk(node),
    latency(field, node),
    headroom(field, node),
    capacity(field, node),
    spread(node),
  ]);
}

function site({ home }: Field, node: NodeFacts): Point[] {
  if (!home) return [];
  const same = node.site === home.site;
  return [{ value: same ? WEIGHT.site : 0, text: same ? `at the same site ${node.site}` : `at another site (${node.site})` }];
}

function zone({ home, holders }: Field, node: NodeFacts): Point {
  if (home && home.zone === node.zone) return { value: 0, text: `in the same zone ${node.zone} as ${home.id}` };
  const neighbour = holders.find((holder) => holder.zone === node.zone);
  if (neighbour) return { value: WEIGHT.zone / 2, text: `in zone ${node.zone}, where ${neighbour.id} holds a copy` };
  return { value: WEIGHT.zone, text: `in a zone of its own (${node.zone})` };
}

function risk({ verdict, state, reason }: NodeFacts): Point {
  if (state === 'unknown') return { value: -WEIGHT.risk / 4, text: `not connected yet${reason === null ? '' : ` (${reason})`}` };
  if (verdict === null || verdict.probability === null) return { value: -WEIGHT.risk / 10, text: 'no signal of its health' };
  return { value: -WEIGHT.risk * verdict.probability, text: `${(verdict.probability * 100).toFixed(1)} % likely to fail` };
}

/** Reads wait for the median, writes of a mirror for the slowest: the profile weighs the two. */
function latency({ volume }: Field, node: NodeFacts): Point {
  if (!node.latency) return { value: WEIGHT.latency * UNKNOWN, text: 'latency not measured yet' };
  const { readShare } = volume.profile;
  const p99 = `p99 ${milliseconds(node.latency.p99Us)}`;
  if (!volume.latency) return { value: WEIGHT.latency * UNKNOWN, text: p99 };
  const ratio =
    (Math.max(1, node.latency.p50Us) / Math.max(1, volume.latency.p50Us)) ** readShare *
    (Math.max(1, node.latency.p99Us) / Math.max(1, volume.latency.p99Us)) ** (1 - readShare);
  const share = clamp(1 - Math.log2(ratio) / Math.log2(SLOW_RATIO));
  return { value: WEIGHT.latency * share, text: `${p99}, ${ratio.toFixed(1)} times what its hosts see now` };
}

/** What is left of the node once it carries this volume too, measured by how busy it is, or against its rivals. */
function headroom({ volume, able }: Field, node: NodeFacts): Point {
  const added = cost(volume.profile);
  const now = cost(node.load);
  if (node.utilisation !== null) {
    const grown = now > 0 ? clamp(node.utilisation * (1 + added / now)) : node.utilisation;
    return { value: WEIGHT.headroom * (1 - grown), text: `${Math.round(grown * 100)} % busy with it` };
  }
  const most = Math.max(...able.map(({ load }) => cost(load) + added));
  const share = most > 0 ? 1 - (now + added) / (2 * most) : 1;
  const then = node.load.bytesPerSecond + volume.profile.bytesPerSecond;
  return { value: WEIGHT.headroom * share, text: `${formatBytes(Math.round(then))}/s with it` };
}

function capacity({ volume, policy }: Field, node: NodeFacts): Point {
  if (node.kind === 'plain') {
    const known = node.spares.some((spare) => spare.sizeBytes !== null && spare.sizeBytes >= volume.sizeBytes);
    return {
      value: known ? WEIGHT.capacity : WEIGHT.capacity * UNKNOWN,
      text: known ? 'a spare of sufficient size' : 'a spare of unknown size',
    };
  }
  const leftBytes = (node.freeBytes ?? 0) - volume.sizeBytes;
  const capacityBytes = node.capacityBytes ?? node.freeBytes ?? 0;
  const share = capacityBytes > 0 ? clamp(leftBytes / capacityBytes - policy.reserveShare) : 0;
  return { value: WEIGHT.capacity * share, text: `${formatBytes(leftBytes)} left after it` };
}

function spread({ copies }: NodeFacts): Point {
  const text = copies === 0 ? 'holds nothing else' : `holds ${plural(copies, 'copy', 'copies')} already`;
  return { value: WEIGHT.spread / (1 + copies), text };
}

function cost({ iops, bytesPerSecond }: { iops: number; bytesPerSecond: number }): number {
  return iops * REQUEST_BYTES + bytesPerSecond;
}

function clamp(share: number): number {
  return Math.min(1, Math.max(0, share));
}

function milliseconds(us: number): string {
  return us < 10_000 ? `${(us / 1000).toFixed(2)} ms` : `${Math.round(us / 1000)} ms`;
}
