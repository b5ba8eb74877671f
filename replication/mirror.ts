// One mirror of a volume: its dirty regions, its replication queue and its copier, and what they add up to. It is
// complete when nothing is dirty: then everything it lacks is in the queue, in memory (rule 5). Whatever fails here only
// makes regions dirty; no error of a mirror ever reaches a host (rule 7).
import { Bitmap } from './bitmap.js';
import { Copier } from './copier.js';
import { CopyRate } from './copy-rate.js';
import { type DeviceRequest, OP, type Op, PromisedRequest, perform } from './device.js';
import type { MirrorCondition, MirrorOptions } from './mirror-options.js';
import { type ReadableCopy, readElsewhere } from './readable-copy.js';
import { type Applied, DROPPED, ORIGIN, ReplicationQueue } from './replication-queue.js';

/** One write that is answered so many stalls late hangs, even if others are answered meanwhile. */
const HUNG_STALLS = 5;
/** Refusals since it was last in step after which a mirror is given up until someone looks. */
const REFUSALS_MAX = 16;
/** One whose node has not answered for so long since it was made is lost. */
const FIRST_ANSWER_MS = 3000;

export class Mirror implements ReadableCopy {
  readonly dirty: Bitmap;
  readonly queue: ReplicationQueue;
  readonly #options: MirrorOptions;
  readonly #copier: Copier;
  #condition: MirrorCondition = 'copying';
  #reason: string | null = null;
  #everSynced = false;
  /** Somebody else said what it lacks: what its copier is at counts no more. */
  #vouched = false;
  /** Not null: what is on the mirror may be overwritten by requests nobody can stop; it must not be relied on. */
  #distrust: string | null = null;
  #up = false;
  #refusals = 0;
  readonly #madeMs: number;
  readonly #rate: CopyRate;
  #stopped = false;
  /** Nothing is sent to it until `connected`: what it is to get first comes from elsewhere. */
  #deferred = false;
  /** It is away and was waited for: until it is back nothing is queued for it. */
  #away = false;
  #startsOver = 0;
  #queueLimit = Number.POSITIVE_INFINITY;

  constructor(options: MirrorOptions) {
    this.#options = options;
    this.dirty = new Bitmap(options.sizeBytes, options.regionBytes);
    this.queue = new ReplicationQueue(options.device, options.clock, {
      refused: (offset, length, errno) => this.#refused(offset, length, errno),
      room: () => options.room(),
    });
    let blank: Bitmap | null = null;
    if (options.blank) {
      blank = new Bitmap(options.sizeBytes, options.regionBytes);
      blank.setAll();
    }
    this.#copier = new Copier({
      source: () => options.source(),
      lock: options.lock,
      sums: options.sums,
      hasher: options.hasher,
      throttle: options.throttle,
      clock: options.clock,
      queue: this.queue,
      dirty: this.dirty,
      blockBytes: options.blockBytes,
      lost: options.lost,
      blank,
      progressed: () => this.#look(),
      elsewhere: (offset, length, isRight) => readElsewhere(options.others(), options.clock, offset, length, isRight),
      mayBeElsewhere: (offset, length) => options.others().some((other) => other.mayHave(offset, length)),
      sourceWrong: (offset, foundElsewhere) => options.sourceWrong(offset, foundElsewhere),
      sourceRefused: (offset, length, errno) => {
        this.#reason = `the active target refused to read ${length} bytes at ${offset} (error ${errno}); it is tried again`;
      },
    });
    this.#madeMs = options.clock.nowMs();
    this.#rate = new CopyRate(this.#madeMs);
  }

  get condition(): MirrorCondition {
    return this.#condition;
  }

  get reason(): string | null {
    return this.#reason;
  }

  get reverse(): boolean {
    return this.#options.reverse;
  }

  /** Everything the volume has is on the mirror or in its queue. */
  get complete(): boolean {
    const copying = this.#copier.busy && !this.#vouched;
    return this.dirty.count === 0 && !copying && this.#condition !== 'failed' && this.#everSynced && this.#distrust === null;
  }

  /** It had everything once: what it lacks since then is dirty. */
  get everSynced(): boolean {
    return this.#everSynced;
  }

  /** Complete, and its node answers. */
  get usable(): boolean {
    return this.#up && this.complete;
  }

  /** Its node answers and it was not given up: it may be read where it lacks nothing. */
  get answers(): boolean {
    return this.#up && this.#condition !== 'failed';
  }

  /** How often its target had lost what it held. */
  get startsOver(): number {
    return this.#startsOver;
  }

  get copiedBytes(): number {
    return this.dirty.sizeBytes - this.dirty.countBytes;
  }

  /** Bytes copied per second, lately. */
  get copyBytesPerSecond(): number {
    return this.#rate.bytesPerSecond;
  }

  /** Something is dirty from the start: the whole device, or what a restart left in doubt. Before `connected`. */
  markDirty(offset: number, length: number): void {
    this.dirty.setRange(offset, length);
  }

  /**
   * The volume has become larger. `alike`: the new part of the mirror is known to be what the volume has there; else it is dirty, with
   * the region that was short before.
   */
  grow(sizeBytes: number, alike: boolean): void {
    const { dirty } = this;
    const from = dirty.sizeBytes;
    this.#copier.grow(sizeBytes);
    dirty.grow(sizeBytes);
    if (!alike) this.copyAgain(from, sizeBytes - from, 'the volume has grown');
  }

  /** A mirror that was in sync before (a flip's old target, or one that a restart finds complete) needs no first copy. */
  adopt(): void {
    this.#everSynced = true;
    this.#condition = 'catching-up';
  }

  /** Requests of an earlier gateway may still land there: it is kept up to date, but cannot take over or answer reads. */
  distrust(reason: string): void {
    this.#distrust = reason;
  }

  /** That is over; what may have been hit was given to `copyAgain` before. */
  trust(): void {
    this.#distrust = null;
    this.#look();
  }

  /** Until `connected` hosts' writes only make regions dirty: first it gets what a journal has for it. */
  defer(): void {
    this.#deferred = true;
  }

  /** Where it lacks something, region by region. */
  dirtyRanges(): { offset: number; length: number }[] {
    const { dirty } = this;
    const ranges: { offset: number; length: number }[] = [];
    for (let region = dirty.next(0); region >= 0; region = dirty.next(region + 1)) {
      const offset = region * dirty.regionBytes;
      ranges.push({ offset, length: Math.min(dirty.regionBytes, dirty.sizeBytes - offset) });
    }
    return ranges;
  }

  /**
   * Its target answers, and it may take over though it may differ where it was dirty: a journal has given it all that hosts flushed,
   * or an operator agreed to the loss. Gives those ranges, which are not dirty any more. Nothing is copied there until `connected`.
   */
  vouch(): { offset: number; length: number }[] {
    const ranges = this.dirtyRanges();
    this.dirty.clearAll();
    this.#vouched = true;
    this.#everSynced = true;
    this.#up = true;
    this.#away = false;
    this.#deferred = false;
    this.#enter('synced', null);
    return ranges;
  }

  /** It did not take over after all: it lacks again what it lacked. */
  recant(ranges: readonly { offset: number; length: number }[], reason: string): void {
    this.#vouched = false;
    for (const { offset, length } of ranges) this.copyAgain(offset, length, reason);
  }

  /** Its target has lost what it held: nothing of it counts any more, and it cannot take over before all is copied. */
  startOver(reason: string): void {
    this.#everSynced = false;
    this.#startsOver += 1;
    this.#copier.forgetBlank();
    this.copyAgain(0, this.dirty.sizeBytes, reason);
    this.fallBack(reason);
    if (this.#condition !== 'failed') this.#enter('lost', reason);
  }

  /** Is everything the volume has there on the mirror now, as far as it was ever sent? */
  holds(offset: number, length: number): boolean {
    return !this.dirty.anyIn(offset, length) && !this.queue.overlaps(offset, length);
  }

  /** The target answers. */
  connected(): void {
    this.#up = true;
    this.#away = false;
    this.#deferred = false;
    if (this.#condition === 'failed' || this.#stopped) return;
    this.#refusals = 0;
    this.#enter(this.#everSynced ? 'catching-up' : 'copying', null);
    this.#copier.enable(true);
    this.#look();
  }

  /** The target does not answer; what is queued waits for it, for a while. */
  lost(reason: string): void {
    this.#up = false;
    this.#copier.enable(false);
    if (this.#condition === 'failed') return;
    this.#enter('lost', reason);
    if (this.#fallsBack) this.fallBack(reason);
  }

  /** Latched: nothing is sent any more; only dropping and making it anew helps. */
  fail(reason: string): void {
    if (this.#condition === 'failed') return;
    this.#copier.enable(false);
    this.#enter('failed', reason);
    this.fallBack(reason);
  }

  /** It is going to be removed: nothing is sent any more, and nobody need be alarmed. */
  retire(reason: string): void {
    this.#copier.stop();
    this.#stopped = true;
    this.#condition = 'failed';
    this.#reason = reason;
    this.fallBack(reason);
  }

  /** Less room in the queue than it may have (bytes), for a mirror that is to take over; Infinity: as usual again. */
  limitQueue(bytes: number): void {
    const wider = bytes > this.#queueLimit;
    this.#queueLimit = bytes;
    if (wider) this.#options.room();
  }

  /** Would a write of this cost have to wait for room? Never for a mirror that falls back instead, unless it is to take over. */
  mustWait(costBytes: number, admittedBytes: number): boolean {
    const limited = this.#queueLimit < Number.POSITIVE_INFINITY;
    if ((!limited && this.#fallsBack) || this.#away || this.#condition === 'failed') return false;
    const usedBytes = this.queue.hostBytes + admittedBytes;
    return usedBytes > 0 && usedBytes + costBytes > Math.min(this.#queueLimit, this.#options.settings().queueBytesMax);
  }

  /** The active target has acknowledged a write: take it. Under the write's lock. `applied` is told when it is on the mirror, or never will be by this way. */
  push(
    write: { op: Op; offset: number; length: number; data: Buffer | null; punch: boolean },
    applied: Applied | null,
    fua: boolean,
  ): void {
    this.#copier.wrote(write.offset, write.length);
    if (this.#condition === 'failed' || this.#deferred || this.#away || this.dirty.allIn(write.offset, write.length)) {
      this.dirty.setRange(write.offset, write.length);
      applied?.(DROPPED);
      return;
    }
    const overfull = this.queue.hostBytes + ReplicationQueue.cost(write.length, write.op) > this.#options.settings().queueBytesMax;
    // Admitted while nothing was kept for it: there is no room set aside.
    const unexpected = overfull && !this.#fallsBack && !this.queue.hostEmpty;
    const stalled = this.#stalled;
    if (stalled || unexpected || ((overfull || !this.#up) && this.#fallsBack)) {
      this.dirty.setRange(write.offset, write.length);
      if (stalled) this.fallBack(this.#stallReason);
      else if (unexpected) this.copyAgain(write.offset, write.length, 'hosts wrote while it came back');
      else if (overfull) this.fallBack('it is slower than the hosts write');
      applied?.(DROPPED);
      return;
    }
    this.queue.push(write, ORIGIN.HOST, applied, fua);
  }

  /** Rule 17: may it answer a read of this range now? The caller looks at writes in flight, and asks again when the answer is there. */
  mayRead(offset: number, length: number): boolean {
    return this.#up && this.#everSynced && this.#distrust === null && this.#condition !== 'failed' && this.holds(offset, length);
  }

  mayHave(offset: number, length: number): boolean {
    return this.#everSynced && this.#condition !== 'failed' && !this.dirty.anyIn(offset, length);
  }

  read(request: DeviceRequest): void {
    this.#options.device.submit(request);
  }

  /** Makes durable what the mirror has answered; gives its error number. */
  flush(): Promise<number> {
    return perform(this.#options.device, new PromisedRequest(OP.FLUSH, 0, 0));
  }

  /** A write of unknown outcome: the copies may differ there. Under the write's lock. */
  doubt(offset: number, length: number): void {
    this.#copier.wrote(offset, length);
    this.#copier.sourceUnsure();
    this.dirty.setRange(offset, length);
    this.#slip('a write failed on the active target');
    this.#copier.poke();
  }

  /** What is on the mirror there may have been overwritten by an old request: it is copied once more. */
  copyAgain(offset: number, length: number, reason = 'ranges that old requests may have hit are copied again'): void {
    this.#copier.wrote(offset, length);
    this.dirty.setRange(offset, length);
    this.#slip(reason);
    this.#copier.poke();
  }

  /** About four times a second: notices a mirror that takes nothing, and measures the copy. */
  tick(): void {
    if (!this.queue.hostEmpty && this.#stalled) this.fallBack(this.#stallReason);
    else if (this.queue.hungMs > HUNG_STALLS * this.#options.stallMs) {
      this.fallBack(`the mirror has not answered a write for ${Math.round(this.queue.hungMs)} ms`);
    }
    const nowMs = this.#options.clock.nowMs();
    if (this.#expected && nowMs - this.#madeMs > FIRST_ANSWER_MS) this.lost('its node does not answer');
    this.#rate.measure(this.copiedBytes, nowMs);
  }

  /** The queue's writes become dirty regions: memory is freed and hosts go on (rule 5). */
  fallBack(reason: string): void {
    if (!this.queue.empty) {
      for (const range of this.queue.ranges()) this.dirty.setRange(range.offset, range.length);
      this.queue.dropUnsent();
    }
    this.#away = !this.#up;
    this.#slip(reason);
    this.#options.room();
    this.#copier.poke();
  }

  /** Looks for dirty regions again: the source is back, or has changed. */
  poke(): void {
    this.#copier.poke();
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#copier.stop();
  }

  #refused(offset: number, length: number, errno: number): void {
    this.dirty.setRange(offset, length);
    this.#refusals += 1;
    if (this.#refusals >= REFUSALS_MAX)
      this.fail(`its node refused ${this.#refusals} writes since it was last in step, the last with error ${errno}`);
    else this.#slip(`its node refused a write of ${length} bytes at ${offset} with error ${errno}`);
    this.#copier.poke();
  }

  /** Its node has not answered yet, and nobody has said that it is lost. */
  get #expected(): boolean {
    return !this.#up && !this.#stopped && (this.#condition === 'copying' || this.#condition === 'catching-up');
  }

  get #fallsBack(): boolean {
    return this.#options.reverse || this.#options.settings().whenFull === 'fall-back';
  }

  get #stalled(): boolean {
    return this.queue.stalledMs > this.#options.stallMs;
  }

  get #stallReason(): string {
    return `the mirror took nothing for ${Math.round(this.queue.stalledMs)} ms`;
  }

  /** It was in step and is not any more. */
  #slip(reason: string): void {
    if (this.dirty.count > 0 && this.#condition === 'synced') this.#enter('catching-up', reason);
  }

  #look(): void {
    if (this.#stopped || !this.#up || this.#condition === 'failed') return;
    if (this.dirty.count > 0 || this.#copier.busy) {
      this.#copier.poke();
      return;
    }
    if (this.#condition === 'synced') return;
    if (this.#distrust !== null) {
      this.#reason = this.#distrust;
      return;
    }
    this.#everSynced = true;
    this.#refusals = 0;
    this.#enter('synced', null);
  }

  #enter(condition: MirrorCondition, reason: string | null): void {
    const from = this.#condition;
    this.#reason = reason;
    if (from === condition) return;
    this.#condition = condition;
    this.#options.changed(from, condition, reason);
  }
}
