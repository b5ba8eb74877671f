// The commands of nodes and of the verdicts over them.
import { formatBytes, formatDuration } from '../../config/units.js';
import type { NodeView, Verdict } from '../control.js';
import type { ApiClient } from './api-client.js';
import { EXIT, type ExitCode } from './cli-error.js';
import type { Output } from './output.js';
import { type Column, list, table } from './table.js';

function percent(probability: number | null | undefined): string {
  return probability === null || probability === undefined ? '' : `${(probability * 100).toFixed(1)}%`;
}

function bytes(value: number | null): string {
  return value === null ? '' : formatBytes(value);
}

function latency(us: number | null): string {
  return us === null ? '' : formatDuration(us / 1_000);
}

function risk(verdict: Verdict | null): string {
  return verdict === null || verdict.probability === null
    ? 'no signal'
    : `${percent(verdict.probability)}${verdict.firing ? ' FIRING' : ''}`;
}

const NODE_COLUMNS: Column<NodeView>[] = [
  { title: 'ID', cell: ({ id }) => id },
  { title: 'KIND', cell: ({ kind }) => kind },
  { title: 'ZONE', cell: ({ zone }) => zone },
  { title: 'SITE', cell: ({ site }) => site },
  { title: 'STATE', cell: ({ state }) => state },
  { title: 'FREE', right: true, cell: ({ freeBytes }) => bytes(freeBytes) },
  { title: 'CAPACITY', right: true, cell: ({ capacityBytes }) => bytes(capacityBytes) },
  { title: 'RISK', cell: ({ verdict }) => risk(verdict) },
  { title: 'P99', right: true, cell: ({ io }) => latency(io.p99Us) },
  { title: 'ERRORS', right: true, cell: ({ io }) => String(io.errors) },
  { title: 'VOLUMES', cell: ({ volumes }) => volumes.map(({ name, role }) => (role === 'mirror' ? `${name} (mirror)` : name)).join(', ') },
];

const VERDICT_COLUMNS: Column<Verdict>[] = [
  { title: 'ID', cell: ({ id }) => id },
  { title: 'AT', cell: ({ at }) => at },
  { title: 'NODE', cell: ({ node }) => node },
  { title: 'RISK', right: true, cell: ({ probability }) => percent(probability) || 'no signal' },
  { title: 'THRESHOLD', right: true, cell: ({ threshold }) => percent(threshold) },
  { title: 'FIRING', cell: ({ firing }) => (firing ? 'yes' : 'no') },
  { title: 'FROM', cell: ({ origin }) => origin },
  { title: 'FIRST REASON', cell: ({ reasons }) => reasons[0]?.text ?? '' },
];

/** By policy, where they may differ. */
function shownPolicies({ policies }: Verdict): string | null {
  const all = Object.entries(policies);
  if (all.length < 2) return null;
  return all
    .map(([name, { probability, threshold, firing, horizonSeconds }]) => {
      const chance = percent(probability) || 'no signal';
      return `${name} ${chance} of ${percent(threshold)} within ${formatDuration(horizonSeconds * 1_000)}${firing ? ', firing' : ''}`;
    })
    .join('; ');
}

function shownVerdict(verdict: Verdict): string {
  const about = list([
    ['verdict', `${verdict.id} over ${verdict.node}, ${verdict.at}`],
    ['risk', `${percent(verdict.probability) || 'no signal'} within ${formatDuration(verdict.horizonSeconds * 1_000)}`],
    ['threshold', `${percent(verdict.threshold)}${verdict.firing ? ', firing' : ''}`],
    ['policies', shownPolicies(verdict)],
    ['fails at', verdict.predictedFailureAt],
  ]);
  return about + verdict.reasons.map(({ source, text }) => `  ${list([[source, text]])}`).join('');
}

function shownNode(node: NodeView): string {
  const { io } = node;
  const about = list([
    ['id', node.id],
    ['kind', node.kind],
    ['place', `zone ${node.zone}, site ${node.site}`],
    ['state', node.state],
    ['reason', node.reason],
    ['capacity', node.capacityBytes === null ? null : `${bytes(node.capacityBytes)}, ${bytes(node.freeBytes) || 'an unknown part'} free`],
    ['spares', node.freeSpares.map((name) => JSON.stringify(name)).join(' ')],
    ['volumes', node.volumes.map(({ name, role }) => `${name} (${role})`).join(', ')],
    ['requests', `${io.reads} reads, ${io.writes} writes, ${io.errors} errors`],
    ['latency', io.p50Us === null ? null : `${latency(io.p50Us)} median, ${latency(io.p99Us)} p99`],
  ]);
  return node.verdict === null ? about : `${about}\n${shownVerdict(node.verdict)}`;
}

export async function showNodes(api: ApiClient, output: Output, id: string | undefined): Promise<ExitCode> {
  if (id !== undefined) {
    const node = await api.get<NodeView>(`/v1/nodes/${encodeURIComponent(id)}`);
    output.result(node, () => shownNode(node));
    return EXIT.OK;
  }
  const answer = await api.get<{ nodes: NodeView[] }>('/v1/nodes');
  output.result(answer, () => table(answer.nodes, NODE_COLUMNS));
  return EXIT.OK;
}

export async function showVerdicts(
  api: ApiClient,
  output: Output,
  options: { node?: string; firing?: boolean; limit?: number },
): Promise<ExitCode> {
  const query = new URLSearchParams();
  if (options.node !== undefined) {
    query.set('node', options.node);
  }
  if (options.firing === true) {
    query.set('firing', 'true');
  }
  if (options.limit !== undefined) {
    query.set('limit', String(options.limit));
  }
  const answer = await api.get<{ verdicts: Verdict[] }>(`/v1/verdicts?${query}`);
  output.result(answer, () => table(answer.verdicts, VERDICT_COLUMNS));
  return EXIT.OK;
}

export async function giveVerdict(
  api: ApiClient,
  output: Output,
  node: string,
  given: { probability: number; reason: string },
): Promise<ExitCode> {
  const verdict = await api.post<Verdict>(`/v1/nodes/${encodeURIComponent(node)}/verdicts`, given);
  output.result(verdict, () => shownVerdict(verdict));
  return EXIT.OK;
}
