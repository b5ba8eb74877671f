// Durable records in memory, with a commit that takes time. A gateway that crashes leaves each commit that was not
// resolved either wholly applied or not at all, in order: an applied one has every earlier one before it. By fault, a
// commit is rejected and nobody knows whether it was applied. Values are copied in and out.
import assert from 'node:assert/strict';
import type { Change, RecordKey, Records, RecordValue } from '../../replication/world.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

interface Pending {
  changes: Change[];
  resolve(): void;
  /** Not null: the commit fails, and may be applied all the same. */
  reject: ((error: Error) => void) | null;
}

/** What is on the gateway's disk; outlives its incarnations. */
export class SimStore {
  /** Commits that will be rejected from now on. */
  failures = 0;
  /** Only those that change such records are; null: any. */
  failing: string | null = null;
  readonly #map = new Map<RecordKey, RecordValue>();
  readonly #random: Random;
  readonly #scheduler: Scheduler;
  readonly #latencyMs: number;
  readonly #moment: (name: string) => void;

  constructor(scheduler: Scheduler, random: Random, latencyMs: number, moment: (name: string) => void) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#latencyMs = latencyMs;
    this.#moment = moment;
  }

  /** The records as one gateway incarnation sees them. */
  open(): SimRecords {
    return new SimRecords(this);
  }

  get(key: RecordKey): RecordValue | undefined {
    const value = this.#map.get(key);
    return value === undefined ? undefined : copyOf(value);
  }

  list(prefix: string): [RecordKey, RecordValue][] {
    const keys = [...this.#map.keys()].filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => [key, copyOf(this.#map.get(key))]);
  }

  apply(changes: Change[]): void {
    for (const change of changes) {
      if ('put' in change) this.#map.set(change.put, change.value);
      else this.#map.delete(change.remove);
    }
  }

  get random(): Random {
    return this.#random;
  }

  /** Calls `written` when what was given by then is on stable storage. */
  write(written: () => void): void {
    const slow = this.#random.chance(0.03) ? 20 : 1;
    this.#scheduler.after(this.#random.range(0.1, 1) * this.#latencyMs * slow, written);
  }

  moment(name: string): void {
    this.#moment(name);
  }
}

export class SimRecords implements Records {
  readonly #store: SimStore;
  #pending: Pending[] = [];
  #writing = false;
  #dead = false;

  constructor(store: SimStore) {
    this.#store = store;
  }

  get(key: RecordKey): RecordValue | undefined {
    return this.#store.get(key);
  }

  list(prefix: string): Iterable<[RecordKey, RecordValue]> {
    return this.#store.list(prefix);
  }

  commit(changes: Change[]): Promise<void> {
    if (this.#dead) return new Promise(() => {});
    const taken = changes.map((change) => ('put' in change ? { put: change.put, value: copyOf(change.value) } : change));
    const kinds = new Set(taken.map((change) => kindOf(change)));
    this.#store.moment('commit');
    for (const kind of kinds) this.#store.moment(`commit of ${kind}`);
    const fails = this.#store.failures > 0 && (this.#store.failing === null || kinds.has(this.#store.failing));
    if (fails) this.#store.failures -= 1;
    return new Promise((resolve, reject) => {
      this.#pending.push({ changes: taken, resolve, reject: fails ? reject : null });
      this.#writeSoon();
    });
  }

  /** The gateway is gone: what was under way is on the disk, or not. */
  crash(): void {
    this.#dead = true;
    const applied = this.#store.random.between(0, this.#pending.length);
    for (const { changes } of this.#pending.slice(0, applied)) this.#store.apply(changes);
    this.#pending = [];
  }

  /** One transaction at a time; it takes what has gathered since. */
  #writeSoon(): void {
    if (this.#writing) return;
    this.#writing = true;
    const batch = this.#store.random.chance(0.5) ? this.#pending.length : 1;
    this.#store.write(() => {
      if (this.#dead) return;
      this.#writing = false;
      for (const pending of this.#pending.splice(0, batch)) this.#finish(pending);
      if (this.#pending.length > 0) this.#writeSoon();
    });
  }

  #finish({ changes, resolve, reject }: Pending): void {
    if (reject === null || this.#store.random.chance(0.5)) this.#store.apply(changes);
    if (reject === null) {
      resolve();
      return;
    }
    this.#store.moment('commit-failed');
    reject(new Error('The records could not be written: simulated failure.'));
  }
}

/** The first part of its key. */
function kindOf(change: Change): string {
  const key = 'put' in change ? change.put : change.remove;
  return key.slice(0, key.indexOf('/'));
}

/** A deep copy of plain data and byte arrays. */
function copyOf(value: RecordValue): RecordValue {
  if (typeof value === 'number') assert(Number.isFinite(value), `a record cannot hold ${value}`);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) return Uint8Array.from(value);
  if (Array.isArray(value)) return value.map(copyOf);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copyOf(item)]));
}
