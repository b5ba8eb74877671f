// The regions of a volume that differ between its copies where nobody can tell which is right (rule 16). Durable, because a
// restarted gateway must refuse flips as the one before did; memory counts at once, and what could not be stored is stored later.
//
// Record `damage/<volume>`: {format: 1, regions: [[offset, reason], ...], more}. `offset` in bytes, of a region; at most 10,000
// of them; `more`: others differ for which there was no room. No record: the copies are not known to differ. One that cannot
// be read counts as `more`.
import { ROTTEN } from '../../replication/comparer.js';
import type { Log, Records } from '../../replication/world.js';
import { type Outcome, refuse } from '../control.js';

const FORMAT = 1;
const REGIONS_MAX = 10_000;

interface DamageRecord {
  format: typeof FORMAT;
  regions: [number, string][];
  more: boolean;
}

function damageKey(volume: string): string {
  return `damage/${volume}`;
}

/** Undefined: no damage is stored. Refuses a record of another shape. */
export function readDamage(records: Records, volume: string): Outcome<DamageRecord | undefined> {
  const value = records.get(damageKey(volume));
  if (value === undefined) return { ok: true, value: undefined };
  const record = value as Partial<DamageRecord> | null;
  const sound =
    record?.format === FORMAT &&
    typeof record.more === 'boolean' &&
    Array.isArray(record.regions) &&
    record.regions.length <= REGIONS_MAX &&
    record.regions.every(
      (region) => Array.isArray(region) && Number.isSafeInteger(region[0]) && region[0] >= 0 && typeof region[1] === 'string',
    );
  if (sound) return { ok: true, value: record as DamageRecord };
  return refuse('record-damaged', `which regions of ${volume} differ cannot be read: no flip is made before a scrub`);
}

export class Damage {
  readonly #records: Records;
  readonly #volume: string;
  readonly #log: Log;
  readonly #regions = new Map<number, string>();
  /** Regions found since the last whole look for which there was no room. */
  #leftOut = 0;
  #changed = false;
  #saving: Promise<void> | null = null;

  /** Reads what is stored. */
  constructor(records: Records, volume: string, log: Log) {
    this.#records = records;
    this.#volume = volume;
    this.#log = log;
    const read = readDamage(records, volume);
    if (!read.ok) {
      log.error({ volume }, read.message);
      this.#leftOut = 1;
    } else if (read.value !== undefined) {
      for (const [offset, reason] of read.value.regions) this.#regions.set(offset, reason);
      this.#leftOut = read.value.more ? 1 : 0;
    }
  }

  get any(): boolean {
    return this.#regions.size > 0 || this.#leftOut > 0;
  }

  /** Regions that differ between the copies, not those that are wrong on each alike: which copy is active makes no difference there. */
  get differing(): number {
    let count = this.#leftOut;
    for (const reason of this.#regions.values()) if (reason !== ROTTEN) count += 1;
    return count;
  }

  get count(): number {
    return this.#regions.size;
  }

  /** Grows with each region that is found when there is no room for it. */
  get leftOut(): number {
    return this.#leftOut;
  }

  has(offset: number): boolean {
    return this.#regions.has(offset);
  }

  /** Wrong on each copy alike. */
  isRotten(offset: number): boolean {
    return this.#regions.get(offset) === ROTTEN;
  }

  offsets(): number[] {
    return [...this.#regions.keys()];
  }

  /** True: it is new, and kept. */
  add(offset: number, reason: string): boolean {
    if (this.#regions.get(offset) === reason) return false;
    const known = this.#regions.has(offset);
    if (!known && this.#regions.size >= REGIONS_MAX) {
      if (this.#leftOut === 0) {
        this.#changed = true;
        this.#log.error({ volume: this.#volume }, `more than ${REGIONS_MAX} regions differ between the copies: no others are listed`);
      }
      this.#leftOut += 1;
      return false;
    }
    this.#regions.set(offset, reason);
    this.#changed = true;
    return !known;
  }

  delete(offset: number): void {
    if (this.#regions.delete(offset)) this.#changed = true;
  }

  /** Every region was looked at and there was room for each that differs. */
  listed(): void {
    if (this.#leftOut === 0) return;
    this.#leftOut = 0;
    this.#changed = true;
  }

  clear(): void {
    for (const offset of this.offsets()) this.delete(offset);
    this.listed();
  }

  /** Stores what has changed. Resolves when that is durable or has failed; then the next call tries again. */
  save(): Promise<void> {
    this.#saving ??= this.#save().finally(() => {
      this.#saving = null;
    });
    return this.#saving;
  }

  async #save(): Promise<void> {
    while (this.#changed) {
      this.#changed = false;
      const key = damageKey(this.#volume);
      const record: DamageRecord = { format: FORMAT, regions: [...this.#regions], more: this.#leftOut > 0 };
      try {
        await this.#records.commit([this.any ? { put: key, value: record } : { remove: key }]);
      } catch (error) {
        this.#changed = true;
        const reason = (error as Error).message;
        this.#log.warn({ volume: this.#volume, reason }, 'which regions differ could not be stored; it is tried again');
        return;
      }
    }
  }
}
