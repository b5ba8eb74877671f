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

/** A window stays open until it has counted so many, however long that takes: a quotient by nothing says nothing. */
const OPERATIONS_MIN = 10;

export class Meter {
  readonly #beginUs: number;
  readonly #endUs: number;
  #lastUs = 0;
  readonly #latency = new LatencyHistogram();
  readonly #counts = new Float64Array(3);

  /** Without bounds every completion is within the window. */
  constructor(beginUs = Number.NEGATIVE_INFINITY, endUs = Number.POSITIVE_INFINITY) {
    this.#beginUs = beginUs;
    this.#endUs = endUs;
  }

  /** Whether more requests are to be sent. */
  isOpen(nowUs: number): boolean {
    return nowUs < this.#endUs || this.#latency.count < OPERATIONS_MIN;
  }

  completed(nowUs: number, latencyUs: number): void {
    this.#counts[0]++;
    if (nowUs < this.#beginUs || !this.isOpen(nowUs)) return;
    this.#latency.record(latencyUs);
    this.#lastUs = nowUs;
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
      windowUs: Math.max(this.#endUs, this.#lastUs) - this.#beginUs,
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
