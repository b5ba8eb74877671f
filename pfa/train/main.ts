// Command: trains the disk wear-out model on recorded telemetry and prints its figures on drives it never saw.
//   node --import tsx pfa/train/main.ts --data FILE.csv.gz --out pfa/models/disk-wearout-v1.json [--until 2015-07-01] [--seed 1]
// Reads one file, writes one file, nothing else.

import { rename, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { parseModelFile } from '../model-file.js';
import { DAY_MS, readDatasets, type SplitPlan } from './dataset.js';
import type { Evaluation } from './evaluation.js';
import { BOOSTING, fitModel } from './fitting.js';

const USAGE =
  'usage: pfa/train/main.ts --data FILE.csv[.gz] --out MODEL.json [--until YYYY-MM-DD] [--calibration-days 122] [--hold-out 3] [--seed 1]';

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    out: { type: 'string' },
    until: { type: 'string', default: '2015-07-01' },
    'calibration-days': { type: 'string', default: '122' },
    'hold-out': { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
  },
});
if (values.data === undefined || values.out === undefined) {
  console.error(USAGE);
  process.exit(2);
}
const untilMs = Date.parse(`${values.until}T00:00:00Z`);
const calibrationDays = Number(values['calibration-days']);
const holdOutOneIn = Number(values['hold-out']);
if (!Number.isFinite(untilMs) || !(calibrationDays > 30) || !(holdOutOneIn >= 2)) {
  console.error(`${USAGE}\n--until is a date, --calibration-days more than 30, --hold-out at least 2`);
  process.exit(2);
}
const plan: SplitPlan = { untilMs, calibrateFromMs: untilMs - calibrationDays * DAY_MS, holdOutOneIn, negativeOneIn: 12 };
const startedMs = performance.now();
const progress = (text: string): void => console.error(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${text}`);

const sets = await readDatasets(values.data, plan, progress);
progress(
  `${sets.fit.length} rows to learn from, ${sets.calibration.length} to calibrate on, ${sets.test.length} of left-out drives to test with`,
);
const { file, evaluation } = fitModel(sets, plan, { ...BOOSTING, seed: Number(values.seed) }, progress);
const bytes = Buffer.from(`${JSON.stringify(file)}\n`);
const checked = parseModelFile(bytes);
if (!checked.ok) throw new Error(checked.message);
await writeFile(`${values.out}.new`, bytes);
await rename(`${values.out}.new`, values.out);
progress(
  `${values.out}: ${bytes.length} bytes, ${file.trees.length} trees, sha256 ${checked.model.id}; peak memory ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`,
);
print(evaluation);

function print(figures: Evaluation): void {
  console.log(
    `left-out drives ${figures.drives}, failed ${figures.failedDrives}; rows ${figures.rows}, within 30 days of a failure ${figures.positiveRows}`,
  );
  console.log(
    `average precision ${figures.averagePrecision.toFixed(4)}  ROC-AUC by row ${figures.rocAuc.toFixed(4)}, by drive ${figures.driveRocAuc.toFixed(4)}  Brier ${figures.brier.toFixed(6)}`,
  );
  console.log(`calibration error over scores above 1 %: ${figures.calibrationErrorAbove1Percent.toFixed(4)}`);
  for (const { from, to, rows, predicted, observed } of figures.calibration) {
    console.log(`  ${from} to ${to}: ${rows} rows, predicted ${predicted.toFixed(4)}, observed ${observed.toFixed(4)}`);
  }
  for (const { falseAlarmRate, recall, threshold, medianLeadDays } of figures.drivesFound) {
    console.log(
      `  ${(falseAlarmRate * 100).toFixed(1)} % of healthy drives alarmed: ${(recall * 100).toFixed(1)} % found, above ${threshold.toFixed(3)}, median lead ${medianLeadDays} days`,
    );
  }
}
