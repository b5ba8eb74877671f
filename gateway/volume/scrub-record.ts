// How far a scrub of a volume has come, so that a gateway that is killed in it, or loses a mirror, goes on where it was.
//
// Record `scrub/<volume>`: {format: 1, copies, sizeBytes, startedAt, progress, mismatches}. `copies`: names of those that are compared,
// sorted; with others the pass means nothing, nor with another size (missing: that of the volume, which had not grown then). `progress`: replication/scrub.ts. `mismatches`: the first 100 that were found. No record: no
// scrub is unfinished. One that cannot be read counts as none.
import { fits, type ScrubProgress } from '../../replication/scrub.js';
import type { Log, Records } from '../../replication/world.js';
import type { ScrubReport } from '../control.js';

const FORMAT = 1;
const MISMATCHES_MAX = 100;

export interface UnfinishedScrub {
  copies: string[];
  /** Of the volume. */
  sizeBytes: number;
  startedAt: string;
  progress: ScrubProgress;
  mismatches: ScrubReport['mismatches'];
}

/** Null: none is unfinished. `unread`: the record has another shape, or is not of a volume of this size, looked at in so large chunks. */
export function readScrub(
  records: Records,
  volume: string,
  of?: { sizeBytes: number; chunkBytes: number },
): UnfinishedScrub | null | 'unread' {
  const value = records.get(scrubKey(volume)) as Partial<UnfinishedScrub & { format: number }> | undefined;
  if (value === undefined) return null;
  const { format, copies, startedAt, progress, mismatches, sizeBytes = of?.sizeBytes ?? 0 } = value ?? {};
  const sound =
    format === FORMAT &&
    Array.isArray(copies) &&
    typeof startedAt === 'string' &&
    Array.isArray(mismatches) &&
    typeof progress === 'object' &&
    typeof progress.whole === 'boolean' &&
    [progress.first, progress.stride, progress.done, progress.comparedBytes].every((each) => Number.isSafeInteger(each) && each >= 0) &&
    Number.isSafeInteger(sizeBytes) &&
    (of === undefined || (sizeBytes === of.sizeBytes && fits(progress, Math.ceil(sizeBytes / of.chunkBytes))));
  return sound ? { copies, sizeBytes, startedAt, progress, mismatches } : 'unread';
}

export class ScrubRecord {
  readonly #records: Records;
  readonly #volume: string;
  readonly #log: Log;

  constructor(records: Records, volume: string, log: Log) {
    this.#records = records;
    this.#volume = volume;
    this.#log = log;
  }

  read(of: { sizeBytes: number; chunkBytes: number }): UnfinishedScrub | null {
    const read = readScrub(this.#records, this.#volume, of);
    if (read !== 'unread') return read;
    this.#log.warn({ volume: this.#volume }, 'how far a scrub had come cannot be read: it begins anew');
    return null;
  }

  /** Null: none is unfinished. Never rejects: the worst is that a part is compared once more. */
  async save(scrub: UnfinishedScrub | null): Promise<void> {
    const key = scrubKey(this.#volume);
    try {
      const value = scrub && { format: FORMAT, ...scrub, mismatches: scrub.mismatches.slice(0, MISMATCHES_MAX) };
      await this.#records.commit([value === null ? { remove: key } : { put: key, value }]);
    } catch (error) {
      const reason = (error as Error).message;
      this.#log.warn({ volume: this.#volume, reason }, 'how far a scrub has come could not be stored');
    }
  }
}

export function scrubKey(volume: string): string {
  return `scrub/${volume}`;
}
