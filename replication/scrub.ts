// One pass over a volume that compares all its copies and mends them (comparer.ts), in order, while hosts write.
import type { Comparer } from './comparer.js';

const CHUNK_BYTES = 4 * 1024 * 1024;

export interface ScrubOptions {
  comparer: Comparer;
  sizeBytes: number;
  /** A part is done: what was learnt of it may be made durable. Must not reject. */
  saved(): Promise<void>;
}

export class Scrub {
  readonly #options: ScrubOptions;
  comparedBytes = 0;

  constructor(options: ScrubOptions) {
    this.#options = options;
  }

  stop(): void {
    this.#options.comparer.stop();
  }

  /** One pass. False: it was stopped before its end, or a copy could not be looked at everywhere. */
  async run(): Promise<boolean> {
    const { comparer, sizeBytes, saved } = this.#options;
    let whole = true;
    for (let offset = 0; offset < sizeBytes; offset += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, sizeBytes - offset);
      const compared = await comparer.compare(offset, length);
      if (compared === 'none' || comparer.stopped) return false;
      if (compared === 'some') whole = false;
      this.comparedBytes += length;
      await saved();
    }
    return whole;
  }
}
