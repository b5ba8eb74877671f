// The disk wear-out model: P(the disk fails within 30 days) from its SMART counters, by trained trees and beta calibration.
// Guarantees contributions that add up to the calibrated log-odds exactly, one for each metric, and "no signal" for a disk that reports
// none of its counters or went silent. It must not learn here; the trees come from a model file.

import assert from 'node:assert';
import { calibrated, calibrationSlope } from './calibration.js';
import { COUNTERS, diskFeatures, FEATURES, NEVER_HOURS } from './disk-features.js';
import { DISK_SILENT_MS, type DiskHistory, evidenceWindow } from './history.js';
import { type Metric, metricSpec } from './metric.js';
import { type Assessment, bySize, clampProbability, type Contribution, logOdds, type Model, noSignal, probabilityOf } from './model.js';
import type { LoadedModel } from './model-file.js';
import { counterText, quantity, span } from './phrase.js';
import { addContributions, expectedValue, margin } from './tree-ensemble.js';

const TEXT_WINDOW_MS = 30 * 86_400_000;
/** Counters without which there is nothing to judge; power cycles alone say nothing. */
const TELLING = new Set(COUNTERS.map(({ metric }) => metric).filter((metric) => metric !== 'power_cycles'));
/** Below this a disk is told to be fit in one sentence. */
const CALM_BELOW = 0.01;
const QUIET_STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16_384, 65_536];

export class DiskWearOut implements Model<DiskHistory> {
  readonly id: string;
  readonly horizonMs: number;
  readonly #model: LoadedModel;
  /** Margin of a disk of which nothing is known. */
  readonly #expected: number;
  readonly #row = new Float64Array(FEATURES.length);

  constructor(model: LoadedModel) {
    this.id = model.id;
    this.horizonMs = model.file.horizonDays * 86_400_000;
    this.#model = model;
    this.#expected = model.file.bias + expectedValue(model.file.trees);
  }

  assess(disk: DiskHistory, nowMs: number): Assessment {
    const source = `wear-out ${disk.disk ?? 'node'}`;
    const window = evidenceWindow(disk, TELLING, nowMs, DISK_SILENT_MS);
    if (window === null) return noSignal(source);
    const row = this.features(disk, nowMs);
    const probability = this.probabilityOfRow(row);
    const found = { ...noSignal(source), noSignal: false, probability, window };
    if (probability < CALM_BELOW) return { ...found, ...this.#calm(probability) };
    return { ...found, ...this.#explained(disk, row, nowMs) };
  }

  /** Whether the disk reports any counter this model can judge. */
  knows(disk: DiskHistory, nowMs: number): boolean {
    return evidenceWindow(disk, TELLING, nowMs, DISK_SILENT_MS) !== null;
  }

  /** One reason for all of a fit disk's counters: most disks are fit, and their Shapley values interest nobody. */
  #calm(probability: number): Pick<Assessment, 'baseLogOdds' | 'contributions'> {
    const baseLogOdds = calibrated(this.#model.file.calibration, this.#expected);
    const text = 'its SMART counters are those of disks that live';
    return { baseLogOdds, contributions: [{ feature: 'smart', value: null, contribution: logOdds(probability) - baseLogOdds, text }] };
  }

  #explained(disk: DiskHistory, row: Float64Array, nowMs: number): Pick<Assessment, 'baseLogOdds' | 'contributions'> {
    const { baseLogOdds, contributions } = this.explainRow(row);
    const grouped = new Map<Metric, number>();
    for (let i = 0; i < contributions.length; i++) {
      const { metric } = FEATURES[this.#model.featureIndex[i]];
      grouped.set(metric, (grouped.get(metric) ?? 0) + contributions[i]);
    }
    const reasons = [...grouped].map(([metric, contribution]): Contribution => {
      const value = disk.series.get(metric)?.value;
      return {
        feature: metric,
        value: value === undefined || Number.isNaN(value) ? null : value,
        contribution,
        text: textOf(metric, disk, nowMs),
      };
    });
    return { baseLogOdds, contributions: bySize(reasons) };
  }

  /** One row in the order of the model file. The array is reused by the next call. */
  features(disk: Pick<DiskHistory, 'series'>, nowMs: number): Float64Array {
    const all = new Float64Array(FEATURES.length);
    diskFeatures(disk.series, nowMs, all);
    for (const [i, index] of this.#model.featureIndex.entries()) this.#row[i] = all[index];
    return this.#row.subarray(0, this.#model.featureIndex.length);
  }

  probabilityOfRow(row: Float64Array): number {
    return clampProbability(probabilityOf(calibrated(this.#model.file.calibration, this.#marginOf(row))));
  }

  /**
   * Shapley values of every feature, in calibrated log-odds: those of the trees, stretched by the secant of the calibration between
   * the expected margin and this one, so that they still add up.
   */
  explainRow(row: Float64Array): { baseLogOdds: number; contributions: Float64Array } {
    const { calibration, trees } = this.#model.file;
    const contributions = new Float64Array(row.length);
    addContributions(trees, row, contributions);
    const moved = this.#marginOf(row) - this.#expected;
    const baseLogOdds = calibrated(calibration, this.#expected);
    const wanted = logOdds(this.probabilityOfRow(row)) - baseLogOdds;
    const slope = Math.abs(moved) > 1e-6 ? wanted / moved : calibrationSlope(calibration, this.#expected);
    for (let i = 0; i < contributions.length; i++) contributions[i] *= slope;
    return { baseLogOdds, contributions };
  }

  /**
   * What one counter would have had to stay below for the disk to be under `threshold`, for the counter that matters most;
   * null when no single counter would have made the difference.
   */
  counterfactual(disk: DiskHistory, nowMs: number, threshold: number): string | null {
    const row = this.features(disk, nowMs).slice();
    if (this.probabilityOfRow(row) < threshold) return null;
    const [top] = this.assess(disk, nowMs).contributions;
    if (top === undefined || top.value === null || !(top.value > 0)) return null;
    const metric = top.feature as Metric;
    if (!COUNTERS.some((counter) => counter.metric === metric)) return null;
    let quiet: number | null = null;
    for (const value of QUIET_STEPS.filter((step) => step < top.value!)) {
      if (this.probabilityOfRow(this.#withCounterAt(row, metric, value)) >= threshold) break;
      quiet = value;
    }
    if (quiet === null) return null;
    const { noun } = metricSpec(metric);
    return quiet === 0 ? `quiet if there were no ${noun}` : `quiet if ${noun} had stayed at ${quantity(quiet)} or below`;
  }

  /** The row as if a counter had never gone above a value, changes and all. */
  #withCounterAt(row: Float64Array, metric: Metric, value: number): Float64Array {
    const changed = row.slice();
    for (const [i, index] of this.#model.featureIndex.entries()) {
      const feature = FEATURES[index];
      if (feature.metric !== metric || Number.isNaN(changed[i])) continue;
      if (feature.measure === 'hoursSinceChange') changed[i] = value === 0 ? NEVER_HOURS : changed[i];
      else changed[i] = Math.min(changed[i], value);
    }
    return changed;
  }

  #marginOf(row: Float64Array): number {
    const { bias, trees } = this.#model.file;
    const sum = bias + margin(trees, row);
    assert(Number.isFinite(sum), 'a score is a number');
    return sum;
  }
}

function textOf(metric: Metric, disk: DiskHistory, nowMs: number): string {
  const series = disk.series.get(metric);
  if (metric === 'power_on_hours' && series !== undefined) return `${span(series.value * 3_600_000)} in use`;
  if (metric === 'capacity_bytes' && series !== undefined) return `a disk of ${quantity(series.value / 1e12)} TB`;
  return counterText(metric, series, nowMs, TEXT_WINDOW_MS);
}
