// What the gateway measured on the I/O of one node (or the kernel on one disk) in one interval.
// Types and their check only; who measures closes an interval every few seconds and passes it on.

export interface IoAggregate {
  /** End of the interval, epoch milliseconds. */
  atMs: number;
  reads: number;
  writes: number;
  errors: number;
  timeouts: number;
  reconnects: number;
  /** Latency of what was answered in the interval; null when nothing was. */
  p50Us: number | null;
  p99Us: number | null;
  /** Payload both ways, copies included: load explains latency. */
  bytes: number;
}

/** Null when the aggregate can be used; else what is wrong with it. */
export function aggregateProblem(aggregate: IoAggregate): string | null {
  if (!Number.isFinite(aggregate.atMs) || aggregate.atMs < 0) return `atMs is ${aggregate.atMs}`;
  for (const key of ['reads', 'writes', 'errors', 'timeouts', 'reconnects', 'bytes'] as const) {
    if (!Number.isFinite(aggregate[key]) || aggregate[key] < 0) return `${key} is ${aggregate[key]}`;
  }
  for (const key of ['p50Us', 'p99Us'] as const) {
    const value = aggregate[key];
    if (value !== null && (!Number.isFinite(value) || value < 0)) return `${key} is ${value}`;
  }
  return null;
}

export const EMPTY_IO: Readonly<IoAggregate> = {
  atMs: 0,
  reads: 0,
  writes: 0,
  errors: 0,
  timeouts: 0,
  reconnects: 0,
  p50Us: null,
  p99Us: null,
  bytes: 0,
};
