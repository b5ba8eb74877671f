// Findings that need no trained model: what a disk or its node says of itself, and counters that climb while we watch.
// Guarantees that filler and steady states are silent: each finding is a fault the device declares or a rise within its window. The
// probabilities are set by judgement (sources in the table), not learnt; the trees cannot know these fields. Pure.

import { DISK_SILENT_MS, type DiskHistory, evidenceWindow } from './history.js';
import type { Metric } from './metric.js';
import { type Assessment, type Evidence, fromEvidence, type Model, noSignal } from './model.js';
import { counterText, quantity } from './phrase.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** What a disk with nothing to report risks in 30 days beyond its counters. */
const PRIOR = 0.0005;

/** Bits of the critical warning of the NVMe health log (NVMe base specification, log page 02h). */
const CRITICAL_WARNING: readonly { bit: number; probability: number; text: string }[] = [
  { bit: 0, probability: 0.7, text: 'the drive says its spare blocks are below its threshold' },
  { bit: 1, probability: 0.3, text: 'the drive says its temperature is outside its limits' },
  { bit: 2, probability: 0.9, text: 'the drive says its reliability is degraded' },
  { bit: 3, probability: 0.97, text: 'the drive has turned read-only' },
  { bit: 4, probability: 0.7, text: 'the backup of its volatile memory has failed' },
  { bit: 5, probability: 0.7, text: 'its persistent memory region has turned read-only or unreliable' },
];

/** Counters of damage; when one climbs in several steps within an hour the disk is going as we watch. */
const SURGING: readonly Metric[] = [
  'reallocated_sectors',
  'reported_uncorrectable',
  'pending_sectors',
  'offline_uncorrectable',
  'reallocation_events',
  'end_to_end_errors',
  'media_errors',
  'grown_defects',
];
const SURGE_PROBABILITY_MAX = 0.65;
const SURGE_STEPS = 3;
const SURGE_RISE = 32;

/** Slower rises of counters the trees were not trained on, over 30 days: [metric, per unit of rise, at most]. */
const RISING: readonly (readonly [metric: Metric, each: number, most: number])[] = [
  ['media_errors', 0.05, 0.5],
  ['grown_defects', 0.01, 0.4],
  ['end_to_end_errors', 0.05, 0.4],
  ['uncorrectable_memory_errors', 0.2, 0.6],
];

/** Flags of a node or file system that are faults only when they appear: a file system may be meant to be read-only. */
const APPEARED: readonly (readonly [metric: Metric, probability: number, text: string])[] = [
  ['filesystem_readonly', 0.7, 'a file system turned read-only'],
  ['filesystem_device_error', 0.3, 'a file system began to report device errors'],
];

const LOOKED_AT = new Set<Metric>([
  'smart_passed',
  'failing_attributes',
  'critical_warning',
  'failed_raid_disks',
  ...SURGING,
  ...RISING.map(([metric]) => metric),
  ...APPEARED.map(([metric]) => metric),
]);

/** What the disk itself reports. */
export class DiskReports implements Model<DiskHistory> {
  readonly id = 'disk-reports-v1';

  assess(disk: DiskHistory, nowMs: number): Assessment {
    const source = `reports ${disk.disk ?? 'node'}`;
    const window = evidenceWindow(disk, LOOKED_AT, nowMs, DISK_SILENT_MS);
    if (window === null) return noSignal(source);
    return fromEvidence(source, PRIOR, [...declared(disk, nowMs), ...surges(disk, nowMs), ...rises(disk, nowMs)], window);
  }
}

function declared(disk: DiskHistory, nowMs: number): Evidence[] {
  const evidence: Evidence[] = [];
  const passed = latest(disk, 'smart_passed', nowMs);
  if (passed === 0) evidence.push({ feature: 'smart_passed', value: 0, probability: 0.9, text: 'SMART overall status: failed' });
  const failing = latest(disk, 'failing_attributes', nowMs);
  if (failing !== null && failing > 0) {
    const text = `${quantity(failing)} SMART attribute${failing === 1 ? '' : 's'} at or below the vendor's threshold`;
    evidence.push({ feature: 'failing_attributes', value: failing, probability: 0.7, text });
  }
  const warning = latest(disk, 'critical_warning', nowMs) ?? 0;
  for (const { bit, probability, text } of CRITICAL_WARNING) {
    if ((warning >> bit) & 1) evidence.push({ feature: `critical_warning.${bit}`, value: warning, probability, text });
  }
  const raid = latest(disk, 'failed_raid_disks', nowMs);
  if (raid !== null && raid > 0) {
    evidence.push({
      feature: 'failed_raid_disks',
      value: raid,
      probability: 0.4,
      text: `${quantity(raid)} disk(s) of a RAID on the node have failed`,
    });
  }
  for (const [metric, probability, text] of APPEARED) {
    const series = disk.series.get(metric);
    if (latest(disk, metric, nowMs) === 1 && series?.lastChangeMs != null) evidence.push({ feature: metric, value: 1, probability, text });
  }
  return evidence;
}

function surges(disk: DiskHistory, nowMs: number): Evidence[] {
  const evidence: Evidence[] = [];
  for (const metric of SURGING) {
    const series = disk.series.get(metric);
    if (series === undefined) continue;
    const steps = series.changesSince(nowMs - HOUR_MS);
    const rise = series.riseSince(nowMs - HOUR_MS);
    if (steps < 2 || rise <= 0) continue;
    const probability = SURGE_PROBABILITY_MAX * (1 - Math.exp(-(steps - 1) / SURGE_STEPS)) * (1 - Math.exp(-rise / SURGE_RISE));
    const text = `climbing while watched: ${counterText(metric, series, nowMs, HOUR_MS)}, in ${quantity(steps)} steps`;
    evidence.push({ feature: `${metric}.surge`, value: series.value, probability, text });
  }
  return evidence;
}

function rises(disk: DiskHistory, nowMs: number): Evidence[] {
  const evidence: Evidence[] = [];
  for (const [metric, each, most] of RISING) {
    const series = disk.series.get(metric);
    const rise = series?.riseSince(nowMs - 30 * DAY_MS) ?? 0;
    if (series === undefined || rise <= 0) continue;
    const probability = most * (1 - Math.exp((-rise * each) / most));
    evidence.push({ feature: metric, value: series.value, probability, text: counterText(metric, series, nowMs, 30 * DAY_MS) });
  }
  return evidence;
}

function latest(disk: DiskHistory, metric: Metric, nowMs: number): number | null {
  const series = disk.series.get(metric);
  return series === undefined || nowMs - series.latestAtMs > DISK_SILENT_MS ? null : series.value;
}
