// Latency of each disk as its node's kernel counts it (node_exporter's node_disk_* counters), judged like a node's: against the other
// disks, or its own past. Guarantees that it works from counters alone, across gaps and resets, one scrape behind. Pure.

import { EMPTY_IO, type IoAggregate } from './io-aggregate.js';
import { LatencyDetector } from './latency-detector.js';
import type { Metric } from './metric.js';
import { type Assessment, type Evidence, fromEvidence, type Model, noSignal } from './model.js';
import { quantity, span } from './phrase.js';
import type { Sample } from './sample.js';

const PRIOR = 0.0002;
const SLOW_PROBABILITY_MAX = 0.7;
const SILENT_MS = 30 * 60_000;
const METRICS = ['disk_reads', 'disk_read_seconds', 'disk_writes', 'disk_write_seconds'] as const satisfies readonly Metric[];
type DiskMetric = (typeof METRICS)[number];
type Scrape = { atMs: number } & Partial<Record<DiskMetric, number>>;

interface DiskRef {
  node: string;
  disk: string;
}

export class DiskLatency implements Model<DiskRef> {
  readonly id = 'disk-latency-v1';
  readonly #detector: LatencyDetector;
  /** Per disk: the last whole scrape and the one being collected. */
  readonly #scrapes = new Map<string, { before: Scrape | null; current: Scrape; firstAtMs: number; intervals: number }>();

  constructor(readonly disksMax = 10_000) {
    this.#detector = new LatencyDetector(disksMax);
  }

  /** Takes a sample of one of the four counters; others are ignored. */
  observe(sample: Sample): void {
    if (sample.disk === null || !isDiskMetric(sample.metric)) return;
    const key = keyOf({ node: sample.node, disk: sample.disk });
    const state = this.#scrapes.get(key);
    if (state === undefined) {
      if (this.#scrapes.size < this.disksMax) {
        const current = { atMs: sample.atMs, [sample.metric]: sample.value };
        this.#scrapes.set(key, { before: null, current, firstAtMs: sample.atMs, intervals: 0 });
      }
      return;
    }
    if (sample.atMs < state.current.atMs) return;
    if (sample.atMs > state.current.atMs) {
      const interval = state.before === null ? null : between(state.before, state.current);
      if (interval !== null) {
        this.#detector.observe(key, interval);
        state.intervals++;
      }
      state.before = state.current;
      state.current = { atMs: sample.atMs };
    }
    state.current[sample.metric] = sample.value;
  }

  assess(ref: DiskRef, nowMs: number): Assessment {
    const source = `latency ${ref.disk}`;
    const state = this.#scrapes.get(keyOf(ref));
    const finding = this.#detector.finding(keyOf(ref), nowMs);
    if (state === undefined || finding === null || nowMs - state.current.atMs > SILENT_MS) return noSignal(source);
    const evidence: Evidence[] = [];
    if (finding.level > 0.1) {
      const { latencyUs, usualUs, peersUs, peers, slowSinceMs, level } = finding;
      const than = peersUs === null ? 'usual' : `the median of ${peers} other disks`;
      const since = slowSinceMs === null ? '' : ` for ${span(nowMs - slowSinceMs)}`;
      const text = `${ref.disk} takes ${quantity(latencyUs / 1000)} ms a request, ${quantity(latencyUs / (peersUs ?? usualUs))} times ${than}${since}`;
      evidence.push({
        feature: 'disk_latency',
        value: latencyUs,
        probability: SLOW_PROBABILITY_MAX * (1 - Math.exp(-1.2 * level ** 2)),
        text,
      });
    }
    return fromEvidence(source, PRIOR, evidence, { fromMs: state.firstAtMs, toMs: state.current.atMs, samples: state.intervals });
  }

  forget(node: string): void {
    for (const key of this.#scrapes.keys()) {
      if (!key.startsWith(`${node}\0`)) continue;
      this.#scrapes.delete(key);
      this.#detector.forget(key);
    }
  }
}

/** What was done between two scrapes; null when a counter is missing or was reset. */
function between(before: Scrape, after: Scrape): IoAggregate | null {
  const done = METRICS.map((metric) => (after[metric] ?? Number.NaN) - (before[metric] ?? Number.NaN));
  if (!done.every((count) => count >= 0)) return null;
  const [reads, readSeconds, writes, writeSeconds] = done;
  const meanUs = reads + writes > 0 ? ((readSeconds + writeSeconds) * 1e6) / (reads + writes) : null;
  return { ...EMPTY_IO, atMs: after.atMs, reads, writes, p50Us: meanUs };
}

function isDiskMetric(metric: Metric): metric is DiskMetric {
  return (METRICS as readonly string[]).includes(metric);
}

function keyOf({ node, disk }: DiskRef): string {
  return `${node}\0${disk}`;
}
