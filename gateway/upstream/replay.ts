// Writes again, in order, what a target may have forgotten with its restart (rule 9). Entries that overlap wait for one
// another, all others go together, a bounded number at once. Ends with 0 or the first error a node gave.
import { OP } from '../../replication/device.js';
import type { Job } from './job.js';
import type { Unflushed } from './unflushed.js';

const AT_ONCE = 32;

export interface ReplaySender {
  takeJob(): Job;
  transmit(job: Job): void;
}

export class Replay {
  readonly #unflushed: Unflushed;
  readonly #sender: ReplaySender;
  readonly #done: (errno: number) => void;
  readonly #running = new Set<Job>();
  readonly #end: number;
  #next: number;
  #errno = 0;
  #stopped = false;

  constructor(unflushed: Unflushed, sender: ReplaySender, done: (errno: number) => void) {
    this.#unflushed = unflushed;
    this.#sender = sender;
    this.#done = done;
    this.#next = unflushed.first;
    this.#end = unflushed.next;
  }

  run(): void {
    while (!this.#stopped && this.#next < this.#end && this.#running.size < AT_ONCE) {
      const write = this.#unflushed.get(this.#next);
      for (const other of this.#running) {
        if (other.offset < write.offset + write.length && other.offset + other.length > write.offset) return;
      }
      this.#next += 1;
      const job = this.#sender.takeJob();
      job.op = write.data === null ? OP.ZEROES : OP.WRITE;
      job.offset = write.offset;
      job.length = write.length;
      job.data = write.data;
      job.punch = write.punch;
      job.lane = 0;
      job.replay = true;
      job.settled = this.#settled;
      this.#running.add(job);
      this.#sender.transmit(job);
    }
    if (!this.#stopped && this.#running.size === 0 && this.#next === this.#end) {
      this.#stopped = true;
      this.#done(this.#errno);
    }
  }

  /** The connection is gone: nothing of this replay counts any more. */
  stop(): void {
    this.#stopped = true;
  }

  readonly #settled = (errno: number, job: Job): void => {
    this.#running.delete(job);
    if (errno !== 0 && this.#errno === 0) this.#errno = errno;
    if (!this.#stopped) this.run();
  };
}
