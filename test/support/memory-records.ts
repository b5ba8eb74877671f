// Durable records in memory: commits wait, fail before or after they took effect, or go through, as the test says.
// `crashed` is what a restart would find.
import type { Change, RecordKey, Records, RecordValue } from '../../replication/world.js';

export class MemoryRecords implements Records {
  /** Commits wait for `release` instead of going through at the end of the turn. */
  held = false;
  /** Outcome of the next commits: `before`: it fails and nothing is stored. `after`: it fails, but all is stored. */
  failing: 'before' | 'after' | null = null;
  /** Every commit that was tried, in order. */
  readonly tried: Change[][] = [];
  readonly #stored: Map<RecordKey, RecordValue>;
  #waiting: (() => void)[] = [];

  constructor(stored: Iterable<[RecordKey, RecordValue]> = []) {
    this.#stored = new Map(stored);
  }

  /** Commits that wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  get(key: RecordKey): RecordValue | undefined {
    return structuredClone(this.#stored.get(key));
  }

  list(prefix: string): [RecordKey, RecordValue][] {
    return [...this.#stored]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([key, value]) => [key, structuredClone(value)]);
  }

  async commit(changes: Change[]): Promise<void> {
    const copy = structuredClone(changes);
    this.tried.push(copy);
    if (this.held) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else await new Promise((resolve) => setImmediate(resolve));
    const failing = this.failing;
    if (failing !== 'before') for (const change of copy) this.#apply(change);
    if (failing !== null) throw new Error(`the store failed ${failing} it wrote`);
  }

  /** Lets the oldest waiting commit, or all of them, go on. */
  release(count = this.#waiting.length): void {
    for (const resolve of this.#waiting.splice(0, count)) resolve();
  }

  /** What a restart finds. */
  crashed(): MemoryRecords {
    return new MemoryRecords(this.list(''));
  }

  #apply(change: Change): void {
    if ('put' in change) this.#stored.set(change.put, change.value);
    else this.#stored.delete(change.remove);
  }
}
