// Blocks of which a copy went bad while hosts worked. Nobody promises anything of such a block itself where no checksum of it
// was known; everything around it must be as if nothing had happened, but that its region may be refused.

/** Blocks of a region, the unit of checksums. */
const REGION_BLOCKS = 8;

export class Rotten {
  readonly #blocks = new Map<string, Set<number>>();
  readonly #planted = new Set<string>();

  get any(): boolean {
    return this.#blocks.size > 0;
  }

  /** A byte goes bad for a check of its own: all is promised of it that is promised. */
  plant(volume: string): void {
    this.#planted.add(volume);
  }

  of(volume: string): boolean {
    return this.#blocks.has(volume) || this.#planted.has(volume);
  }

  add(volume: string, block: number): void {
    const blocks = this.#blocks.get(volume) ?? new Set();
    this.#blocks.set(volume, blocks.add(block));
  }

  has(volume: string, block: number): boolean {
    return this.#blocks.get(volume)?.has(block) ?? false;
  }

  /** Does the range touch a region with such a block? */
  touches(volume: string, block: number, count: number): boolean {
    const regionOf = (each: number): number => Math.floor(each / REGION_BLOCKS);
    for (const bad of this.#blocks.get(volume) ?? []) {
      if (regionOf(bad) >= regionOf(block) && regionOf(bad) <= regionOf(block + count - 1)) return true;
    }
    return false;
  }
}
