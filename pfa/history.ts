// What is remembered of every node and disk: one bounded series for each metric.
// Guarantees at most `seriesMax` series (2 KiB each at the most, 130 bytes for a counter that never moves) and says when it refuses one;
// a disk that was replaced starts afresh. It must not judge what the values mean.

import { METRICS, type Metric, metricSpec } from './metric.js';
import type { EvidenceWindow } from './model.js';
import type { Sample } from './sample.js';
import { POINTS_MAX, Series, type SeriesState } from './series.js';

export interface DiskHistory {
  /** null: the node as a whole. */
  disk: string | null;
  serial: string | null;
  model: string | null;
  latestAtMs: number;
  series: Map<Metric, Series>;
}

export interface HistoryLimits {
  seriesMax: number;
  disksPerNodeMax: number;
  retentionMs: number;
}

export interface HistoryState {
  format: 1;
  nodes: {
    node: string;
    disks: { disk: string | null; serial: string | null; model: string | null; series: Record<string, SeriesState> }[];
  }[];
}

export type Observed = { ok: true; late: boolean } | { ok: false; reason: string };

/** Disk telemetry that was last heard this long ago says nothing about today. */
export const DISK_SILENT_MS = 3 * 86_400_000;
export const HISTORY_LIMITS: HistoryLimits = { seriesMax: 200_000, disksPerNodeMax: 1024, retentionMs: 35 * 86_400_000 };
/** Power-on hours that fall by more than this mean another disk under the same name. */
const HOURS_FALL_MAX = 24;

export class History {
  readonly #limits: HistoryLimits;
  readonly #nodes = new Map<string, Map<string, DiskHistory>>();
  #series = 0;

  constructor(limits: Partial<HistoryLimits> = {}) {
    this.#limits = { ...HISTORY_LIMITS, ...limits };
  }

  get seriesCount(): number {
    return this.#series;
  }

  nodes(): string[] {
    return [...this.#nodes.keys()];
  }

  /** The disks of a node, and its own row (disk null) if it has one. */
  disks(node: string): DiskHistory[] {
    return [...(this.#nodes.get(node)?.values() ?? [])];
  }

  disk(node: string, disk: string | null): DiskHistory | undefined {
    return this.#nodes.get(node)?.get(keyOf(disk));
  }

  observe(sample: Sample): Observed {
    const disk = this.#diskFor(sample);
    if (disk === null) return { ok: false, reason: `node ${sample.node} has more than ${this.#limits.disksPerNodeMax} disks` };
    this.#noticeReplacement(disk, sample);
    let series = disk.series.get(sample.metric);
    if (series === undefined) {
      if (this.#series >= this.#limits.seriesMax)
        return { ok: false, reason: `more than ${this.#limits.seriesMax} series; this one is not kept` };
      series = new Series(metricSpec(sample.metric).kind, this.#limits.retentionMs);
      disk.series.set(sample.metric, series);
      this.#series++;
    }
    const placed = series.observe(sample.atMs, sample.value);
    disk.latestAtMs = Math.max(disk.latestAtMs, series.latestAtMs);
    return { ok: true, late: !placed };
  }

  forget(node: string): void {
    for (const disk of this.disks(node)) this.#series -= disk.series.size;
    this.#nodes.delete(node);
  }

  toState(): HistoryState {
    const nodes: HistoryState['nodes'] = [];
    for (const [node, disks] of this.#nodes) {
      const rows = [...disks.values()].map(({ disk, serial, model, series }) => ({
        disk,
        serial,
        model,
        series: Object.fromEntries([...series].map(([metric, one]) => [metric, one.toState()])),
      }));
      nodes.push({ node, disks: rows });
    }
    return { format: 1, nodes };
  }

  /** Takes back what toState gave. False, and nothing taken, when the value is not such a state. */
  restore(state: unknown): boolean {
    if (!isHistoryState(state)) return false;
    this.#nodes.clear();
    this.#series = 0;
    for (const { node, disks } of state.nodes) {
      for (const { disk, serial, model, series } of disks.slice(0, this.#limits.disksPerNodeMax)) {
        const kept = this.#diskFor({ node, disk, labels: undefined });
        if (kept === null) continue;
        kept.serial = serial;
        kept.model = model;
        for (const [name, one] of Object.entries(series)) {
          if (!Object.hasOwn(METRICS, name) || this.#series >= this.#limits.seriesMax) continue;
          const metric = name as Metric;
          kept.series.set(metric, Series.fromState(metricSpec(metric).kind, this.#limits.retentionMs, one));
          kept.latestAtMs = Math.max(kept.latestAtMs, one.latestAtMs);
          this.#series++;
        }
      }
    }
    return true;
  }

  #diskFor(sample: Pick<Sample, 'node' | 'disk' | 'labels'>): DiskHistory | null {
    let disks = this.#nodes.get(sample.node);
    if (disks === undefined) {
      disks = new Map();
      this.#nodes.set(sample.node, disks);
    }
    const key = keyOf(sample.disk);
    let disk = disks.get(key);
    if (disk === undefined) {
      if (disks.size >= this.#limits.disksPerNodeMax) return null;
      disk = { disk: sample.disk, serial: null, model: null, latestAtMs: 0, series: new Map() };
      disks.set(key, disk);
    }
    return disk;
  }

  #noticeReplacement(disk: DiskHistory, sample: Sample): void {
    const serial = sample.labels?.serial;
    const hours = disk.series.get('power_on_hours');
    const otherSerial = serial !== undefined && disk.serial !== null && serial !== disk.serial;
    const younger =
      sample.metric === 'power_on_hours' &&
      hours !== undefined &&
      sample.atMs >= hours.latestAtMs &&
      sample.value < hours.value - HOURS_FALL_MAX;
    if (otherSerial || younger) {
      this.#series -= disk.series.size;
      disk.series.clear();
    }
    if (serial !== undefined) disk.serial = serial;
    if (sample.labels?.model !== undefined) disk.model = sample.labels.model;
  }
}

/** What is known of some metrics of a disk, from `sinceMs` on; null when there are none or all were last heard over `silentMs` ago. */
export function evidenceWindow(
  disk: Pick<DiskHistory, 'series'>,
  metrics: ReadonlySet<Metric>,
  nowMs: number,
  silentMs: number,
  sinceMs = 0,
): EvidenceWindow | null {
  const window = { fromMs: Number.POSITIVE_INFINITY, toMs: 0, samples: 0 };
  for (const [metric, series] of disk.series) {
    if (!metrics.has(metric) || nowMs - series.latestAtMs > silentMs) continue;
    window.fromMs = Math.min(window.fromMs, Math.max(series.firstAtMs, sinceMs));
    window.toMs = Math.max(window.toMs, series.latestAtMs);
    window.samples = Math.max(window.samples, series.samples);
  }
  return window.samples > 0 ? window : null;
}

/** The node's own row gets a key no disk name can have. */
function keyOf(disk: string | null): string {
  return disk === null ? '\0' : disk;
}

function isHistoryState(state: unknown): state is HistoryState {
  const { format, nodes } = (state ?? {}) as Partial<HistoryState>;
  return (
    format === 1 &&
    Array.isArray(nodes) &&
    nodes.every((row) => typeof row?.node === 'string' && Array.isArray(row.disks) && row.disks.every(isDiskState))
  );
}

function isDiskState(row: unknown): boolean {
  const { disk, serial, model, series } = (row ?? {}) as Partial<HistoryState['nodes'][number]['disks'][number]>;
  const named = [disk, serial, model].every((text) => text === null || typeof text === 'string');
  return named && typeof series === 'object' && series !== null && Object.values(series).every(isSeriesState);
}

function isSeriesState(one: unknown): one is SeriesState {
  const { points, firstAtMs, latestAtMs, lastChangeMs, samples } = (one ?? {}) as Partial<SeriesState>;
  if (!Array.isArray(points) || points.length === 0 || points.length > POINTS_MAX) return false;
  if (![firstAtMs, latestAtMs, samples].every(Number.isFinite) || !(lastChangeMs === null || Number.isFinite(lastChangeMs))) return false;
  const sound = points.every((point) => Array.isArray(point) && point.length === 4 && point.every(Number.isFinite));
  return sound && points.every((point, i) => i === 0 || points[i - 1][0] <= point[0]);
}
