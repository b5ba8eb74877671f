// Which mirrors a journal keeps records for, and what each has on stable storage. A mirror is covered when the journal and
// what the mirror has durably are together everything that was acknowledged: then a replay makes it complete.
import assert from 'node:assert';
import { DESTINATIONS_MAX, type DestinationFact } from './journal-format.js';

export class JournalDestinations {
  readonly #entries = new Map<number, DestinationFact>();
  #version = 0;

  /** Those that were covered when `facts` were written. What they say of sequences from `nextSequence` on is of records that are gone. `loose`: they count as news. */
  static recovered(facts: DestinationFact[], loose: boolean, nextSequence: number): JournalDestinations {
    const table = new JournalDestinations();
    if (loose) table.#version = 1;
    for (const { id, joined, durable } of facts) {
      if (durable < joined - 1) continue;
      table.#entries.set(id, { id, joined: Math.min(joined, nextSequence), durable: Math.min(durable, nextSequence - 1) });
    }
    return table;
  }

  get ids(): number[] {
    return [...this.#entries.keys()];
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Grows whenever a mirror joins, leaves or becomes covered. */
  get version(): number {
    return this.#version;
  }

  /** A copy, for a header. */
  get facts(): DestinationFact[] {
    return [...this.#entries.values()].map((entry) => ({ ...entry }));
  }

  /** Records up to here are needed by nobody; Infinity: none are. */
  get neededAfter(): number {
    let after = Number.POSITIVE_INFINITY;
    for (const { joined, durable } of this.#entries.values()) after = Math.min(after, Math.max(durable, joined - 1));
    return after;
  }

  /** The same for all but one, by what `facts` say of those that are still there. */
  neededAfterBy(facts: DestinationFact[], without: number): number {
    let after = Number.POSITIVE_INFINITY;
    for (const { id, joined } of this.#entries.values()) {
      if (id === without) continue;
      const durable = facts.find((fact) => fact.id === id && fact.joined === joined)?.durable ?? 0;
      after = Math.min(after, Math.max(durable, joined - 1));
    }
    return after;
  }

  covered(id: number): boolean {
    const entry = this.#entries.get(id);
    return entry !== undefined && entry.durable >= entry.joined - 1;
  }

  durableOf(id: number): number {
    return this.#entries.get(id)?.durable ?? 0;
  }

  /** False: there are too many. */
  join(id: number, nextSequence: number): boolean {
    assert(!this.#entries.has(id), 'a mirror joins once');
    if (this.#entries.size === DESTINATIONS_MAX) return false;
    this.#entries.set(id, { id, joined: nextSequence, durable: 0 });
    this.#version += 1;
    return true;
  }

  leave(id: number): void {
    if (this.#entries.delete(id)) this.#version += 1;
  }

  durable(id: number, sequence: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || sequence <= entry.durable) return;
    const before = this.covered(id);
    entry.durable = sequence;
    if (!before && this.covered(id)) this.#version += 1;
  }
}
