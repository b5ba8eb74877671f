// A volume: what hosts attach. Puts its parts together (its copies, its record, its I/O path, what is done in the background)
// and carries out what is wished of it, one wish at a time. The data rules live in the parts.
import assert from 'node:assert';
import { formatBytes } from '../../config/units.js';
import type { Device, DeviceRequest } from '../../replication/device.js';
import type { Hasher } from '../../replication/hasher.js';
import { IntentLog } from '../../replication/intent-log.js';
import { RegionSums } from '../../replication/region-sums.js';
import type { Latch, Latches } from '../../replication/latch.js';
import { type Clock, type Log, type Records, type Timer, within } from '../../replication/world.js';
import type { FlipCertificate, JournalView, MirrorView, Outcome, ScrubReport, TargetRef, VolumeControl, VolumeFact } from '../control.js';
import { refuse } from '../control.js';
import type { KnownContext } from '../nbd/meta-context.js';
import { ActiveWatch } from './active-watch.js';
import { BackgroundPace } from './background-pace.js';
import { Copies, type MirrorCopy } from './copies.js';
import { type Copy, describeTarget } from './copy.js';
import { type Connect, CopyOpener } from './copy-opener.js';
import { CopyWatch } from './copy-watch.js';
import type { FlipCause } from './flip.js';
import { ForcedTakeover } from './forced-takeover.js';
import { EXTENT_BYTES, REGION_BYTES } from './granularity.js';
import { type Enlarge, Growth } from './growth.js';
import { IoPath } from './io-path.js';
import { JournalRecovery } from './journal-recovery.js';
import { type JournalFiles, Journaling } from './journaling.js';
import { LostRanges } from './lost-ranges.js';
import { MarkSweeper } from './mark-sweeper.js';
import { viewMirror } from './mirror-view.js';
import { Mirroring } from './mirroring.js';
import { RecordKeeper } from './record-keeper.js';
import { Recovery } from './recovery.js';
import { RoleChange } from './role-change.js';
import { Scrubbing } from './scrubbing.js';
import { Succession } from './succession.js';
import { volumeContexts } from './volume-contexts.js';
import type { VolumeRecord } from './volume-record.js';
import type { VolumeSettings } from './volume-settings.js';

export type { VolumeSettings } from './volume-settings.js';

const TICK_MS = 250;
const SECTOR_BYTES = 512;
/** Mirrors in step have so long at the end for what is queued for them. */
const CLOSE_DRAIN_MS = 2000;

export interface VolumeOptions {
  record: VolumeRecord;
  settings: VolumeSettings;
  /** No gateway served it before. */
  fresh?: boolean;
  records: Records;
  clock: Clock;
  log: Log;
  hasher: Hasher;
  /** Region and extent size; smaller ones are for simulated devices. */
  regionBytes?: number;
  extentBytes?: number;
  connect: Connect;
  journals: JournalFiles;
  /** Without them writes wait while the store cannot be written. */
  latches?: Latches;
  /** Told once for each thing that happened. */
  fact(fact: VolumeFact): void;
}

export class Volume implements VolumeControl, Device {
  readonly path: IoPath;
  readonly #clock: Clock;
  readonly #intents: IntentLog;
  readonly #copies: Copies;
  /** What it knows of its regions, for hosts that ask. */
  readonly contexts: readonly KnownContext[];
  readonly #keeper: RecordKeeper;
  readonly #lost: LostRanges;
  readonly #opener: CopyOpener;
  readonly #mirroring: Mirroring;
  readonly #recovery: Recovery;
  readonly #journaling: Journaling;
  readonly #journalRecovery: JournalRecovery;
  readonly #succession: Succession;
  readonly #takeover: ForcedTakeover;
  readonly #activeWatch: ActiveWatch;
  readonly #growth: Growth;
  readonly #scrubbing: Scrubbing;
  readonly #sweeper: MarkSweeper;
  readonly #pace: BackgroundPace;
  readonly #latches: Latches | null;
  #latch: Latch | null = null;
  #settings: VolumeSettings;
  /** A flip or a change of the mirrors that was wished for is under way: one at a time. */
  #changing: string | null = null;
  #timer: Timer | null = null;

  constructor(options: VolumeOptions) {
    const { record, records, clock, log, hasher, regionBytes = REGION_BYTES, extentBytes = EXTENT_BYTES } = options;
    const { name: volume, sizeBytes, blockMinimum } = record;
    const fact = (told: VolumeFact): void => options.fact(told);
    const settings = (): VolumeSettings => this.#settings;
    this.#settings = options.settings;
    this.#latches = options.latches ?? null;
    this.#clock = clock;
    const world = { volume, sizeBytes, records, clock, log, hasher, settings, fact };
    const intents: IntentLog = new IntentLog({
      records,
      clock,
      log,
      volume,
      sizeBytes,
      extentBytes,
      onMark: (extent) => [sums.onMark(extent)],
      unmarked: (reason) => {
        if (reason !== null) sums.unverifyAll();
        fact({ type: 'unmarked', reason });
      },
    });
    const sums: RegionSums = new RegionSums({
      records,
      volume,
      sizeBytes,
      regionBytes,
      extentBytes,
      isMarked: (extent) => intents.isMarked(extent),
      isDoubtful: (offset, length) => this.#recovery.pending || copies.list.some(({ upstream }) => upstream.inDoubt(offset, length)),
      isClean: (extent) => intents.isClean(extent),
      isLost: (offset, length) => lost.overlaps(offset, length),
    });
    const path: IoPath = new IoPath({
      clock,
      log: intents,
      sums,
      sum: (bytes) => hasher.sum(bytes),
      active: { sizeBytes, submit: () => assert.fail('the volume has no target yet') },
      activeTells: () => copies.active.upstream.features?.status === true,
      hedgeAfterMs: () => this.#settings.hedgeAfterMs,
      latencyOf: (mirror) => copies.list.find((copy) => copy.mirror === mirror)?.upstream.counters.recent ?? null,
      events: {
        wrong: (offset, where) => {
          log.error({ volume, offset, where }, 'a read gave bytes that are not those of the stored checksum');
          this.#scrubbing.suspect(offset, where);
        },
        rotten: (offset, length) => this.#scrubbing.rotten(offset, length),
        givesUp: (offset, length) => this.#scrubbing.giveUp(offset, length),
        lost: (offset, length) => lost.overlaps(offset, length),
        filled: (offset, length) => lost.written(offset, length),
        fenced: (offset, length, everywhere) => this.#scrubbing.fences(offset, length, everywhere),
        activeFailed: (_op, errno) => this.#succession.activeRefused(errno),
        readRepaired: (offset, length, errno) => {
          log.warn({ volume, offset, length, errno }, 'the active target refused a read, a mirror answered it');
        },
      },
    });
    const copies: Copies = new Copies(path, settings);
    const pace = new BackgroundPace(clock, options.settings);
    const keeper = new RecordKeeper({ record, records, log, mirrors: () => copies.records(), lost: () => lost.any });
    const lost: LostRanges = new LostRanges({ ...world, keeper, sums, extentBytes });
    const recovery = new Recovery({ intents, copies, clock, fresh: options.fresh ?? false });
    const journaling = new Journaling({ ...world, path, copies, keeper, files: options.journals });
    const journalRecovery: JournalRecovery = new JournalRecovery({
      ...world,
      journaling,
      copies,
      intents,
      unsure: () => recovery.pending,
      begin: (copy) => void this.#mirroring.begin(copy),
    });
    const parts = { ...world, path, intents, sums, lost, copies, keeper, journaling, journalRecovery, lock: path.lock };
    const events = new CopyWatch({
      ...parts,
      activeBack: () => {
        journalRecovery.activeSeen();
        this.#activeWatch.back();
      },
      activeLost: (reason) => this.#activeWatch.lost(reason),
      suspect: (offset, where) => this.#scrubbing.suspect(offset, where),
    });
    const opener = new CopyOpener({
      ...parts,
      blockMinimum,
      throttle: pace.copy,
      connect: (target, needs, upstreamEvents, memory) => options.connect(target, needs, upstreamEvents, memory),
      events,
      unsure: () => recovery.pending,
    });
    const scrubbing = new Scrubbing({
      ...parts,
      copies: () => copies.compared.map((copy) => ({ name: describeTarget(copy.target), device: copy.upstream, mirror: copy.mirror })),
      throttle: pace.scrub,
      chunkBytes: extentBytes,
    });
    const roles = new RoleChange({
      ...parts,
      opener,
      conceded: (copy) => this.#takeover.conceded(copy),
      verifiedSince: () => scrubbing.verifiedSince,
    });
    this.path = path;
    this.#intents = intents;
    this.#copies = copies;
    this.#keeper = keeper;
    this.#lost = lost;
    this.#opener = opener;
    this.#pace = pace;
    this.#recovery = recovery;
    this.#journaling = journaling;
    this.#journalRecovery = journalRecovery;
    this.#scrubbing = scrubbing;
    this.contexts = volumeContexts({
      mirrors: () => copies.mirrors.map(({ mirror }) => mirror),
      sums,
      scrubTimes: scrubbing.times,
    });
    this.#sweeper = new MarkSweeper({
      ...parts,
      copies: () => copies.list,
      unsure: () => recovery.pending,
      journaled: () => journaling.synced(),
    });
    this.#mirroring = new Mirroring({
      ...parts,
      opener,
      events,
      landed: (list) => recovery.landed(list),
      forgetDamage: () => scrubbing.forgetDamage(),
    });
    this.#succession = new Succession({ ...parts, roles, damaged: () => scrubbing.damaged, sample: () => scrubbing.sample() });
    this.#takeover = new ForcedTakeover({ ...parts, recovery, succession: this.#succession });
    this.#activeWatch = new ActiveWatch({ ...parts, succession: this.#succession });
    this.#growth = new Growth({
      ...parts,
      scrubbing,
      flipping: () => this.#succession.flipping,
      landed: (list) => recovery.landed(list),
    });
  }

  get name(): string {
    return this.#keeper.record.name;
  }

  get sizeBytes(): number {
    return this.#keeper.record.sizeBytes;
  }

  get epoch(): number {
    return this.#keeper.record.epoch;
  }

  get active(): TargetRef {
    return this.#keeper.record.active;
  }

  get blockMinimum(): number {
    return this.#keeper.record.blockMinimum;
  }

  get lastFlip(): FlipCertificate | null {
    return this.#keeper.record.lastFlip;
  }

  /** Every target that holds or may hold a copy: the active one first. */
  get copies(): readonly Copy[] {
    return this.#copies.list;
  }

  /** Where an unfinished flip or failover goes; null: none is under way. */
  get flippingTo(): TargetRef | null {
    return this.#succession.flippingTo;
  }

  /** Something was marked at the start that an earlier gateway's requests may hit yet (rule 13). */
  get mayStillCopyAgain(): boolean {
    return this.#recovery.pending;
  }

  get scrubReport(): ScrubReport | null {
    return this.#scrubbing.report;
  }

  /** What no copy can give. */
  get lostBytes(): number {
    return this.#lost.bytes;
  }

  get markedExtents(): number {
    return this.#intents.markedExtents;
  }

  /** Why hosts wait; null: they are served. */
  get service(): { state: 'served' | 'waiting' | 'blocked'; reason: string | null } {
    const { state, ready, reason } = this.#copies.active.upstream;
    if (state === 'blocked') return { state: 'blocked', reason };
    return ready ? { state: 'served', reason: null } : { state: 'waiting', reason };
  }

  /** Null: there is none, and none is wanted. */
  get journal(): JournalView | null {
    return this.#journaling.view();
  }

  /** Connects the copies that the record names. An unknown node is a reason, not an end: the volume waits. */
  async start(): Promise<Outcome<null>> {
    const journal = await this.#journaling.open();
    if (!journal.ok) return journal;
    this.#latch = (await this.#latches?.open(this.name)) ?? null;
    if (this.#latch !== null) this.#intents.use(this.#latch);
    const started = this.#start();
    if (!started.ok) {
      await this.#journaling.close();
      await this.#latch?.close();
    }
    return started;
  }

  #start(): Outcome<null> {
    const { record } = this.#keeper;
    const active = this.#opener.open(record.active, null, 'first placement');
    if (!active.ok) return active;
    this.#copies.activate(active.value);
    this.path.suspend();
    const waiting: Copy[] = [];
    for (const mirror of record.mirrors) {
      const opened = this.#opener.open(mirror.target, mirror.id, mirror.cause);
      // A mirror that is left out would be forgotten with the next change of the record.
      if (!opened.ok) return opened;
      const copy: MirrorCopy = Object.assign(opened.value, {
        id: mirror.id,
        mirror: this.#opener.mirror(opened.value, { reverse: mirror.reverse, blank: false }),
      });
      if (mirror.synced) copy.mirror.adopt();
      this.#recovery.markDirty(copy);
      if (!this.#keeper.isOurs(mirror.target)) copy.mirror.fail('it holds something else: nothing is written there');
      if (this.#journalRecovery.adopt(copy)) waiting.push(copy);
      else if (copy.mirror.dirty.count === 0) this.#copies.mayCopy(copy);
      this.#copies.add(copy);
    }
    this.#journaling.adopted();
    this.path.swap(this.#journalRecovery.inFrontOf(active.value.upstream));
    if (record.mirrors.length === 0) this.#scrubbing.forgetDamage();
    this.#copies.route();
    this.#recovery.copyAgainLater();
    this.path.release();
    for (const copy of this.#copies.list) copy.upstream.start();
    // What an earlier gateway wrote to the active target and nobody flushed may still be lost there: not once it is copied.
    for (const copy of this.#copies.mirrors) {
      if (!this.#copies.isCopying(copy) && !waiting.includes(copy)) void this.#mirroring.begin(copy);
    }
    this.#activeWatch.start();
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
    return { ok: true, value: null };
  }

  submit(request: DeviceRequest): void {
    this.path.submit(request);
  }

  configure(settings: VolumeSettings): void {
    this.#settings = settings;
    this.#pace.configure(settings);
    this.#copies.route();
  }

  mirrors(): MirrorView[] {
    const owned = this.#copies.mirrors.filter((copy) => !this.#copies.isDisowned(copy));
    return owned.map(({ target, mirror }) => viewMirror(target, mirror));
  }

  async addMirror(target: TargetRef, cause: string): Promise<Outcome<MirrorView>> {
    const there = this.#copies.list.find((copy) => copy.target.node === target.node);
    if (there !== undefined && this.#copies.isDisowned(there))
      return refuse(
        'busy',
        `a mirror on ${target.node} that could not be written down is still being given up: try again when that is over`,
      );
    if (there !== undefined) {
      return refuse('already-a-copy', `${target.node} holds a copy of ${this.name} already; a mirror must be on another node`);
    }
    return this.#alone(`adding a mirror on ${describeTarget(target)}`, () => this.#mirroring.add(target, cause));
  }

  async removeMirror(target: TargetRef, cause: string): Promise<Outcome<TargetRef>> {
    const copy = this.#copies.find(target);
    if (copy === null) return refuse('no-such-mirror', `${this.name} has no mirror on ${describeTarget(target)}`);
    return this.#alone(`removing the mirror on ${describeTarget(target)}`, () => this.#mirroring.remove(copy, cause));
  }

  async flip(to: TargetRef, cause: FlipCause & { kind: 'flip' | 'rollback' }): Promise<Outcome<FlipCertificate>> {
    const copy = this.#copies.find(to);
    if (copy === null) return refuse('no-such-mirror', `${this.name} has no mirror on ${describeTarget(to)} to flip to`);
    if (!copy.mirror.usable) {
      const { condition, reason } = copy.mirror;
      return refuse(
        'mirror-not-synced',
        `the mirror of ${this.name} on ${describeTarget(to)} is ${condition}${reason === null ? '' : ` (${reason})`}: a flip needs a mirror that is synced`,
      );
    }
    const differ = this.#scrubbing.refusal();
    if (differ !== null) return differ;
    return this.#alone(`a flip to ${describeTarget(to)}`, () => this.#succession.flip(copy, cause));
  }

  /** Gives up an active target that does not answer, for a mirror that may be older; `acceptLoss`: whoever asks knows that. */
  async takeOver(to: TargetRef, acceptLoss: boolean): Promise<Outcome<FlipCertificate>> {
    const copy = this.#copies.find(to);
    if (copy === null) return refuse('no-such-mirror', `${this.name} has no mirror on ${describeTarget(to)} that could take over`);
    return this.#alone(`a takeover by ${describeTarget(to)}`, () => this.#takeover.run(copy, acceptLoss));
  }

  /**
   * Makes it larger, with what hosts see as zeroes; those that attach from then on see it. As large as it is is no error. `enlarge` is asked for
   * each of its targets. Resolves with how large it was.
   */
  async grow(sizeBytes: number, enlarge: Enlarge): Promise<Outcome<number>> {
    return this.#alone('growing', async () => {
      const from = this.sizeBytes;
      if (sizeBytes === from) return { ok: true, value: from };
      if (sizeBytes < from) {
        const message = `${this.name} has ${formatBytes(from)} (${from} bytes) and only grows: what lies beyond ${sizeBytes} bytes would be lost`;
        return refuse('shrink-refused', message, { sizeBytes: from });
      }
      const unit = Math.max(SECTOR_BYTES, this.blockMinimum);
      if (sizeBytes % unit !== 0)
        return refuse('size-unaligned', `the size of ${this.name} must be a multiple of ${unit} bytes, is ${sizeBytes}`, { unit });
      const grown = await this.#growth.grow(sizeBytes, enlarge);
      return grown.ok ? { ok: true, value: from } : grown;
    });
  }

  scrub(cause: string): Promise<Outcome<ScrubReport>> {
    return this.#scrubbing.scrub(cause);
  }

  /** Stops background work and drops the connections. Hosts' sessions are gone before. */
  async close(): Promise<void> {
    if (this.#copies.closed) return;
    this.#copies.close();
    this.path.close();
    this.#timer?.cancel();
    this.#activeWatch.close();
    this.#recovery.close();
    this.#scrubbing.close();
    this.#lost.close();
    for (const copy of this.#copies.list) copy.mirror?.stop();
    this.#intents.dropWaiters();
    await within(
      this.#clock,
      CLOSE_DRAIN_MS,
      Promise.all(this.#copies.mirrors.map(({ mirror }) => mirror.usable && mirror.queue.drained())),
    );
    if (this.path.inFlight === 0) await this.#sweeper.finish();
    await this.#journaling.close();
    await this.#latch?.close();
    for (const copy of this.#copies.list) copy.upstream.close();
  }

  /** Carries out a wish unless another is being carried out, or the volume is busy with itself. */
  async #alone<T>(what: string, work: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
    if (this.#copies.closed) return refuse('closing', `${this.name} is shutting down`);
    if (this.#changing !== null) return refuse('busy', `${this.name} is busy with ${this.#changing}: try again when that is over`);
    if (this.#succession.flipping) return refuse('busy', `${this.name} is being failed over: try again when that is over`);
    this.#changing = what;
    try {
      return await work();
    } finally {
      this.#changing = null;
    }
  }

  #tick(): void {
    if (this.#copies.closed) return;
    this.path.tick();
    for (const { mirror } of this.#copies.mirrors) mirror.tick();
    const idle = this.#changing === null && !this.#succession.flipping;
    this.#scrubbing.tick(idle && this.#copies.mirrors.every(({ mirror }) => mirror.usable));
    this.#journaling.tick();
    this.#journalRecovery.tick();
    this.#activeWatch.tick();
    this.#pace.tick(this.path.counters.recent, () => this.#isBusy(), this.#settings.hostLatencyGuard);
    this.#sweeper.tick();
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
  }

  /** Background work is under way that hosts may suffer from. */
  #isBusy(): boolean {
    return this.#scrubbing.running || this.#copies.mirrors.some((copy) => copy.mirror.dirty.count > 0 && copy.upstream.ready);
  }
}
