// Samples from the output of `smartctl --json -a DEVICE`, for ATA, NVMe and SCSI disks.
// Guarantees that a field of the wrong type is skipped, that a disk smartctl could not question gives no samples but a reason, and that
// the text is bounded. It must not run smartctl.

import { decodeRaw, type Metric, metricOfSmartId, metricSpec } from './metric.js';
import { diskName, type Sample } from './sample.js';

export type SmartctlResult = { ok: true; disk: string; samples: Sample[] } | { ok: false; message: string };

type Json = Record<string, unknown>;

const TEXT_CHARS_MAX = 4 * 2 ** 20;
const NVME_LOG: readonly (readonly [field: string, metric: Metric])[] = [
  ['critical_warning', 'critical_warning'],
  ['percentage_used', 'percentage_used'],
  ['available_spare', 'available_spare'],
  ['available_spare_threshold', 'available_spare_threshold'],
  ['media_errors', 'media_errors'],
  ['num_err_log_entries', 'error_log_entries'],
];

/** Reads the JSON text of one disk. `atMs`: when smartctl ran. */
export function samplesFromSmartctlJson(text: string, node: string, atMs: number): SmartctlResult {
  if (text.length > TEXT_CHARS_MAX) return { ok: false, message: `the output is longer than ${TEXT_CHARS_MAX} characters` };
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (error) {
    return { ok: false, message: `not the JSON output of smartctl: ${error instanceof Error ? error.message : String(error)}` };
  }
  const top = record(root);
  const device = record(top?.device);
  if (!top || typeof device?.name !== 'string') return { ok: false, message: 'not the JSON output of smartctl: device.name is missing' };
  const disk = diskName(device.name);
  const exitStatus = number(record(top.smartctl)?.exit_status) ?? 0;
  if ((exitStatus & 0b0011) !== 0) return { ok: false, message: `smartctl could not open ${device.name}: ${firstMessage(top)}` };
  const labels = labelsOf(top);
  const samples: Sample[] = [];
  const add = (metric: Metric, value: number | undefined): void => {
    const spec = metricSpec(metric);
    if (value === undefined || value < spec.min || value > spec.max) return;
    samples.push(labels === undefined ? { node, disk, metric, value, atMs } : { node, disk, metric, value, atMs, labels });
  };
  const passed = record(top.smart_status)?.passed;
  if (typeof passed === 'boolean') add('smart_passed', passed ? 1 : 0);
  addAttributes(top, add);
  const log = record(top.nvme_smart_health_information_log);
  for (const [field, metric] of NVME_LOG) add(metric, number(log?.[field]));
  addScsi(top, add);
  addCommon(top, add, samples);
  return { ok: true, disk, samples };
}

type Add = (metric: Metric, value: number | undefined) => void;

function addAttributes(top: Json, add: Add): void {
  const table = record(top.ata_smart_attributes)?.table;
  if (!Array.isArray(table)) return;
  let failing = 0;
  for (const row of table.map(record)) {
    const id = number(row?.id);
    const raw = number(record(row?.raw)?.value);
    const metric = id === undefined ? undefined : metricOfSmartId(id);
    if (id !== undefined && raw !== undefined && metric !== undefined && metric !== 'temperature_celsius') add(metric, decodeRaw(id, raw));
    if (record(row?.flags)?.prefailure === true && row?.when_failed === 'now') failing++;
  }
  add('failing_attributes', failing);
}

function addScsi(top: Json, add: Add): void {
  add('grown_defects', number(top.scsi_grown_defect_list));
  const log = record(top.scsi_error_counter_log);
  if (!log) return;
  const uncorrected = ['read', 'write', 'verify'].map((kind) => number(record(log[kind])?.total_uncorrected_errors));
  add('media_errors', uncorrected.reduce<number>((sum, count) => sum + (count ?? 0), 0)); // biome-ignore format: one thought
}

function addCommon(top: Json, add: Add, samples: Sample[]): void {
  add('temperature_celsius', number(record(top.temperature)?.current));
  add('capacity_bytes', number(record(top.user_capacity)?.bytes) ?? number(top.nvme_total_capacity));
  const has = (metric: Metric): boolean => samples.some((sample) => sample.metric === metric);
  if (!has('power_on_hours')) add('power_on_hours', number(record(top.power_on_time)?.hours));
  if (!has('power_cycles')) add('power_cycles', number(top.power_cycle_count));
}

function labelsOf(top: Json): Record<string, string> | undefined {
  const labels: Record<string, string> = {};
  if (typeof top.serial_number === 'string') labels.serial = top.serial_number;
  if (typeof top.model_name === 'string') labels.model = top.model_name;
  return Object.keys(labels).length > 0 ? labels : undefined;
}

function firstMessage(top: Json): string {
  const messages = record(top.smartctl)?.messages;
  const first = Array.isArray(messages) ? record(messages[0])?.string : undefined;
  return typeof first === 'string' ? first.slice(0, 200) : 'no reason given';
}

function record(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}
