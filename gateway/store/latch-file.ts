// The latch of a volume (replication/latch.ts) on disk: a file that is made at its full size before it is needed, so that setting it
// takes no space, which may be what the store lacks; read, written and synced on worker threads.
//
// File `latches/<volume>`, 4096 bytes: "FSTLATCH", the version (1) and the state (0 clear, 1 set) as 32-bit little-endian
// numbers, then zeroes. Only the first 512 bytes are ever written again, which disks do whole or not at all. Anything else in the
// file counts as set: the worst that does is to copy again.
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Latch, Latches } from '../../replication/latch.js';
import type { Log } from '../../replication/world.js';
import { syncDirectoryAside } from './sync-directory.js';

const MAGIC = 'FSTLATCH';
const VERSION = 1;
const FILE_BYTES = 4096;
const SECTOR_BYTES = 512;
const STATE = { CLEAR: 0, SET: 1 } as const;

function sectorOf(state: number): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.write(MAGIC, 'latin1');
  sector.writeUInt32LE(VERSION, 8);
  sector.writeUInt32LE(state, 12);
  return sector;
}

class DiskLatch implements Latch {
  readonly #handle: FileHandle;

  constructor(
    handle: FileHandle,
    readonly wasSet: boolean,
  ) {
    this.#handle = handle;
  }

  set(): Promise<void> {
    return this.#write(STATE.SET);
  }

  clear(): Promise<void> {
    return this.#write(STATE.CLEAR);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  async #write(state: number): Promise<void> {
    await this.#handle.write(sectorOf(state), 0, SECTOR_BYTES, 0);
    await this.#handle.datasync();
  }
}

/** The latches of a data directory's volumes. */
export class LatchDirectory implements Latches {
  readonly #path: string;
  readonly #log: Log;

  constructor(dataDirectory: string, log: Log) {
    this.#path = join(dataDirectory, 'latches');
    this.#log = log;
  }

  /** Null: there is none and none can be made; without it writes wait while the store cannot be written. */
  async open(volume: string): Promise<Latch | null> {
    const path = join(this.#path, volume);
    try {
      return (await this.#existing(path)) ?? (await this.#made(path));
    } catch (error) {
      const { message } = error as Error;
      this.#log.warn(
        { volume, reason: message },
        'there is no latch for the volume: should the store become unwritable, writes to mirrored extents wait',
      );
      return null;
    }
  }

  async #existing(path: string): Promise<DiskLatch | null> {
    let handle: FileHandle;
    try {
      handle = await open(path, 'r+');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    const sector = Buffer.alloc(SECTOR_BYTES);
    const { bytesRead } = await handle.read(sector, 0, SECTOR_BYTES, 0);
    return new DiskLatch(handle, bytesRead < SECTOR_BYTES || !sector.equals(sectorOf(STATE.CLEAR)));
  }

  /** Whole or not at all. */
  async #made(path: string): Promise<DiskLatch> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const fresh = `${path}-new`;
    const handle = await open(fresh, 'w+', 0o600);
    try {
      await handle.write(Buffer.concat([sectorOf(STATE.CLEAR), Buffer.alloc(FILE_BYTES - SECTOR_BYTES)]), 0, FILE_BYTES, 0);
      await handle.sync();
      await rename(fresh, path);
      await syncDirectoryAside(dirname(path));
      await syncDirectoryAside(dirname(dirname(path)));
    } catch (error) {
      await handle.close();
      await rm(fresh, { force: true }).catch(() => {});
      throw error;
    }
    return new DiskLatch(handle, false);
  }
}
