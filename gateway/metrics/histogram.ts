// A latency histogram for the I/O path: log-linear buckets in one typed array, about 10 ns a record, no allocation.
// Guarantees: a quantile is within 1/32 of the true value (1 us below 32 us), count, sum and maximum are exact.
// Must not read a clock, and must not be rendered from the I/O path: `snapshot` is for the scrape.

// Bucket layout: values are whole microseconds (truncated). 0..31 have a bucket each; above that every octave
// [2^e, 2^(e+1)) is split into 32 equal buckets, up to 2^28 us (268 s); longer ones count in the last bucket.
const SUB_BITS = 5;
const SUB = 1 << SUB_BITS;
const TOP_EXPONENT = 27;
const BUCKETS = (TOP_EXPONENT - SUB_BITS + 2) * SUB;
const LAST = BUCKETS - 1;

// The scrape's bounds are whole octaves, 8 us to 16.8 s: they fall on bucket edges, so their counts are exact.
const FIRST_BOUND_EXPONENT = 3;
const LAST_BOUND_EXPONENT = 24;

function bucketOf(us: number): number {
  const whole = us | 0;
  if (whole < SUB) {
    return whole;
  }
  const exponent = 31 - Math.clz32(whole);
  return ((exponent - SUB_BITS + 1) << SUB_BITS) + ((whole >>> (exponent - SUB_BITS)) & (SUB - 1));
}

/** First microsecond of a bucket; of `BUCKETS`: the end of the last. */
function lowerUs(bucket: number): number {
  if (bucket < SUB) {
    return bucket;
  }
  const exponent = (bucket >> SUB_BITS) + SUB_BITS - 1;
  return (SUB + (bucket & (SUB - 1))) * 2 ** (exponent - SUB_BITS);
}

const MAX_US = lowerUs(BUCKETS);

/** Upper bounds of a snapshot's buckets in seconds; one more bucket, up to infinity, follows the last. */
export const SNAPSHOT_BOUNDS_SECONDS: readonly number[] = Array.from(
  { length: LAST_BOUND_EXPONENT - FIRST_BOUND_EXPONENT + 1 },
  (_, i) => 2 ** (FIRST_BOUND_EXPONENT + i) / 1e6,
);
const BOUND_BUCKETS = SNAPSHOT_BOUNDS_SECONDS.map((_, i) => bucketOf(2 ** (FIRST_BOUND_EXPONENT + i)));

/** Counts by bucket, not cumulative: `counts[i]` is for `upperBoundsSeconds[i]`, the last one for what lies above them all. */
export interface HistogramSnapshot {
  upperBoundsSeconds: readonly number[];
  counts: number[];
  sumSeconds: number;
  count: number;
}

export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  // count, sum, maximum: in a typed array because number fields of an object may be boxed anew at every change.
  readonly #totals = new Float64Array(3);

  /** `us`: microseconds, fractions allowed. What is not above 0 (a clock that stood still) or no finite number counts as 0. */
  record(us: number): void {
    const value = us > 0 && us < Number.POSITIVE_INFINITY ? us : 0;
    this.#counts[value < MAX_US ? bucketOf(value) : LAST]++;
    const totals = this.#totals;
    totals[0]++;
    totals[1] += value;
    if (value > totals[2]) {
      totals[2] = value;
    }
  }

  get count(): number {
    return this.#totals[0];
  }

  get sumUs(): number {
    return this.#totals[1];
  }

  /** The largest value recorded; 0 when there is none. */
  get maxUs(): number {
    return this.#totals[2];
  }

  /** The value that a share `q` (0 to 1) of the records does not exceed, in microseconds; null: nothing was recorded. */
  quantile(q: number): number | null {
    const count = this.#totals[0];
    if (count === 0) {
      return null;
    }
    const rank = Math.min(count, Math.max(1, Math.ceil(q * count)));
    let before = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const here = this.#counts[bucket];
      if (before + here >= rank) {
        const low = lowerUs(bucket);
        const share = (rank - before - 0.5) / here;
        const value = bucket === LAST ? this.maxUs : low + (lowerUs(bucket + 1) - low) * share;
        return Math.min(value, this.maxUs);
      }
      before += here;
    }
    return this.maxUs;
  }

  reset(): void {
    this.#counts.fill(0);
    this.#totals.fill(0);
  }

  mergeFrom(other: LatencyHistogram): void {
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      this.#counts[bucket] += other.#counts[bucket];
    }
    this.#totals[0] += other.#totals[0];
    this.#totals[1] += other.#totals[1];
    this.#totals[2] = Math.max(this.#totals[2], other.#totals[2]);
  }

  /** Ends an interval: gives what was recorded since the last one to `total` and starts from nothing. */
  takeInto(total: LatencyHistogram): void {
    total.mergeFrom(this);
    this.reset();
  }

  /** For the scrape: octave buckets. A value on a bound counts in the bucket above it (buckets are [low, high) of whole us). */
  snapshot(): HistogramSnapshot {
    const counts = new Array<number>(BOUND_BUCKETS.length + 1).fill(0);
    let bucket = 0;
    for (let i = 0; i < counts.length; i++) {
      const end = i < BOUND_BUCKETS.length ? BOUND_BUCKETS[i] : BUCKETS;
      for (; bucket < end; bucket++) {
        counts[i] += this.#counts[bucket];
      }
    }
    return { upperBoundsSeconds: SNAPSHOT_BOUNDS_SECONDS, counts, sumSeconds: this.#totals[1] / 1e6, count: this.#totals[0] };
  }
}
