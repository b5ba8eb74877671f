// What the policy says, as a volume needs it. May change while the volume runs: parts ask for it when they need it.

import type { QueueSettings } from '../../replication/mirror-options.js';

export interface VolumeSettings {
  durability: 'async' | 'journal' | 'sync';
  queueBytesMax: number;
  whenFull: QueueSettings['whenFull'];
  flipDeadlineMs: number;
  /** What the deadline grows to when flips are called off for it. */
  flipDeadlineMaxMs: number;
  hangAfterMs: number;
  giveUpAfterMs: number;
  /** A read waits so long at least before a mirror is asked, too; null: none is. */
  hedgeAfterMs: number | null;
  copyBytesPerSecond: number;
  /** Copying is not slowed below this for the hosts' sake: every copy comes to its end. */
  copyBytesPerSecondMin: number;
  scrubBytesPerSecond: number;
  hostLatencyGuard: number;
}
