// Sentences about metrics for people: counts, spans of time, and what a counter did.
// Guarantees plain English without a unit left out. It must not judge.

import { type Metric, metricSpec } from './metric.js';
import type { Series } from './series.js';

const SPANS: readonly (readonly [ms: number, one: string])[] = [
  [365.25 * 86_400_000, 'year'],
  [86_400_000, 'day'],
  [3_600_000, 'hour'],
  [60_000, 'minute'],
  [1000, 'second'],
];

/** "10 minutes", "3 days", "1.5 years"; below a second: "under a second". */
export function span(ms: number): string {
  for (const [unit, one] of SPANS) {
    const count = ms / unit;
    if (count < 1) continue;
    const shown = one === 'year' && count < 10 ? Math.round(count * 10) / 10 : Math.round(count);
    return `${shown} ${one}${shown === 1 ? '' : 's'}`;
  }
  return 'under a second';
}

/** Digits a person can read: at most 3 significant ones below 1000, none after the point above. */
export function quantity(value: number): string {
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(3)));
}

export function percent(probability: number): string {
  const shown = probability * 100;
  if (shown >= 99.95) return 'over 99.9 %';
  if (shown < 0.1) return 'under 0.1 %';
  return `${shown >= 10 ? shown.toFixed(0) : shown.toFixed(1)} %`;
}

/** What a counter did in the window before now: "pending sectors rose from 0 to 48 in 10 minutes". */
export function counterText(metric: Metric, series: Series | undefined, nowMs: number, windowMs: number): string {
  const { noun } = metricSpec(metric);
  if (series === undefined || series.samples === 0) return `${noun} not reported`;
  const rise = series.riseSpan(nowMs - windowMs);
  if (rise !== null && rise.to > rise.from) {
    const from = `${noun} rose from ${quantity(rise.from)} to ${quantity(rise.to)}`;
    if (rise.endMs - rise.startMs >= 1000) return `${from} in ${span(rise.endMs - rise.startMs)}`;
    const ago = nowMs - rise.endMs;
    return ago < 60_000 ? `${from} just now` : `${from} ${span(ago)} ago`;
  }
  const since = nowMs - (series.lastChangeMs ?? series.firstAtMs);
  const steady = since >= 60_000 ? `, unchanged for ${span(since)}` : '';
  return series.value === 0 ? `no ${noun}${steady === '' ? '' : ` for ${span(since)}`}` : `${quantity(series.value)} ${noun}${steady}`;
}
