// The shipped model on drives it never saw (an excerpt of real telemetry), and on the disks a demonstration makes up.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { suite } from 'uvu';
import { FEATURES } from '../../pfa/disk-features.js';
import { DiskWearOut } from '../../pfa/disk-wearout.js';
import { type DiskHistory, History } from '../../pfa/history.js';
import type { Metric } from '../../pfa/metric.js';
import { logOdds } from '../../pfa/model.js';
import { type LoadedModel, loadModelFile } from '../../pfa/model-file.js';
import { type Datasets, readDatasets } from '../../pfa/train/dataset.js';
import { evaluate } from '../../pfa/train/evaluation.js';

const test = suite('pfa disk wear-out');
const EXCERPT = fileURLToPath(new URL('../data/pfa/smart-excerpt.csv.gz', import.meta.url));
/** One in this many of the healthy drives is in the excerpt. */
const HEALTHY_ONE_IN = 24;
const PLAN = { calibrateFromMs: Date.parse('2015-03-01'), untilMs: Date.parse('2015-07-01'), holdOutOneIn: 3, negativeOneIn: 1 };
const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

function shipped(): LoadedModel {
  const result = loadModelFile();
  assert.ok(result.ok, result.ok ? '' : result.message);
  return result.model;
}
const model = new DiskWearOut(shipped());

let cached: Promise<Datasets> | undefined;
const excerpt = (): Promise<Datasets> => (cached ??= readDatasets(EXCERPT, PLAN, () => {}));

function scored(sets: Datasets, by: DiskWearOut, change: (row: Float64Array) => Float64Array = (row) => row) {
  const row = new Float64Array(FEATURES.length);
  const probability = Float64Array.from({ length: sets.test.length }, (_, i) => by.probabilityOfRow(change(sets.test.row(i, row))));
  return { probability, label: sets.test.labels, drive: sets.test.drives, day: sets.test.days };
}

/** A disk whose metrics follow functions of 0 to 1 over a span that ends now. */
function disk(series: Partial<Record<Metric, (x: number) => number>>, spanMs: number, samples: number): DiskHistory {
  const history = new History();
  for (let i = 0; i <= samples; i++) {
    for (const [metric, value] of Object.entries(series)) {
      history.observe({
        node: 'a',
        disk: 'sda',
        metric: metric as Metric,
        value: value(i / samples),
        atMs: NOW_MS - spanMs + (spanMs * i) / samples,
      });
    }
  }
  return history.disk('a', 'sda')!;
}
const constant = (value: number) => (): number => value;
const climbing =
  (to: number) =>
  (x: number): number =>
    Math.round(to * x);

test('drives it never saw are ranked well: those that fail above those that live', async () => {
  const figures = evaluate(scored(await excerpt(), model));
  assert.ok(figures.failedDrives > 100, `${figures.failedDrives} failing drives in the excerpt`);
  assert.ok(figures.driveRocAuc > 0.75, `by drive ${figures.driveRocAuc}`);
  assert.ok(figures.rocAuc > 0.8, `by row ${figures.rocAuc}`);
  const onePercent = figures.drivesFound.find(({ falseAlarmRate }) => falseAlarmRate === 0.01)!;
  assert.ok(onePercent.recall > 0.35, `found at 1 % false alarms: ${onePercent.recall}`);
});

test('a broken model fails those bounds: features shifted by one, and the wrong sign', async () => {
  const sets = await excerpt();
  const shifted = evaluate(scored(sets, model, (row) => Float64Array.from(row, (_, i) => row[(i + 1) % row.length])));
  assert.ok(shifted.driveRocAuc < 0.75, `shifted ${shifted.driveRocAuc}`);
  const turned = shipped();
  turned.file.trees = turned.file.trees.map((tree) => ({ ...tree, value: tree.value.map((value) => -value) }));
  assert.ok(evaluate(scored(sets, new DiskWearOut(turned))).driveRocAuc < 0.4);
});

test('probabilities are of the right size, once the healthy drives that were left out of the excerpt are counted in', async () => {
  const sets = await excerpt();
  const { probability, label, drive } = scored(sets, model);
  const fails = new Set([...drive].filter((_, i) => label[i] === 1));
  const weight = Float64Array.from(drive, (one) => (fails.has(one) ? 1 : HEALTHY_ONE_IN));
  for (const [from, to] of [
    [0, 1],
    [0.02, 0.2],
    [0.1, 1],
  ]) {
    let [predicted, observed] = [0, 0];
    for (let i = 0; i < label.length; i++) {
      if (probability[i] < from || probability[i] > to) continue;
      predicted += weight[i] * probability[i];
      observed += weight[i] * label[i];
    }
    assert.ok(predicted / observed > 0.4 && predicted / observed < 2.5, `${from} to ${to}: predicted ${predicted}, observed ${observed}`);
  }
});

test('counters that explode within seconds, minutes or hours are a failing disk', () => {
  const series = { reallocated_sectors: climbing(400), pending_sectors: climbing(80), reported_uncorrectable: climbing(20) };
  for (const spanMs of [20_000, 10 * MINUTE_MS, 5 * 60 * MINUTE_MS, 2 * DAY_MS]) {
    const { probability, contributions } = model.assess(disk(series, spanMs, 20), NOW_MS);
    assert.ok(probability! > 0.5, `over ${spanMs} ms: ${probability}`);
    assert.match(contributions.map(({ text }) => text).join('; '), /pending sectors rose from 0 to 80 in/);
  }
});

test('a disk of zeroes is fit, after two months as after one sample', () => {
  const zeroes = {
    reallocated_sectors: constant(0),
    pending_sectors: constant(0),
    reported_uncorrectable: constant(0),
    offline_uncorrectable: constant(0),
  };
  for (const [spanMs, samples] of [
    [60 * DAY_MS, 600],
    [1, 1],
  ]) {
    const { probability } = model.assess(disk({ ...zeroes, power_on_hours: constant(20_000) }, spanMs, samples), NOW_MS);
    assert.ok(probability! < 0.01, `${probability}`);
  }
});

test('more damage never lowers the probability', () => {
  const counters: Metric[] = ['reallocated_sectors', 'pending_sectors', 'reported_uncorrectable', 'offline_uncorrectable'];
  const levels = fc.tuple(...counters.map(() => fc.integer({ min: 0, max: 3000 })));
  fc.assert(
    fc.property(levels, fc.nat(counters.length - 1), fc.integer({ min: 1, max: 3000 }), (values, which, more) => {
      const at = (extra: number): number => {
        const series = Object.fromEntries(counters.map((metric, i) => [metric, climbing(values[i] + (i === which ? extra : 0))]));
        return model.assess(disk(series, 60 * MINUTE_MS, 1), NOW_MS).probability!;
      };
      assert.ok(at(more) >= at(0) - 1e-12);
    }),
    { numRuns: 60 },
  );
});

test('the reasons add up to the log-odds exactly, for real rows and made-up ones', async () => {
  const sets = await excerpt();
  const row = new Float64Array(FEATURES.length);
  for (let i = 0; i < sets.test.length; i += 37) {
    const { baseLogOdds, contributions } = model.explainRow(sets.test.row(i, row));
    const sum = contributions.reduce((total, one) => total + one, baseLogOdds);
    assert.ok(Math.abs(sum - logOdds(model.probabilityOfRow(row))) < 1e-9);
  }
  const assessment = model.assess(disk({ reallocated_sectors: climbing(50), temperature_celsius: constant(40) }, DAY_MS, 10), NOW_MS);
  const sum = assessment.contributions.reduce((total, { contribution }) => total + contribution, assessment.baseLogOdds);
  assert.ok(Math.abs(sum - logOdds(assessment.probability!)) < 1e-9);
  assert.equal(assessment.contributions[0].feature, 'reallocated_sectors');
  assert.equal(assessment.contributions[0].value, 50);
});

test('what would have kept it quiet is true', () => {
  const series = { reallocated_sectors: climbing(400), pending_sectors: climbing(80) };
  const failing = disk(series, 10 * MINUTE_MS, 10);
  const { probability } = model.assess(failing, NOW_MS);
  const threshold = probability! * 0.9;
  const sentence = model.counterfactual(failing, NOW_MS, threshold);
  const stayed = /quiet if (?:there were no (.+)|(.+) had stayed at (\d+) or below)/.exec(sentence ?? '');
  assert.ok(stayed, `${sentence}`);
  const noun = stayed[1] ?? stayed[2];
  const metric: Metric = noun === 'pending sectors' ? 'pending_sectors' : 'reallocated_sectors';
  const quiet = disk({ ...series, [metric]: climbing(Number(stayed[3] ?? 0)) }, 10 * MINUTE_MS, 10);
  assert.ok(model.assess(quiet, NOW_MS).probability! < threshold);
  assert.equal(model.counterfactual(failing, NOW_MS, probability! * 1.01), null, 'a quiet disk needs none');
});

test('a disk without the counters it knows, or silent for days, has no signal', () => {
  for (const other of [
    disk({ temperature_celsius: constant(40) }, DAY_MS, 5),
    disk({ power_on_hours: constant(9), media_errors: constant(0) }, DAY_MS, 5),
  ]) {
    const assessment = model.assess(other, NOW_MS);
    assert.equal(assessment.noSignal, true);
    assert.equal(assessment.probability, null);
  }
  const sick = disk({ pending_sectors: climbing(80) }, DAY_MS, 5);
  assert.equal(model.assess(sick, NOW_MS + DAY_MS).noSignal, false);
  assert.equal(model.assess(sick, NOW_MS + 4 * DAY_MS).noSignal, true);
});

test('only the past counts: rows after a day do not change what was said on it', () => {
  const series = { pending_sectors: (x: number): number => (x < 0.5 ? 0 : 500) };
  const history = disk(series, 2 * DAY_MS, 4);
  const early = disk({ pending_sectors: constant(0) }, 2 * DAY_MS, 4);
  assert.ok(model.assess(history, NOW_MS).probability! > 5 * model.assess(early, NOW_MS).probability!);
  const before = disk({ pending_sectors: constant(0) }, DAY_MS, 2);
  const said = model.assess(before, NOW_MS).probability;
  before.series.get('pending_sectors')!.observe(NOW_MS + DAY_MS, 500);
  assert.notEqual(model.assess(before, NOW_MS + DAY_MS).probability, said);
});

test.run();
