// The real clients and servers that interop tests talk to: whether they are here, and how a test says that it cannot run.
// A test that lacks its peer must call `skipped`, never pass silently. Also a free port for a peer that cannot choose its own.
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';

/** Debian keeps servers such as nbd-server and nbd-client where a user's PATH does not always look. */
const systemDirectories = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Debian's Python, the one that finds python3-libnbd; a `python3` earlier on the PATH may be another. */
const systemPython = '/usr/bin/python3';

/** Every `skipped:` line this process printed. */
export const skippedLines: string[] = [];

function onPath(program: string): boolean {
  const directories = (process.env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');
  return [...directories, ...systemDirectories].some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * True when `program` (nbdkit, nbdinfo, qemu-io, fio, ...) is installed and can be run. `nbdsh` stands for libnbd's Python
 * module: true when `/usr/bin/python3 -c 'import nbd'` works.
 */
export function havePeer(program: string): boolean {
  if (program !== 'nbdsh') return onPath(program);
  return spawnSync(systemPython, ['-c', 'import nbd'], { stdio: 'ignore', timeout: 10_000 }).status === 0;
}

/** Says on one line what does not run here and which Debian packages would change that. */
export function skipped(what: string, packages: string): void {
  skippedBecause(what, `install: ${packages}`);
}

/** Says on one line what does not run here for want of something that no package brings, such as leave to mount. */
export function skippedBecause(what: string, why: string): void {
  const line = `skipped: ${what} (${why})`;
  skippedLines.push(line);
  process.stdout.write(`${line}\n`);
}

/** Below those that the system gives to outgoing connections and to port 0, which could take one before its program listens. */
const PORTS = { first: 15_000, count: 17_000 };

/** A TCP port of 127.0.0.1 that nothing listened on a moment ago. Prefer port 0 where the program can tell which it got. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + randomInt(PORTS.count);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
