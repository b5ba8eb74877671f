// From recorded drive telemetry to labelled rows: every row passes through the same histories and features as live samples do.
// Guarantees what makes figures honest: drives are split by a hash of their serial number, rows by time; a label is used only once it is
// known (30 days later); a row of the day of failure is never used; drives that leave unharmed are censored, not healthy.

import { diskFeatures, FEATURES } from '../disk-features.js';
import { decodeRaw, type Metric, metricOfSmartId, metricSpec } from '../metric.js';
import { Series } from '../series.js';
import { type DriveRow, type DriveStatsHeader, readDriveStats } from './drive-stats.js';

export const DAY_MS = 86_400_000;
export const HORIZON_DAYS = 30;
const HORIZON_MS = HORIZON_DAYS * DAY_MS;
/** Drives are seen at least once a week: one not seen for the last week of the horizon counts as having lived through it. */
const SEEN_SLACK_MS = 7 * DAY_MS;
const RETENTION_MS = 35 * DAY_MS;

export interface SplitPlan {
  /** Trees learn from labels known before this; early stopping and calibration from those known between it and `untilMs`. */
  calibrateFromMs: number;
  /** The figures are of left-out drives from here on. */
  untilMs: number;
  /** One drive in this many is left out. */
  holdOutOneIn: number;
  /** One healthy row in this many is learnt from (all are calibrated on and tested with). */
  negativeOneIn: number;
}

export class Rows {
  readonly columns: Float32Array[] = FEATURES.map(() => new Float32Array(1024));
  labels = new Uint8Array(1024);
  drives = new Uint32Array(1024);
  days = new Uint32Array(1024);
  length = 0;

  add(row: Float64Array, label: number, drive: number, atMs: number): void {
    if (this.length === this.labels.length) this.#grow();
    for (let i = 0; i < row.length; i++) this.columns[i][this.length] = row[i];
    this.labels[this.length] = label;
    this.drives[this.length] = drive;
    this.days[this.length] = atMs / DAY_MS;
    this.length++;
  }

  /** Cuts the spare capacity off. */
  trimmed(): Rows {
    for (let i = 0; i < this.columns.length; i++) this.columns[i] = this.columns[i].slice(0, this.length);
    this.labels = this.labels.slice(0, this.length);
    this.drives = this.drives.slice(0, this.length);
    this.days = this.days.slice(0, this.length);
    return this;
  }

  row(index: number, into: Float64Array): Float64Array {
    for (let i = 0; i < into.length; i++) into[i] = this.columns[i][index];
    return into;
  }

  #grow(): void {
    const size = this.labels.length * 2;
    for (let i = 0; i < this.columns.length; i++) this.columns[i] = enlarge(this.columns[i], new Float32Array(size));
    this.labels = enlarge(this.labels, new Uint8Array(size));
    this.drives = enlarge(this.drives, new Uint32Array(size));
    this.days = enlarge(this.days, new Uint32Array(size));
  }
}

export interface Datasets {
  fit: Rows;
  /** Fit and calibration period together: for the trees that are kept. */
  refit: Rows;
  calibration: Rows;
  test: Rows;
  rowsRead: number;
  drives: number;
  failures: number;
  /** Serial numbers by drive index. */
  serials: string[];
}

interface Drive {
  index: number;
  failedMs: number;
  lastMs: number;
  heldOut: boolean;
  series: Map<Metric, Series>;
}

/** Two passes over the file: who failed when, then the features of the rows that are wanted. */
export async function readDatasets(path: string, plan: SplitPlan, progress: (text: string) => void): Promise<Datasets> {
  const drives = new Map<string, Drive>();
  let failures = 0;
  const rowsRead = await readDriveStats(path, (row) => {
    let drive = drives.get(row.serial);
    if (drive === undefined) {
      drive = {
        index: drives.size,
        failedMs: Number.POSITIVE_INFINITY,
        lastMs: 0,
        heldOut: heldOut(row.serial, plan.holdOutOneIn),
        series: new Map(),
      };
      drives.set(row.serial, drive);
    }
    drive.lastMs = row.atMs;
    if (row.failure && drive.failedMs === Number.POSITIVE_INFINITY) {
      drive.failedMs = row.atMs;
      failures++;
    }
  });
  progress(`${rowsRead} rows, ${drives.size} drives, ${failures} failures`);
  const sets = { fit: new Rows(), refit: new Rows(), calibration: new Rows(), test: new Rows() };
  const features = new Float64Array(FEATURES.length);
  await readDriveStats(path, (row, header) => {
    const drive = drives.get(row.serial)!;
    if (row.failure || row.atMs >= drive.failedMs) return;
    observeRow(drive.series, row, header);
    const targets = targetsOf(drive, row, plan, sets);
    if (targets.length === 0) return;
    diskFeatures(drive.series, row.atMs, features);
    const label = drive.failedMs <= row.atMs + HORIZON_MS ? 1 : 0;
    for (const target of targets) target.add(features, label, drive.index, row.atMs);
  });
  for (const rows of Object.values(sets)) rows.trimmed();
  return { ...sets, rowsRead, drives: drives.size, failures, serials: [...drives.keys()] };
}

/** Feeds one recorded row to a drive's series, as live samples would be. */
export function observeRow(series: Map<Metric, Series>, row: DriveRow, header: DriveStatsHeader): void {
  for (let i = 0; i < header.smartIds.length; i++) {
    const metric = metricOfSmartId(header.smartIds[i]);
    if (metric === undefined || Number.isNaN(row.raw[i])) continue;
    observe(series, metric, row.atMs, decodeRaw(header.smartIds[i], row.raw[i]));
  }
  if (!Number.isNaN(row.capacityBytes)) observe(series, 'capacity_bytes', row.atMs, row.capacityBytes);
}

function observe(series: Map<Metric, Series>, metric: Metric, atMs: number, value: number): void {
  let one = series.get(metric);
  if (one === undefined) {
    one = new Series(metricSpec(metric).kind, RETENTION_MS);
    series.set(metric, one);
  }
  one.observe(atMs, value);
}

function targetsOf(drive: Drive, row: DriveRow, plan: SplitPlan, sets: Pick<Datasets, 'fit' | 'refit' | 'calibration' | 'test'>): Rows[] {
  const fails = drive.failedMs <= row.atMs + HORIZON_MS;
  const lives = !fails && drive.lastMs >= row.atMs + HORIZON_MS - SEEN_SLACK_MS;
  if (!fails && !lives) return [];
  if (drive.heldOut) return row.atMs >= plan.untilMs ? [sets.test] : [];
  const knownMs = row.atMs + HORIZON_MS;
  const learnt = fails || hash(`${row.serial} ${row.date}`) % plan.negativeOneIn === 0;
  const targets: Rows[] = [];
  if (learnt && knownMs <= plan.calibrateFromMs) targets.push(sets.fit);
  if (learnt && knownMs <= plan.untilMs) targets.push(sets.refit);
  if (row.atMs >= plan.calibrateFromMs && knownMs <= plan.untilMs) targets.push(sets.calibration);
  return targets;
}

/** Whether a drive is left out of learning, by its serial number alone. */
export function heldOut(serial: string, oneIn: number): boolean {
  return hash(serial) % oneIn === 0;
}

/** FNV-1a over the characters, 32 bits, with a final mix (its low bits alone are weak). */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

function enlarge<T extends Float32Array | Uint8Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
