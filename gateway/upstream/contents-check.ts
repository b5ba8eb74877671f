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
  /** Every wrong one reads as zeroes. */
  blank: boolean;
  /** Of the first wrong one; -1: none. */
  offset: number;
}

export class ContentsCheck {
  readonly #samples: readonly Sample[];
  readonly #hasher: Hasher;
  readonly #sender: ReplaySender;
  readonly #done: (finding: ContentsFinding) => void;
  readonly #finding: ContentsFinding = { checked: 0, wrong: 0, blank: true, offset: -1 };
  #next = 0;
  #running = 0;
  #stopped = false;

  constructor(samples: readonly Sample[], hasher: Hasher, sender: ReplaySender, done: (finding: ContentsFinding) => void) {
    this.#samples = samples;
    this.#hasher = hasher;
    this.#sender = sender;
    this.#done = done;
  }

  run(): void {
    while (!this.#stopped && this.#next < this.#samples.length && this.#running < AT_ONCE) {
      const sample = this.#samples[this.#next];
      this.#next += 1;
      this.#running += 1;
      const job = this.#sender.takeJob();
      job.op = OP.READ;
      job.offset = sample.offset;
      job.length = sample.length;
      job.data = null;
      job.lane = 0;
      job.replay = true;
      job.settled = (errno, read) => this.#answered(sample, errno, read);
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

  #answered(sample: Sample, errno: number, read: Job): void {
    this.#running -= 1;
    if (errno === 0) this.#judge(sample, read.data!);
    if (!this.#stopped) this.run();
  }

  #judge(sample: Sample, data: Buffer): void {
    const finding = this.#finding;
    finding.checked += 1;
    if (this.#hasher.sum(data) === sample.sum) return;
    finding.wrong += 1;
    if (finding.offset < 0 || sample.offset < finding.offset) finding.offset = sample.offset;
    if (data.some((byte) => byte !== 0)) finding.blank = false;
  }
}
