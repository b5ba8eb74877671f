// Asks a target that came back for samples of what it must hold, before anything is written there (rule 20). What it
// refuses to read says nothing about its contents.
import { OP } from '../../replication/device.js';
import type { Hasher } from '../../replication/hasher.js';
import type { Job } from './job.js';
import type { ReplaySender } from './replay.js';
import type { Sample } from './witnesses.js';

const AT_ONCE = 16;

/** What a target that came back was found to hold. */
export interface ContentsFinding {
  /** Samples that could be read, and how many of them were not what they must be. */
  checked: number;
  wrong: number;
  /** How many were right and not zeroes, which any blank target has. */
  held: number;
  /** How many of the wrong ones are witnesses: writes that the target had flushed, lately as a rule. */
  lost: number;
  /** Every wrong one reads as zeroes. */
  blank: boolean;
  /** The wrong ones. */
  ranges: { offset: number; length: number }[];
}

export class ContentsCheck {
  readonly #samples: readonly Sample[];
  readonly #witnesses: number;
  readonly #hasher: Hasher;
  readonly #sender: ReplaySender;
  readonly #done: (finding: ContentsFinding) => void;
  readonly #finding: ContentsFinding = { checked: 0, wrong: 0, held: 0, lost: 0, blank: true, ranges: [] };
  #next = 0;
  #running = 0;
  #stopped = false;

  /** `witnesses`: so many of the samples, the first ones, are that. */
  constructor(
    samples: readonly Sample[],
    witnesses: number,
    hasher: Hasher,
    sender: ReplaySender,
    done: (finding: ContentsFinding) => void,
  ) {
    this.#samples = samples;
    this.#witnesses = witnesses;
    this.#hasher = hasher;
    this.#sender = sender;
    this.#done = done;
  }

  run(): void {
    while (!this.#stopped && this.#next < this.#samples.length && this.#running < AT_ONCE) {
      const sample = this.#samples[this.#next];
      const witness = this.#next < this.#witnesses;
      this.#next += 1;
      this.#running += 1;
      const job = this.#sender.takeJob();
      job.op = OP.READ;
      job.offset = sample.offset;
      job.length = sample.length;
      job.data = null;
      job.lane = 0;
      job.replay = true;
      job.settled = (errno, read) => this.#answered(sample, witness, errno, read);
      this.#sender.transmit(job);
    }
    if (!this.#stopped && this.#running === 0 && this.#next === this.#samples.length) {
      this.#stopped = true;
      this.#done(this.#finding);
    }
  }

  /** The connection is gone: nothing of this counts any more. */
  stop(): void {
    this.#stopped = true;
  }

  #answered(sample: Sample, witness: boolean, errno: number, read: Job): void {
    this.#running -= 1;
    if (errno === 0) this.#judge(sample, witness, read.data!);
    if (!this.#stopped) this.run();
  }

  #judge(sample: Sample, witness: boolean, data: Buffer): void {
    const finding = this.#finding;
    finding.checked += 1;
    const zero = data.every((byte) => byte === 0);
    if (this.#hasher.sum(data) === sample.sum) {
      if (!zero) finding.held += 1;
      return;
    }
    finding.wrong += 1;
    if (witness) finding.lost += 1;
    finding.ranges.push({ offset: sample.offset, length: sample.length });
    if (!zero) finding.blank = false;
  }
}
