// Samples from what smartctl_exporter exposes, already parsed into families.
// Guarantees that an exporter's filler is not taken for a measurement: it writes 0 for every NVMe field of an ATA disk and for the SMART
// status of a disk it could not read, and those are left out. It must not fetch anything.

import { decodeRaw, type Metric, metricOfSmartId, metricSpec } from './metric.js';
import type { ExpositionSample, Family } from './prometheus-text.js';
import { diskName, type Sample } from './sample.js';

type Families = ReadonlyMap<string, Family>;

interface Device {
  protocol: string;
  labels: Record<string, string> | undefined;
  /** smartctl could not open or question the disk: its zeroes mean nothing. */
  unreadable: boolean;
}

/** Bits 0 to 2 of smartctl's exit status: bad command line, open failed, a command failed. Bit 3: the disk says it is failing. */
const EXIT_UNREADABLE = 0b0111;
const EXIT_FAILING = 0b1000;

const NVME: readonly Metric[] = [
  'critical_warning',
  'percentage_used',
  'available_spare',
  'available_spare_threshold',
  'media_errors',
  'error_log_entries',
];
const ANY: readonly Metric[] = ['power_cycles', 'grown_defects', 'capacity_bytes'];

/** One Sample for each quantity the predictor knows; the rest of the text is left out. `atMs`: when it was scraped. */
export function samplesFromSmartctlExporter(families: Families, node: string, atMs: number): Sample[] {
  const devices = readDevices(families);
  const samples: Sample[] = [];
  const add = (disk: string, metric: Metric, value: number): void => {
    const spec = metricSpec(metric);
    if (!Number.isFinite(value) || value < spec.min || value > spec.max) return;
    const labels = devices.get(disk)?.labels;
    samples.push(labels === undefined ? { node, disk, metric, value, atMs } : { node, disk, metric, value, atMs, labels });
  };
  addAttributes(families, add);
  for (const metric of NVME) {
    for (const { disk, value } of byDisk(families, metric)) if (hasNvmeLog(families, devices, disk)) add(disk, metric, value);
  }
  for (const metric of ANY) {
    for (const { disk, value } of byDisk(families, metric)) if (value > 0 || metric === 'grown_defects') add(disk, metric, value);
  }
  addScsiErrors(families, add);
  addTemperatures(families, add);
  addPowerOnHours(families, add, samples);
  for (const { disk, value } of byDisk(families, 'smart_passed')) {
    if (value === 1 || (value === 0 && !devices.get(disk)?.unreadable)) add(disk, 'smart_passed', value);
  }
  return samples;
}

function readDevices(families: Families): Map<string, Device> {
  const devices = new Map<string, Device>();
  for (const { labels } of families.get('smartctl_device')?.samples ?? []) {
    const known: Record<string, string> = {};
    if (labels.serial_number) known.serial = labels.serial_number;
    if (labels.model_name) known.model = labels.model_name;
    devices.set(diskName(labels.device ?? ''), {
      protocol: (labels.protocol || labels.interface || '').toLowerCase(),
      labels: Object.keys(known).length > 0 ? known : undefined,
      unreadable: false,
    });
  }
  for (const { labels, value } of families.get('smartctl_device_smartctl_exit_status')?.samples ?? []) {
    const disk = diskName(labels.device ?? '');
    const device = devices.get(disk) ?? { protocol: '', labels: undefined, unreadable: false };
    device.unreadable = (value & EXIT_UNREADABLE) !== 0 && (value & EXIT_FAILING) === 0;
    devices.set(disk, device);
  }
  return devices;
}

type Add = (disk: string, metric: Metric, value: number) => void;

function addAttributes(families: Families, add: Add): void {
  const thresholds = new Map<string, number>();
  const normalised: ExpositionSample[] = [];
  for (const sample of families.get('smartctl_device_attribute')?.samples ?? []) {
    const { device = '', attribute_id: id = '', attribute_value_type: type } = sample.labels;
    if (type === 'thresh') thresholds.set(`${device} ${id}`, sample.value);
    if (type === 'value') normalised.push(sample);
    const metric = metricOfSmartId(Number(id));
    // The exporter also gives the temperature as a family of its own, unpacked.
    if (type === 'raw' && metric !== undefined && metric !== 'temperature_celsius')
      add(diskName(device), metric, decodeRaw(Number(id), sample.value));
  }
  const failing = new Map<string, number>();
  for (const { labels, value } of normalised) {
    const threshold = thresholds.get(`${labels.device ?? ''} ${labels.attribute_id ?? ''}`) ?? 0;
    const prefailure = (labels.attribute_flags_short ?? '').startsWith('P');
    const disk = diskName(labels.device ?? '');
    failing.set(disk, (failing.get(disk) ?? 0) + (prefailure && threshold > 0 && value > 0 && value <= threshold ? 1 : 0));
  }
  for (const [disk, count] of failing) add(disk, 'failing_attributes', count);
}

/** SCSI disks count what they could not correct by direction; together that is what NVMe calls media errors. */
function addScsiErrors(families: Families, add: Add): void {
  const sums = new Map<string, number>();
  for (const name of ['smartctl_read_total_uncorrected_errors', 'smartctl_write_total_uncorrected_errors']) {
    for (const { labels, value } of families.get(name)?.samples ?? []) {
      const disk = diskName(labels.device ?? '');
      sums.set(disk, (sums.get(disk) ?? 0) + value);
    }
  }
  for (const [disk, sum] of sums) add(disk, 'media_errors', sum);
}

function addTemperatures(families: Families, add: Add): void {
  for (const { labels, value } of families.get('smartctl_device_temperature')?.samples ?? []) {
    if ((labels.temperature_type ?? 'current') === 'current' && value > 0) add(diskName(labels.device ?? ''), 'temperature_celsius', value);
  }
}

/** Attribute 9 where the disk has one; else the exporter's seconds. */
function addPowerOnHours(families: Families, add: Add, samples: Sample[]): void {
  const known = new Set(samples.filter(({ metric }) => metric === 'power_on_hours').map(({ disk }) => disk));
  for (const { labels, value } of families.get('smartctl_device_power_on_seconds')?.samples ?? []) {
    const disk = diskName(labels.device ?? '');
    if (!known.has(disk) && value > 0) add(disk, 'power_on_hours', value / 3600);
  }
}

/** Of the disks the exporter names no protocol for, an NVMe log is believed when its spare threshold or spare is not the filler 0. */
function hasNvmeLog(families: Families, devices: Map<string, Device>, disk: string): boolean {
  const device = devices.get(disk);
  if (device?.unreadable) return false;
  const protocol = device?.protocol || (disk.startsWith('nvme') ? 'nvme' : '');
  if (protocol !== '') return protocol === 'nvme';
  return [...byDisk(families, 'available_spare'), ...byDisk(families, 'available_spare_threshold')].some(
    (row) => row.disk === disk && row.value > 0,
  );
}

function byDisk(families: Families, metric: Metric): { disk: string; value: number }[] {
  const rows: { disk: string; value: number }[] = [];
  for (const name of metricSpec(metric).exported ?? []) {
    for (const { labels, value } of families.get(name)?.samples ?? []) rows.push({ disk: diskName(labels.device ?? ''), value });
  }
  return rows;
}
