// Counts errors, timeouts and reconnects of each node over the last minutes and tests them against what is usual.
// Guarantees a fixed window in fixed memory (10 buckets a node), a rate compared with the peers' own, so that a fault of the whole cluster is
// not blamed on each node, and silence below three events. Pure.
// Method: one-sided Poisson test.

import type { IoAggregate } from './io-aggregate.js';

const BUCKET_MS = 30_000;
const BUCKETS = 10;
export const EVENT_WINDOW_MS = BUCKET_MS * BUCKETS;
const EVENTS_MIN = 3;
const KINDS = ['errors', 'timeouts', 'reconnects'] as const;
export type EventKind = (typeof KINDS)[number];

/** What is usual: of each request, or (reconnects) of each millisecond. */
const USUAL: Record<EventKind, number> = { errors: 1e-5, timeouts: 1e-6, reconnects: 0.2 / EVENT_WINDOW_MS };
const FIELDS = KINDS.length + 1;

export interface EventFinding {
  kind: EventKind;
  count: number;
  expected: number;
  /** -log10 of the probability of so many by chance. */
  surprise: number;
}

export class EventRates {
  /** Per node: the index of its newest bucket, and for each bucket requests, errors, timeouts, reconnects. */
  readonly #nodes = new Map<string, { newest: number; counts: Float64Array }>();

  constructor(readonly nodesMax = 10_000) {}

  observe(node: string, io: IoAggregate): void {
    const bucket = Math.floor(io.atMs / BUCKET_MS);
    let state = this.#nodes.get(node);
    if (state === undefined) {
      if (this.#nodes.size >= this.nodesMax) return;
      state = { newest: bucket, counts: new Float64Array(BUCKETS * FIELDS) };
      this.#nodes.set(node, state);
    }
    if (bucket <= state.newest - BUCKETS) return;
    for (let fresh = Math.max(state.newest + 1, bucket - BUCKETS + 1); fresh <= bucket; fresh++) {
      state.counts.fill(0, (fresh % BUCKETS) * FIELDS, (fresh % BUCKETS) * FIELDS + FIELDS);
    }
    state.newest = Math.max(state.newest, bucket);
    const at = (bucket % BUCKETS) * FIELDS;
    state.counts[at] += io.reads + io.writes;
    for (const [i, kind] of KINDS.entries()) state.counts[at + 1 + i] += io[kind];
  }

  /** Requests in the window, and every kind of event that is more frequent than chance allows. */
  findings(node: string, nowMs: number): { requests: number; findings: EventFinding[] } {
    const own = this.#sums(node, nowMs);
    const peers = new Float64Array(FIELDS);
    let others = 0;
    for (const other of this.#nodes.keys()) {
      if (other === node) continue;
      const sums = this.#sums(other, nowMs);
      for (let i = 0; i < FIELDS; i++) peers[i] += sums[i];
      others++;
    }
    const findings: EventFinding[] = [];
    for (const [i, kind] of KINDS.entries()) {
      const count = own[1 + i];
      if (count < EVENTS_MIN) continue;
      const exposure = kind === 'reconnects' ? EVENT_WINDOW_MS : Math.max(own[0], count);
      const peersExposure = kind === 'reconnects' ? others * EVENT_WINDOW_MS : peers[0];
      const peersRate = peersExposure > 0 ? peers[1 + i] / peersExposure : 0;
      const expected = exposure * Math.max(USUAL[kind], peersRate);
      const surprise = -poissonTailLog10(count, expected);
      if (surprise > 2) findings.push({ kind, count, expected, surprise });
    }
    return { requests: own[0], findings };
  }

  forget(node: string): void {
    this.#nodes.delete(node);
  }

  #sums(node: string, nowMs: number): Float64Array {
    const sums = new Float64Array(FIELDS);
    const state = this.#nodes.get(node);
    if (state === undefined) return sums;
    const oldest = Math.floor(nowMs / BUCKET_MS) - BUCKETS + 1;
    for (let bucket = Math.max(oldest, state.newest - BUCKETS + 1); bucket <= state.newest; bucket++) {
      for (let i = 0; i < FIELDS; i++) sums[i] += state.counts[(bucket % BUCKETS) * FIELDS + i];
    }
    return sums;
  }
}

/** log10 P(X >= count) for a Poisson mean; for large counts by the leading terms, which is all a tail needs. */
export function poissonTailLog10(count: number, mean: number): number {
  const whole = Math.ceil(count);
  if (whole <= mean) return 0;
  const logTerm = whole * Math.log(mean) - mean - logFactorial(whole);
  let sum = 1;
  let term = 1;
  for (let k = whole + 1; term > sum * 1e-12 && k < whole + 1000; k++) {
    term *= mean / k;
    sum += term;
  }
  return Math.min(0, (logTerm + Math.log(sum)) / Math.LN10);
}

/** ln n!, exact to 10 digits. */
function logFactorial(n: number): number {
  if (n < 20) {
    let sum = 0;
    for (let i = 2; i <= n; i++) sum += Math.log(i);
    return sum;
  }
  return n * Math.log(n) - n + Math.log(2 * Math.PI * n) / 2 + 1 / (12 * n) - 1 / (360 * n ** 3);
}
