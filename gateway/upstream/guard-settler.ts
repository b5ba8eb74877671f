// Ends guards (rule 13): when no old request can land in a range any more, its newest bytes are written again and
// flushed, and only then reads come from the node again. Writes that touch such a range wait for that.
import { OP } from '../../replication/device.js';
import type { Clock, Timer } from '../../replication/world.js';
import type { GuardKeeper } from './guard-keeper.js';
import type { DueGuards, Guards } from './guards.js';
import type { Job } from './job.js';
import type { PartSender } from './splitter.js';

const RETRY_MS = 1000;

export interface SettlerHost {
  /** May writes be sent? */
  isReady(): boolean;
  writesInFlight(offset: number, end: number): boolean;
  /** What the target holds there was open, because an old request could land; now it stays as it is. Before anything that waited goes on. */
  settled(ranges: readonly { offset: number; end: number }[]): void;
}

interface Settling {
  due: DueGuards;
  started: boolean;
}

export class GuardSettler {
  readonly #guards: Guards;
  readonly #keeper: GuardKeeper;
  readonly #clock: Clock;
  readonly #sender: PartSender;
  readonly #host: SettlerHost;
  #timer: Timer | null = null;
  #settling: Settling | null = null;
  /** After a refusal nothing is tried before this moment. */
  #notBeforeMs = 0;
  #parked: Job[] = [];

  constructor(guards: Guards, keeper: GuardKeeper, clock: Clock, sender: PartSender, host: SettlerHost) {
    this.#guards = guards;
    this.#keeper = keeper;
    this.#clock = clock;
    this.#sender = sender;
    this.#host = host;
  }

  /** Guards were added, the node is back or a write was answered: see what can be done now. */
  poke(): void {
    if (this.#guards.empty || !this.#host.isReady()) return;
    if (this.#settling !== null) {
      this.#begin();
      return;
    }
    const nextMs = this.#guards.nextExpiryMs();
    if (nextMs === Number.POSITIVE_INFINITY) return;
    const nowMs = this.#clock.nowMs();
    const waitMs = Math.max(nextMs, this.#notBeforeMs) - nowMs;
    if (waitMs > 0) {
      if (this.#timer === null) this.#wakeAfter(waitMs);
      return;
    }
    this.#settling = { due: this.#guards.due(nowMs), started: false };
    this.#begin();
  }

  /** True: the write waits here until the range is settled. */
  blocks(job: Job): boolean {
    if (this.#settling === null) return false;
    for (const range of this.#settling.due.pieces) {
      if (job.offset < range.end && job.offset + job.length > range.offset) {
        this.#parked.push(job);
        return true;
      }
    }
    return false;
  }

  parked(): readonly Job[] {
    return this.#parked;
  }

  take(which: (job: Job) => boolean): Job[] {
    const taken = this.#parked.filter(which);
    this.#parked = this.#parked.filter((job) => !which(job));
    return taken;
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#settling = null;
    this.#parked = [];
  }

  /** Once no earlier write is on its way into the ranges: writes their newest bytes, then flushes. */
  #begin(): void {
    const settling = this.#settling!;
    if (settling.started) return;
    for (const range of settling.due.pieces) if (this.#host.writesInFlight(range.offset, range.end)) return;
    settling.started = true;
    let left = 1;
    let failed = 0;
    const settled = (errno: number): void => {
      left -= 1;
      if (errno !== 0) failed = errno;
      if (left === 0) this.#written(settling, failed);
    };
    for (const segment of this.#guards.newest(settling.due)) {
      left += 1;
      const job = this.#sender.takeJob();
      job.op = segment.data === null ? OP.ZEROES : OP.WRITE;
      job.offset = segment.offset;
      job.length = segment.end - segment.offset;
      job.data = segment.data;
      job.settled = settled;
      this.#sender.sendPart(job);
    }
    settled(0);
  }

  #written(settling: Settling, errno: number): void {
    if (this.#settling !== settling) return;
    if (errno !== 0) {
      this.#again();
      return;
    }
    const flush = this.#sender.takeJob();
    flush.op = OP.FLUSH;
    flush.offset = 0;
    flush.length = 0;
    flush.settled = (flushErrno) => {
      if (this.#settling !== settling) return;
      if (flushErrno !== 0) this.#again();
      else void this.#finish(settling);
    };
    this.#sender.sendPart(flush);
  }

  /** A restart must not take up old bytes for a range that is written freely again: first its record goes, then the guard. */
  async #finish(settling: Settling): Promise<void> {
    const struck = await this.#keeper.strike([...settling.due.guards].map((range) => range.number));
    if (this.#settling !== settling) return;
    if (!struck) {
      this.#again();
      return;
    }
    const unknown = this.#guards.unknown(settling.due);
    this.#guards.settle(settling.due);
    this.#settling = null;
    if (unknown.length > 0) this.#host.settled(unknown);
    const parked = this.#parked;
    this.#parked = [];
    for (const job of parked) this.#sender.sendPart(job);
    this.poke();
  }

  /** The node refused: the guards stay (reads are right), and it is tried again later; writes need not wait for that. */
  #again(): void {
    this.#settling = null;
    const parked = this.#parked;
    this.#parked = [];
    this.#notBeforeMs = this.#clock.nowMs() + RETRY_MS;
    for (const job of parked) this.#sender.sendPart(job);
    this.#wakeAfter(RETRY_MS);
  }

  #wakeAfter(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(delayMs, () => {
      this.#timer = null;
      this.poke();
    });
  }
}
