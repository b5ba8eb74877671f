// The file of a volume's journal: made at its full size by writing zeroes, so that no later write needs space or changes
// anything but data; read, written and synced on worker threads. A file that is no journal of the volume, or of a later
// version, is refused and left as it is.
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { JournalFile } from '../../replication/journal-options.js';
import { BLOCK_BYTES, encodeSuperblock, judgeSuperblocks, RING_START, type Sum } from '../../replication/journal-format.js';
import { type Outcome, refuse } from '../control.js';
import { syncDirectoryAside } from './sync-directory.js';

const ZEROES = Buffer.alloc(1 << 20);

export interface JournalFileOptions {
  path: string;
  volume: string;
  sum: Sum;
}

/** 64 random bits. */
function randomId(): bigint {
  return randomBytes(8).readBigUInt64LE();
}

export class DiskJournalFile implements JournalFile {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  /**
   * Makes an empty journal with a ring of `ringBytes` (rounded down to whole blocks), in the place of whatever is at the
   * path, whole or not at all. Refuses with `journal-no-space` or `journal-unusable`.
   */
  static async create(options: JournalFileOptions, ringBytes: number, firstSequence: number): Promise<Outcome<DiskJournalFile>> {
    const { path, volume, sum } = options;
    const wholeBytes = ringBytes - (ringBytes % BLOCK_BYTES);
    const fresh = `${path}-new`;
    const superblock = encodeSuperblock({ ringBytes: wholeBytes, generation: 1, id: randomId(), firstSequence, volume }, sum);
    let handle: FileHandle | null = null;
    try {
      handle = await open(fresh, 'w+', 0o600);
      await writeAll(handle, 0, [superblock, superblock]);
      for (let done = 0; done < wholeBytes; done += ZEROES.length) {
        await writeAll(handle, RING_START + done, [ZEROES.subarray(0, Math.min(ZEROES.length, wholeBytes - done))]);
      }
      await handle.sync();
      await rename(fresh, path);
      await syncDirectoryAside(dirname(path));
      return { ok: true, value: new DiskJournalFile(handle, RING_START + wholeBytes) };
    } catch (error) {
      await handle?.close();
      await rm(fresh, { force: true }).catch(() => {});
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOSPC' || code === 'EDQUOT') {
        const text = `There is no space for the journal ${path}, which takes ${RING_START + wholeBytes} bytes. Free some, or choose a smaller journal.`;
        return refuse('journal-no-space', text, { path, sizeBytes: RING_START + wholeBytes });
      }
      return refuse('journal-unusable', `The journal ${path} cannot be made: ${message}`, { path });
    }
  }

  /**
   * Opens the journal of a volume. Refuses with `journal-missing`, `journal-damaged` (also: cut off), `journal-foreign`
   * (not a journal, or of another volume), `journal-newer` or `journal-unusable`.
   */
  static async open(options: JournalFileOptions): Promise<Outcome<DiskJournalFile>> {
    const { path, volume, sum } = options;
    let handle: FileHandle | null = null;
    try {
      handle = await open(path, 'r+');
      const { size } = await handle.stat();
      const file = new DiskJournalFile(handle, size);
      const found = judgeSuperblocks(await file.read(0, Math.min(RING_START, size)), size, volume, sum);
      if (!('problem' in found)) return { ok: true, value: file };
      await handle.close();
      return refusal(path, volume, found.problem, found.reason);
    } catch (error) {
      await handle?.close();
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return refuse('journal-missing', `The journal ${path} of volume ${volume} does not exist.`, { path });
      return refuse('journal-unusable', `The journal ${path} cannot be opened: ${message}`, { path });
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.#handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw new Error(`it ends at ${offset + done}; something outside has cut it off`);
      done += bytesRead;
    }
    return bytes;
  }

  write(offset: number, buffers: Buffer[]): Promise<void> {
    return writeAll(this.#handle, offset, buffers);
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  /** When the journal on it is closed. */
  close(): Promise<void> {
    return this.#handle.close();
  }
}

function refusal(path: string, volume: string, problem: string, reason: string): Outcome<never> {
  if (problem === 'newer') {
    return refuse('journal-newer', `The journal ${path} is of a later version: ${reason}. Run the version that wrote it, or a later one.`, {
      path,
    });
  }
  if (problem === 'foreign' || problem === 'other-volume') {
    return refuse('journal-foreign', `${path} is not the journal of volume ${volume}: ${reason}. Move it away if it is not needed.`, {
      path,
    });
  }
  return refuse('journal-damaged', `The journal ${path} of volume ${volume} is damaged: ${reason}.`, { path });
}

/** A short write goes on where it ended. */
async function writeAll(handle: FileHandle, offset: number, buffers: Buffer[]): Promise<void> {
  let left = buffers;
  let at = offset;
  while (left.length > 0) {
    const { bytesWritten } = await handle.writev(left, at);
    at += bytesWritten;
    let skip = bytesWritten;
    const rest: Buffer[] = [];
    for (const buffer of left) {
      if (skip < buffer.length) rest.push(skip > 0 ? buffer.subarray(skip) : buffer);
      skip = Math.max(0, skip - buffer.length);
    }
    left = rest;
  }
}
