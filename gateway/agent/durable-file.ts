// Small files that survive a kill and a power loss at any moment: a reader finds the old content or the new, never a part.
// Each function resolves only when what it did is on stable storage, and rejects with the system's error otherwise.
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** What `replaceFile` leaves when it is killed; whoever reads the directory removes it. */
export const TEMPORARY_SUFFIX = '.tmp';

/** Writes `content` to `path`, whole or not at all. One at a time per path. */
export async function replaceFile(path: string, content: string): Promise<void> {
  const temporary = `${path}${TEMPORARY_SUFFIX}`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/** Removes a file, or finds that it is gone already. */
export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true });
  await syncDirectory(dirname(path));
}

/** Makes the names in `dir` durable: what was created, renamed or removed there before the call. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
