// What an upstream knows to be on stable storage in its target (rules 8, 9): keeps the writes that were answered and are not
// known to be, flushes on every connection that took any, does FUA for a node that cannot, and frees the memory of what a
// flush has proven. A flush proves writes that were answered before it was sent, by the incarnation that answers it.
import { ERRNO, OP } from '../../replication/device.js';
import type { Clock, Timer } from '../../replication/world.js';
import type { Backlog } from './backlog.js';
import type { Connections } from './connections.js';
import type { GuardRange, Guards } from './guards.js';
import type { Job } from './job.js';
import type { Link } from './link.js';
import type { PartSender } from './splitter.js';
import type { Unflushed } from './unflushed.js';
import type { Witnesses } from './witnesses.js';

const RETRY_MS = 1000;
/** Settled instead of an error number when a part's connection was lost: the flush must be sent again as a whole. */
export const LOST = -1;

export interface FlushHost {
  /** The outcome of a job that needs no flush any more. */
  finish(job: Job, errno: number): void;
  /** A write that was flushed after it was answered: told like one that the node has just answered. */
  tell(job: Job, errno: number): void;
  /** Has the node got everything again that it may have forgotten? */
  hasAll(): boolean;
  /** Writes that waited for memory may go on. */
  roomCame(): void;
}

export interface FlusherOptions {
  unflushed: Unflushed;
  /** Bytes of writes not flushed that are kept at most: at half of that a flush is sent, beyond it writes wait. */
  bytesMax: number;
  connections: Connections;
  guards: Guards;
  backlog: Backlog;
  witnesses: Witnesses | null;
  clock: Clock;
}

export class Flusher {
  readonly #options: FlusherOptions;
  readonly #unflushed: Unflushed;
  readonly #connections: Connections;
  readonly #witnesses: Witnesses | null;
  readonly #sender: PartSender;
  readonly #host: FlushHost;
  /** Before this moment a request of an earlier gateway may undo what is written: no witness is taken of it. */
  #witnessFromMs = 0;
  #inBackground = false;
  /** Acknowledged bytes that the node refused to take again: until it took them a host's flush must not promise them. */
  readonly #owed = new Set<GuardRange>();
  #retry: Timer | null = null;

  constructor(options: FlusherOptions, sender: PartSender, host: FlushHost) {
    this.#options = options;
    this.#unflushed = options.unflushed;
    this.#connections = options.connections;
    this.#witnesses = options.witnesses;
    this.#sender = sender;
    this.#host = host;
  }

  /** No write can be kept before others are flushed. */
  get full(): boolean {
    return this.#unflushed.bytes >= this.#options.bytesMax;
  }

  start(witnessFromMs: number): void {
    this.#witnessFromMs = witnessFromMs;
  }

  stop(): void {
    this.#retry?.cancel();
  }

  /** A write was answered on `link`. */
  wrote(link: Link, job: Job): void {
    if (!this.#connections.features!.flush) return;
    const data = job.op === OP.WRITE ? job.data : null;
    if (!job.replay) this.#unflushed.add(job.offset, job.length, data, job.punch);
    link.lastWrite = this.#unflushed.next - 1;
    if (this.#witnesses !== null && data !== null && !job.replay && this.#options.clock.nowMs() >= this.#witnessFromMs)
      this.#witnesses.wrote(job.offset, data, link.lastWrite);
    if (this.#unflushed.bytes >= this.#options.bytesMax / 2) this.flushInBackground();
  }

  /** What a refused write left behind should not be mixed with a later replay of what was there before. */
  refused(): void {
    if (this.#unflushed.count > 0) this.flushInBackground();
  }

  /** One flush for each connection that took writes since the last: another may have reached a younger incarnation. */
  transmit(job: Job): void {
    if (job.request !== null && this.#owes()) {
      this.#host.finish(job, ERRNO.EIO);
      return;
    }
    if (!this.#connections.features!.flush) {
      // There is nothing more to ask of it; writes kept from before it lost its flush were replayed.
      this.#proven(this.#unflushed.next);
      this.#host.finish(job, ERRNO.OK);
      return;
    }
    // Before the node has got again all that it may have forgotten, its flush proves none of it.
    job.covers = this.#host.hasAll() ? this.#unflushed.next : this.#unflushed.first;
    job.incarnation = this.#connections.incarnation;
    job.sentMs = this.#options.clock.nowMs();
    const dirty = this.#connections.standing.filter((link) => link.lastWrite >= this.#unflushed.first);
    if (dirty.length <= 1) {
      (dirty[0] ?? this.#connections.pick(job.lane)).send(job);
      return;
    }
    job.flushesLeft = dirty.length;
    job.flushErrno = 0;
    for (const link of dirty) {
      const part = this.#flush(job);
      part.settled = this.#partSettled;
      part.sequence = job.sequence;
      part.submittedMs = job.submittedMs;
      part.askedMs = job.askedMs;
      part.sentMs = job.sentMs;
      link.send(part);
    }
  }

  /** Is it one connection's part of a flush? */
  isPart(job: Job): boolean {
    return job.settled === this.#partSettled;
  }

  /** A flush, or a part of one, was answered with success. */
  flushed(job: Job): void {
    if (this.isPart(job)) return;
    if (job.incarnation === this.#connections.incarnation) this.#proven(job.covers);
  }

  /** A node without FUA took a FUA write: its answer waits for a flush. */
  flushAfter(write: Job): void {
    const flush = this.#flush(write);
    flush.lane = write.lane;
    flush.settled = (errno) => this.#host.tell(write, errno);
    this.#sender.sendPart(flush);
  }

  flushInBackground(): void {
    if (this.#inBackground) return;
    this.#inBackground = true;
    const flush = this.#flush(null);
    flush.settled = (errno) => {
      this.#inBackground = false;
      if (!this.#options.backlog.starving) return;
      if (errno === 0) this.flushInBackground();
      else this.#retry = this.#options.clock.after(RETRY_MS, () => this.flushInBackground());
    };
    this.#sender.sendPart(flush);
  }

  /** The node refused acknowledged bytes, which `range` guards: flushes of hosts fail until the guard has ended. */
  owe(range: GuardRange): void {
    this.#owed.add(range);
  }

  readonly #partSettled = (errno: number, part: Job): void => {
    const job = part.whole!;
    job.flushesLeft -= 1;
    if (job.flushErrno === 0 || errno === LOST) job.flushErrno = errno;
    if (job.flushesLeft > 0) return;
    if (job.flushErrno === LOST) {
      this.#options.backlog.sendAgain(job);
      return;
    }
    if (job.flushErrno === 0) this.flushed(job);
    this.#host.finish(job, job.flushErrno);
  };

  #flush(whole: Job | null): Job {
    const flush = this.#sender.takeJob();
    flush.op = OP.FLUSH;
    flush.offset = 0;
    flush.length = 0;
    flush.lane = 0;
    flush.whole = whole;
    return flush;
  }

  #owes(): boolean {
    if (this.#owed.size === 0) return false;
    const live = new Set(this.#options.guards.ranges());
    for (const range of this.#owed) if (!live.has(range)) this.#owed.delete(range);
    return this.#owed.size > 0;
  }

  /** Every write below `sequence` is on stable storage: memory came free. */
  #proven(sequence: number): void {
    if (sequence > this.#unflushed.first) {
      this.#unflushed.dropBelow(sequence);
      this.#witnesses?.proven(sequence);
    }
    if (this.#options.backlog.starving && !this.full) this.#host.roomCame();
  }
}
