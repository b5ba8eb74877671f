// Turns columns of numbers into at most 255 ordered bins, with bin 0 for missing values.
// Guarantees that a value falls into bin b exactly when it is <= thresholds[b - 1] and above the one before, so that a tree grown on bins
// and a tree scored on numbers agree. It must not look at labels.

export interface BinnedColumns {
  columns: Uint8Array[];
  /** Upper edges of bins 1..n, per feature; the last bin, n + 1, has no edge. */
  thresholds: Float64Array[];
  monotone: readonly number[];
}

const BINS_MAX = 254;

/** One Float32Array a feature, NaN for missing. */
export function binColumns(columns: readonly Float32Array[], monotone: readonly number[]): BinnedColumns {
  const thresholds = columns.map(edges);
  return { columns: columns.map((column, feature) => binOne(column, thresholds[feature])), thresholds, monotone };
}

/** Midpoints between distinct values where there are few; else spread so that each bin holds about as many of the distinct values' rows. */
function edges(column: Float32Array): Float64Array {
  const sorted = column.filter((value) => !Number.isNaN(value)).sort();
  const distinct: number[] = [];
  const upTo: number[] = [];
  for (let i = 0; i < sorted.length; i++) {
    if (i === 0 || sorted[i] !== sorted[i - 1]) {
      distinct.push(sorted[i]);
      upTo.push(i + 1);
    } else {
      upTo[upTo.length - 1] = i + 1;
    }
  }
  const cuts: number[] = [];
  let left = sorted.length;
  let taken = 0;
  for (let i = 0; i + 1 < distinct.length && cuts.length < BINS_MAX; i++) {
    const few = distinct.length <= BINS_MAX;
    if (few || upTo[i] - taken >= left / (BINS_MAX - cuts.length)) {
      cuts.push((distinct[i] + distinct[i + 1]) / 2);
      left -= upTo[i] - taken;
      taken = upTo[i];
    }
  }
  return Float64Array.from(cuts);
}

function binOne(column: Float32Array, cuts: Float64Array): Uint8Array {
  const bins = new Uint8Array(column.length);
  for (let i = 0; i < column.length; i++) {
    const value = column[i];
    if (Number.isNaN(value)) continue;
    let low = 0;
    let high = cuts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= cuts[middle]) high = middle;
      else low = middle + 1;
    }
    bins[i] = low + 1;
  }
  return bins;
}
