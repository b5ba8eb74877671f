// The bounded history of one metric: the points where its value changed, with running totals of rise and of changes.
// Guarantees window features in O(log points): exact while it holds fewer than POINTS_MAX changes, afterwards with a window that reaches
// back up to half as far again and never misses a rise within it. At most 64 points, 2 KiB. It must not read a clock.

export interface SeriesState {
  /** [atMs, value, rise since the first point, changes since the first point], oldest first. */
  points: [number, number, number, number][];
  firstAtMs: number;
  latestAtMs: number;
  lastChangeMs: number | null;
  samples: number;
}

export const POINTS_MAX = 64;
/** A sample this much older than the newest still counts, if a counter shows more in it. Older ones are left out. */
export const LATE_MS_MAX = 5 * 60_000;
const FIELDS = 4;
const POINTS_AT_START = 2;

export class Series {
  #points = new Float64Array(POINTS_AT_START * FIELDS);
  #count = 0;
  #firstAtMs = 0;
  #latestAtMs = 0;
  #lastChangeMs: number | null = null;
  #samples = 0;

  constructor(
    readonly kind: 'counter' | 'gauge' | 'flag',
    readonly retentionMs: number,
  ) {}

  /** When the first and the newest sample were taken; how many were. 0 before the first. */
  get firstAtMs(): number {
    return this.#firstAtMs;
  }
  get latestAtMs(): number {
    return this.#latestAtMs;
  }
  get samples(): number {
    return this.#samples;
  }
  /** When the value last changed; null: never since the first sample. */
  get lastChangeMs(): number | null {
    return this.#lastChangeMs;
  }
  /** The newest value; NaN before the first sample. */
  get value(): number {
    return this.#count === 0 ? Number.NaN : this.#points[(this.#count - 1) * FIELDS + 1];
  }

  /** Takes a sample. False: it came too late to be placed and was left out. */
  observe(atMs: number, value: number): boolean {
    if (this.#count === 0) {
      this.#append(atMs, value, 0, 0);
      this.#firstAtMs = atMs;
      this.#latestAtMs = atMs;
      this.#samples = 1;
      return true;
    }
    let takenAtMs = atMs;
    if (atMs < this.#latestAtMs) {
      const telling = this.kind === 'counter' && value > this.value && this.#latestAtMs - atMs <= LATE_MS_MAX;
      if (!telling) return false;
      takenAtMs = this.#latestAtMs;
    }
    this.#latestAtMs = takenAtMs;
    this.#samples++;
    const before = this.value;
    if (value !== before) {
      const last = (this.#count - 1) * FIELDS;
      this.#append(takenAtMs, value, this.#points[last + 2] + Math.max(0, value - before), this.#points[last + 3] + 1);
      this.#lastChangeMs = takenAtMs;
    }
    return true;
  }

  /** The value in force at a time: the newest not after it; NaN before the first point kept. */
  valueAt(atMs: number): number {
    const index = this.#indexAt(atMs);
    return index < 0 ? Number.NaN : this.#points[index * FIELDS + 1];
  }

  /** Sum of all increases after `fromMs`; a fall (reset, rewritten sectors) subtracts nothing. */
  riseSince(fromMs: number): number {
    return this.#since(fromMs, 2);
  }

  /** Number of changes after `fromMs`. */
  changesSince(fromMs: number): number {
    return this.#since(fromMs, 3);
  }

  /** From which value to which it went after `fromMs`, and when the first and the last change were; null: no change. */
  riseSpan(fromMs: number): { from: number; to: number; startMs: number; endMs: number } | null {
    const before = Math.max(0, this.#indexAt(fromMs));
    if (this.#count < 2 || before === this.#count - 1) return null;
    const last = (this.#count - 1) * FIELDS;
    return {
      from: this.#points[before * FIELDS + 1],
      to: this.#points[last + 1],
      startMs: this.#points[(before + 1) * FIELDS],
      endMs: this.#points[last],
    };
  }

  toState(): SeriesState {
    const points: SeriesState['points'] = [];
    for (let i = 0; i < this.#count; i++) {
      const at = i * FIELDS;
      points.push([this.#points[at], this.#points[at + 1], this.#points[at + 2], this.#points[at + 3]]);
    }
    return { points, firstAtMs: this.#firstAtMs, latestAtMs: this.#latestAtMs, lastChangeMs: this.#lastChangeMs, samples: this.#samples };
  }

  /** The inverse of toState; the state was checked by whoever read it from outside. */
  static fromState(kind: Series['kind'], retentionMs: number, state: SeriesState): Series {
    const series = new Series(kind, retentionMs);
    for (const [atMs, value, rise, changes] of state.points.slice(-POINTS_MAX)) series.#append(atMs, value, rise, changes);
    series.#firstAtMs = state.firstAtMs;
    series.#latestAtMs = state.latestAtMs;
    series.#lastChangeMs = state.lastChangeMs;
    series.#samples = state.samples;
    return series;
  }

  #since(fromMs: number, field: number): number {
    if (this.#count === 0) return 0;
    const from = Math.max(0, this.#indexAt(fromMs));
    return this.#points[(this.#count - 1) * FIELDS + field] - this.#points[from * FIELDS + field];
  }

  /** Index of the newest point not after a time; -1 when all are after it. */
  #indexAt(atMs: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#points[middle * FIELDS] <= atMs) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #append(atMs: number, value: number, rise: number, changes: number): void {
    if (this.#count > 0) this.#expire(atMs - this.retentionMs);
    if (this.#count === POINTS_MAX) this.#thin();
    if ((this.#count + 1) * FIELDS > this.#points.length) {
      const grown = new Float64Array(Math.min(POINTS_MAX, (this.#points.length / FIELDS) * 2) * FIELDS);
      grown.set(this.#points);
      this.#points = grown;
    }
    const at = this.#count * FIELDS;
    this.#points[at] = atMs;
    this.#points[at + 1] = value;
    this.#points[at + 2] = rise;
    this.#points[at + 3] = changes;
    this.#count++;
  }

  /** Drops what is older than the retention, but keeps the one point whose value was in force at its start. */
  #expire(beforeMs: number): void {
    const first = this.#indexAt(beforeMs);
    if (first <= 0) return;
    this.#points.copyWithin(0, first * FIELDS, this.#count * FIELDS);
    this.#count -= first;
  }

  /**
   * Makes room for one: the point goes whose neighbours are closest together for their age, so that what stays is spread evenly over
   * the logarithm of age and a window's edge is off by a fixed share of the window. The totals of the others are untouched.
   */
  #thin(): void {
    const newestMs = this.#points[(this.#count - 1) * FIELDS];
    let least = Number.POSITIVE_INFINITY;
    let chosen = 1;
    for (let i = 1; i < this.#count - 1; i++) {
      const beforeMs = this.#points[(i - 1) * FIELDS];
      const gap = (this.#points[(i + 1) * FIELDS] - beforeMs) / (newestMs - beforeMs + 1);
      if (gap < least) [least, chosen] = [gap, i];
    }
    this.#points.copyWithin(chosen * FIELDS, (chosen + 1) * FIELDS, this.#count * FIELDS);
    this.#count--;
  }
}
