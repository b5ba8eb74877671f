// One pass over a volume that compares all its copies and mends them (comparer.ts) while hosts write: in an order that has nothing
// to do with where data lies, so that what goes bad together is not found last, and which two numbers say, so that a pass that
// was interrupted goes on where it was.
import type { Comparer } from './comparer.js';
import { coveringStride, covers } from './stride.js';

/** How far a pass is. Chunk number i of it is (first + i * stride) modulo their count, `stride` and the count having no factor in common. */
export interface ScrubProgress {
  first: number;
  stride: number;
  /** Chunks that were compared. */
  done: number;
  comparedBytes: number;
  /** Was every copy looked at in each of them? */
  whole: boolean;
}

export interface ScrubOptions {
  comparer: Comparer;
  sizeBytes: number;
  /** Compared at a time; whole regions. The same for all of a pass. */
  chunkBytes: number;
  progress: ScrubProgress;
  /** A part is done: what was learnt of it may be made durable. Must not reject. */
  saved(): Promise<void>;
}

/** A pass over so many chunks that has not begun; `seed`: any 64 bits. */
export function newPass(chunks: number, seed: bigint): ScrubProgress {
  const stride = coveringStride(1 + Number((seed >> 32n) % BigInt(chunks)), chunks);
  return { first: Number((seed & 0xffff_ffffn) % BigInt(chunks)), stride, done: 0, comparedBytes: 0, whole: true };
}

/** Is it one over so many chunks? */
export function fits({ first, stride, done }: ScrubProgress, chunks: number): boolean {
  return first < chunks && stride > 0 && covers(stride, chunks) && done <= chunks;
}

export class Scrub {
  readonly #options: ScrubOptions;

  constructor(options: ScrubOptions) {
    this.#options = options;
  }

  get progress(): ScrubProgress {
    return this.#options.progress;
  }

  stop(): void {
    this.#options.comparer.stop();
  }

  /** The rest of the pass. False: it was stopped before its end; `progress` says where. */
  async run(): Promise<boolean> {
    const { comparer, sizeBytes, chunkBytes, progress, saved } = this.#options;
    const chunks = Math.ceil(sizeBytes / chunkBytes);
    while (progress.done < chunks) {
      // Exact: both factors are far below 2^26 for the largest volume there may be.
      const offset = ((progress.first + progress.done * progress.stride) % chunks) * chunkBytes;
      const length = Math.min(chunkBytes, sizeBytes - offset);
      const compared = await comparer.compare(offset, length);
      if (compared === 'none' || comparer.stopped) return false;
      if (compared === 'some') progress.whole = false;
      progress.done += 1;
      progress.comparedBytes += length;
      await saved();
    }
    return true;
  }
}
