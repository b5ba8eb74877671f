// The agent's /metrics in Prometheus text: its own numbers as forestall_agent_*, and its disks' health under the names and
// labels of smartctl_exporter, so that one reader understands both. Numbers are gathered only when somebody scrapes; a value
// nobody measured has no line (smartctl_exporter would write 0).
import { Counter, Gauge, Registry } from 'prom-client';
import type { ExportView } from './agent-schema.js';
import type { IoCounters } from './io-counters.js';
import type { NvmeHealth, SmartDisk } from './smart-disk.js';

/** What one scrape shows. */
export interface AgentFigures {
  version: string;
  incarnation: string;
  space: { capacityBytes: number; freeBytes: number };
  exports: ExportView[];
  connections: number;
  io: IoCounters;
  disks: SmartDisk[];
}

export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** The whole page. A registry of its own for each: scrapes that overlap do not mix. */
export function renderMetrics(figures: AgentFigures): Promise<string> {
  const registry = new Registry();
  addAgent(registry, figures);
  addIo(registry, figures.io);
  addDisks(registry, figures.disks);
  return registry.metrics();
}

type Labels = Record<string, string>;

function gauge(registry: Registry, name: string, help: string, labelNames: string[] = []): (labels: Labels, value: number | null) => void {
  const family = new Gauge({ name, help, labelNames, registers: [registry] });
  return (labels, value) => {
    if (value !== null && Number.isFinite(value)) family.set(labels, value);
  };
}

function counter(registry: Registry, name: string, help: string): (operation: string, value: number) => void {
  const family = new Counter({ name, help, labelNames: ['operation'], registers: [registry] });
  return (operation, value) => family.inc({ operation }, value);
}

function addAgent(registry: Registry, figures: AgentFigures): void {
  const { version, incarnation, space, exports, connections } = figures;
  const info = gauge(registry, 'forestall_agent_info', 'The running agent; always 1.', ['version', 'incarnation']);
  info({ version, incarnation }, 1);
  gauge(registry, 'forestall_agent_capacity_bytes', 'Size of the file system below the exports.')({}, space.capacityBytes);
  gauge(registry, 'forestall_agent_free_bytes', 'Bytes of it that are free.')({}, space.freeBytes);
  gauge(registry, 'forestall_agent_exports', 'Exports in the directory.')({}, exports.length);
  gauge(registry, 'forestall_agent_connections', 'NBD connections that are open.')({}, connections);
  const size = gauge(registry, 'forestall_agent_export_size_bytes', 'Size of an export.', ['export', 'volume']);
  const allocated = gauge(registry, 'forestall_agent_export_allocated_bytes', 'Bytes an export takes up.', ['export', 'volume']);
  const usable = gauge(registry, 'forestall_agent_export_usable', '1 if an export can be used, 0 if it is damaged.', ['export', 'volume']);
  for (const { name, volume, sizeBytes, allocatedBytes, problem } of exports) {
    const labels = { export: name, volume };
    size(labels, sizeBytes);
    allocated(labels, allocatedBytes);
    usable(labels, problem === null ? 1 : 0);
  }
}

function addIo(registry: Registry, io: IoCounters): void {
  gauge(registry, 'forestall_agent_io_in_flight', 'Requests to the storage that are not answered yet.')({}, io.inFlight);
  const operations = counter(registry, 'forestall_agent_io_operations_total', 'Requests to the storage that were answered.');
  const errors = counter(registry, 'forestall_agent_io_errors_total', 'Requests to the storage that were answered with an error.');
  const bytes = counter(registry, 'forestall_agent_io_bytes_total', 'Bytes of the requests that were carried out.');
  for (const count of io.list()) {
    operations(count.operation, count.completed);
    errors(count.operation, count.errors);
    bytes(count.operation, count.bytes);
  }
}

const DEVICE_LABELS = ['device', 'interface', 'protocol', 'model_family', 'model_name', 'serial_number', 'firmware_version'];
const ATTRIBUTE_LABELS = ['device', 'attribute_id', 'attribute_name', 'attribute_flags_short', 'attribute_value_type'];
const SCSI_LABELS = ['device', 'model_family', 'model_name', 'serial_number'];

const PER_DISK: [name: string, help: string, read: (disk: SmartDisk) => number | null][] = [
  ['smartctl_device_smart_status', 'General smart status', (disk) => flag(disk.smartStatusPassed)],
  ['smartctl_device_smartctl_exit_status', 'Exit status of smartctl on device', (disk) => disk.exitStatus],
  ['smartctl_device_capacity_bytes', 'Device capacity in bytes', (disk) => disk.capacityBytes],
  ['smartctl_device_rotation_rate', 'Device rotation rate', (disk) => disk.rotationRate],
  ['smartctl_device_power_on_seconds', 'Device power on seconds', (disk) => disk.powerOnSeconds],
  ['smartctl_device_power_cycle_count', 'Device power cycle count', (disk) => disk.powerCycles],
];

const PER_NVME: [name: string, help: string, field: keyof NvmeHealth][] = [
  ['smartctl_device_critical_warning', 'Critical warnings for the state of the controller, a bit field', 'criticalWarning'],
  ['smartctl_device_percentage_used', 'Device write percentage used', 'percentageUsed'],
  ['smartctl_device_available_spare', 'Percentage of the spare capacity that is left', 'availableSpare'],
  ['smartctl_device_available_spare_threshold', 'Percentage of spare capacity below which it warns', 'availableSpareThreshold'],
  ['smartctl_device_media_errors', 'Unrecovered data integrity errors the controller found', 'mediaErrors'],
  ['smartctl_device_num_err_log_entries', 'Entries of the error log over the life of the controller', 'errorLogEntries'],
];

const PER_SCSI: [name: string, help: string, read: (disk: SmartDisk) => number | null][] = [
  ['smartctl_scsi_grown_defect_list', 'Device SCSI grown defect list counter', (disk) => disk.grownDefects],
  ['smartctl_read_total_uncorrected_errors', 'Read Total Uncorrected Errors', (disk) => disk.readUncorrectedErrors],
  ['smartctl_write_total_uncorrected_errors', 'Write Total Uncorrected Errors', (disk) => disk.writeUncorrectedErrors],
];

function addDisks(registry: Registry, disks: SmartDisk[]): void {
  const device = gauge(registry, 'smartctl_device', 'Device info', DEVICE_LABELS);
  const temperature = gauge(registry, 'smartctl_device_temperature', 'Device temperature celsius', ['device', 'temperature_type']);
  for (const disk of disks) {
    device(
      { ...scsiLabels(disk), interface: disk.protocol.toLowerCase(), protocol: disk.protocol, firmware_version: disk.firmwareVersion },
      1,
    );
    temperature({ device: disk.device, temperature_type: 'current' }, disk.temperatureCelsius);
  }
  addAttributes(registry, disks);
  for (const [name, help, read] of PER_DISK) {
    const family = gauge(registry, name, help, ['device']);
    for (const disk of disks) family({ device: disk.device }, read(disk));
  }
  for (const [name, help, field] of PER_NVME) {
    const family = gauge(registry, name, help, ['device']);
    for (const disk of disks) family({ device: disk.device }, disk.nvme?.[field] ?? null);
  }
  for (const [name, help, read] of PER_SCSI) {
    const family = gauge(registry, name, help, SCSI_LABELS);
    for (const disk of disks) family(scsiLabels(disk), read(disk));
  }
}

function addAttributes(registry: Registry, disks: SmartDisk[]): void {
  const family = gauge(registry, 'smartctl_device_attribute', 'Device attributes', ATTRIBUTE_LABELS);
  for (const disk of disks) {
    for (const { id, name, flags, raw, value, worst, threshold } of disk.attributes) {
      const labels = { device: disk.device, attribute_id: String(id), attribute_name: name, attribute_flags_short: flags };
      family({ ...labels, attribute_value_type: 'raw' }, raw);
      family({ ...labels, attribute_value_type: 'value' }, value);
      family({ ...labels, attribute_value_type: 'worst' }, worst);
      family({ ...labels, attribute_value_type: 'thresh' }, threshold);
    }
  }
}

function scsiLabels({ device, modelFamily, modelName, serialNumber }: SmartDisk): Labels {
  return { device, model_family: modelFamily, model_name: modelName, serial_number: serialNumber };
}

function flag(value: boolean | null): number | null {
  return value === null ? null : Number(value);
}
