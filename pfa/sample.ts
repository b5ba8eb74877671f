// A sample: one measured value of a node or of one of its disks, under its canonical name.
// `validateSample` is the one gate for values that strangers push: what passes is finite, in bounds and not from the future,
// what does not is refused with a sentence that says what is wrong. It must not guess at values or read a clock.

import { canonicalMetric, decodeRaw, type Metric, metricOfSmartId, metricSpec, nearestMetrics } from './metric.js';

export interface Sample {
  node: string;
  /** Kernel name without /dev/, or whatever stable name the pusher uses; null: the node as a whole. */
  disk: string | null;
  metric: Metric;
  value: number;
  /** Epoch milliseconds. */
  atMs: number;
  /** What else identifies it. Known keys: serial, model. */
  labels?: Record<string, string>;
}

export type SampleResult = { ok: true; sample: Sample } | { ok: false; message: string };
export type SamplesResult = { ok: true; samples: Sample[] } | { ok: false; message: string; index: number | null };

export const FUTURE_MS_MAX = 5 * 60_000;
export const NAME_CHARS_MAX = 128;
export const LABELS_MAX = 32;
export const SAMPLES_PER_PUSH_MAX = 10_000;
const KEYS = new Set(['disk', 'metric', 'value', 'at', 'labels']);
const SECONDS_LOOK_BELOW = 1e11; // as milliseconds: March 1973

/** The disk's name without a leading /dev/, so that exporters of every age agree. */
export function diskName(device: string): string {
  return device.startsWith('/dev/') ? device.slice(5) : device;
}

/**
 * One entry of `POST /v1/nodes/{id}/samples`: `{disk?, metric, value, at?, labels?}`. `metric` is a canonical name, `smart_N_raw`, or an
 * exporter's name; `at` is ISO 8601 or epoch milliseconds and defaults to `nowMs`. SMART raw values are unpacked.
 */
export function validateSample(input: unknown, node: string, nowMs: number): SampleResult {
  if (!isRecord(input)) return bad(`a sample is an object {disk?, metric, value, at?}, not ${describe(input)}`);
  for (const key of Object.keys(input))
    if (!KEYS.has(key)) return bad(`unknown key "${key.slice(0, 40)}"; a sample has ${[...KEYS].join(', ')}`);
  const labels = validateLabels(input.labels);
  if (typeof labels === 'string') return bad(labels);
  const found = findMetric(input.metric, labels);
  if ('message' in found) return bad(found.message);
  const disk = validateDisk(input.disk);
  if (typeof disk === 'object' && disk !== null) return bad(disk.message);
  const value = validateValue(found.metric, found.smartId, input.value);
  if (typeof value === 'string') return bad(value);
  const atMs = validateTime(input.at, nowMs);
  if (typeof atMs === 'string') return bad(atMs);
  const sample: Sample = { node, disk, metric: found.metric, value, atMs };
  if (labels !== undefined) sample.labels = labels;
  return { ok: true, sample };
}

/** A whole push, `{samples: [...]}`: all or nothing, the first wrong one named by its index. Sorted by time. */
export function validateSamples(input: unknown, node: string, nowMs: number): SamplesResult {
  if (!isRecord(input) || !Array.isArray(input.samples)) {
    return { ok: false, index: null, message: 'the body is {"samples": [{disk?, metric, value, at?}, ...]}' };
  }
  if (input.samples.length > SAMPLES_PER_PUSH_MAX) {
    return { ok: false, index: null, message: `${input.samples.length} samples in one push; at most ${SAMPLES_PER_PUSH_MAX}` };
  }
  const samples: Sample[] = [];
  for (const [index, entry] of input.samples.entries()) {
    const result = validateSample(entry, node, nowMs);
    if (!result.ok) return { ok: false, index, message: `samples[${index}]: ${result.message}` };
    samples.push(result.sample);
  }
  samples.sort((a, b) => a.atMs - b.atMs);
  return { ok: true, samples };
}

function findMetric(
  name: unknown,
  labels: Record<string, string> | undefined,
): { metric: Metric; smartId: number | null } | { message: string } {
  if (typeof name !== 'string' || name === '') return { message: `metric is a name, not ${describe(name)}` };
  if (name === 'smartctl_device_attribute') return attributeMetric(labels);
  const metric = canonicalMetric(name);
  if (metric !== undefined) return { metric, smartId: smartIdOf(name) };
  const near = nearestMetrics(name);
  return { message: `unknown metric "${name.slice(0, NAME_CHARS_MAX)}"; the nearest known are ${near.join(', ')}` };
}

function attributeMetric(labels: Record<string, string> | undefined): { metric: Metric; smartId: number } | { message: string } {
  const id = Number(labels?.attribute_id ?? Number.NaN);
  const metric = metricOfSmartId(id);
  if (metric === undefined)
    return { message: 'smartctl_device_attribute needs the label attribute_id of a known attribute, or push smart_N_raw' };
  const type = labels?.attribute_value_type ?? 'raw';
  if (type !== 'raw') return { message: `attribute_value_type is "${type.slice(0, 20)}"; only raw values are samples` };
  return { metric, smartId: id };
}

function smartIdOf(name: string): number | null {
  const match = /^smart_(\d+)_raw$/.exec(name);
  return match ? Number(match[1]) : null;
}

function validateValue(metric: Metric, smartId: number | null, value: unknown): number | string {
  if (typeof value !== 'number') return `value of ${metric} is a number, not ${describe(value)}`;
  if (!Number.isFinite(value)) return `value of ${metric} is ${value}; it must be finite (leave out what was not measured)`;
  const spec = metricSpec(metric);
  const decoded = smartId === null ? value : decodeRaw(smartId, value);
  if (spec.kind === 'counter' && decoded < 0) return `value of ${metric} is ${value}; a counter is never negative`;
  if (spec.kind === 'flag' && decoded !== 0 && decoded !== 1) return `value of ${metric} is ${value}; it is 0 or 1`;
  if (decoded < spec.min || decoded > spec.max) return `value of ${metric} is ${value}; it lies between ${spec.min} and ${spec.max}`;
  return decoded;
}

function validateTime(at: unknown, nowMs: number): number | string {
  if (at === undefined || at === null) return nowMs;
  let atMs: number;
  if (typeof at === 'string') {
    if (!/^\d{4}-\d\d-\d\d([T ]|$)/.test(at)) return `at is "${at.slice(0, 40)}"; write ISO 8601 or epoch milliseconds`;
    atMs = Date.parse(at);
  } else if (typeof at === 'number') {
    atMs = at;
  } else {
    return `at is ISO 8601 or epoch milliseconds, not ${describe(at)}`;
  }
  if (!Number.isFinite(atMs) || atMs < 0) return `at is ${JSON.stringify(at)?.slice(0, 40)}, which is no time`;
  if (typeof at === 'number' && atMs < SECONDS_LOOK_BELOW) return `at is ${at}, which looks like seconds; write milliseconds or ISO 8601`;
  if (atMs > nowMs + FUTURE_MS_MAX) {
    return `at is ${new Date(Math.min(atMs, 8.64e15)).toISOString()}, more than 5 minutes in the future; check the clock of the sender`;
  }
  return Math.round(atMs);
}

function validateDisk(disk: unknown): string | null | { message: string } {
  if (disk === undefined || disk === null) return null;
  if (typeof disk !== 'string') return { message: `disk is a name such as "sda", not ${describe(disk)}` };
  const name = diskName(disk.trim());
  if (name === '' || name.length > NAME_CHARS_MAX) return { message: `disk is a name of 1 to ${NAME_CHARS_MAX} characters` };
  return name;
}

function validateLabels(labels: unknown): Record<string, string> | undefined | string {
  if (labels === undefined || labels === null) return undefined;
  if (!isRecord(labels)) return `labels is an object of strings, not ${describe(labels)}`;
  const entries = Object.entries(labels);
  if (entries.length > LABELS_MAX) return `${entries.length} labels; at most ${LABELS_MAX}`;
  for (const [key, value] of entries) {
    if (typeof value !== 'string' || value.length > NAME_CHARS_MAX || key.length > NAME_CHARS_MAX) {
      return `label "${key.slice(0, 40)}" is a string of at most ${NAME_CHARS_MAX} characters`;
    }
  }
  return Object.fromEntries(entries) as Record<string, string>;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'an object';
  return `${typeof value} ${String(value).slice(0, 40)}`;
}

function bad(message: string): SampleResult {
  return { ok: false, message };
}
