// A volume: what hosts attach. Holds its copies, its record and its I/O path together, and carries out what is wished of
// it: mirror, flip, scrub, and what must be done when a target is lost or hangs. The data rules live in the parts; here
// is their order: records are durable before anything is done that a restart must know of.
import assert from 'node:assert';
import { DirtyRecord } from '../../replication/dirty-record.js';
import type { DeviceRequest } from '../../replication/device.js';
import { type Device, ERRNO, OP, PromisedRequest, perform } from '../../replication/device.js';
import type { Hasher } from '../../replication/hasher.js';
import { IntentLog } from '../../replication/intent-log.js';
import { LatencyGuard } from '../../replication/latency-guard.js';
import { Mirror, type MirrorCondition } from '../../replication/mirror.js';
import { RegionSums } from '../../replication/region-sums.js';
import { Throttle } from '../../replication/throttle.js';
import { type Change, type Clock, type Log, type Records, sleep, type Timer, within } from '../../replication/world.js';
import type { FlipCertificate, MirrorView, Outcome, ScrubReport, TargetRef, VolumeControl, VolumeFact } from '../control.js';
import { refuse } from '../control.js';
import type { ContentsFinding } from '../upstream/contents-check.js';
import { DoubtRecords } from '../upstream/doubt-records.js';
import type { Requirements } from '../upstream/features.js';
import type { TargetMemory, Upstream, UpstreamEvents } from '../upstream/upstream.js';
import { type Sample, Witnesses } from '../upstream/witnesses.js';
import { proveBlank } from './blank-proof.js';
import { type Copy, describeTarget, sameTarget } from './copy.js';
import { type FlipCause, type FlipGround, failOver, flip, preflush } from './flip.js';
import { IoPath } from './io-path.js';
import { MarkSweeper } from './mark-sweeper.js';
import { Scrubbing } from './scrubbing.js';
import { type MirrorRecord, oursKey, putVolume, type VolumeRecord } from './volume-record.js';

const REGION_BYTES = 64 * 1024;
const EXTENT_BYTES = 4 * 1024 * 1024;
const CONNECT_MS = 15_000;
const TICK_MS = 250;
/** A node that restarts quickly is waited for; after this its mirror takes over. */
const LOST_GRACE_MS = 250;
/** After the gateway's own start its target gets more time to answer. */
const START_GRACE_MS = 3000;
const STALL_MS = 2000;
const REMOVE_DRAIN_MS = 5000;
/** Regions with a known checksum that a target is asked for when it comes back. */
const SAMPLES = 32;

/** Refuses everything. */
const NOWHERE: Device = { sizeBytes: 0, submit: (request) => request.complete(ERRNO.ESHUTDOWN) };

/** What the policy says, as the volume needs it; may change while it runs. */
export interface VolumeSettings {
  durability: 'async' | 'sync';
  queueBytesMax: number;
  flipDeadlineMs: number;
  hangAfterMs: number;
  giveUpAfterMs: number;
  copyBytesPerSecond: number;
  scrubBytesPerSecond: number;
  hostLatencyGuard: number;
}

export interface VolumeOptions {
  record: VolumeRecord;
  settings: VolumeSettings;
  records: Records;
  clock: Clock;
  log: Log;
  hasher: Hasher;
  /** Region and extent size; smaller ones are for simulated devices. */
  regionBytes?: number;
  extentBytes?: number;
  /** Makes the connection to a target, not started. Refuses a node or an address nobody knows. */
  connect(target: TargetRef, needs: Requirements, events: UpstreamEvents, memory: TargetMemory): Outcome<Upstream>;
  /** Told once for each thing that happened. */
  fact(fact: VolumeFact): void;
}

export class Volume implements VolumeControl, Device {
  readonly path: IoPath;
  readonly #options: VolumeOptions;
  readonly #clock: Clock;
  readonly #intents: IntentLog;
  readonly #sums: RegionSums;
  readonly #copyThrottle: Throttle;
  readonly #scrubThrottle: Throttle;
  readonly #sweeper: MarkSweeper;
  readonly #scrubbing: Scrubbing;
  readonly #ground: FlipGround;
  #record: VolumeRecord;
  #settings: VolumeSettings;
  #active!: Copy;
  #copies: Copy[] = [];
  /** Copies that may be written to: their first reading may begin, or began long ago. */
  readonly #copying = new WeakSet<Copy>();
  /** A flip or a change of the mirrors that was wished for is under way: one at a time. */
  #changing: string | null = null;
  /** A flip or a failover is under way: nothing may cross it. */
  #flipping = false;
  #flippingTo: TargetRef | null = null;
  /** The last failover did not succeed: its mirror failed or took too long. */
  #failoverFailed = false;
  /** Told when a failover's roles have changed. */
  #swapped: (() => void) | null = null;
  /** A flip still waits for the active target: told when that refuses a request. */
  #refused: ((reason: string) => void) | null = null;
  /** Number of the next mirror's id, given out once whatever becomes of it. */
  #nextMirror: number;
  /** The id that the old target gets with the flip that is being committed. */
  #reverseId: string | null = null;
  /** Mirrors that are being removed: no record names them any more. */
  readonly #leaving = new WeakSet<Copy>();
  /** The guards of a target that is being given up: its ranges are dirty instead. */
  #staleDoubts: Change[] = [];
  /** Changes of the record, one after the other. */
  #commits: Promise<unknown> = Promise.resolve();
  readonly #latencyGuard = new LatencyGuard();
  #guardMs: number;
  #timer: Timer | null = null;
  #graceTimer: Timer | null = null;
  #zombieTimer: Timer | null = null;
  #closed = false;

  constructor(options: VolumeOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#record = options.record;
    this.#guardMs = options.clock.nowMs();
    this.#settings = options.settings;
    const regionBytes = options.regionBytes ?? REGION_BYTES;
    const extentBytes = options.extentBytes ?? EXTENT_BYTES;
    const { name, sizeBytes } = options.record;
    this.#intents = new IntentLog({
      records: options.records,
      clock: options.clock,
      log: options.log,
      volume: name,
      sizeBytes,
      extentBytes,
      onMark: (extent) => [this.#sums.onMark(extent)],
    });
    this.#sums = new RegionSums({
      records: options.records,
      volume: name,
      sizeBytes,
      regionBytes,
      extentBytes,
      isMarked: (extent) => this.#intents.isMarked(extent),
      isDoubtful: (offset, length) => this.#copies.some(({ upstream }) => upstream.inDoubt(offset, length)),
      isClean: (extent) => this.#intents.isClean(extent),
    });
    this.#copyThrottle = new Throttle(options.clock, options.settings.copyBytesPerSecond);
    this.#scrubThrottle = new Throttle(options.clock, options.settings.scrubBytesPerSecond);
    const unplaced: Device = { sizeBytes, submit: () => assert.fail('the volume has no target yet') };
    this.path = new IoPath({
      sizeBytes,
      clock: options.clock,
      log: this.#intents,
      sums: this.#sums,
      active: unplaced,
      events: {
        activeFailed: (_op, errno) => this.#activeFailed(errno),
        readRepaired: (offset, length, errno) => {
          options.log.warn({ volume: name, offset, length, errno }, 'the active target refused a read, a mirror answered it');
        },
      },
    });
    this.#sweeper = new MarkSweeper({
      intents: this.#intents,
      sums: this.#sums,
      records: options.records,
      lock: this.path.lock,
      clock: options.clock,
      log: options.log,
      copies: () => this.#copies,
    });
    this.#scrubbing = new Scrubbing({
      volume: name,
      sizeBytes,
      copies: () => this.#copies.map((copy) => ({ name: describeTarget(copy.target), device: copy.upstream, mirror: copy.mirror })),
      lock: this.path.lock,
      sums: this.#sums,
      hasher: options.hasher,
      throttle: this.#scrubThrottle,
      clock: options.clock,
      log: options.log,
      fact: (fact) => options.fact(fact),
    });
    this.#ground = {
      clock: options.clock,
      log: options.log,
      path: this.path,
      active: () => this.#active,
      commit: (certificate, to, doubtful) => this.#commitFlip(certificate, to, doubtful),
      certify: (to, why, held) => this.#certify(to, why, held),
      abandonActive: () => this.#abandon(this.#active),
      onRefusal: (refused) => {
        this.#refused = refused;
      },
    };
    this.#nextMirror = options.record.nextMirror;
  }

  get name(): string {
    return this.#record.name;
  }

  get sizeBytes(): number {
    return this.#record.sizeBytes;
  }

  get epoch(): number {
    return this.#record.epoch;
  }

  get active(): TargetRef {
    return this.#record.active;
  }

  get blockMinimum(): number {
    return this.#record.blockMinimum;
  }

  get lastFlip(): FlipCertificate | null {
    return this.#record.lastFlip;
  }

  /** Every target that holds or may hold a copy: the active one first. */
  get copies(): readonly Copy[] {
    return this.#copies;
  }

  /** Where an unfinished flip or failover goes; null: none is under way. */
  get flippingTo(): TargetRef | null {
    return this.#flippingTo;
  }

  /** Something was marked at the start that an earlier gateway's requests may hit yet (rule 13). */
  get mayStillCopyAgain(): boolean {
    return this.#zombieTimer !== null;
  }

  get scrubReport(): ScrubReport | null {
    return this.#scrubbing.report;
  }

  get markedExtents(): number {
    return this.#intents.markedExtents;
  }

  /** Why hosts wait; null: they are served. */
  get service(): { state: 'served' | 'waiting' | 'blocked'; reason: string | null } {
    const { state, reason } = this.#active.upstream;
    if (state === 'blocked') return { state: 'blocked', reason };
    return state === 'ready' ? { state: 'served', reason: null } : { state: 'waiting', reason };
  }

  /** Connects the copies that the record names. An unknown node is a reason, not an end: the volume waits. */
  start(): Outcome<null> {
    const active = this.#openCopy(this.#record.active, null, 'first placement');
    if (!active.ok) return active;
    this.#active = active.value;
    this.#copies = [this.#active];
    this.path.suspend();
    this.path.swap(this.#active.upstream);
    for (const record of this.#record.mirrors) {
      const opened = this.#openCopy(record.target, record.id, record.cause);
      // A mirror that is left out would be forgotten with the next change of the record.
      if (!opened.ok) return opened;
      const copy = opened.value;
      copy.mirror = this.#makeMirror(copy, { reverse: record.reverse, blank: false });
      if (record.synced) copy.mirror.adopt();
      this.#markAfterRestart(copy);
      if (copy.mirror.dirty.count === 0) this.#copying.add(copy);
      this.#copies = [...this.#copies, copy];
    }
    this.#setMirrors();
    this.#copyAgainLater();
    this.path.release();
    for (const copy of this.#copies) copy.upstream.start();
    // What an earlier gateway wrote to the active target and nobody flushed may still be lost there: not once it is copied.
    for (const copy of this.#mirrorCopies()) if (!this.#copying.has(copy)) void this.#beginCopy(copy);
    this.#grace(START_GRACE_MS, 'it does not answer since the start');
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
    return { ok: true, value: null };
  }

  submit(request: DeviceRequest): void {
    this.path.submit(request);
  }

  configure(settings: VolumeSettings): void {
    this.#settings = settings;
    this.#copyThrottle.limit(settings.copyBytesPerSecond);
    this.#scrubThrottle.limit(settings.scrubBytesPerSecond);
    this.#setMirrors();
  }

  mirrors(): MirrorView[] {
    return this.#mirrorCopies().map(({ target, mirror }) => {
      const rate = mirror.copyBytesPerSecond;
      const dirtyBytes = mirror.dirty.countBytes;
      return {
        node: target.node,
        export: target.export,
        state: mirror.condition,
        reverse: mirror.reverse,
        copiedBytes: mirror.copiedBytes,
        dirtyBytes,
        lagBytes: mirror.queue.hostBytes,
        lagSeconds: mirror.queue.hostEmpty ? 0 : mirror.queue.oldestMs / 1000,
        copyBytesPerSecond: Math.round(rate),
        etaSeconds: dirtyBytes === 0 ? 0 : rate >= 1 ? Math.ceil(dirtyBytes / rate) : null,
        reason: mirror.reason,
      };
    });
  }

  async addMirror(target: TargetRef, cause: string): Promise<Outcome<MirrorView>> {
    if (this.#copies.some((copy) => copy.target.node === target.node)) {
      return refuse('already-a-copy', `${target.node} holds a copy of ${this.name} already; a mirror must be on another node`);
    }
    const busy = this.#begin(`adding a mirror on ${describeTarget(target)}`);
    if (busy !== null) return busy;
    try {
      return await this.#addMirror(target, cause);
    } finally {
      this.#changing = null;
    }
  }

  async removeMirror(target: TargetRef, cause: string): Promise<Outcome<TargetRef>> {
    const copy = this.#find(target);
    if (copy === null) return refuse('no-such-mirror', `${this.name} has no mirror on ${describeTarget(target)}`);
    const busy = this.#begin(`removing the mirror on ${describeTarget(target)}`);
    if (busy !== null) return busy;
    try {
      return await this.#removeMirror(copy, cause);
    } finally {
      this.#changing = null;
    }
  }

  async flip(to: TargetRef, cause: FlipCause & { kind: 'flip' | 'rollback' }): Promise<Outcome<FlipCertificate>> {
    const copy = this.#find(to);
    if (copy === null) return refuse('no-such-mirror', `${this.name} has no mirror on ${describeTarget(to)} to flip to`);
    if (!copy.mirror!.usable) {
      const { condition, reason } = copy.mirror!;
      return refuse(
        'mirror-not-synced',
        `the mirror of ${this.name} on ${describeTarget(to)} is ${condition}${reason === null ? '' : ` (${reason})`}: a flip needs a mirror that is synced`,
      );
    }
    const differ = this.#scrubbing.refusal();
    if (differ !== null) return differ;
    const busy = this.#begin(`a flip to ${describeTarget(to)}`);
    if (busy !== null) return busy;
    try {
      const { flipDeadlineMs, giveUpAfterMs } = this.#settings;
      // Nothing is held yet: should the active target fail now, that is a failover as always.
      const unlike = await this.#scrubbing.sample();
      if (unlike !== null) return unlike;
      const flushed = await preflush(this.#ground, copy, flipDeadlineMs);
      if (!flushed.ok) return flushed;
      if (this.#flipping || this.#closed) return refuse('busy', `${this.name} is being failed over: try again when that is over`);
      this.#flipping = true;
      this.#flippingTo = to;
      try {
        const outcome = await flip(this.#ground, copy, cause, flipDeadlineMs, giveUpAfterMs);
        if (outcome.ok) void this.#rememberState();
        return outcome;
      } finally {
        this.#flipping = false;
        this.#flippingTo = null;
      }
    } finally {
      this.#changing = null;
    }
  }

  scrub(cause: string): Promise<Outcome<ScrubReport>> {
    return this.#scrubbing.scrub(cause);
  }

  /** Stops background work and drops the connections. Hosts' sessions are gone before. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    this.#graceTimer?.cancel();
    this.#zombieTimer?.cancel();
    this.#scrubbing.close();
    for (const copy of this.#copies) copy.mirror?.stop();
    this.#intents.dropWaiters();
    if (this.path.inFlight === 0) await this.#sweeper.finish();
    for (const copy of this.#copies) copy.upstream.close();
  }

  #begin(what: string): Outcome<never> | null {
    if (this.#closed) return refuse('closing', `${this.name} is shutting down`);
    if (this.#flipping && this.#changing === null) return refuse('busy', `${this.name} is being failed over: try again when that is over`);
    if (this.#changing !== null) return refuse('busy', `${this.name} is busy with ${this.#changing}: try again when that is over`);
    this.#changing = what;
    return null;
  }

  #find(target: TargetRef): Copy | null {
    return this.#copies.find((copy) => copy.mirror !== null && sameTarget(copy.target, target)) ?? null;
  }

  #mirrorCopies(): (Copy & { mirror: Mirror; id: string })[] {
    return this.#copies.filter((copy): copy is Copy & { mirror: Mirror; id: string } => copy.mirror !== null);
  }

  #setMirrors(): void {
    this.path.setMirrors(
      this.#mirrorCopies().map((copy) => copy.mirror),
      this.#settings.durability === 'sync',
    );
  }

  #openCopy(target: TargetRef, id: string | null, cause: string): Outcome<Copy> {
    const copy = this.#newCopy(target, cause);
    copy.id = id;
    const opened = this.#connect(copy);
    if (!opened.ok) return opened;
    copy.upstream = opened.value;
    if (id !== null) copy.dirtyRecord = new DirtyRecord(this.#options.records, this.name, id, this.#intents.extents);
    return { ok: true, value: copy };
  }

  #newCopy(target: TargetRef, cause: string): Copy {
    const witnesses = new Witnesses(this.#options.hasher);
    return { target, upstream: null as unknown as Upstream, witnesses, mirror: null, id: null, dirtyRecord: null, cause };
  }

  #memoryOf(copy: Copy): TargetMemory {
    return {
      doubts: new DoubtRecords(this.#options.records, this.name, copy.target),
      witnesses: copy.witnesses,
      hasher: this.#options.hasher,
      expected: () => this.#expected(copy),
    };
  }

  /** Regions of known checksum that a copy must hold whatever it has not flushed. */
  #expected(copy: Copy): Sample[] {
    const { mirror } = copy;
    // What an earlier gateway's requests may still hit is not sure.
    if (this.#zombieTimer !== null || (mirror === null && copy !== this.#active)) return [];
    return this.#sums.samples(SAMPLES, (offset, length) => mirror === null || mirror.holds(offset, length));
  }

  /**
   * A target came back without what it must hold. The active one is not used. A mirror that was ours begins anew, when it is blank
   * or some of it is there still; one that holds something else altogether is left alone until someone looks (rule 20).
   */
  async #unlike(copy: Copy, finding: ContentsFinding): Promise<boolean> {
    const { mirror } = copy;
    const ours = finding.blank || finding.wrong < finding.checked;
    this.#options.log.error({ volume: this.name, target: copy.target, ...finding }, 'a target came back with other contents');
    if (mirror === null || this.#closed || this.#leaving.has(copy)) return false;
    try {
      if (!ours) {
        await this.#options.records.commit([{ remove: oursKey(copy.target) }]);
        return false;
      }
      mirror.startOver(`it came back ${finding.blank ? 'blank' : 'without some of what was written there'}: all is copied again`);
      await this.#commit(copy.dirtyRecord!.addAll());
      return copy.mirror === mirror;
    } catch (error) {
      this.#options.log.error(
        { volume: this.name, reason: (error as Error).message },
        'that a mirror begins anew cannot be written down yet',
      );
      return false;
    }
  }

  /** An old request landed, or never will: whatever was copied from there, or to there, meanwhile is copied again (rule 13). */
  #settled(copy: Copy, ranges: readonly { offset: number; end: number }[]): void {
    const reason = 'ranges that an old request may have hit are copied again';
    const mirrors = copy.mirror === null ? this.#mirrorCopies().map(({ mirror }) => mirror) : [copy.mirror];
    for (const { offset, end } of ranges) for (const mirror of mirrors) mirror.copyAgain(offset, end - offset, reason);
  }

  #connect(copy: Copy): Outcome<Upstream> {
    return this.#options.connect(
      copy.target,
      { sizeBytes: this.sizeBytes, blockMinimum: this.#record.blockMinimum },
      {
        connected: () => this.#connected(copy),
        lost: (reason) => this.#lost(copy, reason),
        blocked: (reason) => this.#blocked(copy, reason),
        settled: (ranges) => this.#settled(copy, ranges),
        unlike: (finding) => this.#unlike(copy, finding),
      },
      this.#memoryOf(copy),
    );
  }

  #makeMirror(copy: Copy, kind: { reverse: boolean; blank: boolean }): Mirror {
    const mirror: Mirror = new Mirror({
      device: copy.upstream,
      sizeBytes: this.sizeBytes,
      regionBytes: this.#sums.regionBytes,
      blank: kind.blank,
      reverse: kind.reverse,
      queueBytesMax: this.#settings.queueBytesMax,
      stallMs: STALL_MS,
      lock: this.path.lock,
      sums: this.#sums,
      hasher: this.#options.hasher,
      throttle: this.#copyThrottle,
      clock: this.#clock,
      source: () => this.#source(),
      changed: (from, to, reason) => this.#mirrorChanged(copy, mirror, from, to, reason),
      room: () => this.path.roomCame(),
    });
    return mirror;
  }

  /** What is read to copy. While the active target is being given up it is nobody's: its node may come back without what it forgot. */
  #source(): Device {
    return this.path.isSuspended ? NOWHERE : this.#active.upstream;
  }

  /** Dirty after a restart: what its durable record says, and every extent that is marked. */
  #markAfterRestart(copy: Copy): void {
    const { extentBytes, extents } = this.#intents;
    for (let extent = 0; extent < extents; extent += 1) {
      if (this.#intents.isMarked(extent) || copy.dirtyRecord!.has(extent)) copy.mirror!.markDirty(extent * extentBytes, extentBytes);
    }
  }

  /**
   * Requests of the gateway process before this one may still land in a plain node, on the active target or on top of what
   * is copied now (rule 13). Once they cannot any more, whatever was marked at the start is copied again.
   */
  #copyAgainLater(): void {
    const zombieMs = Math.max(...this.#copies.map((copy) => copy.upstream.zombieMs));
    const { extentBytes, extents } = this.#intents;
    const marked: number[] = [];
    for (let extent = 0; extent < extents; extent += 1) if (this.#intents.isMarked(extent)) marked.push(extent);
    if (zombieMs === 0 || marked.length === 0) return;
    const reason = `requests of the gateway before this one may still land for ${Math.ceil(zombieMs / 1000)} s`;
    for (const { mirror } of this.#mirrorCopies()) mirror.distrust(reason);
    this.#zombieTimer = this.#clock.after(zombieMs, () => {
      this.#zombieTimer = null;
      for (const { mirror } of this.#mirrorCopies()) {
        for (const extent of marked) mirror.copyAgain(extent * extentBytes, Math.min(extentBytes, this.sizeBytes - extent * extentBytes));
        mirror.trust();
      }
    });
  }

  async #addMirror(target: TargetRef, cause: string): Promise<Outcome<MirrorView>> {
    let settle: (reason: string | null) => void = () => {};
    const connected = new Promise<string | null>((resolve) => {
      settle = resolve;
    });
    const copy = this.#newCopy(target, cause);
    let joined = false;
    const memory = this.#memoryOf(copy);
    const stale = memory.doubts.removeAll();
    try {
      // What was guarded there when it was a copy before has no meaning for what will be.
      if (stale.length > 0) await this.#options.records.commit(stale);
    } catch (error) {
      return refuse('store-unwritable', `the records cannot be written: ${(error as Error).message}`);
    }
    const opened = this.#options.connect(
      target,
      { sizeBytes: this.sizeBytes, blockMinimum: this.#record.blockMinimum },
      {
        connected: () => (joined ? this.#connected(copy) : settle(null)),
        lost: (reason) => joined && this.#lost(copy, reason),
        blocked: (reason) => (joined ? this.#blocked(copy, reason) : settle(reason)),
        settled: (ranges) => this.#settled(copy, ranges),
        unlike: (finding) => this.#unlike(copy, finding),
      },
      memory,
    );
    if (!opened.ok) return opened;
    copy.upstream = opened.value;
    const timer = this.#clock.after(CONNECT_MS, () => settle(`it did not answer within ${CONNECT_MS / 1000} s (${copy.upstream.reason})`));
    copy.upstream.start();
    const problem = await connected;
    timer.cancel();
    if (problem !== null) {
      copy.upstream.close();
      return refuse('target-unusable', `${describeTarget(target)} cannot take a mirror of ${this.name}: ${problem}`);
    }
    const blank = await proveBlank(copy.upstream, this.sizeBytes);
    if (!blank.ok || (!blank.value && this.#options.records.get(oursKey(target)) === undefined)) {
      copy.upstream.close();
      if (!blank.ok) return blank;
      return refuse(
        'target-not-blank',
        `${describeTarget(target)} holds data that is not ours: a mirror overwrites only what is blank or was a copy before`,
      );
    }
    // Durably named before the first byte is written there.
    copy.id = this.#newId();
    copy.dirtyRecord = new DirtyRecord(this.#options.records, this.name, copy.id, this.#intents.extents);
    copy.mirror = this.#makeMirror(copy, { reverse: false, blank: blank.value });
    copy.mirror.markDirty(0, this.sizeBytes);
    joined = true;
    this.#copies = [...this.#copies, copy];
    this.#setMirrors();
    try {
      const changes = [{ put: oursKey(target), value: { volume: this.name } }, ...copy.dirtyRecord.addAll()];
      await this.#commit(changes);
    } catch (error) {
      this.#detach(copy);
      copy.upstream.close();
      return refuse('store-unwritable', `the mirror cannot be written down, so it is not begun: ${(error as Error).message}`);
    }
    void this.#beginCopy(copy);
    return { ok: true, value: this.mirrors().find((view) => view.node === target.node)! };
  }

  /** Writes without a mark, and what the source has not flushed, must be over before the first region is read (rule 2). */
  async #beginCopy(copy: Copy): Promise<void> {
    await this.path.unmarkedWritesDone();
    let errno: number;
    do {
      if (this.#closed || !this.#copies.includes(copy)) return;
      errno = await perform(this.#source(), new PromisedRequest(OP.FLUSH, 0, 0));
      if (errno !== 0) await sleep(this.#clock, TICK_MS);
    } while (errno !== 0);
    this.#copying.add(copy);
    if (copy.upstream.ready) copy.mirror?.connected();
  }

  #detach(copy: Copy): void {
    copy.mirror!.stop();
    this.#copies = this.#copies.filter((each) => each !== copy);
    this.#setMirrors();
  }

  async #removeMirror(copy: Copy, cause: string): Promise<Outcome<TargetRef>> {
    const mirror = copy.mirror!;
    mirror.retire(`it is being removed: ${cause}`);
    const last = this.#mirrorCopies().length === 1;
    this.#leaving.add(copy);
    // While it is still among the mirrors, writes mark; only when the checksums are durably gone may they stop to (rule 16).
    try {
      await this.#commit([...copy.dirtyRecord!.drop(), ...copy.upstream.forgetDoubts(), ...(last ? this.#sums.dropAll() : [])]);
    } catch (error) {
      this.#leaving.delete(copy);
      return refuse('store-unwritable', `that the mirror is gone cannot be written down, so it stays: ${(error as Error).message}`);
    }
    this.#detach(copy);
    this.#scrubbing.forgetDamage();
    await within(this.#clock, REMOVE_DRAIN_MS, mirror.queue.drained());
    if (!this.#closed) {
      // Whoever still waits for it (a scrub, a read that the active target refused) is told.
      for (const request of copy.upstream.abandon(() => {}).requests) request.complete(ERRNO.ESHUTDOWN);
      copy.upstream.close();
    }
    return { ok: true, value: copy.target };
  }

  #mirrorRecords(copies: readonly Copy[]): MirrorRecord[] {
    return copies
      .filter((copy) => copy.mirror !== null && !this.#leaving.has(copy))
      .map((copy) => ({
        id: copy.id!,
        target: copy.target,
        reverse: copy.mirror!.reverse,
        synced: copy.mirror!.complete,
        cause: copy.cause,
      }));
  }

  /** Makes the volume's record durable together with `changes`; memory follows only then. */
  #commit(changes: Change[]): Promise<void> {
    return this.#inTurn(async () => {
      const record: VolumeRecord = { ...this.#record, mirrors: this.#mirrorRecords(this.#copies), nextMirror: this.#nextMirror };
      await this.#options.records.commit([putVolume(record), ...changes]);
      this.#record = record;
    });
  }

  /** Names a mirror's dirty record: never twice, whatever else is under way. */
  #newId(): string {
    this.#nextMirror += 1;
    return `m${this.#nextMirror - 1}`;
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#commits.then(work);
    this.#commits = turn.catch(() => {});
    return turn;
  }

  #certify(to: Copy, why: FlipCause, held: { inFlight: number; queueBytes: number }): FlipCertificate {
    const verified = this.#sums.verified.count;
    return {
      volume: this.name,
      epoch: this.#record.epoch + 1,
      from: this.#active.target,
      to: to.target,
      kind: why.kind,
      at: new Date(this.#clock.wallMs()).toISOString(),
      pauseMs: 0,
      held: 0,
      drained: { inFlight: held.inFlight, queueBytes: held.queueBytes },
      dirtyRegions: to.mirror!.dirty.count,
      roots: {
        from: this.#sums.root,
        to: this.#sums.root,
        verifiedRegions: verified,
        unverifiedRegions: this.#sums.verified.regions - verified,
        oldestVerification: this.#scrubbing.verifiedSince,
      },
      cause: why.reason,
      verdict: why.verdict,
    };
  }

  /** What a flip makes durable, in one transaction. Called again with the same arguments until it is. */
  #commitFlip(certificate: FlipCertificate, to: Copy, doubtful: { offset: number; length: number }[]): Promise<void> {
    return this.#inTurn(() => this.#putFlip(certificate, to, doubtful));
  }

  async #putFlip(certificate: FlipCertificate, to: Copy, doubtful: { offset: number; length: number }[]): Promise<void> {
    const from = this.#active;
    this.#reverseId ??= this.#newId();
    const id = this.#reverseId;
    const dirtyRecord = new DirtyRecord(this.#options.records, this.name, id, this.#intents.extents);
    const extents = new Set<number>();
    for (const range of doubtful) {
      const last = Math.floor((range.offset + range.length - 1) / this.#intents.extentBytes);
      for (let extent = Math.floor(range.offset / this.#intents.extentBytes); extent <= last; extent += 1) extents.add(extent);
    }
    const others = this.#copies.filter((copy) => copy !== to && copy !== from);
    const reverse: MirrorRecord = {
      id,
      target: from.target,
      reverse: true,
      synced: true,
      cause: `former active target: ${certificate.cause}`,
    };
    const record: VolumeRecord = {
      ...this.#record,
      epoch: certificate.epoch,
      active: to.target,
      mirrors: [...this.#mirrorRecords(others), reverse],
      nextMirror: this.#nextMirror,
      lastFlip: certificate,
    };
    await this.#options.records.commit([
      putVolume(record),
      { put: oursKey(from.target), value: { volume: this.name } },
      ...to.dirtyRecord!.drop(),
      ...dirtyRecord.add(extents),
      ...this.#staleDoubts,
    ]);
    this.#staleDoubts = [];
    this.#record = record;
    from.id = id;
    from.dirtyRecord = dirtyRecord;
    from.cause = reverse.cause;
    this.#reverseId = null;
    // At once: the next change of the record must find the copies in their new roles.
    this.#swap(to, certificate, doubtful);
  }

  /** The commit is durable: roles change. */
  #swap(to: Copy, certificate: FlipCertificate, doubtful: { offset: number; length: number }[]): void {
    const from = this.#active;
    to.mirror!.stop();
    to.mirror = null;
    to.id = null;
    to.dirtyRecord = null;
    const wasReady = from.upstream.ready;
    this.#active = to;
    this.#copies = [to, ...this.#copies.filter((copy) => copy !== to)];
    from.mirror = this.#makeMirror(from, { reverse: true, blank: false });
    from.mirror.adopt();
    this.#copying.add(from);
    for (const range of doubtful) from.mirror.markDirty(range.offset, range.length);
    this.path.swap(to.upstream);
    this.#setMirrors();
    this.#swapped?.();
    this.#swapped = null;
    if (wasReady) from.mirror.connected();
    for (const copy of this.#mirrorCopies()) copy.mirror.poke();
    // The pause is known only when hosts go on; the record has the certificate without it until the next commit.
    queueMicrotask(() => this.#options.fact({ type: 'flipped', certificate }));
  }

  #activeFailed(errno: number): boolean {
    if (this.#refused !== null) {
      this.#refused(`${describeTarget(this.#active.target)} answered a request with error ${errno}`);
      return true;
    }
    if (!this.#mayFailOver()) return this.#flipping && this.path.isSuspended;
    void this.#failOver(`it answered a request with error ${errno}`);
    return true;
  }

  #mayFailOver(): Copy | null {
    if (this.#closed || this.#flipping || this.#scrubbing.damagedRegions > 0) return null;
    return this.#mirrorCopies().find((copy) => copy.mirror.usable) ?? null;
  }

  async #failOver(reason: string): Promise<void> {
    const to = this.#mayFailOver();
    if (to === null) return;
    const from = this.#active;
    this.#flipping = true;
    this.#flippingTo = to.target;
    this.#options.log.warn({ volume: this.name, from: from.target, to: to.target, reason }, 'the active target is given up for its mirror');
    try {
      const outcome = await failOver(
        this.#ground,
        to,
        { kind: 'failover', reason: `${describeTarget(from.target)}: ${reason}`, verdict: null },
        this.#settings.giveUpAfterMs,
      );
      this.#failoverFailed = !outcome.ok;
      if (!outcome.ok)
        this.#options.log.error(
          { volume: this.name, reason: outcome.message },
          'the failover did not succeed: hosts wait for the old target',
        );
    } finally {
      this.#flipping = false;
      this.#flippingTo = null;
    }
  }

  /** Gives the active target up: its requests go back to the path; it returns as a mirror once nothing old can land in it. */
  #abandon(from: Copy): { doubtful: { offset: number; length: number }[] } {
    const old = from.upstream;
    const opened = this.#connect(from);
    assert(opened.ok, 'a node that was known is unknown now');
    const fresh = opened.value;
    from.upstream = fresh;
    this.#staleDoubts = old.forgetDoubts();
    // It starts when nothing old can land any more and it is known what it lacks.
    let waits = 2;
    const come = (): void => {
      waits -= 1;
      if (waits === 0 && !this.#closed && this.#copies.includes(from) && from.upstream === fresh) fresh.start();
    };
    this.#swapped = come;
    const { requests, doubtful } = old.abandon(come);
    this.path.takeBack(requests);
    return { doubtful };
  }

  #connected(copy: Copy): void {
    this.#options.fact({ type: 'target-back', target: copy.target });
    if (this.#copying.has(copy)) copy.mirror?.connected();
    if (copy === this.#active) {
      this.#graceTimer?.cancel();
      this.#graceTimer = null;
      for (const each of this.#mirrorCopies()) each.mirror.poke();
    }
  }

  #lost(copy: Copy, reason: string): void {
    this.#options.fact({ type: 'target-lost', target: copy.target, reason });
    copy.mirror?.lost(reason);
    if (copy !== this.#active) return;
    this.#grace(LOST_GRACE_MS, `the connection was lost: ${reason}`);
  }

  #grace(delayMs: number, reason: string): void {
    this.#graceTimer?.cancel();
    this.#graceTimer = this.#clock.after(delayMs, () => {
      this.#graceTimer = null;
      if (!this.#active.upstream.ready) void this.#failOver(reason);
    });
  }

  #blocked(copy: Copy, reason: string): void {
    this.#options.fact({ type: 'target-blocked', target: copy.target, reason });
    copy.mirror?.fail(reason);
  }

  #mirrorChanged(copy: Copy, mirror: Mirror, from: MirrorCondition, to: MirrorCondition, reason: string | null): void {
    if (copy.mirror !== mirror && copy.mirror !== null) return;
    if (to === 'synced' && copy.id !== null && !this.#closed) void this.#rememberState();
    this.#options.fact({ type: 'mirror-state', target: copy.target, from, to, reason });
  }

  /** Stores what a restart should know but can do without: that a mirror was in step, how long a flip took. */
  async #rememberState(): Promise<void> {
    try {
      await this.#commit([]);
    } catch (error) {
      this.#options.log.warn({ error, volume: this.name }, 'the state of the mirrors could not be stored; a restart will look again');
    }
  }

  #tick(): void {
    if (this.#closed) return;
    for (const copy of this.#mirrorCopies()) copy.mirror.tick();
    this.#scrubbing.tick(this.#changing === null && !this.#flipping && this.#mirrorCopies().every(({ mirror }) => mirror.usable));
    const { upstream } = this.#active;
    const ageMs = upstream.oldestMs();
    // Another try would keep them from their deadline once more.
    if (this.#failoverFailed) this.#expire();
    if (upstream.ready && ageMs > this.#settings.hangAfterMs) void this.#failOver(`it has not answered for ${Math.round(ageMs)} ms`);
    else if (!upstream.ready && this.#graceTimer === null) void this.#failOver(upstream.reason ?? 'it is not connected');
    this.#expire();
    this.#guard();
    this.#sweeper.tick();
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
  }

  /** The deadline of the policy (rule 12): hosts' requests on the active target, and reads that a mirror was to answer instead. */
  #expire(): void {
    const { giveUpAfterMs } = this.#settings;
    if (this.#flipping) return;
    const expired = this.#active.upstream.expire(giveUpAfterMs);
    for (const copy of this.#mirrorCopies()) copy.upstream.expire(giveUpAfterMs, 'reads');
    if (expired > 0)
      this.#options.log.error(
        { volume: this.name, expired, giveUpAfterMs },
        'requests waited too long for the target and were answered with EIO',
      );
  }

  /** About once a second: background work gives way when hosts suffer from it. */
  #guard(): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#guardMs < 1000) return;
    this.#guardMs = nowMs;
    const { recent } = this.path.counters;
    const copying = this.#mirrorCopies().some((copy) => copy.mirror.dirty.count > 0 && copy.upstream.ready);
    const suffering = this.#latencyGuard.observe(
      recent.quantile(0.99),
      recent.count,
      copying || this.#scrubbing.running,
      this.#settings.hostLatencyGuard,
    );
    recent.reset();
    this.#copyThrottle.adjust(suffering);
    this.#scrubThrottle.adjust(suffering);
  }
}
