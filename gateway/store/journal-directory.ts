// Where the journals of a gateway's volumes are: one file each, `journals/<volume>` in the data directory.
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FIRST_SEQUENCE, type Sum } from '../../replication/journal-format.js';
import { type Outcome, refuse } from '../control.js';
import type { JournalFiles } from '../volume/journaling.js';
import { DiskJournalFile } from './journal-file.js';
import { syncDirectoryAside } from './sync-directory.js';

/** Of the ring: some seconds of what a busy host writes, until the mirrors have it on stable storage. */
const RING_BYTES = 128 << 20;

export class JournalDirectory implements JournalFiles {
  readonly #path: string;
  readonly #sum: Sum;

  constructor(dataDirectory: string, sum: Sum) {
    this.#path = join(dataDirectory, 'journals');
    this.#sum = sum;
  }

  open(volume: string): Promise<Outcome<DiskJournalFile>> {
    return DiskJournalFile.open({ path: join(this.#path, volume), volume, sum: this.#sum });
  }

  async create(volume: string): Promise<Outcome<DiskJournalFile>> {
    try {
      await mkdir(this.#path, { recursive: true, mode: 0o700 });
      await syncDirectoryAside(dirname(this.#path));
    } catch (error) {
      return refuse('journal-unusable', `The directory ${this.#path} for journals cannot be made: ${(error as Error).message}`);
    }
    return DiskJournalFile.create({ path: join(this.#path, volume), volume, sum: this.#sum }, RING_BYTES, FIRST_SEQUENCE);
  }
}
