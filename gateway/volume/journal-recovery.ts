// What a journal is for: after a restart of the gateway whose active target does not answer, a mirror gets the records it may
// lack, and takes over with all that hosts flushed (rules 8, 10 and 12). It may have, or lack, what was acknowledged and never
// flushed: so either it or the active target answers hosts, and never one after the other. Hosts wait (`bar.ts`) until one of the
// two is sure, and it is durable that no other mirror may take over by the journal. The others are brought in step as always.
import type { Device, DeviceRequest } from '../../replication/device.js';
import type { IntentLog } from '../../replication/intent-log.js';
import type { Journal } from '../../replication/journal.js';
import { ORIGIN, ReplicationQueue } from '../../replication/replication-queue.js';
import { type Clock, type Log, type Records, sleep } from '../../replication/world.js';
import type { VolumeFact } from '../control.js';
import { Bar } from './bar.js';
import type { Copies, MirrorCopy } from './copies.js';
import { type Copy, describeTarget } from './copy.js';
import type { Journaling, Member } from './journaling.js';

/** Bytes on their way to the mirror at once. */
const QUEUE_BYTES = 8 << 20;
const RETRY_MS = 1000;
const SYNC_RETRY_MS = 100;

type Range = { offset: number; length: number };

export interface JournalRecoveryOptions {
  volume: string;
  journaling: Journaling;
  copies: Copies;
  intents: IntentLog;
  records: Records;
  clock: Clock;
  log: Log;
  /** Requests of an earlier gateway may still land: what they hit must be written after them. */
  unsure(): boolean;
  fact(fact: VolumeFact): void;
  /** The mirror is brought in step from the active target. */
  begin(copy: Copy): void;
}

/** A mirror that the journal can make complete. */
interface Waiting {
  member: Member;
  copy: MirrorCopy;
  replaying: boolean;
  triedMs: number;
  /** Not null: it may take over, and may differ here in what no host has flushed. */
  unsure: Range[] | null;
}

export class JournalRecovery {
  readonly #options: JournalRecoveryOptions;
  readonly #waiting = new Map<Copy, Waiting>();
  /** The active target, or one that took over, answers. */
  #over = false;
  #bar: Bar | null = null;

  constructor(options: JournalRecoveryOptions) {
    this.#options = options;
  }

  /** A mirror as a restart finds it, with what is dirty. True: it is begun from here. */
  adopt(copy: MirrorCopy): boolean {
    const { journaling } = this.#options;
    if (copy.mirror.condition === 'failed' || !journaling.adopt(copy) || copy.mirror.dirty.count === 0) return false;
    const member = journaling.members.get(copy)!;
    member.awaiting = true;
    copy.mirror.defer();
    this.#waiting.set(copy, { member, copy, replaying: false, triedMs: Number.NEGATIVE_INFINITY, unsure: null });
    return true;
  }

  /** What hosts' requests go to as long as this active target is theirs. */
  inFrontOf(active: Device): Device {
    if (this.#waiting.size === 0) return active;
    this.#bar = new Bar(active);
    return this.#bar;
  }

  /** A few times a second. */
  tick(): void {
    const { copies, journaling, clock, unsure } = this.#options;
    for (const waiting of [...this.#waiting.values()]) {
      const { copy, member, replaying } = waiting;
      const { mirror } = copy;
      if (!this.#over && journaling.members.get(copy) === member) {
        if (copies.active.upstream.ready || replaying || !copy.upstream.ready || unsure()) continue;
        if (waiting.unsure === null) {
          if (clock.nowMs() - waiting.triedMs < RETRY_MS) continue;
          waiting.triedMs = clock.nowMs();
          waiting.replaying = true;
          void this.#recover(waiting, journaling.journal!).finally(() => {
            waiting.replaying = false;
            if (this.#over) this.#end(waiting);
          });
          // It was away meanwhile.
        } else if (!mirror.usable && mirror.dirty.count === 0) mirror.vouch();
      } else this.#end(waiting);
    }
    if (this.#waiting.size === 0) this.activeSeen();
  }

  /** The active target answers, with what no host has flushed too; or no mirror can take over by the journal any more. */
  activeSeen(): void {
    if (this.#over) return;
    this.#over = true;
    for (const waiting of [...this.#waiting.values()]) {
      this.#options.journaling.leave(waiting.copy);
      this.#end(waiting);
    }
    void this.#open();
  }

  /** Hosts' requests that waited, when another target answers them. */
  takeBack(): DeviceRequest[] {
    return this.#bar?.takeBack() ?? [];
  }

  /** Hosts that have waited too long get EIO; how many requests that were. */
  expire(limitMs: number): number {
    return this.#bar?.expire(this.#options.clock.nowMs() - limitMs) ?? 0;
  }

  /** Has the journal something for it that it has not got yet? */
  awaits(copy: Copy): boolean {
    return this.#waiting.has(copy);
  }

  /** Where a copy that takes over may differ from the one it follows. */
  unsure(copy: Copy): Range[] {
    return this.#waiting.get(copy)?.unsure ?? [];
  }

  /** What the others lack they get from the new active target. */
  flipped(to: Copy): void {
    this.#waiting.delete(to);
    this.activeSeen();
  }

  /** Once it is durable that no mirror may take over by the journal, the active target answers hosts. */
  async #open(): Promise<void> {
    const { journaling, copies, clock } = this.#options;
    if (this.#bar === null) return;
    while (!(await journaling.synced())) {
      if (copies.closed) return;
      await sleep(clock, SYNC_RETRY_MS);
    }
    this.#bar.open();
  }

  /** A mirror is an ordinary one again. */
  #end(waiting: Waiting): void {
    const { copy, member, replaying, unsure } = waiting;
    if (replaying) return;
    this.#waiting.delete(copy);
    member.awaiting = false;
    const { copies, begin } = this.#options;
    if (copies.closed || !copies.has(copy) || copy.mirror !== member.mirror) return;
    copy.mirror.recant(unsure ?? [], 'it did not have to take over');
    begin(copy);
  }

  /** Gives the mirror what it lacks. */
  async #recover(waiting: Waiting, journal: Journal): Promise<void> {
    const { volume, log, copies, journaling } = this.#options;
    const { copy, member } = waiting;
    const wanted = (): boolean =>
      !this.#over && !copies.closed && journaling.journal === journal && journaling.members.get(copy) === member;
    const upTo = journal.lastSequence;
    try {
      if (!(await this.#markDirty(waiting, journal)) || !wanted()) return;
      const records = await this.#replay(waiting, journal, wanted);
      if (records === null || !wanted() || (await copy.mirror.flush()) !== 0 || !wanted()) return;
      if (copy.mirror.condition === 'failed' || copy.mirror.startsOver !== member.startsOver) return;
      for (const other of this.#waiting.keys()) if (other !== copy) journaling.leave(other);
      journal.durable(member.id, upTo);
      if (!(await journaling.synced()) || !wanted()) return;
      this.#options.fact({ type: 'journal-replayed', target: copy.target, records });
      waiting.unsure = copy.mirror.vouch();
      log.warn(
        { volume, target: copy.target, records },
        'the active target does not answer; by the journal a mirror has all that hosts flushed',
      );
    } catch (error) {
      log.error({ volume, target: copy.target, reason: (error as Error).message }, 'the journal cannot be replayed');
    }
  }

  /** Until all is replayed the mirror is older where records are: a restart must know, whatever becomes of the journal. */
  async #markDirty({ copy, member }: Waiting, journal: Journal): Promise<boolean> {
    const { intents, records } = this.#options;
    const { extentBytes } = intents;
    const extents = new Set<number>();
    for await (const { offset, length } of journal.replay(member.id)) {
      const last = Math.floor((offset + length - 1) / extentBytes);
      for (let extent = Math.floor(offset / extentBytes); extent <= last; extent += 1) extents.add(extent);
    }
    const changes = copy.dirtyRecord!.add(extents);
    for (const extent of extents) copy.mirror.markDirty(extent * extentBytes, extentBytes);
    if (changes.length > 0) await records.commit(changes);
    return copy.mirror === member.mirror;
  }

  /** How many records the mirror took; null: it did not take all. */
  async #replay({ copy, member }: Waiting, journal: Journal, wanted: () => boolean): Promise<number | null> {
    const { clock, log, volume } = this.#options;
    let refused = false;
    let records = 0;
    const queue = new ReplicationQueue(copy.upstream, clock, {
      refused: (offset, length, errno) => {
        refused = true;
        log.error({ volume, target: describeTarget(copy.target), offset, length, errno }, 'a mirror refused a record of the journal');
      },
      room: () => {},
    });
    for await (const record of journal.replay(member.id)) {
      if (refused || !wanted()) break;
      queue.push(record, ORIGIN.HOST);
      records += 1;
      if (queue.hostBytes > QUEUE_BYTES) await queue.drained();
    }
    await queue.drained();
    return refused || !wanted() ? null : records;
  }
}
