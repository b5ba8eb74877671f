// Reads copies back in the background, a little at a time: regions that rest and were not read from every copy since they were
// last written are compared, so that checksums become known again (rule 16), and a flip's certificate can say of most
// regions that both copies were seen to hold the same (rule 18).
import type { Comparer } from './comparer.js';
import type { RegionSums } from './region-sums.js';
import type { Clock } from './world.js';

/** Compared by one step; with a step every quarter of a second this is the background's bandwidth. */
const STEP_BYTES = 4 * 1024 * 1024;
/** Regions looked at by one step in search of one to compare. */
const LOOKS = 65_536;

export interface ReadBackOptions {
  comparer: Comparer;
  sums: RegionSums;
  clock: Clock;
  /** Something was learnt that may be made durable. Must not reject. */
  saved(): Promise<void>;
}

export class ReadBack {
  readonly #options: ReadBackOptions;
  #cursor = 0;
  #running = false;

  constructor(options: ReadBackOptions) {
    this.#options = options;
  }

  get running(): boolean {
    return this.#running;
  }

  stop(): void {
    this.#options.comparer.stop();
  }

  /** Compares the next regions that need it, unless it is still at the last ones. */
  async step(): Promise<void> {
    const { comparer, sums, saved } = this.#options;
    const { regions, count } = sums.verified;
    if (this.#running || count === regions) return;
    if (this.#cursor >= regions) this.#cursor = 0;
    const first = sums.nextUnverified(this.#cursor, LOOKS);
    if (first < 0) {
      this.#cursor += LOOKS;
      return;
    }
    let last = first + 1;
    while (last < regions && (last - first) * sums.regionBytes < STEP_BYTES && sums.nextUnverified(last, 1) === last) last += 1;
    this.#cursor = last;
    this.#running = true;
    try {
      const offset = first * sums.regionBytes;
      await comparer.compare(offset, Math.min(sums.sizeBytes, last * sums.regionBytes) - offset);
      await saved();
    } finally {
      this.#running = false;
    }
  }

  /** Compares the regions at these offsets. */
  async compare(offsets: readonly number[]): Promise<void> {
    const { comparer, sums, saved } = this.#options;
    this.#running = true;
    try {
      for (const offset of offsets) await comparer.compare(offset, Math.min(sums.regionBytes, sums.sizeBytes - offset));
      await saved();
    } finally {
      this.#running = false;
    }
  }

  /** Compares up to `most` regions of known checksum that were not read back yet, spread over the volume, for at most `limitMs`. */
  async sample(most: number, limitMs: number): Promise<void> {
    const { comparer, sums, clock } = this.#options;
    const untilMs = clock.nowMs() + limitMs;
    const samples = sums.samples(most, (offset) => !sums.verified.has(offset / sums.regionBytes));
    for (const { offset, length } of samples) {
      if (clock.nowMs() >= untilMs || comparer.stopped) return;
      await comparer.compare(offset, length);
    }
  }
}
