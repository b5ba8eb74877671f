// How long the demo's parts take: one pace for people, a fast one for tests. Everything else is the same in both.

const MIB = 2 ** 20;

export interface Pace {
  /** What the host writes to, and so what is copied. */
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
    areaBytes: 96 * MIB,
    calmMs: 6_000,
    readingMs: 1_500,
    readingsAtOnce: 1,
    observe: '10s',
    copyBandwidth: '16MiB',
    outageMs: 15_000,
  },
  fast: {
    areaBytes: 16 * MIB,
    calmMs: 1_000,
    readingMs: 1_000,
    readingsAtOnce: 4,
    observe: '2s',
    copyBandwidth: '16MiB',
    outageMs: 3_000,
  },
};

export const VOLUME = 'vol0';
export const VOLUME_BYTES = 256 * MIB;
