// What a mirror needs of the volume around it.
import type { Device } from './device.js';
import type { Hasher } from './hasher.js';
import type { LostData } from './lost-data.js';
import type { RangeLock } from './range-lock.js';
import type { ReadableCopy } from './readable-copy.js';
import type { RegionSums } from './region-sums.js';
import type { Throttle } from './throttle.js';
import type { Clock } from './world.js';

/** The same words as the API's mirror states. */
export type MirrorCondition = 'copying' | 'catching-up' | 'synced' | 'lost' | 'failed';

export interface QueueSettings {
  queueBytesMax: number;
  /** slow: hosts wait for room, so that a copy always comes to its end. fall-back: they never do; regions are copied again later. */
  whenFull: 'slow' | 'fall-back';
}

export interface MirrorOptions {
  device: Device;
  sizeBytes: number;
  regionBytes: number;
  /** See `Copier`. */
  blockBytes: number;
  lost: LostData;
  /** Nothing was ever written to the target and it reads as zero. */
  blank: boolean;
  /** Kept in sync after a flip: it never slows a host, it falls back at once. */
  reverse: boolean;
  /** What its queue may hold, and what happens when it is full; asked each time. */
  settings(): QueueSettings;
  /** A mirror that takes nothing for this long while its queue waits falls back to its bitmap. */
  stallMs: number;
  lock: RangeLock;
  sums: RegionSums;
  hasher: Hasher;
  throttle: Throttle;
  clock: Clock;
  source(): Device;
  /** The other mirrors. */
  others(): readonly ReadableCopy[];
  /** See `Copier`. */
  sourceWrong(offset: number, foundElsewhere: boolean): void;
  changed(from: MirrorCondition, to: MirrorCondition, reason: string | null): void;
  /** Space in the queue came free, or the queue is not used any more: hosts that waited may look again. */
  room(): void;
}
