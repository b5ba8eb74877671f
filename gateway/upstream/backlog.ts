// An upstream's jobs that are not on their way: given while nothing stood, lost with their connection, or waiting for
// memory. Decides nothing: whoever takes jobs out sends them or answers them.
import type { Job } from './job.js';

export class Backlog {
  /** Given while nothing stood; sent in this order once it does. */
  #waiting: Job[] = [];
  /** Lost with their connection; sent again by `sequence`. */
  #lost: Job[] = [];
  /** Writes that wait for memory: the unflushed list is full. */
  #parked: Job[] = [];

  /** Does a write wait for memory? */
  get starving(): boolean {
    return this.#parked.length > 0;
  }

  wait(job: Job): void {
    this.#waiting.push(job);
  }

  sendAgain(job: Job): void {
    this.#lost.push(job);
  }

  park(job: Job): void {
    this.#parked.push(job);
  }

  /** Writes that will be sent again; they stay. */
  lostWrites(): Job[] {
    return this.#lost.filter((job) => job.writes);
  }

  takeLostWrites(): Job[] {
    const writes = this.lostWrites();
    this.#lost = this.#lost.filter((job) => !job.writes);
    return writes.sort(bySequence);
  }

  takeLost(): Job[] {
    const lost = this.#lost;
    this.#lost = [];
    return lost.sort(bySequence);
  }

  takeWaiting(): Job[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  takeParked(): Job[] {
    const parked = this.#parked;
    this.#parked = [];
    return parked;
  }

  take(which: (job: Job) => boolean): Job[] {
    const taken = [...this].filter(which);
    if (taken.length === 0) return taken;
    const rest = (job: Job): boolean => !which(job);
    this.#lost = this.#lost.filter(rest);
    this.#waiting = this.#waiting.filter(rest);
    this.#parked = this.#parked.filter(rest);
    return taken;
  }

  clear(): void {
    this.#waiting = [];
    this.#lost = [];
    this.#parked = [];
  }

  *[Symbol.iterator](): Iterator<Job> {
    yield* this.#lost;
    yield* this.#waiting;
    yield* this.#parked;
  }
}

function bySequence(one: Job, other: Job): number {
  return one.sequence - other.sequence;
}
