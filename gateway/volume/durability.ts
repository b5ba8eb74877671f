// What an answer waits for besides the active target (rule 8). `async`: nothing. `sync`: a write until every mirror has it, a
// flush until every mirror that is in step has flushed. `journal`: a flush or FUA until the journal is on disk; a mirror in step
// that the journal does not cover (it has just come, or there is no journal while its disk fails) is flushed instead, so that
// what hosts flushed is always in a second place as long as a mirror is in step.
import type { Journal } from '../../replication/journal.js';
import type { Mirror } from '../../replication/mirror.js';
import type { Clock } from '../../replication/world.js';
import type { VolumeOp } from './volume-op.js';
import type { VolumeSettings } from './volume-settings.js';
import { whileUsable } from './while-usable.js';

/** A mirror that does not flush in this time is not in step, and hosts wait for it no longer. */
const FLUSH_MS = 10_000;
/** The same for what is queued for it. */
const QUEUE_MS = 3000;

/** What is known of the mirrors of a journal. */
export interface Covering {
  /** Does the journal, with what the mirror has, make it complete? */
  covers(mirror: Mirror): boolean;
  /** A write waits for room in it. */
  crowded(): void;
}

const NOTHING: Covering = { covers: () => false, crowded: () => {} };

export interface DurabilityOptions {
  clock: Clock;
  /** Nothing more is waited for. */
  done(op: VolumeOp): void;
}

export class Durability {
  readonly #options: DurabilityOptions;
  #mirrors: Mirror[] = [];
  #policy: VolumeSettings['durability'] = 'async';
  #journal: Journal | null = null;
  #covering: Covering = NOTHING;
  /** That the journal counts no more is not durable yet: no flush is answered. */
  #blocked = false;
  #waiting: VolumeOp[] = [];
  /** Writes that were admitted, and those of them that have room in this journal. */
  #writes = 0;
  #reserved = 0;

  constructor(options: DurabilityOptions) {
    this.#options = options;
  }

  setMirrors(mirrors: Mirror[], policy: VolumeSettings['durability']): void {
    this.#mirrors = mirrors;
    this.#policy = policy;
  }

  /** From now on acknowledged writes go to this journal. */
  setJournal(journal: Journal | null, covering: Covering): void {
    this.#journal = journal;
    this.#covering = covering;
    this.#reserved = 0;
  }

  /** Is every write under way going to be in the journal? Only then may a mirror rely on it. */
  get allReserved(): boolean {
    return this.#journal !== null && this.#writes === this.#reserved;
  }

  /** A write is about to be admitted; false: the journal has no room for it now. */
  admit(op: VolumeOp): boolean {
    if (this.#journal !== null) {
      if (!this.#journal.reserve(op.op, op.length)) {
        this.#covering.crowded();
        return false;
      }
      op.journal = this.#journal;
      op.reserved = true;
      this.#reserved += 1;
    }
    this.#writes += 1;
    return true;
  }

  /** A write that was admitted is answered or has failed. */
  ended(op: VolumeOp): void {
    this.#writes -= 1;
    if (op.journal === null) return;
    if (op.reserved) op.journal.cancel(op.op, op.length);
    if (op.journal === this.#journal) this.#reserved -= 1;
  }

  /** The active target has a write: the mirrors get it, under its lock. */
  written(op: VolumeOp): void {
    const sync = this.#policy === 'sync';
    if (sync) op.copiesLeft = 1 + this.#mirrors.length;
    const applied = sync ? (): void => this.#copied(op) : null;
    for (const mirror of this.#mirrors) mirror.push(op, applied, sync && op.fua);
    if (op.reserved && op.journal === this.#journal) {
      op.reserved = false;
      this.#journal!.append(op);
    }
    if (sync) {
      this.#outlastJournal(op);
      this.#copied(op);
    } else if (op.fua) this.flushed(op);
    else this.#options.done(op);
  }

  /** A journal from before the policy was `sync` would be replayed over what the mirrors have, as long as it counts. */
  #outlastJournal(op: VolumeOp): void {
    if (this.#journal === null && !this.#blocked) return;
    op.copiesLeft += 1;
    if (this.#blocked) this.#waiting.push(op);
    else this.#journal!.sync(op);
  }

  /** The active target has flushed, or has a write with FUA. */
  flushed(op: VolumeOp): void {
    op.copiesLeft = 1;
    if (this.#blocked) this.#waiting.push(op);
    else {
      if (this.#policy !== 'async' || this.#journal !== null) this.#secure(op);
      this.#copied(op);
    }
  }

  /** The journal is on stable storage as far as `op` needs it; else nobody knows what is, and `resume` will be called. */
  journaled(op: VolumeOp, errno: number): void {
    if (errno === 0) this.#copied(op);
    else {
      this.#blocked = true;
      this.#waiting.push(op);
    }
  }

  /** The journal does not count any more; no flush is answered before `resume`. */
  block(): void {
    this.#blocked = true;
    this.setJournal(null, NOTHING);
  }

  /** That it does not count is durable: mirrors are flushed instead. */
  resume(): void {
    this.#blocked = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const op of waiting) {
      this.#secure(op);
      this.#copied(op);
    }
  }

  #secure(op: VolumeOp): void {
    const journal = this.#journal;
    for (const mirror of this.#mirrors) {
      if (!mirror.usable || (journal !== null && this.#policy !== 'sync' && this.#covering.covers(mirror))) continue;
      op.copiesLeft += 1;
      void this.#flush(mirror).then(() => this.#copied(op));
    }
    if (journal === null) return;
    op.copiesLeft += 1;
    journal.sync(op);
  }

  /** What was acknowledged before is on the mirror's stable storage afterwards, or the mirror is not in step. */
  async #flush(mirror: Mirror): Promise<void> {
    const { clock } = this.#options;
    const untilMs = clock.nowMs() + QUEUE_MS;
    const passed = mirror.queue.passed().then(() => true);
    if (!(await whileUsable(clock, mirror, () => untilMs, passed))) {
      if (mirror.usable) mirror.fallBack(`the mirror did not take what was queued within ${QUEUE_MS} ms`);
      return;
    }
    const lateMs = clock.nowMs() + FLUSH_MS;
    const errno = await whileUsable(clock, mirror, () => lateMs, mirror.flush());
    // One that was lost gets again what it had not flushed before it is in step again.
    if (errno === 0 || (errno === undefined && !mirror.usable)) return;
    const why = errno === undefined ? 'did not answer' : `refused (error ${errno})`;
    // Nobody can say what of its writes it has kept.
    mirror.copyAgain(0, mirror.dirty.sizeBytes, `the mirror ${why} a flush: all is copied again`);
  }

  /** One place more has it, or does not count any more. */
  #copied(op: VolumeOp): void {
    op.copiesLeft -= 1;
    if (op.copiesLeft === 0) this.#options.done(op);
  }
}
