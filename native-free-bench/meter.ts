// Counts one measurement: what was completed within its window, how long each request took, what went wrong.
// The window opens after the warm-up; errors and mismatches count always. Pure: time is handed in.
import { LatencyHistogram } from '../gateway/metrics/histogram.js';

/** Times are microseconds of the load generator's own clock. */
export interface Reading {
  /** Completed within the window. */
  operations: number;
  windowUs: number;
  p50Us: number;
  p99Us: number;
  p999Us: number;
  maxUs: number;
  /** Completed in all, with the warm-up and what was still in flight when the window closed. */
  allOperations: number;
  /** Requests answered with an error. */
  errors: number;
  /** Reads that brought other bytes than were written. */
  mismatches: number;
}

export class Meter {
  readonly endUs: number;
  readonly #beginUs: number;
  readonly #latency = new LatencyHistogram();
  readonly #counts = new Float64Array(3);

  /** Without bounds every completion is within the window. */
  constructor(beginUs = Number.NEGATIVE_INFINITY, endUs = Number.POSITIVE_INFINITY) {
    this.#beginUs = beginUs;
    this.endUs = endUs;
  }

  completed(nowUs: number, latencyUs: number): void {
    this.#counts[0]++;
    if (nowUs >= this.#beginUs && nowUs < this.endUs) this.#latency.record(latencyUs);
  }

  failed(): void {
    this.#counts[1]++;
  }

  mismatched(): void {
    this.#counts[2]++;
  }

  read(): Reading {
    const latency = this.#latency;
    return {
      operations: latency.count,
      windowUs: this.endUs - this.#beginUs,
      p50Us: latency.quantile(0.5) ?? 0,
      p99Us: latency.quantile(0.99) ?? 0,
      p999Us: latency.quantile(0.999) ?? 0,
      maxUs: latency.maxUs,
      allOperations: this.#counts[0],
      errors: this.#counts[1],
      mismatches: this.#counts[2],
    };
  }
}
