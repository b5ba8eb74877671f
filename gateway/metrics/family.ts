// A metric family as data: its name by Prometheus' conventions, what it tells, and how its values come out of a scrape.
// prom-client renders it; nothing is counted in prom-client itself, whose `observe` is far too slow for the I/O path.
import type { HistogramSnapshot } from './histogram.js';
import type { Scrape } from './source.js';

export type Labels = Record<string, string>;

export interface Value {
  labels: Labels;
  value: number;
  /** Of a part of a histogram or summary: `<name>_bucket`, `<name>_sum`, `<name>_count`. */
  metricName?: string;
}

export interface Family {
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram' | 'summary';
  values(scrape: Scrape): Value[];
}

export function one(labels: Labels, value: number): Value {
  return { labels, value };
}

/** No value at all is better than a wrong one: null is left out. */
export function known(labels: Labels, value: number | null): Value[] {
  return value === null ? [] : [{ labels, value }];
}

/** One value for each of `states`, 1 for the present one. */
export function oneHot(labels: Labels, states: readonly string[], present: string): Value[] {
  return states.map((state) => one({ ...labels, state }, state === present ? 1 : 0));
}

/** One value for each key of `counts`, under the label `label`. */
export function byKey(labels: Labels, label: string, counts: Record<string, number>): Value[] {
  return Object.entries(counts).map(([key, value]) => one({ ...labels, [label]: key }, value));
}

export function histogramValues(
  name: string,
  labels: Labels,
  { upperBoundsSeconds, counts, sumSeconds, count }: HistogramSnapshot,
): Value[] {
  const values: Value[] = [];
  let cumulative = 0;
  for (let i = 0; i < upperBoundsSeconds.length; i++) {
    cumulative += counts[i];
    values.push({ labels: { ...labels, le: String(upperBoundsSeconds[i]) }, value: cumulative, metricName: `${name}_bucket` });
  }
  values.push({ labels: { ...labels, le: '+Inf' }, value: count, metricName: `${name}_bucket` });
  values.push({ labels, value: sumSeconds, metricName: `${name}_sum` });
  values.push({ labels, value: count, metricName: `${name}_count` });
  return values;
}
