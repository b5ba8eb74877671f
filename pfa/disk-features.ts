// The features of the disk wear-out model: from a disk's series to a row of numbers, the same for training and for scoring.
// Guarantees that only what was known at `nowMs` is used and that what was never reported is NaN, which the model treats as missing.
// Order and names are part of the model file's format: append, never reorder.

import type { Metric } from './metric.js';
import type { Series } from './series.js';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/** Stands for "never changed since it is watched", so that a change is always nearer than none. */
export const NEVER_HOURS = 100_000;

/** Measures of one counter. Windows look back from now; a short history gives the rise since its first sample. */
export const MEASURES = ['value', 'rise1d', 'rise7d', 'rise30d', 'changes30d', 'hoursSinceChange'] as const;
export type Measure = (typeof MEASURES)[number];

/** Counters in use. More of a monotone one never lowers the predicted probability. */
export const COUNTERS: readonly { metric: Metric; monotone: boolean }[] = [
  { metric: 'reallocated_sectors', monotone: true },
  { metric: 'reported_uncorrectable', monotone: true },
  { metric: 'command_timeout', monotone: true },
  { metric: 'pending_sectors', monotone: true },
  { metric: 'offline_uncorrectable', monotone: true },
  { metric: 'reallocation_events', monotone: true },
  { metric: 'spin_retries', monotone: true },
  { metric: 'high_fly_writes', monotone: true },
  { metric: 'power_cycles', monotone: false },
];

export interface Feature {
  name: string;
  /** What it measures of which metric; measure null: the plain value. */
  metric: Metric;
  measure: Measure | null;
  /** 1: the probability must not fall as it grows; -1: must not rise; 0: free. */
  monotone: -1 | 0 | 1;
}

export const FEATURES: readonly Feature[] = [
  ...COUNTERS.flatMap(({ metric, monotone }) =>
    MEASURES.map((measure): Feature => ({ name: `${metric}.${measure}`, metric, measure, monotone: direction(measure, monotone) })),
  ),
  { name: 'power_on_hours', metric: 'power_on_hours', measure: null, monotone: 0 },
  { name: 'capacity_bytes', metric: 'capacity_bytes', measure: null, monotone: 0 },
];

/** Fills one row of `FEATURES.length` numbers. */
export function diskFeatures(series: ReadonlyMap<Metric, Series>, nowMs: number, row: Float64Array): void {
  let at = 0;
  for (const { metric } of COUNTERS) {
    const one = series.get(metric);
    if (one === undefined || one.samples === 0) {
      row.fill(Number.NaN, at, at + MEASURES.length);
      at += MEASURES.length;
      continue;
    }
    row[at++] = one.value;
    row[at++] = one.riseSince(nowMs - DAY_MS);
    row[at++] = one.riseSince(nowMs - 7 * DAY_MS);
    row[at++] = one.riseSince(nowMs - 30 * DAY_MS);
    row[at++] = one.changesSince(nowMs - 30 * DAY_MS);
    row[at++] = one.lastChangeMs === null ? NEVER_HOURS : Math.min(NEVER_HOURS, Math.max(0, nowMs - one.lastChangeMs) / HOUR_MS);
  }
  row[at++] = series.get('power_on_hours')?.value ?? Number.NaN;
  row[at] = series.get('capacity_bytes')?.value ?? Number.NaN;
}

function direction(measure: Measure, monotone: boolean): -1 | 0 | 1 {
  if (!monotone) return 0;
  return measure === 'hoursSinceChange' ? -1 : 1;
}
