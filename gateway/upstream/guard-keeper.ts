// Keeps guards durable (rule 13): a range in doubt and its newest bytes are written down before anyone is told of those
// bytes, neither as a write's success nor as a read's data. What touches no range that is still to be written down waits
// for nobody. Without a place to write them down (`doubts` is null) guards live as long as the process.
import { sleep, type Clock, type Log, type Timer } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { DoubtRecords } from './doubt-records.js';
import type { GuardRange, Guards } from './guards.js';
import type { Job } from './job.js';

const RETRY_MS = 1000;

export interface GuardKeeperOptions {
  target: TargetRef;
  guards: Guards;
  doubts: DoubtRecords | null;
  clock: Clock;
  log: Log;
}

export class GuardKeeper {
  readonly #options: GuardKeeperOptions;
  readonly #guards: Guards;
  readonly #doubts: DoubtRecords | null;
  readonly #tell: (job: Job, errno: number) => void;
  /** Not durable as they are now. */
  readonly #unsaved = new Set<GuardRange>();
  /** On their way to the store, as they were when that began. */
  #saving: GuardRange[] = [];
  #busy = false;
  /** What waits for the save that is under way, and for the one after it. */
  #waiting: (() => void)[] = [];
  #waitingNext: (() => void)[] = [];
  /** Answered by the node, not yet told. */
  readonly #delayed = new Set<Job>();
  #timer: Timer | null = null;
  #stopped = false;

  /** `tell` takes the jobs that were delayed. */
  constructor(options: GuardKeeperOptions, tell: (job: Job, errno: number) => void) {
    this.#options = options;
    this.#guards = options.guards;
    this.#doubts = options.doubts;
    this.#tell = tell;
  }

  /** Is anything guarded not durable as it is now? */
  get behind(): boolean {
    return this.#unsaved.size > 0 || this.#busy;
  }

  delayed(): Iterable<Job> {
    return this.#delayed;
  }

  /** Nobody is told of these any more by this way. */
  take(which: (job: Job) => boolean): Job[] {
    const taken = [...this.#delayed].filter(which);
    for (const job of taken) this.#delayed.delete(job);
    return taken;
  }

  /** Takes up what an earlier gateway wrote down. */
  load(expiresMs: number): void {
    for (const { number, offset, end, segments } of this.#doubts?.load() ?? []) {
      this.#unsaved.add(this.#guards.protect(offset, end - offset, expiresMs, number));
      for (const segment of segments) this.#guards.wrote(segment.offset, segment.end - segment.offset, segment.data);
    }
  }

  protect(offset: number, length: number, expiresMs: number): GuardRange {
    const range = this.#guards.protect(offset, length, expiresMs, this.#doubts?.number() ?? 0);
    if (this.#doubts !== null) this.#unsaved.add(range);
    return range;
  }

  /** A write was answered, or is acknowledged and kept for the node: guards of its range have newer bytes (null: zeroes). */
  wrote(offset: number, length: number, data: Buffer | null): void {
    this.#guards.wrote(offset, length, data);
    if (this.#doubts === null) return;
    for (const range of this.#guards.ranges()) if (touches(range, offset, length)) this.#unsaved.add(range);
  }

  /** A read was answered by the node: it gets the newest bytes that are kept, and what it shows of guarded ranges is kept from now on. */
  read(offset: number, bytes: Buffer): void {
    this.#guards.patch(offset, bytes);
    if (!this.#guards.pin(offset, bytes, this.#options.clock.nowMs()) || this.#doubts === null) return;
    for (const range of this.#guards.ranges()) if (touches(range, offset, bytes.length)) this.#unsaved.add(range);
  }

  /** Tells of a job that the node has answered, once every guard it touches is durable. */
  tellWhenSaved(job: Job, errno: number): void {
    const next = anyTouches(this.#unsaved, job);
    if (!next && !anyTouches(this.#saving, job)) {
      this.#tell(job, errno);
      return;
    }
    this.#delayed.add(job);
    const then = (): void => {
      if (this.#delayed.delete(job)) this.#tell(job, errno);
    };
    if (next) this.#afterSave(then);
    else this.#waiting.push(then);
  }

  /** Calls `then` once all guards are durable as they are now. */
  whenSaved(then: () => void): void {
    if (this.behind) this.#afterSave(then);
    else then();
  }

  /**
   * Writes down which ranges are being replayed (none: the replay is over) and tries until it is durable, as long as `wanted`.
   * Requests of a replay, too, may land late if the gateway is killed: a restart must know of them.
   */
  async saveReplay(ranges: [number, number][], wanted: () => boolean): Promise<void> {
    const { clock, log, target } = this.#options;
    while (this.#doubts !== null && wanted()) {
      try {
        await this.#doubts.saveReplay(ranges);
        return;
      } catch (error) {
        log.error({ target, reason: (error as Error).message }, 'a replay cannot be written down and waits');
        await sleep(clock, RETRY_MS);
      }
    }
  }

  /** A restart need not guard what was replayed. Should that not become durable, it does so for nothing. */
  strikeReplay(): void {
    this.#doubts?.saveReplay([]).catch((error: Error) => {
      const { log, target } = this.#options;
      log.warn({ target, reason: error.message }, 'the end of a replay could not be written down; a restart guards its ranges');
    });
  }

  /** A restart need not guard these ranges any more. False: that is not known to be durable. Never rejects. */
  async strike(numbers: number[]): Promise<boolean> {
    try {
      await this.#doubts?.remove(numbers);
      return true;
    } catch (error) {
      const { log, target } = this.#options;
      log.warn({ target, reason: (error as Error).message }, 'settled ranges could not be struck off yet');
      return false;
    }
  }

  /** Tells of nothing any more. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#delayed.clear();
    this.#unsaved.clear();
    this.#waiting = [];
    this.#waitingNext = [];
  }

  #afterSave(then: () => void): void {
    this.#waitingNext.push(then);
    if (!this.#busy) void this.#save();
  }

  async #save(): Promise<void> {
    this.#busy = true;
    const live = new Set(this.#guards.ranges());
    this.#saving = [...this.#unsaved].filter((range) => live.has(range));
    this.#unsaved.clear();
    this.#waiting = this.#waitingNext;
    this.#waitingNext = [];
    try {
      const records = this.#saving.map((range) => ({ range, segments: this.#guards.segmentsOf(range) }));
      if (records.length > 0) await this.#doubts!.save(records);
    } catch (error) {
      this.#saveAgain(error as Error);
      return;
    }
    this.#saving = [];
    this.#busy = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const then of waiting) then();
    if (this.#waitingNext.length > 0 && !this.#busy) void this.#save();
  }

  /** Nothing is acknowledged that a restart would not guard. */
  #saveAgain(error: Error): void {
    if (this.#stopped) return;
    const { clock, log, target } = this.#options;
    log.error({ target, reason: error.message }, 'ranges in doubt cannot be written down: writes to them wait');
    for (const range of this.#saving) this.#unsaved.add(range);
    this.#saving = [];
    this.#waitingNext = [...this.#waiting, ...this.#waitingNext];
    this.#waiting = [];
    this.#timer = clock.after(RETRY_MS, () => {
      this.#timer = null;
      void this.#save();
    });
  }
}

function touches(range: GuardRange, offset: number, length: number): boolean {
  return range.offset < offset + length && range.end > offset;
}

function anyTouches(ranges: Iterable<GuardRange>, job: Job): boolean {
  for (const range of ranges) if (touches(range, job.offset, job.length)) return true;
  return false;
}
