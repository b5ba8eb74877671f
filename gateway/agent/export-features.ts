// What the file system below an agent can do, found out once by trying it on a small file of our own.
import { closeSync, ftruncate, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { FALLOCATE, type Libc } from './libc.js';

export interface FileSystemFeatures {
  /** Holes can be punched: TRIM frees space. */
  punch: boolean;
  /** Ranges can be zeroed without writing them. */
  zeroRange: boolean;
}

const PROBE_BYTES = 64 * 1024;
const PROBE_NAME = '.forestall-probe';

/** Rejects when the directory cannot be written. */
export async function probeFileSystem(dir: string, libc: Libc | null): Promise<FileSystemFeatures> {
  const path = join(dir, PROBE_NAME);
  const fd = openSync(path, 'w', 0o600);
  try {
    await promisify(ftruncate)(fd, PROBE_BYTES);
    const works = (mode: number): Promise<boolean> =>
      new Promise((resolve) => {
        if (libc === null) resolve(false);
        else libc.fallocate(fd, mode | FALLOCATE.KEEP_SIZE, 0, PROBE_BYTES, (errno) => resolve(errno === 0));
      });
    return { punch: await works(FALLOCATE.PUNCH_HOLE), zeroRange: await works(FALLOCATE.ZERO_RANGE) };
  } finally {
    closeSync(fd);
    rmSync(path, { force: true });
  }
}
