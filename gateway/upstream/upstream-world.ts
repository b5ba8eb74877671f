// What an upstream needs from the world, and what it tells its owner.
import type { Hasher } from '../../replication/hasher.js';
import type { Log } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { ConnectionsOptions } from './connections.js';
import type { ContentsFinding } from './contents-check.js';
import type { DoubtRecords } from './doubt-records.js';
import type { Features } from './features.js';
import type { Sample, Witnesses } from './witnesses.js';

/** What is remembered of a target beyond one connection to it, by the volume whose copy it holds. */
export interface TargetMemory {
  /** Where guarded ranges are written down. */
  doubts: DoubtRecords;
  witnesses: Witnesses;
  hasher: Hasher;
  /** What else the target must hold now, whatever it has not flushed set aside. */
  expected(): Sample[];
}

export interface UpstreamOptions extends ConnectionsOptions {
  target: TargetRef;
  unflushedBytesMax: number;
  /** Null: what is written there is never read again. */
  memory: TargetMemory | null;
  log: Log;
}

export interface UpstreamEvents {
  /** It answers: for the first time, or again. */
  connected(features: Features): void;
  /** It does not answer; requests wait and it is tried again. Called once per loss. */
  lost(reason: string): void;
  /** It answers but cannot be a copy of this volume; requests wait. */
  blocked(reason: string): void;
  /** It was open what the target holds in these ranges; now it stays as it is, and may not be what was read there meanwhile. */
  settled(ranges: readonly { offset: number; end: number }[]): void;
  /** It came back and does not hold what it must. True: that is known and will be mended, it may go on; false: it is blocked. */
  unlike(finding: ContentsFinding): Promise<boolean>;
}
