// What a volume knows of its regions, as NBD metadata contexts: `x-forestall:dirty` and `x-forestall:scrubbed`. Both are of the moment
// they are asked in.
import type { Mirror } from '../../replication/mirror.js';
import type { RegionSums } from '../../replication/region-sums.js';
import type { KnownContext, StatusRun } from '../nbd/meta-context.js';
import type { ScrubTimes } from './scrub-times.js';

/** Status of `x-forestall:scrubbed` where it is not known that all copies are alike. */
const NEVER = 0xffff_ffff;
/** Ages are told in whole minutes, rounded up, so that neighbours are alike. */
const AGE_STEP_S = 60;
/** Looked at for one answer, so that many of them keep nobody waiting. */
const REGIONS_MAX = 4096;

export interface VolumeContextsOptions {
  mirrors(): readonly Mirror[];
  sums: RegionSums;
  scrubTimes: ScrubTimes;
}

export function volumeContexts({ mirrors, sums, scrubTimes }: VolumeContextsOptions): KnownContext[] {
  const { regionBytes, verified } = sums;
  const endOf = (offset: number, length: number): number =>
    Math.min(verified.sizeBytes, offset + length, (Math.floor(offset / regionBytes) + REGIONS_MAX) * regionBytes);
  const runsOf = (offset: number, end: number, statusOf: (region: number) => number): StatusRun[] => {
    const runs: StatusRun[] = [];
    for (let at = offset; at < end; ) {
      const region = Math.floor(at / regionBytes);
      const next = Math.min(end, (region + 1) * regionBytes);
      const status = statusOf(region);
      const last = runs.at(-1);
      if (last?.status === status) last.lengthBytes += next - at;
      else runs.push({ lengthBytes: next - at, status });
      at = next;
    }
    return runs;
  };
  return [
    {
      // 1: a mirror lacks something of the region; 0: no mirror does.
      name: 'x-forestall:dirty',
      runs(offset, length) {
        const all = mirrors();
        const end = endOf(offset, length);
        const queued = new Set<number>();
        for (const { queue } of all) {
          for (const range of queue.ranges()) {
            const from = Math.max(offset, range.offset);
            const to = Math.min(end, range.offset + range.length);
            for (let at = Math.floor(from / regionBytes); at * regionBytes < to; at += 1) queued.add(at);
          }
        }
        return runsOf(offset, end, (region) => (queued.has(region) || all.some(({ dirty }) => dirty.has(region)) ? 1 : 0));
      },
    },
    {
      // Seconds since every copy was read and found alike, at most; NEVER: not since it was last written, or since the gateway started.
      name: 'x-forestall:scrubbed',
      runs(offset, length) {
        return runsOf(offset, endOf(offset, length), (region) => {
          const seconds = verified.has(region) ? scrubTimes.ageSeconds(region) : null;
          return seconds === null ? NEVER : Math.ceil(seconds / AGE_STEP_S) * AGE_STEP_S;
        });
      },
    },
  ];
}
