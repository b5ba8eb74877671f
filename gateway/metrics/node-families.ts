// The metrics of nodes: what we asked of them, what is left on them, and what the predictor thinks of them.
import { byKey, type Family, histogramValues, known, one, type Value } from './family.js';
import type { NodeMetrics } from './source.js';

function nodeFamily(
  name: string,
  type: Family['type'],
  help: string,
  values: (metrics: NodeMetrics, node: { node: string }) => Value[],
): Family {
  return { name, type, help, values: ({ nodes }) => nodes.flatMap((metrics) => values(metrics, { node: metrics.view.id })) };
}

export const NODE_FAMILIES: Family[] = [
  nodeFamily('forestall_node_up', 'gauge', '1 if the node answers, 0 if it does not; absent when that is not known.', ({ view }, labels) =>
    known(labels, view.state === 'unknown' ? null : Number(view.state === 'up')),
  ),
  nodeFamily('forestall_node_capacity_bytes', 'gauge', 'What the node can hold.', ({ view }, labels) => known(labels, view.capacityBytes)),
  nodeFamily('forestall_node_free_bytes', 'gauge', 'What is free on the node.', ({ view }, labels) => known(labels, view.freeBytes)),

  nodeFamily('forestall_upstream_requests_total', 'counter', 'Requests that the node answered, by operation.', ({ upstream }, labels) =>
    byKey(labels, 'op', upstream.requests),
  ),
  nodeFamily('forestall_upstream_bytes_total', 'counter', 'Bytes read from and written to the node.', ({ upstream }, labels) =>
    byKey(labels, 'op', upstream.bytes),
  ),
  nodeFamily('forestall_upstream_errors_total', 'counter', 'Requests that the node answered with an error.', ({ upstream }, labels) => [
    one(labels, upstream.errors),
  ]),
  nodeFamily('forestall_upstream_disconnects_total', 'counter', 'Connections to the node that were lost.', ({ upstream }, labels) => [
    one(labels, upstream.disconnects),
  ]),
  nodeFamily(
    'forestall_node_protocol_errors_total',
    'counter',
    'How often the node broke the NBD protocol, by kind.',
    ({ upstream }, labels) => byKey(labels, 'kind', upstream.violations),
  ),
  nodeFamily(
    'forestall_upstream_latency_seconds',
    'histogram',
    'Time from a read or write sent to the node to its answer.',
    ({ upstream }, labels) => histogramValues('forestall_upstream_latency_seconds', labels, upstream.latency),
  ),

  nodeFamily(
    'forestall_node_failure_probability_ratio',
    'gauge',
    'Probability that the node fails within the horizon, 0 to 1; absent when there is no signal.',
    ({ view }, labels) => known(labels, view.verdict?.probability ?? null),
  ),
  nodeFamily(
    'forestall_node_failure_threshold_ratio',
    'gauge',
    'Probability from which on the volumes of the node leave it.',
    ({ view }, labels) => known(labels, view.verdict?.threshold ?? null),
  ),
  nodeFamily('forestall_node_verdict_firing', 'gauge', '1 while the node is judged about to fail.', ({ view }, labels) =>
    known(labels, view.verdict === null ? null : Number(view.verdict.firing)),
  ),
];
