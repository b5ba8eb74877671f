// The durable record of a volume, changed in one transaction at a time: each change sees what the one before has left, and
// memory follows only when a change is durable.
import type { Change, Log, Records } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import { type MirrorRecord, oursKey, putVolume, type VolumeRecord } from './volume-record.js';

export interface RecordKeeperOptions {
  record: VolumeRecord;
  records: Records;
  log: Log;
  /** As they are now. */
  mirrors(): MirrorRecord[];
  /** Is there something that no copy can give? */
  lost(): boolean;
}

/** One change of the record. */
export interface RecordChange {
  record: VolumeRecord;
  /** What must be durable together with it. */
  changes: Change[];
  /** Called in the same turn in which the commit resolves, before the next change looks at anything. */
  durable(): void;
}

export class RecordKeeper {
  readonly #options: RecordKeeperOptions;
  #record: VolumeRecord;
  /** Number of the next mirror's id, given out once whatever becomes of it. */
  #nextMirror: number;
  /** Changes of the record, one after the other. */
  #turns: Promise<unknown> = Promise.resolve();

  constructor(options: RecordKeeperOptions) {
    this.#options = options;
    this.#record = options.record;
    this.#nextMirror = options.record.nextMirror;
  }

  /** As it is durable. */
  get record(): VolumeRecord {
    return this.#record;
  }

  /** Was a copy of the volume written there? Not any more once it came back with something else (rule 20). */
  isOurs(target: TargetRef): boolean {
    return this.#options.records.get(oursKey(target)) !== undefined;
  }

  get nextMirror(): number {
    return this.#nextMirror;
  }

  /** Names a mirror's dirty record: never twice, whatever else is under way. */
  newId(): string {
    this.#nextMirror += 1;
    return `m${this.#nextMirror - 1}`;
  }

  /** Makes the record, with its mirrors as they are when its turn comes, durable together with `changes`. Rejects when the outcome is unknown. */
  commit(changes: Change[]): Promise<void> {
    return this.change((current) => ({
      record: { ...this.#withLost(current), mirrors: this.#options.mirrors(), nextMirror: this.#nextMirror },
      changes,
      durable: () => {},
    }));
  }

  #withLost({ lost: _, ...record }: VolumeRecord): VolumeRecord {
    return this.#options.lost() ? { ...record, lost: true } : record;
  }

  /** Makes durable what of the journal counts; undefined: nothing. Also before the mirrors are there. Rejects when the outcome is unknown. */
  setJournal(journal: VolumeRecord['journal']): Promise<void> {
    return this.change((current) => ({
      record: { ...withoutJournal(current), nextMirror: this.#nextMirror, ...(journal && { journal }) },
      changes: [],
      durable: () => {},
    }));
  }

  /** `make` is called when every change before is durable or has failed. Rejects when the outcome is unknown. */
  change(make: (current: VolumeRecord) => RecordChange): Promise<void> {
    const turn = this.#turns.then(async () => {
      const { record, changes, durable } = make(this.#record);
      await this.#options.records.commit([putVolume(record), ...changes]);
      this.#record = record;
      durable();
    });
    this.#turns = turn.catch(() => {});
    return turn;
  }

  /** Stores what a restart should know but can do without: that a mirror was in step, how long a flip took. */
  async remember(): Promise<void> {
    try {
      await this.commit([]);
    } catch (error) {
      this.#options.log.warn(
        { error, volume: this.#record.name },
        'the state of the mirrors could not be stored; a restart will look again',
      );
    }
  }
}

function withoutJournal({ journal: _, ...record }: VolumeRecord): VolumeRecord {
  return record;
}
