// Samples from what node_exporter exposes, already parsed into families.
// Guarantees that only real block devices, real file systems and real network interfaces count, and that families which come once per CPU,
// sensor or interface are joined into the one value the predictor knows. It must not fetch anything.

import { type Metric, metricSpec } from './metric.js';
import type { ExpositionSample, Family } from './prometheus-text.js';
import { diskName, type Sample } from './sample.js';

type Families = ReadonlyMap<string, Family>;

const DISK_METRICS: readonly Metric[] = ['disk_reads', 'disk_read_seconds', 'disk_writes', 'disk_write_seconds'];
const FILESYSTEM_METRICS: readonly Metric[] = [
  'filesystem_avail_bytes',
  'filesystem_size_bytes',
  'filesystem_readonly',
  'filesystem_device_error',
];
const VIRTUAL_DEVICE = /^(loop|ram|zram|sr|fd)\d*$/;
const VIRTUAL_FILESYSTEM = new Set([
  'tmpfs', 'devtmpfs', 'overlay', 'squashfs', 'ramfs', 'proc', 'sysfs', 'cgroup2', 'autofs', 'iso9660', 'fuse.lxcfs', 'nsfs', 'tracefs', 'debugfs',
]); // biome-ignore format: a table
const VIRTUAL_INTERFACE = /^(lo|veth|docker|br-|virbr|cali|cni|flannel)/;

/** One Sample for each quantity the predictor knows. `atMs`: when it was scraped. */
export function samplesFromNodeExporter(families: Families, node: string, atMs: number): Sample[] {
  const samples: Sample[] = [];
  const add = (disk: string | null, metric: Metric, value: number): void => {
    const spec = metricSpec(metric);
    if (Number.isFinite(value) && value >= spec.min && value <= spec.max) samples.push({ node, disk, metric, value, atMs });
  };
  for (const metric of DISK_METRICS) {
    for (const { labels, value } of rows(families, metric)) {
      const disk = diskName(labels.device ?? '');
      if (disk !== '' && !VIRTUAL_DEVICE.test(disk)) add(disk, metric, value);
    }
  }
  addFilesystems(families, add);
  const hottest = largest(rows(families, 'temperature_celsius'));
  if (hottest !== null) add(null, 'temperature_celsius', hottest);
  addSum(add, 'uncorrectable_memory_errors', rows(families, 'uncorrectable_memory_errors'));
  addSum(add, 'link_segments_sent', rows(families, 'link_segments_sent'));
  addSum(add, 'link_retransmits', rows(families, 'link_retransmits'));
  addSum(add, 'link_resets', rows(families, 'link_resets'));
  addSum(
    add,
    'link_errors',
    rows(families, 'link_errors').filter(({ labels }) => !VIRTUAL_INTERFACE.test(labels.device ?? '')),
  );
  addSum(
    add,
    'failed_raid_disks',
    (families.get('node_md_disks')?.samples ?? []).filter(({ labels }) => labels.state === 'failed'),
  );
  return samples;
}

type Add = (disk: string | null, metric: Metric, value: number) => void;

/** A device mounted at several places counts once. */
function addFilesystems(families: Families, add: Add): void {
  for (const metric of FILESYSTEM_METRICS) {
    const done = new Set<string>();
    for (const { labels, value } of rows(families, metric)) {
      const device = diskName(labels.device ?? '');
      if (device === '' || done.has(device) || VIRTUAL_FILESYSTEM.has(labels.fstype ?? '')) continue;
      done.add(device);
      add(device, metric, value);
    }
  }
}

function rows(families: Families, metric: Metric): ExpositionSample[] {
  return (metricSpec(metric).exported ?? [])
    .filter((name) => name.startsWith('node_'))
    .flatMap((name) => families.get(name)?.samples ?? []);
}

function addSum(add: Add, metric: Metric, from: ExpositionSample[]): void {
  const finite = from.filter(({ value }) => Number.isFinite(value));
  if (finite.length > 0) add(null, metric, finite.reduce((sum, { value }) => sum + value, 0)); // biome-ignore format: one thought
}

function largest(from: ExpositionSample[]): number | null {
  const finite = from.map(({ value }) => value).filter(Number.isFinite);
  return finite.length > 0 ? Math.max(...finite) : null;
}
