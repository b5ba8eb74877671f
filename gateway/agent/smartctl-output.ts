// Reads the output of `smartctl --json -a DEVICE` and of `smartctl --json --scan`. Pure: it runs nothing. Takes of it what the
// exporter's metric families carry and leaves the rest out.
import { z } from 'zod';
import { type Outcome, refuse } from '../control.js';
import { parseJson } from './json-text.js';
import type { SmartDisk } from './smart-disk.js';

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

function diskName(device: string): string {
  return device.startsWith('/dev/') ? device.slice(5) : device;
}
