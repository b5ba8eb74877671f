// What becomes of jobs whose answer does not come. Lost with their connection: they are sent again, and what they may still do
// to the target is guarded against (rule 13). Too old for whoever waits (rule 12): they are answered with EIO and not sent
// again, and where the node has them still their range stays in doubt until it has answered or their connection has ended. A
// node that has said nothing at all for so long may have vanished without a word: its connection is closed, so that trying
// again shows whether it is there. It may as well hang and carry out later what it has: that is guarded against from when it
// is heard of again.
import { ERRNO, OP } from '../../replication/device.js';
import type { Clock } from '../../replication/world.js';
import type { Backlog } from './backlog.js';
import type { Comeback } from './comeback.js';
import type { Connections } from './connections.js';
import { type Flusher, LOST } from './flusher.js';
import type { Guards } from './guards.js';
import type { GuardKeeper } from './guard-keeper.js';
import type { GuardSettler } from './guard-settler.js';
import type { Job } from './job.js';
import type { JobSender } from './job-sender.js';

export interface LossesOptions {
  /** How long a request of a lost connection may still land in the node. */
  zombieMs: number;
  connections: Connections;
  guards: Guards;
  backlog: Backlog;
  keeper: GuardKeeper;
  settler: GuardSettler;
  flusher: Flusher;
  comeback: Comeback;
  clock: Clock;
}

export class Losses {
  readonly #options: LossesOptions;
  readonly #sender: JobSender;
  readonly #finish: (job: Job, errno: number) => void;
  /** Was the last connection closed for its silence? */
  #silenced = false;

  constructor(options: LossesOptions, sender: JobSender, finish: (job: Job, errno: number) => void) {
    this.#options = options;
    this.#sender = sender;
    this.#finish = finish;
  }

  /** Answers what was given more than `ageMs` ago with EIO; how many those were. */
  giveUp(ageMs: number, which: 'all' | 'reads'): number {
    const { connections, backlog, settler, keeper, comeback, clock } = this.#options;
    const beforeMs = clock.nowMs() - ageMs;
    const old = (job: Job): boolean =>
      job.askedMs < beforeMs && !job.replay && job.orphan === null && (which === 'all' || job.op === OP.READ);
    let sent = 0;
    for (const link of connections.standing) {
      for (const job of link.unanswered()) {
        if (!old(job)) continue;
        this.#orphan(job);
        sent += 1;
      }
    }
    const kept = backlog.take(old);
    if (kept.some((job) => job.writes)) comeback.droppedWrite();
    const held = [...kept, ...settler.take(old), ...keeper.take(old)];
    for (const job of held) this.#finish(job, ERRNO.EIO);
    this.#closeSilent(beforeMs, ageMs);
    return sent + held.length;
  }

  /** The node answers what was given up: too late for anyone, but it cannot land any more from now on. */
  answeredLate(job: Job, orphan: { expiresMs: number }): void {
    const { comeback, settler, clock } = this.#options;
    orphan.expiresMs = clock.nowMs();
    const last = comeback.ended(job, true);
    this.#sender.recycle(job);
    if (last) comeback.resent();
    else settler.poke();
  }

  /** A new incarnation stands: what a node had that hung and was given up may land from now on. */
  stands(): void {
    if (!this.#silenced) return;
    this.#silenced = false;
    const { guards, zombieMs, clock } = this.#options;
    guards.postpone(clock.nowMs() + zombieMs);
  }

  /** Their connection has ended: nobody knows what became of them. */
  handedBack(jobs: Job[]): void {
    const { zombieMs, keeper, clock } = this.#options;
    const expiresMs = clock.nowMs() + zombieMs;
    for (const job of jobs) {
      if (job.orphan !== null) {
        job.orphan.expiresMs = expiresMs;
        this.#sender.recycle(job);
        continue;
      }
      if (job.writes && zombieMs > 0) keeper.protect(job.offset, job.length, expiresMs);
      this.putBack(job);
    }
  }

  /** To be sent again once a connection stands, unless it was part of something that starts over. */
  putBack(job: Job): void {
    if (job.replay) return;
    // Nothing is fast any more: refusing now could leave older bytes than the host may have seen.
    job.fast = false;
    if (this.#options.flusher.isPart(job)) this.#finish(job, LOST);
    else this.#options.backlog.sendAgain(job);
  }

  #closeSilent(beforeMs: number, ageMs: number): void {
    const silent = this.#options.connections.standing.find((link) => link.silentSince(beforeMs));
    if (silent === undefined) return;
    this.#silenced = true;
    silent.close(`the node has not sent anything for more than ${ageMs} ms, with requests waiting for an answer`);
  }

  /** Answers a job with EIO while the node has it still: only its range is remembered. */
  #orphan(job: Job): void {
    const expiresMs = Number.POSITIVE_INFINITY;
    job.orphan = job.writes ? this.#options.keeper.protect(job.offset, job.length, expiresMs) : { expiresMs };
    const { request, settled } = job;
    job.request = null;
    job.settled = null;
    if (settled !== null) settled(ERRNO.EIO, job);
    else request?.complete(ERRNO.EIO);
  }
}
