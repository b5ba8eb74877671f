// Programs of others that the benchmark compares with: where they are installed and which version they are.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Debian keeps some servers where a user's PATH does not look. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** The program's path, or null when it is not installed. */
export function findProgram(name: string): string | null {
  const directories = (process.env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');
  for (const directory of [...directories, ...SYSTEM_DIRECTORIES]) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there: the next one.
    }
  }
  return null;
}

/** First line that tells a version number, e.g. `qemu-nbd 7.2.22`; the bare name when the program does not say. */
export function versionOf(name: string, path: string, flag: string): string {
  const { stdout } = spawnSync(path, [flag], { encoding: 'utf8', timeout: 10_000, stdio: ['ignore', 'pipe', 'ignore'] });
  const version = /\d+\.\d+[\w.-]*/.exec(stdout ?? '')?.[0];
  return version === undefined ? name : `${name} ${version}`;
}
