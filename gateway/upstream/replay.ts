// Writes again what a target may have forgotten with its restart (rule 9): of every byte only the newest acknowledged
// value, so that a gateway that is killed meanwhile leaves nothing older than it found. Ranges that are going to be sent
// again anyway are left out. Pieces never overlap, so they go together, a bounded number at once.
import { OP } from '../../replication/device.js';
import { IntervalSet } from './interval-set.js';
import type { Job } from './job.js';
import type { Unflushed, UnflushedWrite } from './unflushed.js';

const AT_ONCE = 32;

export interface ReplaySender {
  takeJob(): Job;
  transmit(job: Job): void;
}

export class Replay {
  readonly #sender: ReplaySender;
  readonly #refused: (offset: number, length: number, data: Buffer | null, errno: number) => void;
  readonly #done: () => void;
  readonly #pieces: UnflushedWrite[];
  #running = 0;
  #next = 0;
  #stopped = false;

  /**
   * `newer`: ranges that hold something newer than the unflushed list, or will. `refused`: told of each piece that the target
   * did not take (null data: zeroes), before `done`.
   */
  constructor(
    unflushed: Unflushed,
    newer: Iterable<{ offset: number; length: number }>,
    sender: ReplaySender,
    refused: (offset: number, length: number, data: Buffer | null, errno: number) => void,
    done: () => void,
  ) {
    this.#sender = sender;
    this.#refused = refused;
    this.#done = done;
    this.#pieces = newestPieces(unflushed, newer);
  }

  /** What will be written, as [from, to) pairs. */
  ranges(): [number, number][] {
    return this.#pieces.map(({ offset, length }) => [offset, offset + length]);
  }

  run(): void {
    while (!this.#stopped && this.#next < this.#pieces.length && this.#running < AT_ONCE) {
      const piece = this.#pieces[this.#next];
      this.#next += 1;
      const job = this.#sender.takeJob();
      job.op = piece.data === null ? OP.ZEROES : OP.WRITE;
      job.offset = piece.offset;
      job.length = piece.length;
      job.data = piece.data;
      job.punch = piece.punch;
      job.lane = 0;
      job.replay = true;
      job.settled = this.#settled;
      this.#running += 1;
      this.#sender.transmit(job);
    }
    if (!this.#stopped && this.#running === 0 && this.#next === this.#pieces.length) {
      this.#stopped = true;
      this.#done();
    }
  }

  /** The connection is gone: nothing of this replay counts any more. */
  stop(): void {
    this.#stopped = true;
  }

  readonly #settled = (errno: number, job: Job): void => {
    this.#running -= 1;
    if (this.#stopped) return;
    if (errno !== 0) this.#refused(job.offset, job.length, job.data, errno);
    this.run();
  };
}

/** From the newest write to the oldest, what of it no newer one covers. */
function newestPieces(unflushed: Unflushed, newer: Iterable<{ offset: number; length: number }>): UnflushedWrite[] {
  const covered = new IntervalSet();
  for (const { offset, length } of newer) covered.add(offset, offset + length);
  const pieces: UnflushedWrite[] = [];
  for (let sequence = unflushed.next - 1; sequence >= unflushed.first; sequence -= 1) {
    const write = unflushed.get(sequence);
    for (const [from, to] of covered.add(write.offset, write.offset + write.length)) {
      const data = write.data === null ? null : write.data.subarray(from - write.offset, to - write.offset);
      pieces.push({ offset: from, length: to - from, data, punch: write.punch });
    }
  }
  return pieces;
}
