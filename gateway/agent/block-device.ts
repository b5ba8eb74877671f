// What Linux says of a block device: its size and the size of its logical blocks, from sysfs, because stat says 0.
import type { Stats } from 'node:fs';
import { readFile } from 'node:fs/promises';

/** sysfs counts a device's size in these, whatever its blocks are. */
const SECTOR_BYTES = 512;

export interface BlockDeviceSize {
  sizeBytes: number;
  logicalBlockBytes: number;
}

/** Rejects when sysfs does not know the device. */
export async function blockDeviceSize(stats: Pick<Stats, 'rdev'>): Promise<BlockDeviceSize> {
  const major = (stats.rdev >>> 8) & 0xfff;
  const minor = (stats.rdev & 0xff) | ((stats.rdev >>> 12) & 0xfff00);
  const directory = `/sys/dev/block/${major}:${minor}`;
  const sectors = await readNumber(`${directory}/size`);
  // A partition has no queue of its own; its disk is the directory above.
  const logicalBlockBytes = await readNumber(`${directory}/queue/logical_block_size`).catch(() =>
    readNumber(`${directory}/../queue/logical_block_size`),
  );
  return { sizeBytes: sectors * SECTOR_BYTES, logicalBlockBytes };
}

async function readNumber(path: string): Promise<number> {
  const number = Number((await readFile(path, 'utf8')).trim());
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`${path} holds no number`);
  return number;
}
