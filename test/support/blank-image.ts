// A disk as it comes from its maker: a file that is all holes.
import { truncate, writeFile } from 'node:fs/promises';

/** Whatever the file held is gone. */
export async function blankImage(path: string, sizeBytes: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, sizeBytes);
}
