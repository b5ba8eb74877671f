// Disks that are not there, for tests and the demo: a file says what their SMART counters are, and may change at any time.
import { z } from 'zod';
import { type Outcome, refuse } from '../control.js';
import { parseJson } from './json-text.js';
import type { SmartDisk } from './smart-disk.js';

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
