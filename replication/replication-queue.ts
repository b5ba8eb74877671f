// The acknowledged writes a mirror lacks, in memory and in order (rule 5). Entries that overlap go one after the other,
// all others together, a bounded number at once. The copier's regions pass through the same queue, so that a copy and a
// host's write never reach a region of the mirror in the wrong order (rule 2).
import { type Device, type DeviceRequest, type Extent, OP, type Op } from './device.js';
import { LockEntry, RangeLock } from './range-lock.js';
import type { Clock } from './world.js';

const AT_ONCE = 64;
/** What an entry costs beside its payload. */
const ENTRY_BYTES = 128;

/** What a queued write came from. */
export const ORIGIN = { HOST: 0, COPY: 1 } as const;

/** Told when an entry is on the mirror (0) or was refused. */
export type Applied = (errno: number) => void;

class QueueEntry extends LockEntry implements DeviceRequest {
  op: Op = OP.WRITE;
  offset = 0;
  length = 0;
  fua = false;
  punch = false;
  fast = false;
  one = false;
  lane = 0;
  data: Buffer | null = null;
  extents: Extent[] | null = null;
  host = true;
  pushedMs = 0;
  /** Counts every entry ever pushed. */
  number = 0;
  /** When it was given to the device; Infinity while it has not been. */
  sentMs = Number.POSITIVE_INFINITY;
  applied: Applied | null = null;

  constructor(readonly queue: ReplicationQueue) {
    super();
  }

  granted(): void {
    this.queue.grant(this);
  }

  complete(errno: number): void {
    this.queue.finish(this, errno);
  }
}

export interface QueueEvents {
  /** The mirror refused an entry: its range must be made dirty before anything else happens. */
  refused(offset: number, length: number, errno: number): void;
  /** Host bytes left the queue. */
  room(): void;
}

export class ReplicationQueue {
  readonly #device: Device;
  readonly #clock: Clock;
  readonly #events: QueueEvents;
  readonly #lock = new RangeLock();
  readonly #pool: QueueEntry[] = [];
  /** Holds its range and waits for one of the places on the wire. */
  #ready: QueueEntry[] = [];
  #readyHead = 0;
  /** In order of pushing, to know the oldest; entries leave from anywhere. */
  readonly #entries = new Set<QueueEntry>();
  #running = 0;
  #hostBytes = 0;
  #hostEntries = 0;
  #appliedMs: number;
  #idle: (() => void)[] = [];
  #pushes = 0;
  /** In order: resolved when nothing up to that push is left. */
  #passing: { upTo: number; resolve(): void }[] = [];

  constructor(device: Device, clock: Clock, events: QueueEvents) {
    this.#device = device;
    this.#clock = clock;
    this.#events = events;
    this.#appliedMs = clock.nowMs();
  }

  /** Bytes of hosts' writes that the mirror lacks, as memory counts them. */
  get hostBytes(): number {
    return this.#hostBytes;
  }

  /** How many entries there ever were. */
  get pushes(): number {
    return this.#pushes;
  }

  get empty(): boolean {
    return this.#entries.size === 0;
  }

  get hostEmpty(): boolean {
    return this.#hostEntries === 0;
  }

  /** Age of the oldest entry. */
  get oldestMs(): number {
    for (const entry of this.#entries) return this.#clock.nowMs() - entry.pushedMs;
    return 0;
  }

  /** Time since an entry last reached the mirror, while there are any. */
  get stalledMs(): number {
    return this.empty ? 0 : this.#clock.nowMs() - Math.max(this.#appliedMs, this.#firstPushedMs());
  }

  /** How long a host's write has been on its way that was sent and is not answered; 0: there is none. */
  get hungMs(): number {
    for (const entry of this.#entries)
      if (entry.host && entry.sentMs !== Number.POSITIVE_INFINITY) return this.#clock.nowMs() - entry.sentMs;
    return 0;
  }

  /** What a write of this many bytes would hold. */
  static cost(lengthBytes: number, op: Op): number {
    return ENTRY_BYTES + (op === OP.WRITE ? lengthBytes : 0);
  }

  push(
    write: { op: Op; offset: number; length: number; data: Buffer | null; punch: boolean },
    origin: number,
    applied: Applied | null = null,
    fua = false,
  ): void {
    const entry = this.#pool.pop() ?? new QueueEntry(this);
    entry.op = write.op;
    entry.offset = write.offset;
    entry.length = write.length;
    entry.data = write.data;
    entry.punch = write.punch;
    entry.fua = fua;
    entry.host = origin === ORIGIN.HOST;
    entry.applied = applied;
    this.#pushes += 1;
    entry.number = this.#pushes;
    entry.pushedMs = this.#clock.nowMs();
    entry.sentMs = Number.POSITIVE_INFINITY;
    this.#entries.add(entry);
    if (entry.host) {
      this.#hostBytes += ReplicationQueue.cost(entry.length, entry.op);
      this.#hostEntries += 1;
    }
    if (this.#lock.acquire(entry, entry.offset, entry.length)) this.grant(entry);
  }

  /** Does an entry that is not yet on the mirror touch the range? */
  overlaps(offset: number, length: number): boolean {
    return !this.empty && this.#lock.overlaps(offset, length);
  }

  /** Ranges of all entries, oldest first. */
  *ranges(): Iterable<{ offset: number; length: number }> {
    for (const entry of this.#entries) yield { offset: entry.offset, length: entry.length };
  }

  /** Resolves when everything pushed so far, and all that came meanwhile, is on the mirror or was refused or dropped. */
  drained(): Promise<void> {
    if (this.empty) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Resolves when everything pushed so far is on the mirror or was refused or dropped, whatever comes meanwhile. */
  passed(): Promise<void> {
    if (this.empty) return Promise.resolve();
    return new Promise((resolve) => this.#passing.push({ upTo: this.#pushes, resolve }));
  }

  /**
   * Forgets what has not been sent to the mirror (its regions are dirty now, the caller saw to that). What was sent stays
   * until it is answered, so that nothing is sent to its range before; but no host waits for it, and it takes no room.
   */
  dropUnsent(): void {
    this.#ready = [];
    this.#readyHead = 0;
    // The newest first, so that nothing is granted by what leaves.
    for (const entry of [...this.#entries].reverse()) {
      if (entry.sentMs === Number.POSITIVE_INFINITY) this.#remove(entry, DROPPED);
      else if (entry.host) this.#disown(entry, DROPPED);
    }
  }

  grant(entry: QueueEntry): void {
    this.#ready.push(entry);
    this.#send();
  }

  finish(entry: QueueEntry, errno: number): void {
    this.#running -= 1;
    this.#appliedMs = this.#clock.nowMs();
    if (errno !== 0) this.#events.refused(entry.offset, entry.length, errno);
    this.#remove(entry, errno);
    this.#send();
  }

  #send(): void {
    while (this.#running < AT_ONCE && this.#readyHead < this.#ready.length) {
      const entry = this.#ready[this.#readyHead];
      this.#readyHead += 1;
      if (this.#readyHead > 1024 && this.#readyHead * 2 > this.#ready.length) {
        this.#ready = this.#ready.slice(this.#readyHead);
        this.#readyHead = 0;
      }
      this.#running += 1;
      entry.sentMs = this.#clock.nowMs();
      this.#device.submit(entry);
    }
    if (this.#readyHead === this.#ready.length && this.#readyHead > 0) {
      this.#ready.length = 0;
      this.#readyHead = 0;
    }
  }

  #remove(entry: QueueEntry, errno: number): void {
    this.#entries.delete(entry);
    this.#lock.release(entry);
    this.#disown(entry, errno);
    entry.data = null;
    this.#pool.push(entry);
    if (this.#passing.length > 0) this.#tellPassed();
    if (this.empty) {
      const idle = this.#idle;
      this.#idle = [];
      for (const resolve of idle) resolve();
    }
  }

  #tellPassed(): void {
    let oldest = Number.POSITIVE_INFINITY;
    for (const { number } of this.#entries) {
      oldest = number;
      break;
    }
    while (this.#passing.length > 0 && this.#passing[0].upTo < oldest) this.#passing.shift()!.resolve();
  }

  /** Whoever waits for the entry is told, and it is not counted any more. */
  #disown(entry: QueueEntry, errno: number): void {
    const { applied, host } = entry;
    entry.applied = null;
    entry.host = false;
    if (host) {
      this.#hostBytes -= ReplicationQueue.cost(entry.length, entry.op);
      this.#hostEntries -= 1;
    }
    applied?.(errno);
    if (host) this.#events.room();
  }

  #firstPushedMs(): number {
    for (const entry of this.#entries) return entry.pushedMs;
    return 0;
  }
}

/** Given to `applied` when an entry was dropped rather than refused by the mirror. */
export const DROPPED = -1;
