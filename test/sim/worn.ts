// Blocks that a disk cannot read any more until they are written. A host may get an error for a read of such a block, because there
// may be no other copy of it, until it has written it; and it never gets anything but what was there.
import { type History, NEVER, type Operation } from './history.js';

export class Worn {
  /** Virtual times at which a copy lost the block. */
  readonly #blocks = new Map<string, Map<number, number[]>>();

  add(volume: string, block: number, nowMs: number): void {
    const blocks = this.#blocks.get(volume) ?? new Map<number, number[]>();
    this.#blocks.set(volume, blocks.set(block, [...(blocks.get(block) ?? []), nowMs]));
  }

  /** Blocks that may still be missing, in order. */
  missing(volume: string, history: History): number[] {
    const worn = [...(this.#blocks.get(volume) ?? [])].sort(([one], [other]) => one - other);
    return worn.flatMap(([block, times]) => (isWritten(history, volume, block, times.at(-1)!, NEVER) ? [] : [block]));
  }

  /** May a read have failed for one of its blocks? Not any more when a write of that was answered before it was asked for. */
  excuses(read: Operation, history: History): boolean {
    for (const [block, times] of this.#blocks.get(read.volume) ?? []) {
      if (block < read.block || block >= read.block + read.count) continue;
      if (times.some((wornMs) => wornMs <= read.completedMs && !isWritten(history, read.volume, block, wornMs, read.invoked))) return true;
    }
    return false;
  }
}

/** Was a write of the block asked for after `wornMs`, and answered before place `by` of the history? */
function isWritten({ operations }: History, volume: string, block: number, wornMs: number, by: number): boolean {
  return operations.some(
    (each) =>
      (each.kind === 'write' || each.kind === 'zeroes') &&
      each.errno === 0 &&
      each.volume === volume &&
      each.block <= block &&
      block < each.block + each.count &&
      each.invokedMs > wornMs &&
      each.completed < by,
  );
}
