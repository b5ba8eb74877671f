// The SMART counters of a node's simulated disk: a file beside its exports that the agent reads at every scrape. A healthy
// disk stands still; a dying one reallocates sectors, then cannot read some, then fails reads.
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface SmartCounters {
  reallocated: number;
  pending: number;
  uncorrectable: number;
}

export const HEALTHY: SmartCounters = { reallocated: 0, pending: 0, uncorrectable: 0 };

/** The counters `step` readings after the disk began to die. */
export function dyingDisk(step: number): SmartCounters {
  return { reallocated: 2 * step, pending: 2 * Math.max(0, step - 4), uncorrectable: Math.max(0, step - 6) };
}

/** Replaces the file whole, so that no scrape reads half of it. */
export async function writeSmartFile(directory: string, { reallocated, pending, uncorrectable }: SmartCounters): Promise<void> {
  const disk = {
    device: 'sim0',
    model: 'simulated 4 TB disk',
    capacityBytes: 4_000_787_030_016,
    temperatureCelsius: 34,
    smartStatusPassed: true,
    attributes: { 5: reallocated, 9: 31_000, 10: 0, 12: 24, 187: uncorrectable, 188: 0, 197: pending, 198: pending },
  };
  const path = join(directory, 'smart.json');
  await writeFile(`${path}.new`, JSON.stringify({ disks: [disk] }));
  await rename(`${path}.new`, path);
}
