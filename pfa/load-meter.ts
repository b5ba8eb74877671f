// How busy the cluster is beside its own busiest hours: 0 to 1.
// Guarantees 0 until it has watched for a day, so that a fresh system is not for ever at its peak. Pure; two dozen bytes a node.

import type { IoAggregate } from './io-aggregate.js';

const DAY_MS = 86_400_000;
const PEAK_HALVES_MS = 7 * DAY_MS;
const FRESH_MS = 60_000;
const NODES_MAX = 10_000;

export class LoadMeter {
  readonly #rates = new Map<string, { atMs: number; bytesPerSecond: number }>();
  #startedMs: number | null = null;
  #peak = 0;
  #peakAtMs = 0;

  observe(node: string, io: IoAggregate): void {
    this.#startedMs ??= io.atMs;
    const before = this.#rates.get(node);
    if (before === undefined && this.#rates.size >= NODES_MAX) return;
    if (before !== undefined && io.atMs <= before.atMs) return;
    const seconds = before === undefined ? 0 : (io.atMs - before.atMs) / 1000;
    this.#rates.set(node, { atMs: io.atMs, bytesPerSecond: seconds > 0 ? io.bytes / seconds : 0 });
  }

  load(nowMs: number): number {
    let total = 0;
    for (const { atMs, bytesPerSecond } of this.#rates.values()) if (nowMs - atMs <= FRESH_MS) total += bytesPerSecond;
    const peak = this.#peak * 0.5 ** (Math.max(0, nowMs - this.#peakAtMs) / PEAK_HALVES_MS);
    if (total > peak) [this.#peak, this.#peakAtMs] = [total, nowMs];
    if (this.#startedMs === null || nowMs - this.#startedMs < DAY_MS || total === 0) return 0;
    return Math.min(1, total / Math.max(peak, total));
  }

  forget(node: string): void {
    this.#rates.delete(node);
  }
}
