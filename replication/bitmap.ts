// One bit for each region of a device: the dirty set of a mirror, a scrub's work list.
// Setting rounds outward and clearing inward, so that a doubtful region stays set (rule 2).
import assert from 'node:assert';

export class Bitmap {
  readonly regionBytes: number;
  #sizeBytes: number;
  #regions: number;
  #words: Uint32Array;
  #count = 0;
  #additions = 0;

  /** `regionBytes` is a power of two. */
  constructor(sizeBytes: number, regionBytes: number) {
    this.regionBytes = regionBytes;
    this.#sizeBytes = sizeBytes;
    this.#regions = Math.ceil(sizeBytes / regionBytes);
    this.#words = new Uint32Array(Math.ceil(this.#regions / 32));
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** How many regions the device has; the last one may be short. */
  get regions(): number {
    return this.#regions;
  }

  /** The device has become larger. New regions are not set; a short last region keeps its bit, which now stands for more bytes. */
  grow(sizeBytes: number): void {
    assert(sizeBytes >= this.#sizeBytes, 'a device only grows');
    this.#sizeBytes = sizeBytes;
    this.#regions = Math.ceil(sizeBytes / this.regionBytes);
    const words = new Uint32Array(Math.ceil(this.#regions / 32));
    words.set(this.#words);
    this.#words = words;
  }

  /** Grows whenever a region is set that was not: unchanged, nothing was set meanwhile. */
  get additions(): number {
    return this.#additions;
  }

  /** How many regions are set. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of the regions that are set; the short last region counts as what it is. */
  get countBytes(): number {
    const last = this.regions - 1;
    const missing = this.regions * this.regionBytes - this.sizeBytes;
    return this.#count * this.regionBytes - (last >= 0 && this.has(last) ? missing : 0);
  }

  has(region: number): boolean {
    return (this.#words[region >>> 5] & (1 << (region & 31))) !== 0;
  }

  add(region: number): void {
    const word = region >>> 5;
    const bit = 1 << (region & 31);
    if ((this.#words[word] & bit) !== 0) return;
    this.#words[word] |= bit;
    this.#count += 1;
    this.#additions += 1;
  }

  delete(region: number): void {
    const word = region >>> 5;
    const bit = 1 << (region & 31);
    if ((this.#words[word] & bit) === 0) return;
    this.#words[word] &= ~bit;
    this.#count -= 1;
  }

  /** Sets every region that the byte range touches. */
  setRange(offset: number, lengthBytes: number): void {
    if (lengthBytes <= 0) return;
    const last = Math.min(this.regions - 1, Math.floor((offset + lengthBytes - 1) / this.regionBytes));
    for (let region = Math.floor(offset / this.regionBytes); region <= last; region += 1) this.add(region);
  }

  /** Sets every region that lies wholly inside the byte range: for knowledge, where a wrong bit would do harm. */
  setInside(offset: number, lengthBytes: number): void {
    const end = offset + lengthBytes;
    for (let region = Math.ceil(offset / this.regionBytes); region < this.regions; region += 1) {
      if (Math.min(this.sizeBytes, (region + 1) * this.regionBytes) > end) return;
      this.add(region);
    }
  }

  /** Clears every region that the byte range touches: for knowledge that a write made void. */
  clearTouched(offset: number, lengthBytes: number): void {
    if (lengthBytes <= 0 || this.#count === 0) return;
    const last = Math.min(this.regions - 1, Math.floor((offset + lengthBytes - 1) / this.regionBytes));
    for (let region = Math.floor(offset / this.regionBytes); region <= last; region += 1) this.delete(region);
  }

  /** Clears every region that lies wholly inside the byte range; the device's short last region ends at its size. */
  clearRange(offset: number, lengthBytes: number): void {
    const end = offset + lengthBytes;
    for (let region = Math.ceil(offset / this.regionBytes); region < this.regions; region += 1) {
      if (Math.min(this.sizeBytes, (region + 1) * this.regionBytes) > end) return;
      this.delete(region);
    }
  }

  /** Is any region that the byte range touches set? */
  anyIn(offset: number, lengthBytes: number): boolean {
    if (lengthBytes <= 0 || this.#count === 0) return false;
    const last = Math.min(this.regions - 1, Math.floor((offset + lengthBytes - 1) / this.regionBytes));
    for (let region = Math.floor(offset / this.regionBytes); region <= last; region += 1) if (this.has(region)) return true;
    return false;
  }

  /** Is every region that the byte range touches set? */
  allIn(offset: number, lengthBytes: number): boolean {
    const last = Math.min(this.regions - 1, Math.floor((offset + lengthBytes - 1) / this.regionBytes));
    for (let region = Math.floor(offset / this.regionBytes); region <= last; region += 1) if (!this.has(region)) return false;
    return true;
  }

  setAll(): void {
    this.#words.fill(0xffffffff);
    const spare = this.#words.length * 32 - this.regions;
    if (spare > 0) this.#words[this.#words.length - 1] = 0xffffffff >>> spare;
    this.#additions += this.regions - this.#count;
    this.#count = this.regions;
  }

  clearAll(): void {
    this.#words.fill(0);
    this.#count = 0;
  }

  /** The first region at or after `from` that is set; -1 when there is none. */
  next(from: number): number {
    if (this.#count === 0 || from >= this.regions) return -1;
    let word = from >>> 5;
    let bits = this.#words[word] & (0xffffffff << (from & 31));
    while (bits === 0) {
      word += 1;
      if (word >= this.#words.length) return -1;
      bits = this.#words[word];
    }
    return word * 32 + (31 - Math.clz32(bits & -bits));
  }
}
