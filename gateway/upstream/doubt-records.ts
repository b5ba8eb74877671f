// Guards that outlive the gateway (rule 13): a request of a lost connection may land in a plain node after the gateway
// that guards against it was killed. So a guarded range, and the newest acknowledged bytes in it, are on stable storage
// before a write there is acknowledged; a restart takes them up again.
//
// Record `doubt/<volume>/<node>/<export>/<range number, 8 hex digits>`:
//   {offset, end, segments: [{offset, end, data: Uint8Array or null for zeroes}]}, bytes of the device
// Record `doubt/<volume>/<node>/<export>/replay`: [[offset, end], ...], ranges that are being replayed: should the gateway
//   be killed, these requests too may land late.
import type { Change, Records } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { GuardRange, GuardSegment } from './guards.js';

const REPLAY = 'replay';

interface DoubtRecord {
  offset: number;
  end: number;
  segments: { offset: number; end: number; data: Uint8Array | null }[];
}

export interface StoredDoubt {
  offset: number;
  end: number;
  segments: GuardSegment[];
}

export class DoubtRecords {
  readonly #records: Records;
  readonly #prefix: string;
  readonly #stored = new Set<number>();
  #next = 0;
  #replaying = false;

  constructor(records: Records, volume: string, target: TargetRef) {
    this.#records = records;
    this.#prefix = `doubt/${volume}/${target.node}/${target.export}/`;
    for (const [key] of records.list(this.#prefix)) {
      if (key.endsWith(REPLAY)) {
        this.#replaying = true;
        continue;
      }
      const number = Number.parseInt(key.slice(this.#prefix.length), 16);
      this.#stored.add(number);
      this.#next = Math.max(this.#next, number + 1);
    }
  }

  /** A number for a new range. */
  number(): number {
    this.#next += 1;
    return this.#next - 1;
  }

  /** What is guarded here as far as the records say. */
  load(): (StoredDoubt & { number: number })[] {
    const replayed = (this.#records.get(this.#prefix + REPLAY) ?? []) as [number, number][];
    const doubts = replayed.map(([offset, end]) => ({ number: this.number(), offset, end, segments: [] as GuardSegment[] }));
    const records = [...this.#records.list(this.#prefix)].filter(([key]) => !key.endsWith(REPLAY));
    return doubts.concat(
      records.map(([key, value]) => {
        const { offset, end, segments } = value as DoubtRecord;
        const parts = segments.map((segment) => ({ ...segment, data: segment.data === null ? null : Buffer.from(segment.data) }));
        return { number: Number.parseInt(key.slice(this.#prefix.length), 16), offset, end, segments: parts };
      }),
    );
  }

  /** These ranges are going to be replayed; none: they have been. Rejects when that is not known to be durable. */
  async saveReplay(ranges: [number, number][]): Promise<void> {
    if (ranges.length === 0 && !this.#replaying) return;
    this.#replaying = true;
    const key = this.#prefix + REPLAY;
    await this.#records.commit([ranges.length === 0 ? { remove: key } : { put: key, value: ranges }]);
    this.#replaying = ranges.length > 0;
  }

  /** Rejects when it is not known to be durable. */
  async save(ranges: { range: GuardRange; segments: GuardSegment[] }[]): Promise<void> {
    for (const { range } of ranges) this.#stored.add(range.number);
    await this.#records.commit(
      ranges.map(({ range, segments }) => ({
        put: this.#key(range.number),
        value: { offset: range.offset, end: range.end, segments } satisfies DoubtRecord,
      })),
    );
  }

  /** The ranges are settled. Rejects when that is not known to be durable; a restart then settles them once more. */
  async remove(numbers: number[]): Promise<void> {
    const known = numbers.filter((number) => this.#stored.has(number));
    if (known.length === 0) return;
    await this.#records.commit(known.map((number) => ({ remove: this.#key(number) })));
    for (const number of known) this.#stored.delete(number);
  }

  /** The changes that forget all of it: the target is not what it was. */
  removeAll(): Change[] {
    // What is on its way to the store is in it before these changes: commits keep their order.
    return [...[...this.#stored].map((number) => this.#key(number)), this.#prefix + REPLAY].map((key) => ({ remove: key }));
  }

  #key(number: number): string {
    return this.#prefix + number.toString(16).padStart(8, '0');
  }
}
