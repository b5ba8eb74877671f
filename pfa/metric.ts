// The canonical metrics the predictor knows: one table of names, kinds, bounds and words for people.
// Guarantees one name per quantity whatever the source calls it; `canonicalMetric` finds a metric by any of its
// names and `decodeRaw` unpacks what vendors pack into one SMART raw value. It must not hold state or read samples.

/**
 * counter: only grows in a healthy life (a fall is a reset). gauge: moves both ways. flag: 0 or 1.
 * noun: what a person calls it in a sentence ("pending sectors rose from 0 to 48").
 */
export interface MetricSpec {
  kind: 'counter' | 'gauge' | 'flag';
  noun: string;
  unit: '' | '%' | '°C' | 'h' | 'bytes' | 's' | 'us';
  /** ATA SMART attribute whose raw value it is. */
  smartId?: number;
  /** Names of it in the Prometheus text of exporters, where the name alone says what it is. */
  exported?: readonly string[];
  min: number;
  max: number;
}

const COUNT_MAX = Number.MAX_SAFE_INTEGER;
const BYTES_MAX = 2 ** 63;

function counter(noun: string, more: Partial<MetricSpec> = {}): MetricSpec {
  return { kind: 'counter', noun, unit: '', min: 0, max: COUNT_MAX, ...more };
}

function gauge(noun: string, unit: MetricSpec['unit'], min: number, max: number, more: Partial<MetricSpec> = {}): MetricSpec {
  return { kind: 'gauge', noun, unit, min, max, ...more };
}

export const METRICS = {
  // Disk, ATA SMART raw values. Pending and offline-uncorrectable sectors may fall again when they are rewritten.
  raw_read_error_rate: gauge('raw read error rate', '', 0, COUNT_MAX, { smartId: 1 }),
  reallocated_sectors: counter('reallocated sectors', { smartId: 5 }),
  power_on_hours: counter('power-on hours', { smartId: 9, unit: 'h' }),
  spin_retries: counter('spin retries', { smartId: 10 }),
  power_cycles: counter('power cycles', { smartId: 12, exported: ['smartctl_device_power_cycle_count'] }),
  end_to_end_errors: counter('end-to-end errors', { smartId: 184 }),
  reported_uncorrectable: counter('reported uncorrectable errors', { smartId: 187 }),
  command_timeout: counter('command timeouts', { smartId: 188 }),
  high_fly_writes: counter('high-fly writes', { smartId: 189 }),
  load_cycles: counter('load cycles', { smartId: 193 }),
  reallocation_events: counter('reallocation events', { smartId: 196 }),
  pending_sectors: gauge('pending sectors', '', 0, COUNT_MAX, { smartId: 197 }),
  offline_uncorrectable: gauge('offline uncorrectable sectors', '', 0, COUNT_MAX, { smartId: 198 }),
  udma_crc_errors: counter('interface CRC errors', { smartId: 199 }),
  temperature_celsius: gauge('temperature', '°C', -60, 200, {
    smartId: 194,
    exported: ['smartctl_device_temperature', 'node_hwmon_temp_celsius'],
  }),
  // Disk, self-assessment.
  smart_passed: { kind: 'flag', noun: 'SMART overall status', unit: '', min: 0, max: 1, exported: ['smartctl_device_smart_status'] },
  failing_attributes: gauge('SMART attributes at or below their vendor threshold', '', 0, 255),
  // Disk, NVMe health log and SCSI.
  critical_warning: gauge('NVMe critical warning', '', 0, 255, { exported: ['smartctl_device_critical_warning'] }),
  percentage_used: gauge('rated write endurance used', '%', 0, 255, { exported: ['smartctl_device_percentage_used'] }),
  available_spare: gauge('available spare blocks', '%', 0, 100, { exported: ['smartctl_device_available_spare'] }),
  available_spare_threshold: gauge('spare block threshold', '%', 0, 100, { exported: ['smartctl_device_available_spare_threshold'] }),
  media_errors: counter('media errors', { exported: ['smartctl_device_media_errors'] }),
  error_log_entries: counter('error log entries', { exported: ['smartctl_device_num_err_log_entries'] }),
  grown_defects: counter('grown defects', { exported: ['smartctl_scsi_grown_defect_list'] }),
  capacity_bytes: gauge('disk capacity', 'bytes', 0, BYTES_MAX, { exported: ['smartctl_device_capacity_bytes'] }),
  // Disk, as the node's kernel counts its I/O.
  disk_reads: counter('completed reads', { exported: ['node_disk_reads_completed_total'] }),
  disk_read_seconds: counter('time spent reading', { unit: 's', exported: ['node_disk_read_time_seconds_total'] }),
  disk_writes: counter('completed writes', { exported: ['node_disk_writes_completed_total'] }),
  disk_write_seconds: counter('time spent writing', { unit: 's', exported: ['node_disk_write_time_seconds_total'] }),
  // File system; its device is the disk.
  filesystem_avail_bytes: gauge('free space', 'bytes', 0, BYTES_MAX, { exported: ['node_filesystem_avail_bytes'] }),
  filesystem_size_bytes: gauge('file system size', 'bytes', 0, BYTES_MAX, { exported: ['node_filesystem_size_bytes'] }),
  filesystem_readonly: { kind: 'flag', noun: 'read-only file system', unit: '', min: 0, max: 1, exported: ['node_filesystem_readonly'] },
  filesystem_device_error: {
    kind: 'flag',
    noun: 'file system device error',
    unit: '',
    min: 0,
    max: 1,
    exported: ['node_filesystem_device_error'],
  },
  // Node.
  cpu_utilisation: gauge('CPU utilisation', '%', 0, 100),
  uncorrectable_memory_errors: counter('uncorrectable memory errors', { exported: ['node_edac_uncorrectable_errors_total'] }),
  failed_raid_disks: gauge('failed disks of a RAID', '', 0, 65535),
  // Link.
  link_segments_sent: counter('TCP segments sent', { exported: ['node_netstat_Tcp_OutSegs'] }),
  link_retransmits: counter('TCP retransmits', { exported: ['node_netstat_Tcp_RetransSegs'] }),
  link_resets: counter('TCP connection resets', { exported: ['node_netstat_Tcp_EstabResets'] }),
  link_errors: counter('network interface errors', { exported: ['node_network_receive_errs_total', 'node_network_transmit_errs_total'] }),
  link_rtt_us: gauge('round-trip time', 'us', 0, 3.6e9),
} as const satisfies Record<string, MetricSpec>;

export type Metric = keyof typeof METRICS;

export const METRIC_NAMES = Object.keys(METRICS) as Metric[];

const BY_SMART_ID = new Map<number, Metric>();
const BY_NAME = new Map<string, Metric>();
for (const name of METRIC_NAMES) {
  const spec: MetricSpec = METRICS[name];
  BY_NAME.set(name, name);
  for (const exported of spec.exported ?? []) BY_NAME.set(exported, name);
  if (spec.smartId !== undefined) {
    BY_SMART_ID.set(spec.smartId, name);
    BY_NAME.set(`smart_${spec.smartId}_raw`, name);
  }
}
// Airflow temperature: the same quantity on disks without attribute 194.
BY_SMART_ID.set(190, 'temperature_celsius');
BY_NAME.set('smart_190_raw', 'temperature_celsius');

export function metricSpec(metric: Metric): MetricSpec {
  return METRICS[metric];
}

/** The metric of an ATA SMART attribute's raw value, if the predictor has a use for it. */
export function metricOfSmartId(id: number): Metric | undefined {
  return BY_SMART_ID.get(id);
}

/** Finds a metric by its canonical name, as `smart_N_raw`, or by an exporter's name. */
export function canonicalMetric(name: string): Metric | undefined {
  return BY_NAME.get(name);
}

/**
 * A SMART raw value as a plain quantity. Seagate packs three 16-bit counts into attribute 188 and minutes above the 32 bits of hours
 * of attribute 9; most disks keep minimum and maximum above the low byte of 190 and 194. Values that are not packed pass unchanged.
 */
export function decodeRaw(smartId: number, raw: number): number {
  if (!Number.isInteger(raw) || raw < 0) return raw;
  if (smartId === 188) return raw % 2 ** 16;
  if (smartId === 9) return raw % 2 ** 32;
  if (smartId === 190 || smartId === 194) return raw > 255 ? raw % 256 : raw;
  return raw;
}

/** Names nearest to a mistyped one, best first, for error messages. */
export function nearestMetrics(name: string, count = 3): string[] {
  const wanted = name.slice(0, 80).toLowerCase();
  const words = new Set(wanted.split(/[^a-z0-9]+/).filter((word) => word.length > 2));
  const scored = [...BY_NAME.keys()].map((candidate) => {
    const shared = candidate.split('_').filter((word) => words.has(word)).length;
    return { candidate, score: editDistance(wanted, candidate) - 4 * shared };
  });
  scored.sort((a, b) => a.score - b.score || (a.candidate < b.candidate ? -1 : 1));
  return scored.slice(0, count).map(({ candidate }) => candidate);
}

/** Levenshtein distance, two rows. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, previous[j] + 1, current[j - 1] + 1));
    }
    previous = current;
  }
  return previous[b.length];
}
