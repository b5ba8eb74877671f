// What a disk says of its health, read from `smartctl --json -a` or from a file of simulated disks. Pure. What is not there
// is null, never 0: a value nobody measured must not look like a healthy one.
import { z } from 'zod';
import { type Outcome, refuse } from '../control.js';

export interface SmartAttribute {
  id: number;
  name: string;
  /** As smartctl prints them: `PO--CK`; P first for one that predicts failure. "" when unknown. */
  flags: string;
  raw: number;
  /** Normalised values; null for a simulated disk. */
  value: number | null;
  worst: number | null;
  threshold: number | null;
}

/** NVMe's health log, by the exporter's names of the fields. */
export interface NvmeHealth {
  criticalWarning: number | null;
  percentageUsed: number | null;
  availableSpare: number | null;
  availableSpareThreshold: number | null;
  mediaErrors: number | null;
  errorLogEntries: number | null;
}

export interface SmartDisk {
  /** Without /dev/. */
  device: string;
  /** ATA, NVMe, SCSI. */
  protocol: string;
  modelFamily: string;
  modelName: string;
  serialNumber: string;
  firmwareVersion: string;
  capacityBytes: number | null;
  rotationRate: number | null;
  smartStatusPassed: boolean | null;
  temperatureCelsius: number | null;
  powerOnSeconds: number | null;
  powerCycles: number | null;
  attributes: SmartAttribute[];
  nvme: NvmeHealth | null;
  grownDefects: number | null;
  readUncorrectedErrors: number | null;
  writeUncorrectedErrors: number | null;
  /** smartctl's exit status, a bit field: bits 0 to 2 mean that it could not question the disk, the others are findings. */
  exitStatus: number;
}

const count = z.number().nullish();
const text = z.string().nullish();

/** Of smartctl's output, the part we read; the rest is left out. */
const smartctlOutput = z.object({
  smartctl: z.object({ exit_status: z.number() }),
  device: z.object({ name: z.string(), protocol: text }),
  model_family: text,
  model_name: text,
  serial_number: text,
  firmware_version: text,
  user_capacity: z.object({ bytes: count }).nullish(),
  rotation_rate: count,
  smart_status: z.object({ passed: z.boolean().nullish() }).nullish(),
  temperature: z.object({ current: count }).nullish(),
  power_on_time: z.object({ hours: count }).nullish(),
  power_cycle_count: count,
  ata_smart_attributes: z
    .object({
      table: z.array(
        z.object({
          id: z.number(),
          name: z.string(),
          value: count,
          worst: count,
          thresh: count,
          flags: z.object({ string: text }).nullish(),
          raw: z.object({ value: z.number() }),
        }),
      ),
    })
    .nullish(),
  nvme_smart_health_information_log: z
    .object({
      critical_warning: count,
      percentage_used: count,
      available_spare: count,
      available_spare_threshold: count,
      media_errors: count,
      num_err_log_entries: count,
    })
    .nullish(),
  scsi_grown_defect_list: count,
  scsi_error_counter_log: z
    .object({
      read: z.object({ total_uncorrected_errors: count }).nullish(),
      write: z.object({ total_uncorrected_errors: count }).nullish(),
    })
    .nullish(),
});

/** Refused with `bad-smart-data`. */
export function parseSmartctl(output: string): Outcome<SmartDisk> {
  const json = parseJson(output);
  const parsed = smartctlOutput.safeParse(json);
  if (!parsed.success) return refuse('bad-smart-data', `no output of smartctl --json: ${z.prettifyError(parsed.error)}`);
  const found = parsed.data;
  const nvme = found.nvme_smart_health_information_log;
  const attributes = (found.ata_smart_attributes?.table ?? []).map((row) => ({
    id: row.id,
    name: row.name,
    flags: row.flags?.string?.trim() ?? '',
    raw: row.raw.value,
    value: row.value ?? null,
    worst: row.worst ?? null,
    threshold: row.thresh ?? null,
  }));
  const hours = found.power_on_time?.hours ?? null;
  return {
    ok: true,
    value: {
      device: diskName(found.device.name),
      protocol: found.device.protocol ?? '',
      modelFamily: found.model_family ?? '',
      modelName: found.model_name ?? '',
      serialNumber: found.serial_number ?? '',
      firmwareVersion: found.firmware_version ?? '',
      capacityBytes: found.user_capacity?.bytes ?? null,
      rotationRate: found.rotation_rate ?? null,
      smartStatusPassed: found.smart_status?.passed ?? null,
      temperatureCelsius: found.temperature?.current ?? null,
      powerOnSeconds: hours === null ? null : hours * 3600,
      powerCycles: found.power_cycle_count ?? null,
      attributes,
      nvme: nvme
        ? {
            criticalWarning: nvme.critical_warning ?? null,
            percentageUsed: nvme.percentage_used ?? null,
            availableSpare: nvme.available_spare ?? null,
            availableSpareThreshold: nvme.available_spare_threshold ?? null,
            mediaErrors: nvme.media_errors ?? null,
            errorLogEntries: nvme.num_err_log_entries ?? null,
          }
        : null,
      grownDefects: found.scsi_grown_defect_list ?? null,
      readUncorrectedErrors: found.scsi_error_counter_log?.read?.total_uncorrected_errors ?? null,
      writeUncorrectedErrors: found.scsi_error_counter_log?.write?.total_uncorrected_errors ?? null,
      exitStatus: found.smartctl.exit_status,
    },
  };
}

const scanOutput = z.object({ devices: z.array(z.object({ name: z.string(), type: z.string() })).nullish() });

/** The disks `smartctl --json --scan` found. */
export function parseScan(output: string): Outcome<{ name: string; type: string }[]> {
  const parsed = scanOutput.safeParse(parseJson(output));
  if (!parsed.success) return refuse('bad-smart-data', `no output of smartctl --json --scan: ${z.prettifyError(parsed.error)}`);
  return { ok: true, value: parsed.data.devices ?? [] };
}

const finite = z.number().min(0);
const simulatedDisk = z.strictObject({
  device: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'letters, digits and . _ - only'),
  model: z.string().max(128).default('simulated'),
  serialNumber: z.string().max(128).default(''),
  protocol: z.enum(['ATA', 'NVMe', 'SCSI']).default('ATA'),
  capacityBytes: finite.optional(),
  attributes: z.record(z.string().regex(/^([1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])$/, 'a SMART attribute is 1 to 255'), finite).default({}),
  temperatureCelsius: z.number().optional(),
  smartStatusPassed: z.boolean().optional(),
  nvme: z
    .strictObject({
      criticalWarning: finite.optional(),
      percentageUsed: finite.optional(),
      availableSpare: finite.optional(),
      availableSpareThreshold: finite.optional(),
      mediaErrors: finite.optional(),
      errorLogEntries: finite.optional(),
    })
    .optional(),
});
const simulatedFile = z.strictObject({ disks: z.array(simulatedDisk).max(256) });

/** The names smartctl gives the attributes that tell most. */
const ATTRIBUTE_NAMES: Record<number, string> = {
  1: 'Raw_Read_Error_Rate',
  3: 'Spin_Up_Time',
  4: 'Start_Stop_Count',
  5: 'Reallocated_Sector_Ct',
  7: 'Seek_Error_Rate',
  9: 'Power_On_Hours',
  10: 'Spin_Retry_Count',
  12: 'Power_Cycle_Count',
  184: 'End-to-End_Error',
  187: 'Reported_Uncorrect',
  188: 'Command_Timeout',
  190: 'Airflow_Temperature_Cel',
  193: 'Load_Cycle_Count',
  194: 'Temperature_Celsius',
  196: 'Reallocated_Event_Count',
  197: 'Current_Pending_Sector',
  198: 'Offline_Uncorrectable',
  199: 'UDMA_CRC_Error_Count',
};

/**
 * The file of simulated disks: `{"disks":[{"device":"sim0","model":"...","attributes":{"5":0,"187":0},"temperatureCelsius":35,
 * "smartStatusPassed":true}]}`, optionally with serialNumber, protocol, capacityBytes and nvme. Refused with `bad-smart-data`.
 */
export function parseSimulated(file: string): Outcome<SmartDisk[]> {
  const parsed = simulatedFile.safeParse(parseJson(file));
  if (!parsed.success)
    return refuse('bad-smart-data', `no file of simulated disks: ${z.prettifyError(parsed.error).replaceAll('\n', ' ')}`);
  return { ok: true, value: parsed.data.disks.map(simulated) };
}

function simulated(disk: z.infer<typeof simulatedDisk>): SmartDisk {
  const attributes = Object.entries(disk.attributes).map(([key, raw]) => {
    const id = Number(key);
    return { id, name: ATTRIBUTE_NAMES[id] ?? 'Unknown_Attribute', flags: '', raw, value: null, worst: null, threshold: null };
  });
  const { criticalWarning, percentageUsed, availableSpare, availableSpareThreshold, mediaErrors, errorLogEntries } = disk.nvme ?? {};
  const hours = disk.attributes['9'];
  return {
    device: disk.device,
    protocol: disk.protocol,
    modelFamily: '',
    modelName: disk.model,
    serialNumber: disk.serialNumber,
    firmwareVersion: '',
    capacityBytes: disk.capacityBytes ?? null,
    rotationRate: null,
    smartStatusPassed: disk.smartStatusPassed ?? null,
    temperatureCelsius: disk.temperatureCelsius ?? null,
    powerOnSeconds: hours === undefined ? null : hours * 3600,
    powerCycles: disk.attributes['12'] ?? null,
    attributes,
    nvme: disk.nvme
      ? {
          criticalWarning: criticalWarning ?? null,
          percentageUsed: percentageUsed ?? null,
          availableSpare: availableSpare ?? null,
          availableSpareThreshold: availableSpareThreshold ?? null,
          mediaErrors: mediaErrors ?? null,
          errorLogEntries: errorLogEntries ?? null,
        }
      : null,
    grownDefects: null,
    readUncorrectedErrors: null,
    writeUncorrectedErrors: null,
    exitStatus: 0,
  };
}

/** Undefined for what is no JSON: no schema takes it. */
function parseJson(input: string): unknown {
  try {
    return JSON.parse(input);
  } catch {
    return undefined;
  }
}

function diskName(device: string): string {
  return device.startsWith('/dev/') ? device.slice(5) : device;
}
