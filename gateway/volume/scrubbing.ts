// What a volume does to know that its copies are alike: scrubs that are asked for, the reading back in the background, a sample
// before a flip, and the list of regions that differ where nobody can tell which copy is right.
import { isDeepStrictEqual } from 'node:util';
import { type ComparedCopy, Comparer, type Mismatch, type MismatchKind, ROTTEN } from '../../replication/comparer.js';
import type { Hasher } from '../../replication/hasher.js';
import type { RangeLock } from '../../replication/range-lock.js';
import { ReadBack } from '../../replication/read-back.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { newPass, Scrub } from '../../replication/scrub.js';
import type { Throttle } from '../../replication/throttle.js';
import type { Clock, Log, Records } from '../../replication/world.js';
import type { Outcome, ScrubReport, VolumeFact } from '../control.js';
import { refuse } from '../control.js';
import { Damage } from './damage.js';
import type { LostRanges } from './lost-ranges.js';
import { ScrubRecord, type UnfinishedScrub } from './scrub-record.js';
import { ScrubTimes } from './scrub-times.js';

/** Regions read back just before a flip, and for how long at most: a mirror that lies is found, and hosts do not wait for it. */
const SAMPLES = 32;
const SAMPLE_MS = 250;
/** A target that could not be mended is tried again after this. */
const MEND_RETRY_MS = 5000;
/** How far a scrub is is written down so often at most; one that was interrupted is taken up after this at the earliest. */
const RECORD_EVERY_MS = 10_000;
const RESUME_RETRY_MS = 5000;
/** Mismatches kept for the next scrub's report. */
const FOUND_MAX = 1000;
/** Offsets of damage named in a refusal. */
const OFFSETS_TOLD = 100;

export interface ScrubbingOptions {
  volume: string;
  /** A scrub compares so much at a time. */
  chunkBytes: number;
  /** The active copy first. */
  copies(): ComparedCopy[];
  lock: RangeLock;
  sums: RegionSums;
  lost: LostRanges;
  records: Records;
  hasher: Hasher;
  throttle: Throttle;
  clock: Clock;
  log: Log;
  fact(fact: VolumeFact): void;
}

export class Scrubbing {
  readonly #options: ScrubbingOptions;
  readonly #readBack: ReadBack;
  readonly #record: ScrubRecord;
  /** When regions that are verified were last found alike. */
  readonly times: ScrubTimes;
  #current: { job: Scrub; report: ScrubReport; startedMs: number; fromBytes: number } | null = null;
  /** A pass that was stopped, or that an earlier gateway was in; it goes on once all is quiet. */
  #unfinished: UnfinishedScrub | null;
  #resumeAfterMs = 0;
  #recordAfterMs = 0;
  #last: ScrubReport | null = null;
  /** Where the copies differ and nobody can tell which is right: no flip until that is mended. */
  readonly #damage: Damage;
  /** Regions that are wrong on the active copy, by offset, or on every copy that was read: not read there until they are mended, which is tried again. */
  readonly #suspects = new Map<number, 'active' | 'every'>();
  #mendAfterMs = 0;
  /** The latest step of the reading back. */
  #background: Promise<void> = Promise.resolve();
  /** What was found outside of a scrub since the last one: the next one reports it. */
  readonly #found: Mismatch[] = [];
  /** When the oldest of what is verified now was read back, or before. */
  #verifiedSince: number | null = null;
  #closed = false;

  constructor(options: ScrubbingOptions) {
    this.#options = options;
    const { sums, clock, records, volume, log, chunkBytes } = options;
    const { sizeBytes } = sums;
    this.times = new ScrubTimes({ clock, sizeBytes, regionBytes: sums.regionBytes, extentBytes: options.chunkBytes });
    this.#damage = new Damage(records, volume, log);
    this.#record = new ScrubRecord(records, volume, log);
    this.#unfinished = this.#record.read({ sizeBytes, chunkBytes });
    this.#readBack = new ReadBack({
      comparer: this.#comparer((mismatch, kind) => {
        if (this.#found.length < FOUND_MAX) this.#found.push(mismatch);
        this.#note(mismatch, kind);
      }),
      sums,
      clock,
      saved: () => this.#save(),
    });
  }

  get running(): boolean {
    return this.#current !== null;
  }

  /** Of the scrub under way, or of the last. */
  get report(): ScrubReport | null {
    return this.#current?.report ?? this.#last;
  }

  /** Do copies differ where nobody can tell which is right? */
  get damaged(): boolean {
    return this.#damage.differing > 0;
  }

  /** When the first of the regions that are verified now was read back, as ISO 8601; null: none is. */
  get verifiedSince(): string | null {
    return this.#options.sums.verified.count === 0 || this.#verifiedSince === null ? null : new Date(this.#verifiedSince).toISOString();
  }

  /** Why no flip may be made while copies differ; null: it may. */
  refusal(): Outcome<never> | null {
    const { volume } = this.#options;
    const differing = this.#damage.differing;
    if (differing === 0) return null;
    const count = this.#damage.leftOut > 0 ? `At least ${differing}` : `${differing}`;
    return refuse(
      'copies-differ',
      `${count} regions of ${volume} differ between the copies and no checksum tells which is right: mend them before a flip`,
      { offsets: this.#damage.offsets().slice(0, OFFSETS_TOLD) },
    );
  }

  /** The region at this offset is not what it must be on the active copy, or on `every` copy that was read: it is compared soon, and not read there before. */
  suspect(offset: number, where: 'active' | 'every' = 'active'): void {
    const { sums } = this.#options;
    const first = offset - (offset % sums.regionBytes);
    sums.unverify(first / sums.regionBytes);
    if (this.#suspects.get(first) !== 'every') this.#suspects.set(first, where);
  }

  /** Is nobody to read there, because the active copy is not right, or (`everywhere`) no copy is known to be? */
  fences(offset: number, length: number, everywhere: boolean): boolean {
    if (this.#options.lost.fences(offset, length, everywhere)) return true;
    if (this.#damage.count === 0 && this.#suspects.size === 0) return false;
    const { regionBytes } = this.#options.sums;
    for (let at = offset - (offset % regionBytes); at < offset + length; at += regionBytes)
      if (this.#damage.has(at) || (everywhere ? this.#suspects.get(at) === 'every' : this.#suspects.has(at))) return true;
    return false;
  }

  /** Is some of it in a region that is wrong on every copy? */
  rotten(offset: number, length: number): boolean {
    return (this.#damage.count > 0 || this.#suspects.size > 0) && this.#rottenIn(offset, length).length > 0;
  }

  /**
   * A host is about to write there, after which no checksum tells any more that the rest is wrong: the regions that are wrong on
   * every copy are lost. Under their lock.
   */
  async giveUp(offset: number, length: number): Promise<void> {
    const { sums, lost } = this.#options;
    const given = this.#rottenIn(offset, length);
    const ranges = given.map((first) => ({ offset: first, end: Math.min(sums.sizeBytes, first + sums.regionBytes) }));
    if (!(await lost.condemn(ranges, 'every copy has it wrong, and a host wrote a part of it'))) return;
    for (const first of given) {
      this.#damage.delete(first);
      this.#suspects.delete(first);
    }
    void this.#damage.save();
  }

  #rottenIn(offset: number, length: number): number[] {
    const { regionBytes } = this.#options.sums;
    const rotten: number[] = [];
    for (let at = offset - (offset % regionBytes); at < offset + length; at += regionBytes)
      if (this.#damage.isRotten(at) || this.#suspects.get(at) === 'every') rotten.push(at);
    return rotten;
  }

  /** Reads some of the copies back. Not null: they differ, which is no time to flip; what could be mended is. */
  async sample(): Promise<Outcome<never> | null> {
    const { sums, volume } = this.#options;
    if (this.#current !== null || sums.verified.count === sums.verified.regions) return this.refusal();
    this.#since();
    const before = this.#found.length;
    await this.#readBack.sample(SAMPLES, SAMPLE_MS);
    const refused = this.refusal();
    const differing = this.#found.slice(before).filter(({ reason }) => reason !== ROTTEN).length;
    if (refused !== null || differing === 0) return refused;
    return refuse(
      'copies-differ',
      `${differing} of the regions of ${volume} that were read back before the flip differed between the copies and were mended: scrub it, then try again`,
    );
  }

  /** One pass over the whole volume, or the rest of one that was interrupted. Its report includes what the reading back found since the last one. */
  async scrub(cause: string): Promise<Outcome<ScrubReport>> {
    const { volume, sums, chunkBytes, log } = this.#options;
    const { sizeBytes } = sums;
    if (this.#current !== null) return refuse('scrub-running', `a scrub of ${volume} is under way already`);
    if (this.#options.copies().length < 2)
      return refuse('nothing-to-compare', `${volume} has one copy only: there is nothing to compare it with`);
    const { progress, startedAt, mismatches } = this.#takeUp();
    const report: ScrubReport = {
      volume,
      startedAt,
      finishedAt: null,
      state: 'running',
      comparedBytes: progress.comparedBytes,
      totalBytes: sizeBytes,
      mismatches,
      bytesPerSecond: 0,
    };
    const comparer = this.#comparer((mismatch, kind) => {
      report.mismatches.push(mismatch);
      this.#note(mismatch, kind);
    });
    const job = new Scrub({ comparer, sizeBytes, chunkBytes, progress, saved: () => this.#passed() });
    this.#since();
    this.#recordAfterMs = this.#options.clock.nowMs() + RECORD_EVERY_MS;
    this.#current = { job, report, startedMs: this.#options.clock.nowMs(), fromBytes: progress.comparedBytes };
    log.info({ volume, cause, comparedBytes: progress.comparedBytes }, 'a scrub begins');
    // What the reading back is mending at this moment would be found right by the scrub: it is reported, too.
    await this.#background;
    report.mismatches.push(...this.#found.splice(0));
    return { ok: true, value: await this.#finish(report, job) };
  }

  async #finish(report: ScrubReport, job: Scrub): Promise<ScrubReport> {
    const { clock, fact } = this.#options;
    const leftOut = this.#damage.leftOut;
    const ended = await job.run();
    const whole = ended && job.progress.whole;
    this.#measure();
    this.#forgetMended();
    if (whole && this.#damage.leftOut === leftOut) this.#damage.listed();
    await this.#damage.save();
    this.#unfinished = ended ? null : this.#inProgress();
    this.#resumeAfterMs = clock.nowMs() + RESUME_RETRY_MS;
    await this.#record.save(this.#unfinished);
    report.state = whole ? 'done' : 'stopped';
    report.finishedAt = new Date(clock.wallMs()).toISOString();
    this.#current = null;
    this.#last = report;
    fact({ type: 'scrub-finished', report });
    return report;
  }

  /** A few times a second. `idle`: nothing else is being copied or moved. */
  tick(idle: boolean): void {
    this.#measure();
    if (this.#closed) return;
    void this.#damage.save();
    if (!idle || this.#current !== null || this.#readBack.running || this.#options.copies().length < 2) return;
    this.#since();
    if (this.#unfinished !== null && this.#options.clock.nowMs() >= this.#resumeAfterMs) {
      if (this.#isOf(this.#unfinished)) void this.scrub('the last one was interrupted');
      else this.#forgetUnfinished();
      return;
    }
    if (this.#suspects.size > 0 && this.#options.clock.nowMs() >= this.#mendAfterMs) this.#background = this.#mendSuspects();
    else this.#background = this.#readBack.step().then(() => this.#forgetMended());
  }

  /** The last mirror is gone: there is nothing left that could differ. */
  forgetDamage(): void {
    this.#damage.clear();
    this.#suspects.clear();
    this.#options.lost.onlyActive();
    if (this.#unfinished !== null) this.#forgetUnfinished();
    void this.#damage.save();
  }

  /**
   * Before the volume grows, which makes what is known of its short last region void: that is compared once more. Not null: something
   * differs, or must not be read there, and would be taken for right afterwards.
   */
  async beforeGrowth(): Promise<Outcome<never> | null> {
    const { sums, copies } = this.#options;
    const last = Math.floor(sums.sizeBytes / sums.regionBytes) * sums.regionBytes;
    if (last < sums.sizeBytes && copies().length > 1) {
      await this.#background;
      this.#background = this.#readBack.compare([last]);
      await this.#background;
      this.#forgetMended();
    }
    return this.openIn(last / sums.regionBytes);
  }

  /** Not null: copies differ, or the region is known to be wrong on one. */
  openIn(region: number): Outcome<never> | null {
    const { volume, sums } = this.#options;
    const offset = region * sums.regionBytes;
    if (!this.#damage.has(offset) && !this.#suspects.has(offset)) return this.refusal();
    return refuse('copies-differ', `the last region of ${volume}, at ${offset}, is wrong on a copy and not mended yet: try again later`);
  }

  /** It has grown. A pass under way goes over what it had when it began; one that was interrupted begins anew. */
  grown(): void {
    this.times.grow(this.#options.sums.sizeBytes);
    this.#unfinished = null;
  }

  close(): void {
    this.#closed = true;
    this.#current?.job.stop();
    this.#readBack.stop();
  }

  /** Where the next pass begins. */
  #takeUp(): Omit<UnfinishedScrub, 'copies'> {
    const { sums, clock, hasher, volume } = this.#options;
    const unfinished = this.#unfinished;
    this.#unfinished = null;
    if (unfinished !== null && this.#isOf(unfinished)) return unfinished;
    const startedAt = new Date(clock.wallMs()).toISOString();
    return {
      sizeBytes: sums.sizeBytes,
      progress: newPass(this.#chunks, hasher.sum(Buffer.from(`${volume} ${startedAt}`))),
      startedAt,
      mismatches: [],
    };
  }

  get #chunks(): number {
    return Math.ceil(this.#options.sums.sizeBytes / this.#options.chunkBytes);
  }

  get #copyNames(): string[] {
    return this.#options
      .copies()
      .map(({ name }) => name)
      .sort();
  }

  /** Is it of the copies that there are now, and of all of the volume? */
  #isOf({ copies, sizeBytes }: UnfinishedScrub): boolean {
    return sizeBytes === this.#options.sums.sizeBytes && isDeepStrictEqual(copies, this.#copyNames);
  }

  #forgetUnfinished(): void {
    this.#unfinished = null;
    void this.#record.save(null);
  }

  /** What a restart must know to go on with the pass under way. */
  #inProgress(): UnfinishedScrub {
    const { job, report } = this.#current!;
    const sizeBytes = report.totalBytes;
    return {
      copies: this.#copyNames,
      sizeBytes,
      startedAt: report.startedAt,
      progress: { ...job.progress },
      mismatches: report.mismatches,
    };
  }

  /** A part of the pass is done. */
  async #passed(): Promise<void> {
    await this.#save();
    const nowMs = this.#options.clock.nowMs();
    if (nowMs < this.#recordAfterMs) return;
    this.#recordAfterMs = nowMs + RECORD_EVERY_MS;
    await this.#record.save(this.#inProgress());
  }

  #comparer(found: (mismatch: Mismatch, kind: MismatchKind) => void): Comparer {
    const { copies, lock, sums, lost, hasher, throttle, clock } = this.#options;
    const isLost = (offset: number, length: number): boolean => lost.overlaps(offset, length);
    const compared = (first: number, end: number, begunMs: number): void => this.times.compared(first, end, begunMs);
    return new Comparer({ copies, lock, sums, hasher, throttle, clock, isLost, found, compared });
  }

  #since(): void {
    if (this.#options.sums.verified.count === 0) this.#verifiedSince = this.#options.clock.wallMs();
  }

  async #save(): Promise<void> {
    const { sums, volume, log } = this.#options;
    try {
      await sums.save();
    } catch (error) {
      log.warn({ volume, reason: (error as Error).message }, 'checksums could not be stored; the next sweep tries again');
    }
  }

  async #mendSuspects(): Promise<void> {
    this.#mendAfterMs = this.#options.clock.nowMs() + MEND_RETRY_MS;
    await this.#readBack.compare([...this.#suspects.keys()]);
    this.#forgetMended();
  }

  /** What was damaged and is found equal on every copy now was written since. */
  #forgetMended(): void {
    const { sums } = this.#options;
    const mended = (offset: number): boolean => sums.verified.has(offset / sums.regionBytes);
    for (const offset of this.#damage.offsets()) if (mended(offset)) this.#damage.delete(offset);
    for (const offset of this.#suspects.keys()) if (mended(offset)) this.#suspects.delete(offset);
  }

  #note(mismatch: Mismatch, kind: MismatchKind): void {
    const { volume, sums, log, fact } = this.#options;
    if (mismatch.repaired) {
      this.#damage.delete(mismatch.offset);
      this.#suspects.delete(mismatch.offset);
      log.warn({ volume, ...mismatch }, 'a region that was wrong on one copy was mended');
      return;
    }
    sums.unverify(mismatch.offset / sums.regionBytes);
    if (kind !== 'undecided' && kind !== 'rotten') {
      this.#mendLater(mismatch, kind);
      return;
    }
    if (!this.#damage.add(mismatch.offset, mismatch.reason)) return;
    log.warn({ volume, ...mismatch }, 'no copy is known to be right in a region: nobody reads it until it is written, or mended by hand');
    // Told when a restart knows it too, or at least when that was tried.
    const { offset, lengthBytes, reason } = mismatch;
    void this.#damage.save().then(() => fact({ type: 'damage', offset, lengthBytes, reason }));
  }

  /**
   * A copy is wrong, or cannot be read, and could not be rewritten: a mirror is copied to again, the active target looked at again.
   * Where that cannot be read nobody need be kept from reading it.
   */
  #mendLater(mismatch: Mismatch, kind: MismatchKind): void {
    const { copies, volume, log } = this.#options;
    const copy = copies().find(({ name }) => name === mismatch.wrong);
    if (copy?.mirror === null && this.#suspects.has(mismatch.offset)) return;
    log.warn({ volume, ...mismatch }, 'a region is wrong or cannot be read on a copy and cannot be mended yet');
    if (copy?.mirror === null && kind === 'wrong') this.#suspects.set(mismatch.offset, 'active');
    copy?.mirror?.copyAgain(mismatch.offset, mismatch.lengthBytes, 'its node refused to be mended');
  }

  #measure(): void {
    if (this.#current === null) return;
    const { job, report, startedMs, fromBytes } = this.#current;
    report.comparedBytes = job.progress.comparedBytes;
    const seconds = (this.#options.clock.nowMs() - startedMs) / 1000;
    report.bytesPerSecond = seconds > 0 ? Math.round((report.comparedBytes - fromBytes) / seconds) : 0;
  }
}
