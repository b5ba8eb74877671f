// Which volume has a copy on a target (rule 20): of those that are served, and of those that only the store knows, because the
// configuration does not name them (any more). Where a record cannot be read nobody can say, and nothing may be freed or lent.
import type { Log, Records } from '../../replication/world.js';
import { type Outcome, refuse, type TargetRef } from '../control.js';
import { describeTarget, sameTarget } from '../volume/copy.js';
import { readVolume, volumeKey } from '../volume/volume-record.js';
import type { ServedVolume } from './served-volume.js';

const PREFIX = volumeKey('');

export class UsedTargets {
  readonly #records: Records;
  readonly #log: Log;
  readonly #served: ReadonlyMap<string, Pick<ServedVolume, 'volume' | 'targets'>>;
  /** Volumes that are not configured, with their copies; null: the record cannot be read. */
  #left: { name: string; targets: TargetRef[] | null }[] = [];
  #told = '';

  constructor(world: { records: Records; log: Log }, served: ReadonlyMap<string, Pick<ServedVolume, 'volume' | 'targets'>>) {
    this.#records = world.records;
    this.#log = world.log;
    this.#served = served;
  }

  /** Reads the records of all volumes but the configured ones; before any of those looks for a place. */
  look(configured: ReadonlySet<string>): void {
    this.#left = [];
    for (const [key] of this.#records.list(PREFIX)) {
      const name = key.slice(PREFIX.length);
      if (!configured.has(name)) this.#left.push({ name, targets: this.#stored(name) });
    }
    const volumes = this.#left.map(({ name }) => name);
    if (volumes.length === 0 || volumes.join() === this.#told) return;
    this.#told = volumes.join();
    this.#log.warn(
      { volumes },
      'volumes of the data directory are not configured: they are not served, and what holds their copies is left alone',
    );
  }

  /** The volume that has a copy there, but for `except`; null: none. Code: `record-damaged`. */
  usedBy(target: TargetRef, except?: string): Outcome<string | null> {
    const unknown: string[] = [];
    const uses = (name: string, targets: TargetRef[] | null): boolean => {
      if (targets === null) unknown.push(name);
      return name !== except && targets !== null && targets.some((used) => sameTarget(used, target));
    };
    for (const [name, served] of this.#served) {
      const readable = served.volume !== null || readVolume(this.#records, name).ok;
      if (uses(name, readable ? served.targets().map((used) => used.target) : null)) return { ok: true, value: name };
    }
    for (const { name, targets } of this.#left) if (uses(name, targets)) return { ok: true, value: name };
    if (unknown.length === 0) return { ok: true, value: null };
    return refuse('record-damaged', `the stored record of volume ${unknown[0]} cannot be read, and may name ${describeTarget(target)}`);
  }

  #stored(name: string): TargetRef[] | null {
    const stored = readVolume(this.#records, name);
    if (!stored.ok) this.#log.error({ volume: name, reason: stored.message }, 'nothing can be lent or freed until this is mended');
    if (!stored.ok || stored.value === undefined) return null;
    return [stored.value.active, ...stored.value.mirrors.map((mirror) => mirror.target)];
  }
}
