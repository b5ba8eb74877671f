// From the readings of all rounds to what the table says: medians with their range, and ratios. A ratio is taken within
// each round, between measurements that were made one after the other, and the median of those is given: what the
// machine did at that moment cancels out. Pure.
import type { Reading } from './meter.js';
import type { PathId } from './path.js';
import type { Workload } from './workload.js';

export interface Sample {
  round: number;
  path: PathId;
  reading: Reading;
  /** CPU time of the process in the middle; null where there is none or it cannot be known. */
  cpuUs: number | null;
}

export interface Spread {
  median: number;
  min: number;
  max: number;
}

/** What a path is compared with: `proxy` is the better of the other NBD proxies. */
export const REFERENCES = ['direct', 'relay', 'socat', 'proxy'] as const;
export type Reference = (typeof REFERENCES)[number];

export interface PathSummary {
  path: PathId;
  rounds: number;
  iops: Spread;
  /** 10^6 bytes per second. */
  megabytesPerSecond: Spread;
  p50Us: Spread;
  p99Us: Spread;
  p999Us: Spread;
  maxUs: number;
  /** CPU time the process in the middle spent on one request. */
  cpuUsPerOperation: number | null;
  errors: number;
  mismatches: number;
  /** This path's value divided by the reference's; a path has no ratio to itself. */
  ratios: Partial<Record<Reference, { iops: number; p50: number }>>;
}

export interface WorkloadSummary {
  workload: Workload;
  /** Which path `proxy` stands for. */
  bestProxy: PathId | null;
  paths: PathSummary[];
}

/** `samples` of one workload; paths come in the order of `order`, those without a sample are left out. */
export function summarise(
  workload: Workload,
  samples: readonly Sample[],
  order: readonly PathId[],
  proxies: readonly PathId[],
): WorkloadSummary {
  const byPath = new Map(order.map((path) => [path, samples.filter((sample) => sample.path === path)] as const));
  const measured = order.filter((path) => byPath.get(path)!.length > 0);
  const medianIops = (path: PathId) => spread(byPath.get(path)!.map(iopsOf)).median;
  const [bestProxy = null] = proxies.filter((path) => measured.includes(path)).sort((a, b) => medianIops(b) - medianIops(a));
  const references: Record<Reference, readonly Sample[]> = {
    direct: byPath.get('direct') ?? [],
    relay: byPath.get('relay') ?? [],
    socat: byPath.get('socat') ?? [],
    proxy: bestProxy === null ? [] : byPath.get(bestProxy)!,
  };
  return {
    workload,
    bestProxy,
    paths: measured.map((path) => summarisePath(workload, byPath.get(path)!, references)),
  };
}

function summarisePath(workload: Workload, samples: readonly Sample[], references: Record<Reference, readonly Sample[]>): PathSummary {
  const readings = samples.map(({ reading }) => reading);
  const iops = spread(samples.map(iopsOf));
  const perOperation = workload.blockBytes / 1e6;
  return {
    path: samples[0].path,
    rounds: samples.length,
    iops,
    megabytesPerSecond: { median: iops.median * perOperation, min: iops.min * perOperation, max: iops.max * perOperation },
    p50Us: spread(readings.map(({ p50Us }) => p50Us)),
    p99Us: spread(readings.map(({ p99Us }) => p99Us)),
    p999Us: spread(readings.map(({ p999Us }) => p999Us)),
    maxUs: Math.max(...readings.map(({ maxUs }) => maxUs)),
    cpuUsPerOperation: cpuPerOperation(samples),
    errors: readings.reduce((sum, { errors }) => sum + errors, 0),
    mismatches: readings.reduce((sum, { mismatches }) => sum + mismatches, 0),
    ratios: ratiosTo(samples, references),
  };
}

function ratiosTo(samples: readonly Sample[], references: Record<Reference, readonly Sample[]>): PathSummary['ratios'] {
  const ratios: PathSummary['ratios'] = {};
  for (const reference of REFERENCES) {
    const pairs = samples.flatMap((sample) => {
      const other = references[reference].find(({ round }) => round === sample.round);
      return other === undefined || other.path === sample.path ? [] : [[sample, other] as const];
    });
    if (pairs.length === 0) continue;
    ratios[reference] = {
      iops: spread(pairs.map(([own, other]) => iopsOf(own) / iopsOf(other))).median,
      p50: spread(pairs.map(([own, other]) => own.reading.p50Us / other.reading.p50Us)).median,
    };
  }
  return ratios;
}

function iopsOf({ reading }: Sample): number {
  return reading.operations / (reading.windowUs / 1e6);
}

/** Over all rounds together, because the kernel counts CPU time in steps of 10 ms. */
function cpuPerOperation(samples: readonly Sample[]): number | null {
  let cpuUs = 0;
  let operations = 0;
  for (const sample of samples) {
    if (sample.cpuUs === null) return null;
    cpuUs += sample.cpuUs;
    operations += sample.reading.allOperations;
  }
  return operations === 0 ? null : cpuUs / operations;
}

/** Of at least one value; the median of an even number is the mean of the middle two. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted[sorted.length - 1] };
}
