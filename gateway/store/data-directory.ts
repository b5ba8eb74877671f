// The one directory that holds everything durable of a gateway: made when it is missing, readable by its owner alone,
// and locked for the life of the process (rule 19), so that two gateways never serve the same volumes from it.
// A gateway that was killed leaves nothing that stops the next one.
import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Outcome, refuse } from '../control.js';
import { FileLock, type LockResult, loadFlock } from './file-lock.js';

const LOCK_NAME = 'lock';

export class DataDirectory {
  /** Absolute. */
  readonly path: string;
  readonly #lock: FileLock;

  private constructor(path: string, lock: FileLock) {
    this.path = path;
    this.#lock = lock;
  }

  /**
   * For who only reads: nothing is made but the lock, and on a read-only file system, where no gateway can run, not even that.
   * Refuses as `open` does, and with `data-missing`. Gives the way to let go.
   */
  static async openToRead(directory: string): Promise<Outcome<{ path: string; release(): void }>> {
    const path = resolve(directory);
    if (!existsSync(path)) return refuse('data-missing', `There is no directory ${path}.`, { path });
    try {
      accessSync(path, constants.W_OK);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EROFS') return { ok: true, value: { path, release: () => {} } };
    }
    return DataDirectory.open(path);
  }

  /** Refuses with `data-locked` or `data-unusable`. `flock`: for tests of systems without it. */
  static async open(directory: string, flock = loadFlock()): Promise<Outcome<DataDirectory>> {
    const path = resolve(directory);
    let result: LockResult;
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      if (!statSync(path).isDirectory()) {
        return refuse('data-unusable', `${path} is no directory; the data directory must be one.`);
      }
      result = FileLock.take(join(path, LOCK_NAME), await flock);
    } catch (error) {
      return refuse('data-unusable', `The data directory ${path} cannot be used: ${explain(error as NodeJS.ErrnoException)}`);
    }
    if (!result.ok) {
      const who = result.holder === null ? 'another process' : `process ${result.holder.pid}`;
      return refuse(
        'data-locked',
        `The data directory ${path} is in use by ${who}. Stop that gateway first, or give this one another directory.`,
        {
          path,
          pid: result.holder?.pid ?? null,
        },
      );
    }
    return { ok: true, value: new DataDirectory(path, result.lock) };
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Lets the next gateway in; call it last, when everything in the directory is closed. */
  release(): void {
    this.#lock.release();
  }
}

function explain(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'EACCES':
    case 'EPERM':
      return 'permission denied. It must be writable by the user the gateway runs as.';
    case 'EROFS':
      return 'it is on a read-only file system.';
    case 'ENOSPC':
      return 'the file system is full.';
    case 'EEXIST':
    case 'ENOTDIR':
      return 'a part of its path is a file, not a directory.';
    default:
      return error.message;
  }
}
