// Makes copies: connects to their targets, tells each what it must still hold, and makes the mirrors that keep them in step.
// What happens on a connection is told to whoever watches; nothing is decided here.
import { DirtyRecord } from '../../replication/dirty-record.js';
import type { Hasher } from '../../replication/hasher.js';
import type { IntentLog } from '../../replication/intent-log.js';
import { Mirror } from '../../replication/mirror.js';
import type { MirrorCondition } from '../../replication/mirror-options.js';
import type { RegionSums } from '../../replication/region-sums.js';
import type { Throttle } from '../../replication/throttle.js';
import type { Clock, Records } from '../../replication/world.js';
import type { Outcome, TargetRef } from '../control.js';
import type { ContentsFinding } from '../upstream/contents-check.js';
import { DoubtRecords } from '../upstream/doubt-records.js';
import type { Requirements } from '../upstream/features.js';
import type { TargetMemory, Upstream, UpstreamEvents } from '../upstream/upstream.js';
import { type Sample, Witnesses } from '../upstream/witnesses.js';
import type { Copies } from './copies.js';
import type { Copy } from './copy.js';
import type { IoPath } from './io-path.js';
import type { LostRanges } from './lost-ranges.js';
import type { VolumeSettings } from './volume-settings.js';

const STALL_MS = 2000;
/** No disk loses less. */
const SECTOR_BYTES = 512;
/** Regions with a known checksum that a target is asked for when it comes back. */
const SAMPLES = 32;
/** Regions of zeroes among what it is asked for besides: a blank target has them too. */
const ZERO_SAMPLES = 8;

/** Makes the connection to a target, not started. Refuses a node or an address nobody knows. */
export type Connect = (target: TargetRef, needs: Requirements, events: UpstreamEvents, memory: TargetMemory) => Outcome<Upstream>;

/** What is told of a copy's target (see `UpstreamEvents`). */
export interface TargetEvents {
  connected(copy: Copy): void;
  lost(copy: Copy, reason: string): void;
  blocked(copy: Copy, reason: string): void;
  settled(copy: Copy, ranges: readonly { offset: number; end: number }[]): void;
  /** Resolves to whether the target may be used nevertheless. */
  unlike(copy: Copy, finding: ContentsFinding): Promise<boolean>;
}

export interface CopyEvents extends TargetEvents {
  /** The region at this offset is not what it must be on the active copy, or on every one that was looked at. */
  suspect(offset: number, where: 'active' | 'every'): void;
  mirrorChanged(copy: Copy, mirror: Mirror, from: MirrorCondition, to: MirrorCondition, reason: string | null): void;
}

export interface CopyOpenerOptions {
  volume: string;
  blockMinimum: number;
  lost: LostRanges;
  copies: Copies;
  path: IoPath;
  intents: IntentLog;
  sums: RegionSums;
  records: Records;
  clock: Clock;
  hasher: Hasher;
  /** The budget of all copying. */
  throttle: Throttle;
  settings(): VolumeSettings;
  connect: Connect;
  events: CopyEvents;
  /** Requests of an earlier gateway may still land on what is known by checksum. */
  unsure(): boolean;
}

export class CopyOpener {
  readonly #options: CopyOpenerOptions;

  constructor(options: CopyOpenerOptions) {
    this.#options = options;
  }

  /** A copy without a connection. */
  make(target: TargetRef, cause: string): Copy {
    const witnesses = new Witnesses(this.#options.hasher);
    return { target, upstream: null as unknown as Upstream, witnesses, mirror: null, id: null, dirtyRecord: null, cause };
  }

  /** A copy that the record names, its connection not started. */
  open(target: TargetRef, id: string | null, cause: string): Outcome<Copy> {
    const copy = this.make(target, cause);
    const opened = this.connect(copy);
    if (!opened.ok) return opened;
    if (id !== null) this.name(copy, id);
    return { ok: true, value: copy };
  }

  /** Gives a mirror its id, and with it the durable record of what it lacks. */
  name(copy: Copy, id: string): DirtyRecord {
    copy.id = id;
    copy.dirtyRecord = this.dirtyRecord(id);
    return copy.dirtyRecord;
  }

  dirtyRecord(id: string): DirtyRecord {
    const { records, volume, intents } = this.#options;
    return new DirtyRecord(records, volume, id, intents.extents);
  }

  /** Gives a copy a new upstream, not started. */
  connect(copy: Copy, events: TargetEvents = this.#options.events, memory: TargetMemory = this.memoryOf(copy)): Outcome<Upstream> {
    const { sums, blockMinimum } = this.#options;
    const opened = this.#options.connect(
      copy.target,
      { sizeBytes: sums.sizeBytes, blockMinimum },
      {
        connected: () => events.connected(copy),
        lost: (reason) => events.lost(copy, reason),
        blocked: (reason) => events.blocked(copy, reason),
        settled: (ranges) => events.settled(copy, ranges),
        unlike: (finding) => events.unlike(copy, finding),
      },
      memory,
    );
    if (opened.ok) copy.upstream = opened.value;
    return opened;
  }

  memoryOf(copy: Copy): TargetMemory {
    return {
      doubts: new DoubtRecords(this.#options.records, this.#options.volume, copy.target),
      witnesses: copy.witnesses,
      hasher: this.#options.hasher,
      expected: () => this.#expected(copy),
    };
  }

  /** The mirror of a copy that is connected; `blank`: its target is proven to read as zero. */
  mirror(copy: Copy, kind: { reverse: boolean; blank: boolean }): Mirror {
    const { blockMinimum, lost, sums, hasher, clock, path, throttle, copies, settings, events } = this.#options;
    const mirror: Mirror = new Mirror({
      device: copy.upstream,
      sizeBytes: sums.sizeBytes,
      regionBytes: sums.regionBytes,
      blockBytes: Math.max(SECTOR_BYTES, blockMinimum),
      lost,
      blank: kind.blank,
      reverse: kind.reverse,
      settings,
      stallMs: STALL_MS,
      lock: path.lock,
      sums,
      hasher,
      throttle,
      clock,
      source: () => copies.source,
      others: () => copies.mirrors.flatMap((other) => (other.mirror === mirror ? [] : [other.mirror])),
      sourceWrong: (offset, foundElsewhere) => events.suspect(offset, foundElsewhere ? 'active' : 'every'),
      changed: (from, to, reason) => events.mirrorChanged(copy, mirror, from, to, reason),
      room: () => path.roomCame(),
    });
    return mirror;
  }

  /** Regions of known checksum that a copy must hold whatever it has not flushed. */
  #expected(copy: Copy): Sample[] {
    const { mirror } = copy;
    const { copies, sums, hasher, unsure } = this.#options;
    if (unsure() || (mirror === null && copy !== copies.active)) return [];
    const holds = (offset: number, length: number): boolean => mirror === null || mirror.holds(offset, length);
    const zero = hasher.sum(Buffer.alloc(sums.regionBytes));
    return [
      ...sums.samples(SAMPLES, (offset, length, sum) => sum !== zero && holds(offset, length)),
      ...sums.samples(ZERO_SAMPLES, (offset, length, sum) => sum === zero && holds(offset, length)),
    ];
  }
}
