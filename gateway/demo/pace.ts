// How long the demo's parts take: one pace for people, a fast one for tests. Everything else is the same in both.

const MIB = 2 ** 20;

export interface Pace {
  volumeBytes: number;
  /** What of it the host writes to, and so what is copied. */
  areaBytes: number;
  /** Steady writing before something happens, and after. */
  calmMs: number;
  /** Between two readings of the dying disk. */
  readingMs: number;
  /** Readings that the disk's counters climb with each of ours. */
  readingsAtOnce: number;
  /** How long an old node is watched before an alarm counts as false, as the configuration says it. */
  observe: string;
  copyBandwidth: string;
  /** How long the node stays dead that nothing predicted. */
  outageMs: number;
}

export const PACE: Record<'people' | 'fast', Pace> = {
  people: {
    volumeBytes: 256 * MIB,
    areaBytes: 96 * MIB,
    calmMs: 6_000,
    readingMs: 1_500,
    readingsAtOnce: 1,
    observe: '15s',
    copyBandwidth: '16MiB',
    outageMs: 15_000,
  },
  fast: {
    volumeBytes: 64 * MIB,
    areaBytes: 16 * MIB,
    calmMs: 1_000,
    readingMs: 1_000,
    readingsAtOnce: 4,
    observe: '3s',
    copyBandwidth: '16MiB',
    outageMs: 3_000,
  },
};

export const VOLUME = 'vol0';
