// What hosts are told of holes and zeroes (BLOCK_STATUS): what the active target says and, where it says data because it cannot
// tell, which regions are known to read as zero by their checksum. That counts at the moment of the answer: a region's checksum is
// forgotten before a write there is sent (rule 16), so nothing is called zero that a write may have changed.
import type { Extent } from '../../replication/device.js';
import type { RegionSums } from '../../replication/region-sums.js';

/** Looked at for one answer: records are read for it, and nobody is to wait for that. */
const REGIONS_MAX = 4096;

export interface AllocationOptions {
  sums: RegionSums;
  sum(bytes: Uint8Array): bigint;
  /** Are checksums kept true? Only while there is a mirror. */
  learns(): boolean;
  /** Can the active target say itself where it has holes? */
  targetTells(): boolean;
}

export class Allocation {
  readonly #options: AllocationOptions;
  readonly #zeroSums = new Map<number, bigint>();

  constructor(options: AllocationOptions) {
    this.#options = options;
  }

  /**
   * What a host hears of the range, from `offset` on; `told` by the active target, null: nothing. Where the target cannot tell, the
   * answer may end before the range does: then the host asks again for what is behind.
   */
  answer({ offset, length }: { offset: number; length: number }, told: readonly Extent[] | null): Extent[] {
    const { sums, learns, targetTells } = this.#options;
    const all = told ?? [data(length)];
    if (!learns()) return [...all];
    const lookEnd = (Math.floor(offset / sums.regionBytes) + REGIONS_MAX) * sums.regionBytes;
    const end = told === null || !targetTells() ? Math.min(offset + length, lookEnd) : offset + length;
    const runs: Extent[] = [];
    let at = offset;
    for (const extent of all) {
      const extentEnd = Math.min(at + extent.lengthBytes, end);
      while (at < extentEnd) {
        const region = Math.floor(at / sums.regionBytes);
        const next = extent.zero || at >= lookEnd ? extentEnd : Math.min(extentEnd, (region + 1) * sums.regionBytes);
        const zero = extent.zero || (at < lookEnd && this.#isZero(region));
        add(runs, next - at, extent.hole, zero);
        at = next;
      }
    }
    return runs;
  }

  #isZero(region: number): boolean {
    const { sums, sum } = this.#options;
    const known = sums.get(region);
    if (known === null) return false;
    const length = Math.min(sums.regionBytes, sums.verified.sizeBytes - region * sums.regionBytes);
    let zero = this.#zeroSums.get(length);
    if (zero === undefined) {
      zero = sum(Buffer.alloc(length));
      this.#zeroSums.set(length, zero);
    }
    return known === zero;
  }
}

function data(lengthBytes: number): Extent {
  return { lengthBytes, hole: false, zero: false };
}

function add(runs: Extent[], lengthBytes: number, hole: boolean, zero: boolean): void {
  const last = runs.at(-1);
  if (last !== undefined && last.hole === hole && last.zero === zero) last.lengthBytes += lengthBytes;
  else runs.push({ lengthBytes, hole, zero });
}
