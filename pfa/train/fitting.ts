// The steps from labelled rows to a model file: grow with early stopping, calibrate on later time, grow again on all, evaluate.
// Guarantees that the left-out drives and the time after `until` are seen by nothing but the evaluation. Pure but for the progress it
// reports; reading and writing files is the command's business.

import { calibrated, fitBetaCalibration } from '../calibration.js';
import { FEATURES } from '../disk-features.js';
import { probabilityOf } from '../model.js';
import { FORMAT, type ModelFile, VERSION } from '../model-file.js';
import { margin, type Tree } from '../tree-ensemble.js';
import { binColumns } from './binning.js';
import { Booster, type BoostingOptions } from './boosting.js';
import { type Datasets, HORIZON_DAYS, type Rows, type SplitPlan } from './dataset.js';
import { type Evaluation, evaluate } from './evaluation.js';

export const BOOSTING: BoostingOptions = {
  treesMax: 200,
  depthMax: 5,
  leavesMax: 16,
  learningRate: 0.04,
  lambda: 5,
  leafHessianMin: 5,
  gainMin: 0.5,
  rowShare: 0.7,
  featureShare: 0.6,
  seed: 1,
};

/** Trees without a better loss after which growing stops. */
const PATIENCE = 30;

const NOTICE =
  'Trained on SMART data of Backblaze Drive Stats (source: Backblaze, https://www.backblaze.com/cloud-storage/resources/hard-drive-test-data). ' +
  'The data are free to use if Backblaze is cited as the source, the user is responsible for the use, and the data are not sold.';

type Progress = (text: string) => void;

/** Everything but writing the file. */
export function fitModel(
  sets: Datasets,
  plan: SplitPlan,
  options: BoostingOptions,
  progress: Progress,
): { file: ModelFile; evaluation: Evaluation } {
  const { trees: first, bias, best } = growUntilWorse(sets, plan, options, progress);
  const calibration = fitBetaCalibration(margins(first.slice(0, best), bias, sets.calibration), sets.calibration.labels);
  progress(
    `calibration a ${calibration.a.toFixed(3)} b ${calibration.b.toFixed(3)} c ${calibration.c.toFixed(3)}; growing ${best} trees on all`,
  );
  const last = boosterOf(sets.refit, plan, options);
  for (let i = 0; i < best; i++) last.grow();
  const file: ModelFile = {
    format: FORMAT,
    version: VERSION,
    horizonDays: HORIZON_DAYS,
    features: FEATURES.map(({ name }) => name),
    bias: rounded(last.bias - Math.log(plan.negativeOneIn), 9),
    calibration: { a: rounded(calibration.a, 9), b: rounded(calibration.b, 9), c: rounded(calibration.c, 9) },
    trees: last.trees.map(compact),
    training: {},
    evaluation: {},
  };
  const evaluation = evaluate({
    probability: scores(file, sets.test),
    label: sets.test.labels,
    drive: sets.test.drives,
    day: sets.test.days,
  });
  file.training = {
    notice: NOTICE,
    rows: sets.rowsRead,
    drives: sets.drives,
    failures: sets.failures,
    learntRows: sets.refit.length,
    learntPositiveRows: sets.refit.labels.reduce((sum, label) => sum + label, 0),
    calibratedFrom: isoDate(plan.calibrateFromMs),
    until: isoDate(plan.untilMs),
    drivesLeftOutOneIn: plan.holdOutOneIn,
    healthyRowsOneIn: plan.negativeOneIn,
    options,
  };
  file.evaluation = { of: `drives left out of training, from ${isoDate(plan.untilMs)} on`, ...evaluation };
  return { file, evaluation };
}

function growUntilWorse(
  sets: Datasets,
  plan: SplitPlan,
  options: BoostingOptions,
  progress: Progress,
): { trees: Tree[]; bias: number; best: number } {
  const booster = boosterOf(sets.fit, plan, options);
  const bias = booster.bias - Math.log(plan.negativeOneIn);
  const later = new Float64Array(sets.calibration.length).fill(bias);
  const row = new Float64Array(FEATURES.length);
  let best = 0;
  let bestLoss = Number.POSITIVE_INFINITY;
  for (let count = 1; count <= options.treesMax && count - best <= PATIENCE; count++) {
    const tree = booster.grow();
    for (let i = 0; i < later.length; i++) later[i] += margin([tree], sets.calibration.row(i, row));
    const loss = logLoss(later, sets.calibration.labels);
    if (loss < bestLoss) [best, bestLoss] = [count, loss];
    if (count % 20 === 0) progress(`${count} trees, log loss on later time ${loss.toFixed(6)} (best ${bestLoss.toFixed(6)} at ${best})`);
  }
  return { trees: booster.trees, bias, best };
}

function boosterOf(rows: Rows, plan: SplitPlan, options: BoostingOptions): Booster {
  const binned = binColumns(
    rows.columns,
    FEATURES.map(({ monotone }) => monotone),
  );
  const weights = Float64Array.from(rows.labels, (label) => (label === 1 ? 1 : plan.negativeOneIn));
  return new Booster(binned, rows.labels, weights, options);
}

function margins(trees: readonly Tree[], bias: number, rows: Rows): Float64Array {
  const row = new Float64Array(FEATURES.length);
  return Float64Array.from({ length: rows.length }, (_, i) => bias + margin(trees, rows.row(i, row)));
}

function scores(file: ModelFile, rows: Rows): Float64Array {
  return margins(file.trees, file.bias, rows).map((one) => probabilityOf(calibrated(file.calibration, one)));
}

function logLoss(margin: Float64Array, labels: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < margin.length; i++) sum += Math.log1p(Math.exp(labels[i] === 1 ? -margin[i] : margin[i]));
  return sum / margin.length;
}

/** Fewer digits, so that the file stays small and readable. */
function compact(tree: Tree): Tree {
  return {
    feature: tree.feature,
    threshold: tree.threshold.map((one) => rounded(one, 9)),
    missingLeft: tree.missingLeft,
    left: tree.left,
    right: tree.right,
    value: tree.value.map((one) => rounded(one, 6)),
    cover: tree.cover.map((one) => rounded(one, 6)),
  };
}

function rounded(value: number, digits: number): number {
  return Number(value.toPrecision(digits));
}

function isoDate(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10);
}
