// The judgement over a node's I/O as the gateway sees it: latency against peers or past, errors, timeouts, reconnects.
// Guarantees that reconnects alone, or one burst of latency, never make an alarm by themselves. The probabilities at full evidence are judgement.

import { EVENT_WINDOW_MS, type EventFinding, EventRates } from './event-rates.js';
import type { IoAggregate } from './io-aggregate.js';
import { type ClusterEvent, LATENCY_KEYS, LatencyDetector, type LatencyFinding, type LatencyState } from './latency-detector.js';
import { type Assessment, type Evidence, fromEvidence, type Model, noSignal } from './model.js';
import { quantity, span } from './phrase.js';

const PRIOR = 0.0005;
/** A node without I/O for this long has no signal from it. */
const SILENT_MS = 15 * 60_000;
const SLOW_PROBABILITY_MAX = 0.85;
/** At full surprise: errors of requests, requests without an answer, connections that broke. */
const EVENT_PROBABILITY_MAX = { errors: 0.9, timeouts: 0.85, reconnects: 0.45 } as const;
/** -log10 of chance at which an event counts for nothing and for all. */
const SURPRISE_FROM = 2;
const SURPRISE_FULL = 8;

const NODES_MAX = 10_000;
const SEEN_KEYS = ['firstAtMs', 'latestAtMs', 'intervals'] as const satisfies readonly (keyof Seen)[];

interface Seen {
  firstAtMs: number;
  latestAtMs: number;
  intervals: number;
}

export interface IoHealthState {
  latency: [string, LatencyState][];
  seen: [string, Seen][];
}

export class IoHealth implements Model<string> {
  readonly id = 'io-health-v1';
  readonly #latency = new LatencyDetector();
  readonly #events = new EventRates();
  readonly #seen = new Map<string, Seen>();

  observe(node: string, io: IoAggregate): void {
    const seen = this.#seen.get(node) ?? { firstAtMs: io.atMs, latestAtMs: io.atMs, intervals: 0 };
    const told = io.reads + io.writes + io.errors + io.timeouts + io.reconnects > 0;
    if (seen.intervals === 0 && (!told || this.#seen.size >= NODES_MAX)) return;
    if (told) {
      seen.latestAtMs = Math.max(seen.latestAtMs, io.atMs);
      seen.intervals++;
    }
    this.#seen.set(node, seen);
    this.#latency.observe(node, io);
    this.#events.observe(node, io);
  }

  nodes(): string[] {
    return [...this.#seen.keys()];
  }

  assess(node: string, nowMs: number): Assessment {
    const seen = this.#seen.get(node);
    if (seen === undefined || nowMs - seen.latestAtMs > SILENT_MS) return noSignal('io');
    const evidence: Evidence[] = [];
    const latency = this.#latency.finding(node, nowMs);
    if (latency !== null && latency.level > 0.1) evidence.push(slowness(latency, nowMs));
    const { requests, findings } = this.#events.findings(node, nowMs);
    for (const finding of findings) evidence.push(burst(finding, requests));
    return fromEvidence('io', PRIOR, evidence, { fromMs: seen.firstAtMs, toMs: seen.latestAtMs, samples: seen.intervals });
  }

  clusterEvent(nowMs: number): ClusterEvent | null {
    return this.#latency.clusterEvent(nowMs);
  }

  forget(node: string): void {
    this.#seen.delete(node);
    this.#latency.forget(node);
    this.#events.forget(node);
  }

  /** Events of the last minutes are not kept: a restart is a fresh start for bursts. */
  toState(): IoHealthState {
    return { latency: this.#latency.toState(), seen: [...this.#seen].map(([node, seen]) => [node, { ...seen }]) };
  }

  /** False, and nothing taken, when the value is not such a state. */
  restore(state: unknown): boolean {
    const { latency, seen } = (state ?? {}) as Partial<IoHealthState>;
    if (!isTable(latency, LATENCY_KEYS) || !isTable(seen, SEEN_KEYS)) return false;
    this.#latency.restore(latency as [string, LatencyState][]);
    this.#seen.clear();
    for (const [node, one] of (seen as [string, Seen][]).slice(0, NODES_MAX)) this.#seen.set(node, { ...one });
    return true;
  }
}

function slowness(finding: LatencyFinding, nowMs: number): Evidence {
  const { level, latencyUs, usualUs, peersUs, peers, slowSinceMs } = finding;
  const than = peersUs === null ? `usual here (${milliseconds(usualUs)})` : `the median of its ${peers} peers (${milliseconds(peersUs)})`;
  const factor = latencyUs / (peersUs ?? usualUs);
  const since = slowSinceMs === null ? '' : ` for ${span(nowMs - slowSinceMs)}`;
  const text = `latency of ${milliseconds(latencyUs)} is ${quantity(factor)} times ${than}${since}`;
  return { feature: 'latency', value: latencyUs, probability: SLOW_PROBABILITY_MAX * (1 - Math.exp(-1.2 * level ** 2)), text };
}

function burst({ kind, count, expected, surprise }: EventFinding, requests: number): Evidence {
  const share = Math.min(1, Math.max(0, (surprise - SURPRISE_FROM) / (SURPRISE_FULL - SURPRISE_FROM)));
  const of = kind === 'reconnects' ? '' : ` of ${quantity(requests)} requests`;
  const text = `${quantity(count)} ${kind}${of} in ${span(EVENT_WINDOW_MS)}, where ${expected < 0.1 ? 'none' : quantity(expected)} would be usual`;
  return { feature: kind, value: count, probability: EVENT_PROBABILITY_MAX[kind] * share, text };
}

function milliseconds(us: number): string {
  return `${quantity(us / 1000)} ms`;
}

function isTable(value: unknown, keys: readonly string[]): boolean {
  return (
    Array.isArray(value) &&
    value.every((row: unknown) => Array.isArray(row) && row.length === 2 && typeof row[0] === 'string' && hasNumbers(row[1], keys))
  );
}

/** slowSinceMs may be null. */
function hasNumbers(value: unknown, keys: readonly string[]): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const record = value as Record<string, unknown>;
  return keys.every((key) => Number.isFinite(record[key]) || (key === 'slowSinceMs' && record[key] === null));
}
