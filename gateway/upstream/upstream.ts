// Our connection to a target, as a device that can be relied on: requests given to it are answered once, whatever the
// connection does meanwhile. It never invents an error: while the node is away, requests wait; how long they may is the
// volume's business, which can take them back (`abandon`). Here is a request's way; what happens beside it has parts of its
// own: `connections.ts` has the connections, `comeback.ts` what a node that is back gets before requests, `flusher.ts` what is
// on stable storage there, `guard-keeper.ts` and `guard-settler.ts` ranges in doubt, `splitter.ts` what a node cannot do at once.
// Overlapping writes must not be given to it at once: its user serialises them (rule 4).
import assert from 'node:assert';
import { type Device, type DeviceRequest, ERRNO, OP } from '../../replication/device.js';
import type { Change, Clock, Timer } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import { Backlog } from './backlog.js';
import { Comeback } from './comeback.js';
import { Connections } from './connections.js';
import type { Features } from './features.js';
import { Flusher } from './flusher.js';
import { GuardKeeper } from './guard-keeper.js';
import { Guards } from './guards.js';
import { GuardSettler } from './guard-settler.js';
import { IoCounters } from './io-counters.js';
import type { Job } from './job.js';
import { JobSender } from './job-sender.js';
import type { Link } from './link.js';
import { Losses } from './losses.js';
import { Outstanding } from './outstanding.js';
import { TroubleLog } from './trouble-log.js';
import { Unflushed } from './unflushed.js';
import type { TargetMemory, UpstreamEvents, UpstreamOptions } from './upstream-world.js';
import type { Violation } from './violation.js';

export type { TargetMemory, UpstreamEvents, UpstreamOptions } from './upstream-world.js';

/** A connection that is renewed is lost if that takes longer. */
const RENEW_MS = 2000;

/**
 * connecting: nothing stands, or nothing is to be sent any more to what stands. replaying: the node is back and gets what it may have forgotten. resending: then the writes
 * it did not answer, before any read can be sent, because a read may have seen them. abandoned: given up by `abandon`.
 */
export type UpstreamState = 'connecting' | 'replaying' | 'resending' | 'ready' | 'blocked' | 'abandoned' | 'closed';

/** What is taken back from an upstream that is given up. */
export interface Abandoned {
  /** Not answered, in the order in which they were given. */
  requests: DeviceRequest[];
  /** Ranges where the target may differ from what was acknowledged: in flight, guarded, or not flushed. */
  doubtful: { offset: number; length: number }[];
}

export class Upstream implements Device {
  readonly target: TargetRef;
  readonly counters = new IoCounters();
  readonly #options: UpstreamOptions;
  readonly #events: UpstreamEvents;
  readonly #gone: () => void;
  readonly #clock: Clock;
  readonly #memory: TargetMemory | null;
  readonly #guards = new Guards();
  readonly #unflushed = new Unflushed();
  readonly #backlog = new Backlog();
  readonly #connections: Connections;
  readonly #keeper: GuardKeeper;
  readonly #settler: GuardSettler;
  readonly #flusher: Flusher;
  readonly #comeback: Comeback;
  readonly #sender: JobSender;
  readonly #losses: Losses;
  readonly #outstanding: Outstanding;
  #state: UpstreamState = 'connecting';
  #reason: string | null = 'not connected yet';
  /** Not null: it connects anew, without having been lost; until then it may. */
  #renewal: Timer | null = null;
  /** Before that what is on its way is answered. */
  #draining = false;
  /** The last reason told of why it cannot be a copy. */
  #told: string | null = null;
  readonly #troubleLog: TroubleLog;
  /** The node broke the protocol, and the target has not been ready since. */
  #misbehaves = false;

  /** `gone`: told once, when it is closed or given up and will not count anything more. */
  constructor(options: UpstreamOptions, events: UpstreamEvents, gone: () => void = () => {}) {
    const { target, clock, log, memory, zombieMs, unflushedBytesMax } = options;
    this.#options = options;
    this.#gone = gone;
    this.#events = events;
    this.#clock = clock;
    this.#memory = memory;
    this.target = target;
    this.#troubleLog = new TroubleLog({ target, clock, log });
    const connections = new Connections(options, {
      stands: () => {
        this.#losses.stands();
        this.#comeback.start();
      },
      answered: (link, job, errno) => {
        this.#answered(link, job, errno);
        if (this.#draining) this.#turnOver();
      },
      lost: (reason) => this.#lost(reason),
      handedBack: (jobs) => this.#losses.handedBack(jobs),
      blocked: (reason) => this.#blocked(reason),
      failed: (reason) => {
        if (this.#state === 'connecting') this.#reason = reason;
        // What is connected anew on purpose is no trouble.
        if (this.#renewal === null) this.#troubleLog.failed(reason);
      },
      violated: (violation) => this.#violated(violation),
      changed: (what) => this.#troubleLog.changed(what),
    });
    const guards = this.#guards;
    const unflushed = this.#unflushed;
    const backlog = this.#backlog;
    const witnesses = memory?.witnesses ?? null;
    const finish = (job: Job, errno: number): void => this.#finish(job, errno);
    const sender = new JobSender(
      { connections, guards, backlog, witnesses, clock },
      { turnOf: (job) => this.#turnOf(job), flush: (job) => flusher.transmit(job), finish },
    );
    const keeper = new GuardKeeper({ target, guards, doubts: memory?.doubts ?? null, clock, log }, finish);
    const settler = new GuardSettler(guards, keeper, clock, sender, {
      isReady: () => this.#state === 'ready',
      writesInFlight: (offset, end) => connections.writesInFlight(offset, end),
      settled: (ranges) => this.#events.settled(ranges),
    });
    const flusher = new Flusher({ unflushed, bytesMax: unflushedBytesMax, connections, guards, backlog, witnesses, clock }, sender, {
      finish,
      tell: (job, errno) => this.#tell(job, errno),
      hasAll: () => this.#state === 'ready',
      roomCame: () => this.#letIn(backlog.takeParked()),
    });
    const comeback = new Comeback(
      { target, memory, zombieMs, connections, unflushed, guards, keeper, flusher, backlog, clock, log },
      sender,
      {
        entered: (stage, what) => {
          this.#told = null;
          this.#enter(stage, what);
        },
        done: () => this.#becomeReady(),
        unlike: (finding) => this.#events.unlike(finding),
      },
    );
    this.#losses = new Losses({ zombieMs, connections, guards, backlog, keeper, settler, flusher, comeback, clock }, sender, finish);
    this.#outstanding = new Outstanding(connections, backlog, settler, keeper);
    this.#connections = connections;
    this.#sender = sender;
    this.#keeper = keeper;
    this.#settler = settler;
    this.#flusher = flusher;
    this.#comeback = comeback;
  }

  /** What its volume needs of it. */
  get sizeBytes(): number {
    return this.#options.needs.sizeBytes;
  }

  /** The volume has become larger: a target that comes back smaller than that is blocked. */
  require(sizeBytes: number): void {
    this.#options.needs.sizeBytes = sizeBytes;
  }

  /** It connects anew without having been lost. */
  get renewing(): boolean {
    return this.#renewal !== null;
  }

  /**
   * Connects anew, for what only a handshake shows. What is on its way is answered before, and what comes meanwhile waits: nothing is in
   * doubt, and nobody is told, unless that takes long, which is a loss like any other.
   */
  renew(reason: string): void {
    if (this.#state !== 'ready') return;
    this.#enter('connecting', reason);
    this.#draining = true;
    this.#renewal = this.#clock.after(RENEW_MS, () => {
      this.#endRenewal();
      if (this.#connections.standing.length > 0) this.#connections.drop(`${reason}, and it does not answer`);
      else this.#lost(`${reason}, and it does not answer`);
    });
    this.#turnOver();
  }

  get state(): UpstreamState {
    return this.#state;
  }

  /** It answers, as far as is known: a connection that is renewed is not lost. */
  get ready(): boolean {
    return this.#state === 'ready' || this.renewing;
  }

  /** Why it is not ready; null when it is. */
  get reason(): string | null {
    return this.#reason;
  }

  /** Is it not ready for the node having broken the protocol? */
  get misbehaves(): boolean {
    return this.#misbehaves && !this.ready;
  }

  /** What the node said it can, at the latest handshake; null before the first. */
  get features(): Features | null {
    return this.#connections.features;
  }

  /** How long a request of a lost connection may still land in the node. */
  get zombieMs(): number {
    return this.#options.zombieMs;
  }

  get connections(): number {
    return this.#connections.standing.length;
  }

  get unflushedBytes(): number {
    return this.#unflushed.bytes;
  }

  /** Ranges whose newest bytes are kept because an old request may still land. */
  get guardedRanges(): number {
    return this.#guards.ranges().length;
  }

  /** Is it open what the target holds there, because an old request may still land? */
  inDoubt(offset: number, length: number): boolean {
    return this.#guards.overlaps(offset, length);
  }

  start(): void {
    const landedMs = this.#clock.nowMs() + this.#options.zombieMs;
    this.#flusher.start(landedMs);
    this.#keeper.load(landedMs);
    this.#connections.dial();
  }

  submit(request: DeviceRequest): void {
    if (this.#over) {
      // Background work may come late; hosts' requests never get here, the path has another target by then.
      request.complete(ERRNO.ESHUTDOWN);
      return;
    }
    const job = this.#sender.takeJob();
    job.load(request);
    this.#sender.number(job);
    if (this.#state === 'ready') this.#dispatch(job);
    else this.#backlog.wait(job);
  }

  /** Milliseconds since the oldest unanswered request was given; 0 when there is none. Hung is not dead, but old. */
  oldestMs(): number {
    return Math.max(0, this.#clock.nowMs() - this.#outstanding.oldestMs());
  }

  /**
   * Answers what has waited longer than `ageMs` with EIO (rule 12: the deadline of the policy). What was sent and is not
   * answered keeps its range in doubt: it is not sent again, and should it land late, newer writes are put back over it.
   */
  expire(ageMs: number, which: 'all' | 'reads' = 'all'): number {
    return this.#losses.giveUp(ageMs, which);
  }

  /**
   * Gives up: hands back every unanswered request. Connections that still stand are kept until what they carry is
   * answered (rule 13); `settled` is called once no old request can land in the target any more.
   */
  abandon(settled: () => void): Abandoned {
    assert(!this.#over, 'an upstream is abandoned once');
    const requests = this.#outstanding.requests();
    const doubtful = this.#outstanding.writes();
    let orphansUntilMs = 0;
    for (const range of this.#guards.ranges()) {
      doubtful.push({ offset: range.offset, length: range.end - range.offset });
      // Without an end yet: its connection still stands, and is waited for as such.
      if (range.expiresMs !== Number.POSITIVE_INFINITY) orphansUntilMs = Math.max(orphansUntilMs, range.expiresMs);
    }
    for (let sequence = this.#unflushed.first; sequence < this.#unflushed.next; sequence += 1) {
      const { offset, length } = this.#unflushed.get(sequence);
      doubtful.push({ offset, length });
    }
    this.#stop('abandoned', 'given up');
    this.#memory?.witnesses.dropUnproven();
    this.#gone();
    this.#connections.abandon('given up', orphansUntilMs, settled);
    return { requests, doubtful };
  }

  /** The changes that forget what a restart would guard here: the target is given up, or is no copy any more. */
  forgetDoubts(): Change[] {
    return this.#options.memory?.doubts.removeAll() ?? [];
  }

  /** Ends the connections; requests that are not answered end with ESHUTDOWN: nobody knows what became of them. */
  close(): void {
    if (this.#state === 'closed') return;
    const gone = this.#state !== 'abandoned';
    // Those of one that was given up are another's by now.
    const requests = gone ? this.#outstanding.requests() : [];
    this.#stop('closed', 'closed');
    if (gone) this.#gone();
    this.#connections.close('closed');
    for (const request of requests) request.complete(ERRNO.ESHUTDOWN);
  }

  get #over(): boolean {
    return this.#state === 'abandoned' || this.#state === 'closed';
  }

  /** Once nothing is on its way any more. */
  #turnOver(): void {
    for (const _ of this.#connections.unanswered()) return;
    this.#draining = false;
    this.#connections.renew(this.#reason!);
  }

  #endRenewal(): boolean {
    const quiet = this.#renewal !== null;
    this.#renewal?.cancel();
    this.#renewal = null;
    this.#draining = false;
    return quiet;
  }

  #enter(state: UpstreamState, reason: string | null): void {
    this.#state = state;
    this.#reason = reason;
  }

  #stop(state: 'abandoned' | 'closed', reason: string): void {
    this.#enter(state, reason);
    this.#endRenewal();
    this.#comeback.stop();
    this.#settler.stop();
    this.#keeper.stop();
    this.#flusher.stop();
    this.#backlog.clear();
  }

  #dispatch(job: Job): void {
    if (job.writes) {
      if (this.#settler.blocks(job)) return;
      if (this.#flusher.full) {
        this.#backlog.park(job);
        this.#flusher.flushInBackground();
        return;
      }
    }
    this.#sender.transmit(job);
  }

  /** Jobs that had to wait for a connection or for memory. */
  #letIn(jobs: Job[]): void {
    for (const job of jobs) {
      if (this.#state === 'ready') this.#dispatch(job);
      else this.#backlog.wait(job);
    }
  }

  #turnOf(job: Job): 'now' | 'later' | 'never' {
    if (this.#state === 'ready' || this.#state === 'resending' || (job.replay && this.#comeback.catchingUp)) return 'now';
    return this.#over ? 'never' : 'later';
  }

  /** A node answered a job. */
  #answered(link: Link, job: Job, errno: number): void {
    if (this.#over) {
      this.#sender.recycle(job);
      this.#connections.settle();
      return;
    }
    if (job.orphan !== null) {
      this.#losses.answeredLate(job, job.orphan);
      return;
    }
    if (errno === ERRNO.ESHUTDOWN) {
      // The node did nothing and is going away: a lost connection, without the doubt.
      this.#losses.putBack(job);
      this.#connections.drop('the node is shutting down');
      return;
    }
    this.counters.answered(job, errno, this.#clock.nowMs());
    if (errno === 0) {
      if (job.writes) this.#wrote(link, job);
      else if (job.op === OP.READ && !this.#guards.empty) this.#keeper.read(job.offset, job.data!);
      else if (job.op === OP.FLUSH) this.#flusher.flushed(job);
    } else if (job.writes && errno !== ERRNO.ENOTSUP && job.settled === null) this.#flusher.refused();
    if (job.flushAfter && errno === 0) this.#flusher.flushAfter(job);
    else if (job.op === OP.FLUSH) this.#finish(job, errno);
    else this.#tell(job, errno);
    this.#settler.poke();
  }

  #wrote(link: Link, job: Job): void {
    if (!this.#guards.empty) this.#keeper.wrote(job.offset, job.length, job.op === OP.WRITE ? job.data : null);
    this.#flusher.wrote(link, job);
  }

  #tell(job: Job, errno: number): void {
    if (this.#keeper.behind) this.#keeper.tellWhenSaved(job, errno);
    else this.#finish(job, errno);
  }

  #finish(job: Job, errno: number): void {
    const { request, settled } = job;
    const last = this.#comeback.ended(job, errno !== 0);
    if (settled !== null) {
      settled(errno, job);
      this.#sender.recycle(job);
    } else {
      assert(request !== null, 'what nothing else settles is a request');
      if (errno === 0) {
        if (job.op === OP.READ) request.data = job.data;
        else if (job.op === OP.STATUS) request.extents = job.extents;
      }
      this.#sender.recycle(job);
      request.complete(errno);
    }
    if (last) this.#comeback.resent();
  }

  #violated(violation: Violation): void {
    this.counters.violations[violation.kind] += 1;
    this.#troubleLog.tell(violation);
    if (violation.kind !== 'errno' && violation.kind !== 'truncated') this.#misbehaves = true;
  }

  #lost(reason: string): void {
    this.#endRenewal();
    this.#comeback.stop();
    this.counters.disconnects += 1;
    this.#enter('connecting', reason);
    this.#events.lost(reason);
  }

  #blocked(reason: string): void {
    this.#endRenewal();
    this.#enter('blocked', reason);
    if (this.#told === reason) return;
    this.#told = reason;
    this.#troubleLog.blocked(reason);
    this.#events.blocked(reason);
  }

  #becomeReady(): void {
    this.#enter('ready', null);
    this.#troubleLog.answers();
    this.#misbehaves = false;
    const renewed = this.#endRenewal();
    for (const job of this.#backlog.takeLost()) this.#sender.transmit(job);
    if (!renewed) this.#events.connected(this.#connections.features!);
    this.#letIn(this.#backlog.takeWaiting());
    this.#settler.poke();
  }
}
