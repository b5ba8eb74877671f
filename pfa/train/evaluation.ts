// Figures of merit for scored rows: ranking, calibration, and what an operator would see (drives found at a given false-alarm rate).
// Guarantees the usual definitions (average precision by step interpolation, ties counted half in ROC-AUC). Pure; it must not score.

export interface ScoredRows {
  probability: Float64Array;
  label: Uint8Array;
  /** Index of the drive each row belongs to. */
  drive: Uint32Array;
  /** Day number of each row. */
  day: Uint32Array;
}

export interface CalibrationBin {
  from: number;
  to: number;
  rows: number;
  predicted: number;
  observed: number;
}

export interface Evaluation {
  rows: number;
  positiveRows: number;
  drives: number;
  failedDrives: number;
  averagePrecision: number;
  rocAuc: number;
  driveRocAuc: number;
  brier: number;
  /** Mean |predicted - observed| over ten equal parts of the rows scored above 1 %, weighted by rows. */
  calibrationErrorAbove1Percent: number;
  calibration: CalibrationBin[];
  /** A drive's score is its maximum; the rate is of healthy drives alarmed at any time in the period. */
  drivesFound: { falseAlarmRate: number; recall: number; threshold: number; medianLeadDays: number | null }[];
}

const EDGES = [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 1];
const FALSE_ALARM_RATES = [0.001, 0.005, 0.01, 0.04];

export function evaluate(rows: ScoredRows): Evaluation {
  const { probability, label } = rows;
  const order = descending(probability);
  const positiveRows = label.reduce((sum, one) => sum + one, 0);
  const drives = byDrive(rows);
  const driveScores = Float64Array.from(drives, ({ score }) => score);
  const driveLabels = Uint8Array.from(drives, ({ failed }) => (failed ? 1 : 0));
  return {
    rows: label.length,
    positiveRows,
    drives: drives.length,
    failedDrives: driveLabels.reduce((sum, one) => sum + one, 0),
    averagePrecision: averagePrecision(order, label, probability),
    rocAuc: rocAuc(probability, label),
    driveRocAuc: rocAuc(driveScores, driveLabels),
    brier: probability.reduce((sum, p, i) => sum + (p - label[i]) ** 2, 0) / label.length,
    calibrationErrorAbove1Percent: calibrationError(order, rows),
    calibration: calibrationTable(rows),
    drivesFound: FALSE_ALARM_RATES.map((rate) => drivesFoundAt(rate, drives, rows)),
  };
}

export function rocAuc(score: Float64Array, label: Uint8Array): number {
  const order = descending(score);
  let positives = 0;
  let negatives = 0;
  let area = 0;
  for (let i = 0; i < order.length; ) {
    let tiedPositives = 0;
    let tiedNegatives = 0;
    const value = score[order[i]];
    for (; i < order.length && score[order[i]] === value; i++) label[order[i]] ? tiedPositives++ : tiedNegatives++;
    area += tiedNegatives * (positives + tiedPositives / 2);
    positives += tiedPositives;
    negatives += tiedNegatives;
  }
  return area / (positives * negatives);
}

function averagePrecision(order: Uint32Array, label: Uint8Array, score: Float64Array): number {
  let found = 0;
  let sum = 0;
  for (let i = 0; i < order.length; ) {
    const value = score[order[i]];
    const before = found;
    for (; i < order.length && score[order[i]] === value; i++) found += label[order[i]];
    sum += ((found - before) * found) / i;
  }
  return sum / found;
}

function calibrationTable({ probability, label }: ScoredRows): CalibrationBin[] {
  const bins = EDGES.slice(1).map((to, i) => ({ from: EDGES[i], to, rows: 0, predicted: 0, observed: 0 }));
  for (let i = 0; i < label.length; i++) {
    const bin = bins.find(({ to }) => probability[i] <= to)!;
    bin.rows++;
    bin.predicted += probability[i];
    bin.observed += label[i];
  }
  for (const bin of bins) {
    bin.predicted /= bin.rows || 1;
    bin.observed /= bin.rows || 1;
  }
  return bins.filter(({ rows }) => rows > 0);
}

function calibrationError(order: Uint32Array, { probability, label }: ScoredRows): number {
  let above = 0;
  while (above < order.length && probability[order[above]] > 0.01) above++;
  let error = 0;
  for (let part = 0; part < 10; part++) {
    const from = Math.floor((part * above) / 10);
    const to = Math.floor(((part + 1) * above) / 10);
    let difference = 0;
    for (let i = from; i < to; i++) difference += probability[order[i]] - label[order[i]];
    error += Math.abs(difference);
  }
  return above === 0 ? 0 : error / above;
}

interface DriveScore {
  drive: number;
  score: number;
  failed: boolean;
  lastDay: number;
}

function byDrive({ probability, label, drive, day }: ScoredRows): DriveScore[] {
  const drives = new Map<number, DriveScore>();
  for (let i = 0; i < label.length; i++) {
    const known = drives.get(drive[i]);
    if (known === undefined) {
      drives.set(drive[i], { drive: drive[i], score: probability[i], failed: label[i] === 1, lastDay: day[i] });
      continue;
    }
    known.score = Math.max(known.score, probability[i]);
    known.failed ||= label[i] === 1;
    known.lastDay = Math.max(known.lastDay, day[i]);
  }
  return [...drives.values()];
}

function drivesFoundAt(falseAlarmRate: number, drives: DriveScore[], rows: ScoredRows): Evaluation['drivesFound'][number] {
  const healthy = drives.filter(({ failed }) => !failed).sort((a, b) => b.score - a.score);
  const threshold = healthy[Math.floor(falseAlarmRate * healthy.length)]?.score ?? 0;
  const failed = drives.filter((drive) => drive.failed);
  const firstAlarm = new Map<number, number>();
  for (let i = 0; i < rows.label.length; i++) {
    if (rows.probability[i] > threshold && rows.day[i] < (firstAlarm.get(rows.drive[i]) ?? Number.POSITIVE_INFINITY))
      firstAlarm.set(rows.drive[i], rows.day[i]);
  }
  const found = failed.filter(({ score }) => score > threshold);
  const leads = found.map(({ drive, lastDay }) => lastDay - firstAlarm.get(drive)!).sort((a, b) => a - b);
  const medianLeadDays = leads.length > 0 ? leads[leads.length >> 1] : null;
  return { falseAlarmRate, recall: found.length / failed.length, threshold, medianLeadDays };
}

function descending(score: Float64Array): Uint32Array {
  return Uint32Array.from(score.keys()).sort((a, b) => score[b] - score[a]);
}
