// Our connection to a target, as a device that can be relied on: requests given to it are answered once, whatever the
// connection does meanwhile. It reconnects and sends again what was not answered (rules 4, 13), replays what a restarted
// node may have forgotten (rule 9), flushes on every connection that took writes (rule 8), keeps the newest bytes of
// ranges in doubt (rule 13) and does for a node what it cannot do itself (rule 6). It never invents an error: while the
// node is away, requests wait; how long they may is the volume's business, which can take them back (`abandon`).
// Overlapping writes must not be given to it at once: its user serialises them (rule 4).
import assert from 'node:assert';
import { type Device, type DeviceRequest, ERRNO, OP } from '../../replication/device.js';
import type { Hasher } from '../../replication/hasher.js';
import { type Change, type Clock, type Log, sleep, type Timer } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { Negotiated } from '../nbd/client-handshake.js';
import type { Dialer, WireAddress } from '../wire.js';
import { ContentsCheck, type ContentsFinding } from './contents-check.js';
import type { DoubtRecords } from './doubt-records.js';
import { type Features, featuresOf, findMismatch, type Requirements } from './features.js';
import { type GuardRange, Guards } from './guards.js';
import { GuardSettler } from './guard-settler.js';
import { IoCounters } from './io-counters.js';
import { Job } from './job.js';
import { Link } from './link.js';
import { Replay } from './replay.js';
import { splitJob } from './splitter.js';
import { Unflushed } from './unflushed.js';
import type { Sample, Witnesses } from './witnesses.js';

const RETRY_MS = [10, 20, 50, 100, 200, 500, 1000] as const;
/** A mismatch may be mended by an operator; looking again costs little. */
const BLOCKED_RETRY_MS = 5000;
const HANDSHAKE_MS = 10_000;
const FLUSH_RETRY_MS = 1000;
/** A node that shakes hands and then does not answer what it holds is tried again. */
const CHECK_MS = 10_000;
/** Settled instead of an error number when a flush's connection was lost: it must be sent again as a whole. */
const LOST = -1;

/** What is remembered of a target beyond one connection to it, by the volume whose copy it holds. */
export interface TargetMemory {
  /** Where guarded ranges are written down. */
  doubts: DoubtRecords;
  witnesses: Witnesses;
  hasher: Hasher;
  /** What else the target must hold now, whatever it has not flushed set aside. */
  expected(): Sample[];
}

export interface UpstreamOptions {
  target: TargetRef;
  /** Asked at each attempt, because an agent may have moved; a string says why there is no address now. */
  address(): WireAddress | string;
  exportName: string;
  /** Connections at most; more than one only where the node says that a flush covers them all. */
  connections: number;
  /** How long a request of a lost connection may still land in the node; 0: the node fences them itself (an agent). */
  zombieMs: number;
  unflushedBytesMax: number;
  /** Null: what is written there is never read again. */
  memory: TargetMemory | null;
  needs: Requirements;
  dialer: Dialer;
  clock: Clock;
  log: Log;
}

export interface UpstreamEvents {
  /** It answers: for the first time, or again. */
  connected(features: Features): void;
  /** It does not answer; requests wait and it is tried again. Called once per loss. */
  lost(reason: string): void;
  /** It answers but cannot be a copy of this volume; requests wait. */
  blocked(reason: string): void;
  /** It was open what the target holds in these ranges; now it stays as it is, and may not be what was read there meanwhile. */
  settled(ranges: readonly { offset: number; end: number }[]): void;
  /** It came back and does not hold what it must. True: that is known and will be mended, it may go on; false: it is blocked. */
  unlike(finding: ContentsFinding): Promise<boolean>;
}

/**
 * connecting: nothing stands. replaying: the node is back and gets what it may have forgotten. resending: then the writes
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
  readonly #guards = new Guards();
  readonly #settler: GuardSettler;
  readonly #unflushed = new Unflushed();
  readonly #pool: Job[] = [];
  #state: UpstreamState = 'connecting';
  #reason: string | null = 'not connected yet';
  #features: Features | null = null;
  /** Connections that stand. */
  #links: Link[] = [];
  /** Connections that have not shaken hands yet. */
  readonly #others = new Set<Link>();
  /** Connections that stood and are being torn down: what they carried is handed back when they have closed. */
  readonly #torn = new Set<Link>();
  #incarnation = 0;
  #attempts = 0;
  #timer: Timer | null = null;
  #sequence = 0;
  /** Given while nothing stood; sent in this order once it does. */
  #waiting: Job[] = [];
  /** Lost with their connection; sent again by `sequence`. */
  #resend: Job[] = [];
  #check: ContentsCheck | null = null;
  /** The last reason told of why it cannot be a copy. */
  #told: string | null = null;
  /** Before this moment a request of an earlier gateway may undo what is written: no witness is taken of it. */
  #witnessFromMs = 0;
  #replay: Replay | null = null;
  /** Writes sent again that must be answered before anything else is sent. */
  readonly #firstWrites = new Set<Job>();
  /** A write that a replay left out for being sent again was not carried out: what it was to overwrite is missing. */
  #replayAgain = false;
  /** What the node refused of a replay: kept as guards, and tried again. Until it took them a host's flush must not promise them. */
  readonly #refusedReplays = new Set<GuardRange>();
  /** Writes that wait for memory: the unflushed list is full. */
  #parked: Job[] = [];
  #backgroundFlush = false;
  /** Guarded ranges that are not durable as they are now, and what waits for that. */
  readonly #unsaved = new Set<GuardRange>();
  #afterSave: (() => void)[] = [];
  /** Answered by the node, not yet told. */
  readonly #delayed = new Set<Job>();
  #saving = false;
  #orphansUntilMs = 0;
  #settled: (() => void) | null = null;

  /** `gone`: told once, when it is closed or given up and will not count anything more. */
  constructor(options: UpstreamOptions, events: UpstreamEvents, gone: () => void = () => {}) {
    this.#options = options;
    this.#gone = gone;
    this.#events = events;
    this.#clock = options.clock;
    this.target = options.target;
    this.#settler = new GuardSettler(this.#guards, options.clock, this, (job) => this.sendPart(job));
  }

  get sizeBytes(): number {
    return this.#options.needs.sizeBytes;
  }

  get state(): UpstreamState {
    return this.#state;
  }

  get ready(): boolean {
    return this.#state === 'ready';
  }

  /** Why it is not ready; null when it is. */
  get reason(): string | null {
    return this.#reason;
  }

  /** What the node said it can, at the latest handshake; null before the first. */
  get features(): Features | null {
    return this.#features;
  }

  /** How long a request of a lost connection may still land in the node. */
  get zombieMs(): number {
    return this.#options.zombieMs;
  }

  get connections(): number {
    return this.#links.length;
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
    assert(this.#links.length === 0 && this.#others.size === 0);
    this.#witnessFromMs = this.#clock.nowMs() + this.#options.zombieMs;
    for (const doubt of this.#options.memory?.doubts.load() ?? []) {
      const range = this.#guards.protect(
        doubt.offset,
        doubt.end - doubt.offset,
        this.#clock.nowMs() + this.#options.zombieMs,
        doubt.number,
      );
      this.#unsaved.add(range);
      for (const { offset, end, data } of doubt.segments) this.#guards.wrote(offset, end - offset, data);
    }
    this.#dial();
  }

  submit(request: DeviceRequest): void {
    if (this.#over) {
      // Background work may come late; hosts' requests never get here, the path has another target by then.
      request.complete(ERRNO.ESHUTDOWN);
      return;
    }
    const job = this.takeJob();
    job.load(request);
    this.#accept(job);
  }

  /** Milliseconds since the oldest unanswered request was given; 0 when there is none. Hung is not dead, but old. */
  oldestMs(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const job of this.#unanswered()) oldest = Math.min(oldest, job.submittedMs);
    return oldest === Number.POSITIVE_INFINITY ? 0 : this.#clock.nowMs() - oldest;
  }

  /**
   * Answers what has waited longer than `ageMs` with EIO (rule 12: the deadline of the policy). What was sent and is not
   * answered keeps its range in doubt: it is not sent again, and should it land late, newer writes are put back over it.
   */
  expire(ageMs: number, which: 'all' | 'reads' = 'all'): number {
    const beforeMs = this.#clock.nowMs() - ageMs;
    let expired = 0;
    const old = (job: Job): boolean =>
      job.submittedMs < beforeMs && !job.replay && job.orphan === null && (which === 'all' || job.op === OP.READ);
    for (const link of this.#links) {
      for (const job of link.unanswered()) {
        if (!old(job)) continue;
        this.#orphan(job);
        expired += 1;
      }
    }
    for (const name of ['resend', 'waiting', 'parked'] as const) {
      const jobs = this.#queueOf(name);
      const late = jobs.filter(old);
      if (late.length === 0) continue;
      this.#setQueue(
        name,
        jobs.filter((job) => !old(job)),
      );
      if (this.#state === 'replaying' && late.some((job) => job.writes)) this.#replayAgain = true;
      for (const job of late) this.#finish(job, ERRNO.EIO);
      expired += late.length;
    }
    return expired;
  }

  /**
   * Gives up: hands back every unanswered request. Connections that still stand are kept until what they carry is
   * answered (rule 13); `settled` is called once no old request can land in the target any more.
   */
  abandon(settled: () => void): Abandoned {
    assert(!this.#over);
    const doubtful: { offset: number; length: number }[] = [];
    const owners = new Set<Job>();
    for (const job of this.#unanswered()) {
      if (job.writes) doubtful.push({ offset: job.offset, length: job.length });
      let owner = job;
      while (owner.whole !== null) owner = owner.whole;
      if (owner.request !== null) owners.add(owner);
    }
    for (const range of this.#guards.ranges()) {
      doubtful.push({ offset: range.offset, length: range.end - range.offset });
      // Without an end yet: its connection still stands, and is waited for as such.
      if (range.expiresMs !== Number.POSITIVE_INFINITY) this.#orphansUntilMs = Math.max(this.#orphansUntilMs, range.expiresMs);
    }
    for (let sequence = this.#unflushed.first; sequence < this.#unflushed.next; sequence += 1) {
      const { offset, length } = this.#unflushed.get(sequence);
      doubtful.push({ offset, length });
    }
    const requests = [...owners].sort((one, other) => one.sequence - other.sequence).map((job) => job.request!);
    this.#enter('abandoned', 'given up');
    this.#options.memory?.witnesses.dropUnproven();
    this.#gone();
    this.#settled = settled;
    this.#dropQueues();
    for (const link of this.#others) link.close('given up');
    this.#settleOrphans();
    return { requests, doubtful };
  }

  /** The changes that forget what a restart would guard here: the target is given up, or is no copy any more. */
  forgetDoubts(): Change[] {
    return this.#options.memory?.doubts.removeAll() ?? [];
  }

  /** Ends the connections; requests that are not answered are dropped without an answer. */
  close(): void {
    if (this.#state === 'closed') return;
    const gone = this.#state !== 'abandoned';
    this.#enter('closed', 'closed');
    if (gone) this.#gone();
    this.#settled = null;
    this.#dropQueues();
    for (const link of this.#others) link.close('closed');
    for (const link of this.#links) {
      if (link.inFlight === 0) link.disconnect();
      else link.close('closed');
    }
  }

  takeJob(): Job {
    return this.#pool.pop() ?? new Job();
  }

  /** Takes the upstream's own requests, and parts of admitted ones: they never wait for memory. */
  sendPart(job: Job): void {
    this.#number(job);
    if (this.#state === 'ready' || this.#state === 'resending' || (this.#catchingUp && job.replay)) this.transmit(job);
    else if (!this.#over) this.#resend.push(job);
  }

  /** Are writes on their way that touch the range? */
  writesInFlight(offset: number, end: number): boolean {
    for (const link of this.#links) {
      for (const job of link.unanswered()) {
        // Of a request in parts some may not have been sent yet: as long as one is on its way, all are.
        for (let each: Job | null = job; each !== null; each = each.whole) {
          if (each.writes && each.offset < end && each.offset + each.length > offset) return true;
        }
      }
    }
    return false;
  }

  /** Sends a job now; only while a connection stands. */
  transmit(job: Job): void {
    const features = this.#features!;
    if (job.writes) this.#options.memory?.witnesses.forget(job.offset, job.length);
    if (job.op === OP.FLUSH) {
      this.#transmitFlush(job);
      return;
    }
    // Where bytes are kept for the node, what it says of its holes may be wrong: nothing is said then.
    if (job.op === OP.STATUS && (!features.status || !this.#guards.empty)) {
      job.extents = [{ lengthBytes: job.length, hole: false, zero: false }];
      this.#finish(job, ERRNO.OK);
      return;
    }
    if (job.op === OP.ZEROES && job.fast && !features.fastZero) {
      this.#finish(job, ERRNO.ENOTSUP);
      return;
    }
    const carries = job.op === OP.READ || job.op === OP.WRITE;
    if ((job.op === OP.ZEROES && !features.zeroes) || (carries && job.length > features.payloadBytesMax)) {
      splitJob(job, features.payloadBytesMax, this, (whole, errno) => this.#finish(whole, errno));
      return;
    }
    if (job.fua && !features.fua) {
      job.fua = false;
      job.flushAfter = features.flush;
    }
    job.sentMs = this.#clock.nowMs();
    this.#links[job.lane % this.#links.length].send(job);
  }

  /** The node is back, and only what brings it to where it was is sent. */
  get #catchingUp(): boolean {
    return this.#state === 'replaying' || this.#check !== null;
  }

  get #over(): boolean {
    return this.#state === 'abandoned' || this.#state === 'closed';
  }

  #enter(state: UpstreamState, reason: string | null): void {
    this.#state = state;
    this.#reason = reason;
  }

  *#unanswered(): Iterable<Job> {
    for (const link of this.#links) yield* link.unanswered();
    for (const link of this.#torn) yield* link.unanswered();
    yield* this.#resend;
    yield* this.#waiting;
    yield* this.#parked;
    yield* this.#settler.parked();
    yield* this.#delayed;
  }

  #number(job: Job): void {
    this.#sequence += 1;
    job.sequence = this.#sequence;
    job.submittedMs = this.#clock.nowMs();
  }

  #accept(job: Job): void {
    this.#number(job);
    if (this.#state === 'ready') this.#dispatch(job);
    else this.#waiting.push(job);
  }

  #dispatch(job: Job): void {
    if (job.writes) {
      if (this.#settler.blocks(job)) return;
      if (this.#unflushed.bytes >= this.#options.unflushedBytesMax) {
        this.#parked.push(job);
        this.#flushInBackground();
        return;
      }
    }
    this.transmit(job);
  }

  /** One flush for each connection that took writes since the last: another may have reached a younger incarnation. */
  #transmitFlush(job: Job): void {
    if (job.request !== null && this.#owesReplays) {
      this.#finish(job, ERRNO.EIO);
      return;
    }
    if (!this.#features!.flush) {
      // There is nothing more to ask of it; writes kept from before it lost its flush were replayed.
      this.#proven(this.#unflushed.next);
      this.#finish(job, ERRNO.OK);
      return;
    }
    job.covers = this.#unflushed.next;
    job.incarnation = this.#incarnation;
    job.sentMs = this.#clock.nowMs();
    const dirty = this.#links.filter((link) => link.lastWrite >= this.#unflushed.first);
    if (dirty.length <= 1) {
      (dirty[0] ?? this.#links[job.lane % this.#links.length]).send(job);
      return;
    }
    job.flushesLeft = dirty.length;
    job.flushErrno = 0;
    for (const link of dirty) {
      const part = this.takeJob();
      part.op = OP.FLUSH;
      part.offset = 0;
      part.length = 0;
      part.whole = job;
      part.settled = this.#flushPartSettled;
      part.sequence = job.sequence;
      part.submittedMs = job.submittedMs;
      part.sentMs = job.sentMs;
      link.send(part);
    }
  }

  readonly #flushPartSettled = (errno: number, part: Job): void => {
    const job = part.whole!;
    job.flushesLeft -= 1;
    if (job.flushErrno === 0 || errno === LOST) job.flushErrno = errno;
    if (job.flushesLeft > 0) return;
    if (job.flushErrno === LOST) {
      this.#resend.push(job);
      return;
    }
    if (job.flushErrno === 0) this.#flushed(job);
    this.#finish(job, job.flushErrno);
  };

  /** Answers a job with EIO while the node has it still: only its range is remembered. */
  #orphan(job: Job): void {
    job.orphan = { expiresMs: Number.POSITIVE_INFINITY };
    if (job.writes) job.orphan = this.#protect(job, Number.POSITIVE_INFINITY);
    const { request, settled } = job;
    job.request = null;
    job.settled = null;
    if (settled !== null) settled(ERRNO.EIO, job);
    else request?.complete(ERRNO.EIO);
  }

  #protect(job: { offset: number; length: number }, expiresMs: number): GuardRange {
    const doubts = this.#options.memory?.doubts ?? null;
    const range = this.#guards.protect(job.offset, job.length, expiresMs, doubts?.number() ?? 0);
    if (doubts !== null) this.#unsaved.add(range);
    return range;
  }

  /** Calls `then` once the guards are durable as they are now. */
  #whenSaved(then: () => void): void {
    if (this.#unsaved.size === 0 && !this.#saving) {
      then();
      return;
    }
    this.#afterSave.push(then);
    if (!this.#saving) void this.#save();
  }

  async #save(): Promise<void> {
    this.#saving = true;
    const live = new Set(this.#guards.ranges());
    const ranges = [...this.#unsaved].filter((range) => live.has(range));
    const waiting = this.#afterSave;
    this.#unsaved.clear();
    this.#afterSave = [];
    try {
      await this.#options.memory!.doubts.save(
        ranges.flatMap((range) => this.#guards.touched(range.offset, range.end - range.offset).filter((each) => each.range === range)),
      );
    } catch (error) {
      // Nothing is acknowledged that a restart would not guard: it is tried again.
      this.#options.log.error(
        { target: this.target, reason: (error as Error).message },
        'ranges in doubt cannot be written down: writes to them wait',
      );
      for (const range of ranges) this.#unsaved.add(range);
      this.#afterSave = [...waiting, ...this.#afterSave];
      this.#clock.after(FLUSH_RETRY_MS, () => {
        if (!this.#over) void this.#save();
      });
      return;
    }
    this.#saving = false;
    for (const then of waiting) then();
    if (this.#afterSave.length > 0 && !this.#saving) void this.#save();
  }

  /** GuardSettler: a restart need not guard these ranges any more. */
  async strike(numbers: number[]): Promise<boolean> {
    try {
      await this.#options.memory?.doubts.remove(numbers);
      return true;
    } catch (error) {
      this.#options.log.warn({ target: this.target, reason: (error as Error).message }, 'settled ranges could not be struck off yet');
      return false;
    }
  }

  /** GuardSettler: told before anything that waited for it goes on. */
  settled(ranges: readonly { offset: number; end: number }[]): void {
    this.#events.settled(ranges);
  }

  #queueOf(name: 'resend' | 'waiting' | 'parked'): Job[] {
    return name === 'resend' ? this.#resend : name === 'waiting' ? this.#waiting : this.#parked;
  }

  #setQueue(name: 'resend' | 'waiting' | 'parked', jobs: Job[]): void {
    if (name === 'resend') this.#resend = jobs;
    else if (name === 'waiting') this.#waiting = jobs;
    else this.#parked = jobs;
  }

  /** A node answered a job. */
  #answered(link: Link, job: Job, errno: number): void {
    if (this.#over) {
      this.#recycle(job);
      this.#settleOrphans();
      return;
    }
    if (job.orphan !== null) {
      // Too late for anyone; it cannot land any more from now on.
      job.orphan.expiresMs = this.#clock.nowMs();
      const first = this.#firstWrites.delete(job);
      if (first) this.#replayAgain = true;
      const last = first && this.#firstWrites.size === 0;
      this.#recycle(job);
      if (last && this.#state === 'resending') this.#resent();
      else this.#settler.poke();
      return;
    }
    if (errno === ERRNO.ESHUTDOWN) {
      // The node did nothing and is going away: a lost connection, without the doubt.
      this.#putBack(job);
      for (const each of [...this.#links]) each.close('the node is shutting down');
      return;
    }
    this.counters.answered(job, errno, this.#clock.nowMs());
    if (errno === 0) {
      if (job.writes) this.#wrote(link, job);
      else if (job.op === OP.READ && !this.#guards.empty) this.#guards.patch(job.offset, job.data!);
      else if (job.op === OP.FLUSH && job.settled !== this.#flushPartSettled) this.#flushed(job);
    }
    // What a refused write left behind should not be mixed with a later replay of what was there before.
    if (job.writes && errno !== 0 && errno !== ERRNO.ENOTSUP && job.settled === null && this.#unflushed.count > 0)
      this.#flushInBackground();
    if (job.flushAfter && errno === 0) this.#flushAfter(job);
    else if (this.#unsaved.size > 0 || this.#saving) this.#finishWhenSaved(job, errno);
    else this.#finish(job, errno);
    this.#settler.poke();
  }

  /** Guarded bytes are told to nobody, neither as a write's success nor as a read's data, before a restart would know them. */
  #finishWhenSaved(job: Job, errno: number): void {
    if (job.op !== OP.FLUSH && !this.#guards.overlaps(job.offset, job.length)) {
      this.#finish(job, errno);
      return;
    }
    this.#delayed.add(job);
    this.#whenSaved(() => {
      if (this.#delayed.delete(job)) this.#finish(job, errno);
    });
  }

  #wrote(link: Link, job: Job): void {
    const { memory } = this.#options;
    const data = job.op === OP.WRITE ? job.data : null;
    if (!this.#guards.empty) {
      this.#guards.wrote(job.offset, job.length, data);
      if (memory !== null) for (const { range } of this.#guards.touched(job.offset, job.length)) this.#unsaved.add(range);
    }
    if (!this.#features!.flush) return;
    if (!job.replay) this.#unflushed.add(job.offset, job.length, data, job.punch);
    link.lastWrite = this.#unflushed.next - 1;
    if (memory !== null && data !== null && !job.replay && this.#clock.nowMs() >= this.#witnessFromMs)
      memory.witnesses.wrote(job.offset, data, link.lastWrite);
    if (this.#unflushed.bytes >= this.#options.unflushedBytesMax / 2) this.#flushInBackground();
  }

  #flushed(job: Job): void {
    if (job.incarnation === this.#incarnation) this.#proven(job.covers);
  }

  /** Every write below `sequence` is on stable storage: memory came free. */
  #proven(sequence: number): void {
    if (sequence > this.#unflushed.first) {
      this.#unflushed.dropBelow(sequence);
      this.#options.memory?.witnesses.proven(sequence);
    }
    if (this.#parked.length === 0 || this.#unflushed.bytes >= this.#options.unflushedBytesMax) return;
    const parked = this.#parked;
    this.#parked = [];
    for (const each of parked) {
      if (this.ready) this.#dispatch(each);
      else this.#waiting.push(each);
    }
  }

  /** A node without FUA took a FUA write: its answer waits for a flush. */
  #flushAfter(write: Job): void {
    const flush = this.takeJob();
    flush.op = OP.FLUSH;
    flush.offset = 0;
    flush.length = 0;
    flush.lane = write.lane;
    flush.whole = write;
    flush.settled = (errno) => this.#finish(write, errno);
    this.sendPart(flush);
  }

  #flushInBackground(): void {
    if (this.#backgroundFlush) return;
    this.#backgroundFlush = true;
    const flush = this.takeJob();
    flush.op = OP.FLUSH;
    flush.offset = 0;
    flush.length = 0;
    flush.settled = (errno) => {
      this.#backgroundFlush = false;
      if (this.#parked.length === 0) return;
      if (errno === 0) this.#flushInBackground();
      else this.#clock.after(FLUSH_RETRY_MS, () => !this.#over && this.#flushInBackground());
    };
    this.sendPart(flush);
  }

  #finish(job: Job, errno: number): void {
    const { request, settled } = job;
    const first = this.#firstWrites.delete(job);
    if (first && errno !== 0) this.#replayAgain = true;
    const last = first && this.#firstWrites.size === 0;
    if (settled !== null) {
      settled(errno, job);
      this.#recycle(job);
    } else {
      assert(request !== null);
      if (errno === 0) {
        if (job.op === OP.READ) request.data = job.data;
        else if (job.op === OP.STATUS) request.extents = job.extents;
      }
      this.#recycle(job);
      request.complete(errno);
    }
    if (last && this.#state === 'resending') this.#resent();
  }

  #recycle(job: Job): void {
    job.clear();
    this.#pool.push(job);
  }

  /** To be sent again once a connection stands, unless it was part of something that starts over. */
  #putBack(job: Job): void {
    if (job.replay) return;
    // Nothing is fast any more: refusing now could leave older bytes than the host may have seen.
    job.fast = false;
    if (job.settled === this.#flushPartSettled) this.#finish(job, LOST);
    else this.#resend.push(job);
  }

  #dial(): void {
    this.#timer = null;
    const address = this.#options.address();
    if (typeof address === 'string') {
      this.#retry(address);
      return;
    }
    const link = new Link(
      {
        dialer: this.#options.dialer,
        clock: this.#clock,
        address,
        exportName: this.#options.exportName,
        handshakeMs: HANDSHAKE_MS,
      },
      {
        ready: (ready, negotiated) => this.#linkReady(ready, negotiated),
        answered: (from, job, errno) => this.#answered(from, job, errno),
        closed: (closed, unanswered, reason) => this.#linkClosed(closed, unanswered, reason),
      },
    );
    this.#others.add(link);
  }

  #linkReady(link: Link, negotiated: Negotiated): void {
    if (this.#over) {
      link.close(this.#reason!);
      return;
    }
    const mismatch = findMismatch(negotiated, this.#options.needs);
    if (mismatch !== null) {
      if (this.#links.length === 0) this.#block(mismatch);
      link.close(mismatch);
      return;
    }
    this.#others.delete(link);
    this.#links.push(link);
    if (this.#links.length > 1) return;
    this.#features = featuresOf(negotiated);
    this.#incarnation += 1;
    this.#attempts = 0;
    this.#startCheck();
    if (this.#features.multiConn) for (let more = 1; more < this.#options.connections; more += 1) this.#dial();
  }

  #block(reason: string): void {
    this.#enter('blocked', reason);
    if (this.#told === reason) return;
    this.#told = reason;
    this.#events.blocked(reason);
  }

  /** Before anything is sent to a node that is back, it is asked for what it must hold (rule 20). */
  #startCheck(): void {
    const { memory } = this.#options;
    const samples = memory === null ? [] : [...memory.witnesses.samples(), ...memory.expected()].filter((sample) => this.#isSure(sample));
    if (memory === null || samples.length === 0) {
      this.#startReplay();
      return;
    }
    const [link] = this.#links;
    const timer = this.#clock.after(CHECK_MS, () => link.close(`it did not say within ${CHECK_MS} ms what it holds`));
    const check = new ContentsCheck(samples, memory.hasher, this, (finding) => {
      timer.cancel();
      void this.#checked(check, finding, memory);
    });
    this.#check = check;
    check.run();
  }

  /** Must the target hold it now? Not where it may have forgotten something that is sent again, or an old request may land. */
  #isSure(sample: Sample): boolean {
    const end = sample.offset + sample.length;
    if (this.#guards.overlaps(sample.offset, sample.length)) return false;
    for (const job of this.#resend) if (job.writes && job.offset < end && job.offset + job.length > sample.offset) return false;
    for (let sequence = this.#unflushed.first; sequence < this.#unflushed.next; sequence += 1) {
      const write = this.#unflushed.get(sequence);
      if (write.offset < end && write.offset + write.length > sample.offset) return false;
    }
    return true;
  }

  async #checked(check: ContentsCheck, finding: ContentsFinding, memory: TargetMemory): Promise<void> {
    if (finding.wrong > 0) {
      const goOn = await this.#events.unlike(finding);
      if (this.#check !== check) return;
      if (!goOn) {
        this.#check = null;
        this.#turnAway(
          `it came back with other contents: ${finding.wrong} of ${finding.checked} samples are not what was written there and flushed, the first at offset ${finding.offset}`,
        );
        return;
      }
      memory.witnesses.clear();
    }
    this.#check = null;
    this.#told = null;
    this.#startReplay();
  }

  /** The node stands and must not be used: it is looked at again later. */
  #turnAway(reason: string): void {
    const links = this.#links;
    this.#links = [];
    for (const link of links) {
      this.#torn.add(link);
      link.close(reason);
    }
    for (const link of this.#others) link.close(reason);
    this.#block(reason);
  }

  /** Requests of a replay, too, may land late if the gateway is killed: a restart must know of them (rule 13). */
  async #runReplay(replay: Replay): Promise<void> {
    const { memory, zombieMs } = this.#options;
    while (memory !== null && zombieMs > 0 && this.#replay === replay) {
      try {
        await memory.doubts.saveReplay(replay.ranges());
        break;
      } catch (error) {
        this.#options.log.error({ target: this.target, reason: (error as Error).message }, 'a replay cannot be written down and waits');
        await sleep(this.#clock, FLUSH_RETRY_MS);
      }
    }
    if (this.#replay === replay) replay.run();
  }

  #startReplay(): void {
    this.#replayAgain = false;
    this.#enter('replaying', 'the node is back and gets what it may have forgotten');
    const replay = new Replay(
      this.#unflushed,
      this.#resend.filter((job) => job.writes),
      this,
      (offset, length, data, errno) => this.#replayRefused(offset, length, data, errno),
      () => this.#replayed(),
    );
    this.#replay = replay;
    // What is sent again is guarded durably before it can be acknowledged.
    this.#whenSaved(() => void this.#runReplay(replay));
  }

  /** Every write that is sent again before anything else is answered. */
  #resent(): void {
    if (this.#replayAgain) this.#startReplay();
    else this.#becomeReady();
  }

  /** It would show older bytes than were acknowledged: reads get the right ones from a guard, which is written again and again. */
  #replayRefused(offset: number, length: number, data: Buffer | null, errno: number): void {
    this.#options.log.error(
      { target: this.target, offset, length, errno },
      'a node refused a write it may have forgotten: flushes fail until it takes it',
    );
    const range = this.#protect({ offset, length }, this.#clock.nowMs());
    this.#guards.wrote(offset, length, data);
    this.#refusedReplays.add(range);
  }

  get #owesReplays(): boolean {
    if (this.#refusedReplays.size === 0) return false;
    const live = new Set(this.#guards.ranges());
    for (const range of this.#refusedReplays) if (!live.has(range)) this.#refusedReplays.delete(range);
    return this.#refusedReplays.size > 0;
  }

  #replayed(): void {
    this.#replay = null;
    this.#options.memory?.doubts.saveReplay([]).catch((error: Error) => {
      this.#options.log.warn(
        { target: this.target, reason: error.message },
        'the end of a replay could not be written down; a restart guards its ranges',
      );
    });
    const writes = this.#resend.filter((job) => job.writes).sort((one, other) => one.sequence - other.sequence);
    this.#resend = this.#resend.filter((job) => !job.writes);
    if (writes.length === 0) {
      this.#resent();
      return;
    }
    this.#enter('resending', 'the node is back and gets the writes it did not answer');
    for (const job of writes) this.#firstWrites.add(job);
    for (const job of writes) this.transmit(job);
  }

  #becomeReady(): void {
    this.#enter('ready', null);
    const resend = this.#resend.sort((one, other) => one.sequence - other.sequence);
    this.#resend = [];
    for (const job of resend) this.transmit(job);
    this.#events.connected(this.#features!);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const job of waiting) {
      if (this.ready) this.#dispatch(job);
      else this.#waiting.push(job);
    }
    this.#settler.poke();
  }

  #linkClosed(link: Link, unanswered: Job[], reason: string): void {
    const stood = this.#links.indexOf(link);
    this.#others.delete(link);
    if (this.#over) {
      if (stood >= 0) this.#links.splice(stood, 1);
      this.#torn.delete(link);
      if (unanswered.some((job) => job.writes))
        this.#orphansUntilMs = Math.max(this.#orphansUntilMs, this.#clock.nowMs() + this.#options.zombieMs);
      this.#settleOrphans();
      return;
    }
    if (stood < 0 && !this.#torn.has(link)) {
      // Never stood. An extra connection that fails leaves fewer lanes; the first one is tried again.
      if (this.#links.length === 0 && this.#torn.size === 0) this.#retry(reason);
      return;
    }
    this.#torn.delete(link);
    if (stood >= 0) this.#lose(link, reason);
    this.#doubt(unanswered);
    if (this.#torn.size === 0) this.#retry(reason);
  }

  /** The first of our connections is gone: all share its fate, because each may have reached another incarnation. */
  #lose(first: Link, reason: string): void {
    const links = this.#links;
    this.#links = [];
    this.#dropCatchingUp();
    this.#firstWrites.clear();
    this.counters.disconnects += 1;
    this.#enter('connecting', reason);
    for (const link of links) {
      if (link === first) continue;
      this.#torn.add(link);
      link.close(`another connection to the node was lost: ${reason}`);
    }
    // None may stand before all of these have handed back what they carried.
    for (const link of this.#others) link.close(`another connection to the node was lost: ${reason}`);
    this.#events.lost(reason);
  }

  #dropCatchingUp(): void {
    this.#check?.stop();
    this.#check = null;
    this.#replay?.stop();
    this.#replay = null;
  }

  #doubt(unanswered: Job[]): void {
    const expiresMs = this.#clock.nowMs() + this.#options.zombieMs;
    for (const job of unanswered) {
      if (job.orphan !== null) {
        job.orphan.expiresMs = expiresMs;
        this.#recycle(job);
        continue;
      }
      if (job.writes && this.#options.zombieMs > 0) this.#protect(job, expiresMs);
      this.#putBack(job);
    }
  }

  #retry(reason: string): void {
    if (this.#over || this.#timer !== null || this.#others.size > 0) return;
    if (this.#state === 'connecting') this.#reason = reason;
    const delayMs = this.#state === 'blocked' ? BLOCKED_RETRY_MS : RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)];
    this.#attempts += 1;
    this.#timer = this.#clock.after(delayMs, () => this.#dial());
  }

  #dropQueues(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#dropCatchingUp();
    this.#settler.stop();
    this.#firstWrites.clear();
    this.#delayed.clear();
    this.#afterSave = [];
    this.#unsaved.clear();
    this.#waiting = [];
    this.#resend = [];
    this.#parked = [];
  }

  /** After `abandon`: closes what is idle, and tells when nothing old can land any more. */
  #settleOrphans(): void {
    if (this.#settled === null) return;
    for (const link of this.#links) if (link.inFlight > 0) return;
    for (const link of [...this.#links]) link.disconnect();
    if (this.#links.length > 0 || this.#torn.size > 0) return;
    const leftMs = this.#orphansUntilMs - this.#clock.nowMs();
    if (leftMs > 0) {
      this.#timer ??= this.#clock.after(leftMs, () => {
        this.#timer = null;
        this.#settleOrphans();
      });
      return;
    }
    const settled = this.#settled;
    this.#settled = null;
    settled();
  }
}
