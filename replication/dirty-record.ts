// Which extents of a mirror may differ from the volume regardless of the intent log, durably: those the first copy has
// not reached, and those the mirror missed while it was away. One bit for each extent, in records of 4096 extents.
//
// Record `dirty/<volume>/<mirror id>/<segment, 6 hex digits>`: Uint8Array of 512 bytes, least significant bit first.
// A missing record means that all its extents are clean.
import type { Change, Records } from './world.js';

const SEGMENT_BYTES = 512;
const SEGMENT_EXTENTS = SEGMENT_BYTES * 8;

export class DirtyRecord {
  readonly #prefix: string;
  #extents: number;
  #bits: Uint8Array;
  #count = 0;

  /** Reads what is stored. A damaged record counts as all dirty. */
  constructor(records: Records, volume: string, mirror: string, extents: number) {
    this.#extents = extents;
    this.#prefix = `dirty/${volume}/${mirror}/`;
    this.#bits = new Uint8Array(Math.ceil(extents / SEGMENT_EXTENTS) * SEGMENT_BYTES);
    for (const [key, value] of records.list(this.#prefix)) {
      const at = Number.parseInt(key.slice(this.#prefix.length), 16) * SEGMENT_BYTES;
      if (!(at < this.#bits.length)) continue;
      if (value instanceof Uint8Array && value.length === SEGMENT_BYTES) this.#bits.set(value, at);
      else this.#bits.fill(0xff, at, at + SEGMENT_BYTES);
    }
    for (let extent = 0; extent < extents; extent += 1) if (this.has(extent)) this.#count += 1;
  }

  get extents(): number {
    return this.#extents;
  }

  get count(): number {
    return this.#count;
  }

  /** The volume has become larger, or may be soon: new extents are clean until they are added. */
  grow(extents: number): void {
    if (extents <= this.#extents) return;
    const bits = new Uint8Array(Math.ceil(extents / SEGMENT_EXTENTS) * SEGMENT_BYTES);
    bits.set(this.#bits);
    const before = this.#extents;
    this.#extents = extents;
    this.#bits = bits;
    // A growth whose commit had no known outcome may have left some.
    for (let extent = before; extent < extents; extent += 1) if (this.has(extent)) this.#count += 1;
  }

  has(extent: number): boolean {
    return (this.#bits[extent >>> 3] & (1 << (extent & 7))) !== 0;
  }

  *[Symbol.iterator](): Iterator<number> {
    if (this.#count === 0) return;
    for (let extent = 0; extent < this.extents; extent += 1) if (this.has(extent)) yield extent;
  }

  /** Makes every extent dirty; gives the changes that make it durable. */
  addAll(): Change[] {
    return this.add(Array.from({ length: this.extents }, (_, extent) => extent));
  }

  /**
   * Gives the changes that make it durable; until they are, nothing may rely on it. Also for extents that are dirty
   * already, because an earlier commit of them may have failed.
   */
  add(extents: Iterable<number>): Change[] {
    const segments = new Set<number>();
    for (const extent of extents) {
      segments.add(Math.floor(extent / SEGMENT_EXTENTS));
      if (this.has(extent)) continue;
      this.#bits[extent >>> 3] |= 1 << (extent & 7);
      this.#count += 1;
    }
    return [...segments].map((segment) => this.#change(segment));
  }

  /** Gives the changes that make it durable. The caller has proven that the mirror has these extents on stable storage. */
  remove(extents: Iterable<number>): Change[] {
    const segments = new Set<number>();
    for (const extent of extents) {
      if (!this.has(extent)) continue;
      this.#bits[extent >>> 3] &= ~(1 << (extent & 7));
      this.#count -= 1;
      segments.add(Math.floor(extent / SEGMENT_EXTENTS));
    }
    return [...segments].map((segment) => this.#change(segment));
  }

  /** The changes that forget the mirror's whole record. */
  drop(): Change[] {
    const changes: Change[] = [];
    for (let segment = 0; segment * SEGMENT_BYTES < this.#bits.length; segment += 1) changes.push({ remove: this.#key(segment) });
    return changes;
  }

  #change(segment: number): Change {
    const bytes = this.#bits.slice(segment * SEGMENT_BYTES, (segment + 1) * SEGMENT_BYTES);
    if (bytes.every((byte) => byte === 0)) return { remove: this.#key(segment) };
    return { put: this.#key(segment), value: bytes };
  }

  #key(segment: number): string {
    return this.#prefix + segment.toString(16).padStart(6, '0');
  }
}
