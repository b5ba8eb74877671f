// The slope of a noisy series that a few outliers cannot bend, with its confidence interval.
// Guarantees O(n^2) on at most POINTS_MAX points. Pure.
// Method: Theil (1950) and Sen (1968); the interval by Kendall's tau as in Sen's paper, without ties' correction.

export const SLOPE_POINTS_MAX = 96;

export interface RobustLine {
  /** Per millisecond. */
  slope: number;
  low: number;
  high: number;
  /** Value on the line at the last point's time. */
  latest: number;
}

const Z90 = 1.645;

/** Null with fewer than `pointsMin` points or no spread in time. `low` and `high` bound the slope with 90 % confidence. */
export function robustLine(atMs: readonly number[], values: readonly number[], pointsMin = 8): RobustLine | null {
  const n = atMs.length;
  if (n < pointsMin || n > SLOPE_POINTS_MAX) return null;
  const slopes: number[] = [];
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) if (atMs[j] > atMs[i]) slopes.push((values[j] - values[i]) / (atMs[j] - atMs[i]));
  }
  if (slopes.length === 0) return null;
  slopes.sort((a, b) => a - b);
  const spread = Z90 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
  const low = slopes[Math.max(0, Math.floor((slopes.length - spread) / 2))];
  const high = slopes[Math.min(slopes.length - 1, Math.ceil((slopes.length + spread) / 2))];
  const slope = medianOfSorted(slopes);
  const residuals = values.map((value, i) => value - slope * (atMs[i] - atMs[n - 1]));
  return { slope, low, high, latest: median(residuals) };
}

export function median(values: readonly number[]): number {
  return medianOfSorted([...values].sort((a, b) => a - b));
}

function medianOfSorted(sorted: readonly number[]): number {
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
