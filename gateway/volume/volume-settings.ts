// What the policy says, as a volume needs it. May change while the volume runs: parts ask for it when they need it.

export interface VolumeSettings {
  durability: 'async' | 'journal' | 'sync';
  queueBytesMax: number;
  flipDeadlineMs: number;
  /** What the deadline grows to when flips are called off for it. */
  flipDeadlineMaxMs: number;
  hangAfterMs: number;
  giveUpAfterMs: number;
  copyBytesPerSecond: number;
  scrubBytesPerSecond: number;
  hostLatencyGuard: number;
}
