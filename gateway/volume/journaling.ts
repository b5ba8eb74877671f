// A volume's journal in use (rules 8 and 10): made and opened, joined by mirrors that are in step, given back by what they
// have flushed, left by those that do not keep up, dropped when its disk fails. Its life cycle is in replication/journal.ts.
//
// What a mirror has on stable storage, and the records behind that, are together all that hosts flushed, from its joining to
// its leaving, whatever of it is dirty meanwhile. What this gives after a restart is in journal-recovery.ts.
import type { Hasher } from '../../replication/hasher.js';
import { Journal } from '../../replication/journal.js';
import { FIRST_SEQUENCE } from '../../replication/journal-format.js';
import type { JournalFile } from '../../replication/journal-options.js';
import type { Mirror } from '../../replication/mirror.js';
import { type Clock, type Log, sleep, within } from '../../replication/world.js';
import { type JournalView, type Outcome, refuse, type VolumeFact } from '../control.js';
import type { Copies, MirrorCopy } from './copies.js';
import { type Copy, describeTarget } from './copy.js';
import type { IoPath } from './io-path.js';
import type { RecordKeeper } from './record-keeper.js';
import type { VolumeSettings } from './volume-settings.js';

/** What a mirror has is made durable, and told to the journal, so often. */
const SETTLE_MS = 1000;
/** A mirror has so long for it. */
const FLUSH_MS = 10_000;
/** Hosts wait so long for room that a mirror should make; then the mirror goes. */
const CROWDED_MS = 2000;
/** A journal that could not be made or written is tried again after this. */
const RETRY_MS = 10_000;
const RECORD_RETRY_MS = 200;

export interface VolumeJournalFile extends JournalFile {
  close(): Promise<void>;
}

/** Where the journals of volumes are. */
export interface JournalFiles {
  /** Refuses with `journal-missing`, `journal-damaged`, or another code when nothing may be overwritten there. */
  open(volume: string): Promise<Outcome<VolumeJournalFile>>;
  /** An empty one, in the place of whatever is there. */
  create(volume: string): Promise<Outcome<VolumeJournalFile>>;
  /** Largest batch; smaller ones are for simulated disks. */
  readonly batchBytesMax?: number;
}

export interface JournalingOptions {
  volume: string;
  files: JournalFiles;
  copies: Copies;
  keeper: RecordKeeper;
  path: IoPath;
  hasher: Hasher;
  clock: Clock;
  log: Log;
  settings(): VolumeSettings;
  fact(fact: VolumeFact): void;
}

/** A mirror that the journal keeps records for. */
export interface Member {
  readonly id: number;
  readonly mirror: Mirror;
  /** Contents it lost before count for nothing. */
  readonly startsOver: number;
  settling: boolean;
  settledMs: number;
  /** It is told what it has when the active target is there: nothing yet. */
  awaiting: boolean;
}

export class Journaling {
  readonly members = new Map<Copy, Member>();
  readonly #options: JournalingOptions;
  #journal: Journal | null = null;
  #file: VolumeJournalFile | null = null;
  #reason: string | null = null;
  #making = false;
  /** That the last one does not count is not durable yet. */
  #dropping = false;
  #retryMs = Number.NEGATIVE_INFINITY;
  #crowdedMs: number | null = null;
  #closed = false;

  constructor(options: JournalingOptions) {
    this.#options = options;
  }

  get journal(): Journal | null {
    return this.#journal;
  }

  /** Null: the policy wants none, and there is none. */
  view(): JournalView | null {
    const journal = this.#journal;
    if (journal === null && this.#options.settings().durability !== 'journal') return null;
    return {
      state: journal !== null ? 'ready' : this.#reason === null ? 'opening' : 'failed',
      reason: this.#reason,
      usedBytes: journal?.usedBytes ?? 0,
      sizeBytes: journal?.ringBytes ?? 0,
      covers: [...this.members].filter(([, { id }]) => journal?.covers(id)).map(([copy]) => copy.target.node),
    };
  }

  /** The one that the record names, before anything is sent. One that holds nothing any more is given up; one that nobody may touch is refused. */
  async open(): Promise<Outcome<null>> {
    const { volume, files, keeper, log } = this.#options;
    const { journal: named, epoch } = keeper.record;
    if (named === undefined) return { ok: true, value: null };
    const file = await files.open(volume);
    let lost: string | null = null;
    if (!file.ok) {
      if (file.code !== 'journal-missing' && file.code !== 'journal-damaged') return file;
      lost = file.message;
    } else {
      const opening = await this.#openIn(file.value, epoch, named.firstSequence);
      if (opening.ok && opening.journal.incomplete === null) {
        this.#attach(opening.journal, file.value);
        return { ok: true, value: null };
      }
      await file.value.close();
      if (!opening.ok && opening.problem === 'unreadable') {
        return refuse(
          'journal-unusable',
          `the journal of ${volume} cannot be read: ${opening.reason}; without the file the volume goes on`,
        );
      }
      lost = opening.ok ? opening.journal.incomplete!.reason : opening.reason;
    }
    log.error({ volume, reason: lost }, 'the journal holds nothing that counts: mirrors are brought in step from the active target');
    try {
      await keeper.setJournal(undefined);
    } catch (error) {
      return refuse('store-unwritable', `that the journal is lost cannot be written down: ${(error as Error).message}`);
    }
    return { ok: true, value: null };
  }

  /** A mirror as a restart finds it: does a replay make it complete? */
  adopt(copy: MirrorCopy): boolean {
    const journal = this.#journal;
    const id = numberOf(copy);
    if (journal === null || journal.shortfall(id) !== null) return false;
    this.#add(copy, id);
    return true;
  }

  /** Mirrors of which no adopted copy speaks are gone. */
  adopted(): void {
    const known = new Set([...this.members.values()].map(({ id }) => id));
    for (const id of this.#journal?.destinations ?? []) if (!known.has(id)) this.#journal!.leave(id);
  }

  /** A few times a second. */
  tick(): void {
    if (this.#closed) return;
    const { settings, copies, path, clock } = this.#options;
    const wanted = settings().durability === 'journal';
    const journal = this.#journal;
    if (journal === null) {
      if (wanted && !this.#making && !this.#dropping && clock.nowMs() >= this.#retryMs) void this.#make();
      return;
    }
    const idle = [...this.members.values()].every(({ awaiting }) => !awaiting);
    if (!wanted && idle) {
      void this.#drop();
      return;
    }
    for (const [copy, member] of this.members) if (!this.#holdsOn(copy, member)) this.leave(copy);
    for (const copy of copies.mirrors) {
      if (this.members.has(copy) || !copy.mirror.complete || copies.isLeaving(copy) || !path.durability.allReserved) continue;
      const id = numberOf(copy);
      if (journal.join(id)) this.#add(copy, id);
    }
    this.#makeRoom();
    for (const [copy, member] of this.members) if (this.#isDue(member)) void this.#settle(copy, member);
  }

  leave(copy: Copy): void {
    const member = this.members.get(copy);
    if (member === undefined) return;
    this.members.delete(copy);
    this.#journal?.leave(member.id);
  }

  /** What a flip's transaction says of the journal. */
  startAt(to: Copy): { firstSequence: number } | undefined {
    const member = this.members.get(to);
    return this.#journal === null ? undefined : { firstSequence: this.#journal.epochStart(member?.id ?? Number.NaN) };
  }

  /** The flip is durable. */
  flipped(to: Copy, epoch: number): void {
    this.#journal?.beginEpoch(epoch);
    this.leave(to);
  }

  /** Resolves to whether all that was acknowledged so far is in the journal durably, or needs not be. */
  synced(): Promise<boolean> {
    const journal = this.#journal;
    if (journal === null) return Promise.resolve(!this.#dropping);
    return new Promise((resolve) => journal.sync({ journaled: (errno) => resolve(errno === 0) }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    const journal = this.#journal;
    const file = this.#file;
    if (journal === null) return;
    await journal.close();
    // One that has failed meanwhile is given up, with its file, as at any other time.
    if (this.#journal === journal) await file!.close();
  }

  #openIn(file: VolumeJournalFile, epoch: number, firstSequence: number): ReturnType<typeof Journal.open> {
    const { volume, files, hasher, clock, path } = this.#options;
    const opened: { journal: Journal | null } = { journal: null };
    return Journal.open({
      file,
      sum: hasher.sum,
      clock,
      volume,
      epoch,
      firstSequence,
      batchBytesMax: files.batchBytesMax,
      room: () => path.roomCame(),
      failed: (reason) => this.#failed(opened.journal, reason),
    }).then((opening) => {
      if (opening.ok) opened.journal = opening.journal;
      return opening;
    });
  }

  #attach(journal: Journal, file: VolumeJournalFile): void {
    this.#journal = journal;
    this.#file = file;
    this.#reason = null;
    this.#options.path.durability.setJournal(journal, {
      covers: (mirror) => [...this.members.values()].some((member) => member.mirror === mirror && journal.covers(member.id)),
      crowded: () => this.#makeRoom(),
    });
  }

  #add(copy: MirrorCopy, id: number): void {
    const { mirror } = copy;
    const settledMs = Number.NEGATIVE_INFINITY;
    this.members.set(copy, { id, mirror, startsOver: mirror.startsOver, settling: false, settledMs, awaiting: false });
  }

  async #make(): Promise<void> {
    const { volume, clock, log, fact } = this.#options;
    this.#making = true;
    const made = await this.#create();
    if (!made.ok) {
      this.#retryMs = clock.nowMs() + RETRY_MS;
      if (this.#reason !== made.message) {
        log.error({ volume, reason: made.message }, 'there is no journal: mirrors are flushed instead');
        fact({ type: 'journal-state', state: 'failed', reason: made.message });
      }
      this.#reason = made.message;
    } else fact({ type: 'journal-state', state: 'ready', reason: null });
    this.#making = false;
  }

  async #create(): Promise<Outcome<null>> {
    const { volume, files, keeper } = this.#options;
    const file = await files.create(volume);
    if (!file.ok) return file;
    const { epoch } = keeper.record;
    const opening = await this.#openIn(file.value, epoch, FIRST_SEQUENCE);
    let reason: string;
    if (opening.ok && opening.journal.incomplete !== null) {
      // It was empty a moment ago: its disk does not give back what was written.
      reason = opening.journal.incomplete.reason;
    } else if (opening.ok) {
      try {
        await keeper.setJournal({ firstSequence: FIRST_SEQUENCE });
        if (!this.#closed && opening.journal.failure === null) {
          if (keeper.record.epoch > epoch) opening.journal.beginEpoch(keeper.record.epoch);
          this.#attach(opening.journal, file.value);
          return { ok: true, value: null };
        }
        reason = 'the volume is shutting down';
      } catch (error) {
        reason = (error as Error).message;
      }
    } else reason = opening.reason;
    await file.value.close();
    return refuse('journal-unusable', `the journal of ${volume} cannot be begun: ${reason}`);
  }

  /** Does the member still have, with its records, all that it must? */
  #holdsOn(copy: Copy, { mirror, startsOver }: Member): boolean {
    const { copies } = this.#options;
    return (
      copy.mirror === mirror &&
      copies.has(copy) &&
      !copies.isLeaving(copy) &&
      mirror.condition !== 'failed' &&
      mirror.startsOver === startsOver
    );
  }

  #isDue({ id, mirror, settling, settledMs, awaiting }: Member): boolean {
    const journal = this.#journal!;
    if (settling || awaiting || !mirror.usable) return false;
    if (!journal.covers(id)) return true;
    if (journal.durableOf(id) >= journal.lastSequence) return false;
    const ageMs = this.#options.clock.nowMs() - settledMs;
    return ageMs >= SETTLE_MS || journal.crowded || journal.usedBytes > journal.ringBytes / 4;
  }

  /** Makes what the mirror has durable and tells the journal. */
  async #settle(copy: Copy, member: Member): Promise<void> {
    const { clock, copies } = this.#options;
    const { id, mirror } = member;
    const journal = this.#journal!;
    const sequence = journal.lastSequence;
    const { additions } = mirror.dirty;
    member.settling = true;
    const errno = await within(
      clock,
      FLUSH_MS,
      mirror.queue.passed().then(() => mirror.flush()),
    );
    member.settling = false;
    if (this.#journal !== journal || this.members.get(copy) !== member || copies.closed || !this.#holdsOn(copy, member)) return;
    member.settledMs = clock.nowMs();
    if (errno !== undefined && errno !== 0) {
      mirror.copyAgain(0, mirror.dirty.sizeBytes, `the mirror refused (error ${errno}) a flush: all is copied again`);
    } else if (errno === 0 && mirror.complete && mirror.dirty.additions === additions) journal.durable(id, sequence);
    if (journal.crowded) this.#makeRoom();
  }

  /** Hosts wait for room: mirrors that can make it are asked, others go. */
  #makeRoom(): void {
    const journal = this.#journal;
    if (journal === null || !journal.crowded) {
      this.#crowdedMs = null;
      return;
    }
    const nowMs = this.#options.clock.nowMs();
    this.#crowdedMs ??= nowMs;
    for (const [copy, member] of this.members) {
      const late = nowMs - this.#crowdedMs > CROWDED_MS && member.settledMs < this.#crowdedMs;
      if (!member.mirror.complete || late) {
        this.#options.log.warn(
          { target: describeTarget(copy.target) },
          'the journal is full and a mirror makes no room: it goes on without it',
        );
        this.leave(copy);
      } else if (this.#isDue(member)) void this.#settle(copy, member);
    }
  }

  /** Its disk refused something: nothing in it counts any more. */
  #failed(journal: Journal | null, reason: string): void {
    if (journal === null || this.#journal !== journal) return;
    const { volume, log, clock, fact } = this.#options;
    log.error({ volume, reason }, 'the journal failed: mirrors are flushed instead');
    fact({ type: 'journal-state', state: 'failed', reason });
    this.#reason = reason;
    this.#retryMs = clock.nowMs() + RETRY_MS;
    void this.#drop();
  }

  /** No flush is answered before it is durable that nothing in the journal counts: it would be replayed over newer data. */
  async #drop(): Promise<void> {
    const { path, keeper, copies, clock, log, volume } = this.#options;
    const journal = this.#journal!;
    const file = this.#file!;
    this.#journal = null;
    this.#file = null;
    this.members.clear();
    this.#dropping = true;
    path.durability.block();
    while (this.#dropping && !copies.closed) {
      try {
        await keeper.setJournal(undefined);
        this.#dropping = false;
        path.durability.resume();
        path.roomCame();
      } catch (error) {
        log.error({ volume, reason: (error as Error).message }, 'that the journal is given up cannot be written down: flushes wait');
        await sleep(clock, RECORD_RETRY_MS);
      }
    }
    await journal.close();
    await file.close().catch((error: Error) => log.warn({ volume, reason: error.message }, 'the file of the journal cannot be closed'));
  }
}

/** `m5` is 5: never used for another mirror. */
function numberOf(copy: MirrorCopy): number {
  return Number(copy.id.slice(1));
}
