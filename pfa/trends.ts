// Trends: what is drifting towards a limit (heat, wear, spare blocks, pending sectors, space) and when it gets there.
// Guarantees that a line is drawn no further than three times the stretch it was seen over, and only when its whole 90 % interval points
// at the limit. The consequence of reaching a limit is judgement, stated in the table. Pure.

import { type DiskHistory, evidenceWindow } from './history.js';
import { type Metric, metricSpec } from './metric.js';
import { type Assessment, type Evidence, fromEvidence, type Model, noSignal } from './model.js';
import { quantity, span } from './phrase.js';
import { robustLine } from './robust-slope.js';
import type { Series } from './series.js';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const SILENT_MS = DAY_MS;
const PRIOR = 0.0002;
const GRID_POINTS = 48;
/** A line may be drawn this many times as far as it was seen. */
const REACH = 3;
const SPAN_MS_MIN = 10 * MINUTE_MS;

interface Limit {
  metric: Metric;
  /** The limit may depend on what else the disk reports. */
  limit: (disk: DiskHistory) => number | null;
  direction: 1 | -1;
  /** A trend counts only beyond this, so that a disk warming up after a start is no trend. */
  from: (limit: number) => number;
  windowMs: number;
  /** P(failure within the horizon) once the limit is reached. */
  severity: number;
  /** Trends that say nothing until the limit is near in time. */
  withinMs: number;
}

const LIMITS: readonly Limit[] = [
  {
    metric: 'temperature_celsius',
    limit: hottest,
    direction: 1,
    from: (limit) => limit - 15,
    windowMs: DAY_MS,
    severity: 0.55,
    withinMs: 2 * DAY_MS,
  },
  {
    metric: 'percentage_used',
    limit: () => 100,
    direction: 1,
    from: () => 80,
    windowMs: 30 * DAY_MS,
    severity: 0.25,
    withinMs: 30 * DAY_MS,
  },
  {
    metric: 'available_spare',
    limit: (disk) => disk.series.get('available_spare_threshold')?.value ?? 10,
    direction: -1,
    from: (limit) => Math.max(limit + 20, 60),
    windowMs: 30 * DAY_MS,
    severity: 0.6,
    withinMs: 30 * DAY_MS,
  },
  {
    metric: 'pending_sectors',
    limit: () => 1000,
    direction: 1,
    from: () => 8,
    windowMs: 7 * DAY_MS,
    severity: 0.6,
    withinMs: 30 * DAY_MS,
  },
  {
    metric: 'filesystem_avail_bytes',
    limit: (disk) => (disk.series.get('filesystem_size_bytes')?.value ?? 0) * 0.01,
    direction: -1,
    from: (limit) => limit * 20,
    windowMs: 7 * DAY_MS,
    severity: 0.5,
    withinMs: 7 * DAY_MS,
  },
];

const WATCHED = new Set(LIMITS.map(({ metric }) => metric));
const WINDOW_MS_MAX = Math.max(...LIMITS.map(({ windowMs }) => windowMs));

export interface Trend {
  metric: Metric;
  limit: number;
  value: number;
  /** When the limit is reached on the line and at the near and far end of its interval; farthest null: not surely. */
  atMs: number;
  earliestMs: number;
  latestMs: number | null;
  probability: number;
  text: string;
}

/** Trends of a disk, or of the node's own row. */
export class Trends implements Model<DiskHistory> {
  readonly id = 'trends-v1';

  constructor(readonly horizonMs: number) {}

  assess(disk: DiskHistory, nowMs: number): Assessment {
    const source = `trend ${disk.disk ?? 'node'}`;
    const window = evidenceWindow(disk, WATCHED, nowMs, SILENT_MS, nowMs - WINDOW_MS_MAX);
    if (window === null) return noSignal(source);
    const trends = LIMITS.map((limit) => trendOf(disk, limit, nowMs, this.horizonMs)).filter((trend) => trend !== null);
    const evidence = trends.map(
      ({ metric, value, probability, text }): Evidence => ({ feature: `${metric}.trend`, value, probability, text }),
    );
    const assessment = fromEvidence(source, PRIOR, evidence, window);
    const soonest = trends.filter(({ atMs }) => atMs >= nowMs).sort((a, b) => a.atMs - b.atMs)[0];
    return { ...assessment, predictedFailureAtMs: soonest?.atMs ?? null };
  }
}

function trendOf(disk: DiskHistory, rule: Limit, nowMs: number, horizonMs: number): Trend | null {
  const series = disk.series.get(rule.metric);
  const limit = rule.limit(disk);
  if (series === undefined || limit === null || nowMs - series.latestAtMs > SILENT_MS) return null;
  const beyond = (value: number, mark: number): boolean => rule.direction * (value - mark) >= 0;
  const { noun, unit } = metricSpec(rule.metric);
  // Two readings in a row: sensors glitch.
  if (beyond(series.value, limit) && beyond(series.valueAt(series.latestAtMs - 1), limit)) {
    const text = `${noun} is ${shown(series.value, unit)}, past its limit of ${shown(limit, unit)}`;
    return {
      metric: rule.metric,
      limit,
      value: series.value,
      atMs: nowMs,
      earliestMs: nowMs,
      latestMs: nowMs,
      probability: rule.severity,
      text,
    };
  }
  if (!beyond(series.value, rule.from(limit))) return null;
  const { times, values } = grid(series, nowMs, rule.windowMs);
  const seenMs = times.length > 0 ? times[times.length - 1] - times[0] : 0;
  const line = seenMs >= SPAN_MS_MIN ? robustLine(times, values) : null;
  if (line === null || rule.direction * line.low <= 0 || rule.direction * line.high <= 0) return null;
  const distance = limit - series.value;
  const fastest = rule.direction > 0 ? line.high : line.low;
  const slowest = rule.direction > 0 ? line.low : line.high;
  const toLimitMs = distance / line.slope;
  if (toLimitMs > Math.min(rule.withinMs, horizonMs, REACH * seenMs)) return null;
  const probability = rule.severity * (distance / slowest <= horizonMs ? 1 : 0.6);
  const trend = { atMs: nowMs + toLimitMs, earliestMs: nowMs + distance / fastest, latestMs: nowMs + distance / slowest };
  const text =
    `${noun} is ${shown(series.value, unit)} and reaches ${shown(limit, unit)} in ${span(toLimitMs)} ` +
    `(${span(distance / fastest)} to ${span(distance / slowest)}) at its pace of the last ${span(seenMs)}`;
  return { metric: rule.metric, limit, value: series.value, probability, text, ...trend };
}

/** The step function on even marks over what was seen of the window. */
function grid(series: Series, nowMs: number, windowMs: number): { times: number[]; values: number[] } {
  const fromMs = Math.max(series.firstAtMs, nowMs - windowMs);
  const toMs = series.latestAtMs;
  const times: number[] = [];
  const values: number[] = [];
  for (let i = 0; i < GRID_POINTS && toMs > fromMs; i++) {
    const atMs = fromMs + ((toMs - fromMs) * i) / (GRID_POINTS - 1);
    const value = series.valueAt(atMs);
    if (Number.isNaN(value)) continue;
    times.push(atMs);
    values.push(value);
  }
  return { times, values };
}

/** Highest temperature a part is rated for: spinning disks and SATA flash about 65, NVMe flash about 85, processors about 100. */
function hottest({ disk }: DiskHistory): number {
  if (disk === null) return 100;
  return disk.startsWith('nvme') ? 85 : 65;
}

function shown(value: number, unit: string): string {
  if (unit === 'bytes') return `${quantity(value / 2 ** 30)} GiB`;
  return unit === '' ? quantity(value) : `${quantity(value)} ${unit}`;
}
