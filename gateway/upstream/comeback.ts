// Brings a target that is back to where it was, in this order: it is asked for what it must hold (rule 20), gets again what
// it may have forgotten (rule 9), then the writes that it had not answered, before any read is sent, because a read may
// have seen them; then it is ready. Starts over with every incarnation.
import type { Clock, Log, Timer } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { Backlog } from './backlog.js';
import type { Connections } from './connections.js';
import { ContentsCheck, type ContentsFinding } from './contents-check.js';
import type { Flusher } from './flusher.js';
import type { GuardKeeper } from './guard-keeper.js';
import type { Guards } from './guards.js';
import type { Job } from './job.js';
import { Replay, type ReplaySender } from './replay.js';
import type { TargetMemory } from './upstream-world.js';
import type { Unflushed } from './unflushed.js';
import type { Sample } from './witnesses.js';

/** A node that shakes hands and then does not answer what it holds is tried again. */
const CHECK_MS = 10_000;

export interface ComebackOptions {
  target: TargetRef;
  memory: TargetMemory | null;
  /** How long a request of a lost connection may still land in the node. */
  zombieMs: number;
  connections: Connections;
  unflushed: Unflushed;
  guards: Guards;
  keeper: GuardKeeper;
  flusher: Flusher;
  backlog: Backlog;
  clock: Clock;
  log: Log;
}

export interface ComebackEvents {
  /** It gets what it may have forgotten, and then what it did not answer. */
  entered(stage: 'replaying' | 'resending', what: string): void;
  /** It is where it was. */
  done(): void;
  /** It does not hold what it must. True: that is known and will be mended, it may go on. */
  unlike(finding: ContentsFinding): Promise<boolean>;
}

export class Comeback {
  readonly #options: ComebackOptions;
  readonly #events: ComebackEvents;
  readonly #sender: ReplaySender;
  #check: ContentsCheck | null = null;
  #checkTimer: Timer | null = null;
  #replay: Replay | null = null;
  /** Writes sent again that must be answered before anything else is sent. */
  readonly #firstWrites = new Set<Job>();
  #resending = false;
  /** A write that a replay left out for being sent again was not carried out: what it was to overwrite is missing. */
  #again = false;

  constructor(options: ComebackOptions, sender: ReplaySender, events: ComebackEvents) {
    this.#options = options;
    this.#sender = sender;
    this.#events = events;
  }

  /** Only what it sends itself may be sent now. */
  get catchingUp(): boolean {
    return this.#check !== null || this.#replay !== null;
  }

  /** The first connection of an incarnation stands. */
  start(): void {
    const { memory, connections, clock } = this.#options;
    const witnesses = (memory?.witnesses.samples() ?? []).filter((sample) => this.#isSure(sample));
    const samples = [...witnesses, ...(memory?.expected() ?? []).filter((sample) => this.#isSure(sample))];
    if (memory === null || samples.length === 0) {
      this.#startReplay();
      return;
    }
    this.#checkTimer = clock.after(CHECK_MS, () => connections.drop(`it did not say within ${CHECK_MS} ms what it holds`));
    const check = new ContentsCheck(samples, witnesses.length, memory.hasher, this.#sender, (finding) => {
      this.#checkTimer?.cancel();
      void this.#checked(check, finding, memory);
    });
    this.#check = check;
    check.run();
  }

  /** The connections are gone: nothing of this comeback counts any more. */
  stop(): void {
    this.#checkTimer?.cancel();
    this.#check?.stop();
    this.#check = null;
    this.#replay?.stop();
    this.#replay = null;
    this.#firstWrites.clear();
    this.#resending = false;
  }

  /** A write that was to be sent again is given up. */
  droppedWrite(): void {
    if (this.#replay !== null) this.#again = true;
  }

  /** A job has its outcome (`failed`: it was not carried out, or nobody knows). True: tell `resent` once it was told. */
  ended(job: Job, failed: boolean): boolean {
    if (this.#firstWrites.size === 0 || !this.#firstWrites.delete(job)) return false;
    if (failed) this.#again = true;
    return this.#firstWrites.size === 0;
  }

  /** Every write that is sent again before anything else is answered. */
  resent(): void {
    if (!this.#resending) return;
    this.#resending = false;
    if (this.#again) this.#startReplay();
    else this.#events.done();
  }

  /** Must the target hold it now? Not where it may have forgotten something that is sent again, or an old request may land. */
  #isSure(sample: Sample): boolean {
    const { guards, backlog, unflushed } = this.#options;
    const end = sample.offset + sample.length;
    if (guards.overlaps(sample.offset, sample.length)) return false;
    for (const job of backlog.lostWrites()) if (job.offset < end && job.offset + job.length > sample.offset) return false;
    for (let sequence = unflushed.first; sequence < unflushed.next; sequence += 1) {
      const write = unflushed.get(sequence);
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
        this.#options.connections.turnAway(
          `it came back with other contents: ${finding.wrong} of ${finding.checked} samples are not what was written there and flushed, the first at offset ${Math.min(...finding.ranges.map(({ offset }) => offset))}`,
        );
        return;
      }
      memory.witnesses.clear();
    }
    this.#check = null;
    this.#startReplay();
  }

  #startReplay(): void {
    const { unflushed, backlog, keeper } = this.#options;
    this.#again = false;
    const replay = new Replay(
      unflushed,
      backlog.lostWrites(),
      this.#sender,
      (offset, length, data, errno) => this.#refused(offset, length, data, errno),
      () => this.#replayed(),
    );
    this.#replay = replay;
    this.#events.entered('replaying', 'the node is back and gets what it may have forgotten');
    // What is sent again is guarded durably before it can be acknowledged.
    keeper.whenSaved(() => void this.#run(replay));
  }

  /** A restart must know of what is replayed, too, before it is sent (rule 13). */
  async #run(replay: Replay): Promise<void> {
    const { zombieMs, keeper, memory } = this.#options;
    if (zombieMs > 0 && memory !== null) await keeper.saveReplay(replay.ranges(), () => this.#replay === replay);
    if (this.#replay === replay) replay.run();
  }

  /** It would show older bytes than were acknowledged: reads get the right ones from a guard, which is written again and again. */
  #refused(offset: number, length: number, data: Buffer | null, errno: number): void {
    const { log, target, keeper, flusher, clock } = this.#options;
    log.error({ target, offset, length, errno }, 'a node refused a write it may have forgotten: flushes fail until it takes it');
    const range = keeper.protect(offset, length, clock.nowMs());
    keeper.wrote(offset, length, data);
    flusher.owe(range);
  }

  #replayed(): void {
    const { keeper, backlog } = this.#options;
    this.#replay = null;
    keeper.strikeReplay();
    const writes = backlog.takeLostWrites();
    this.#resending = true;
    if (writes.length === 0) {
      this.resent();
      return;
    }
    this.#events.entered('resending', 'the node is back and gets the writes it did not answer');
    for (const job of writes) this.#firstWrites.add(job);
    for (const job of writes) this.#sender.transmit(job);
  }
}
