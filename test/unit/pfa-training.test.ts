// The training command's parts on small made-up files: the reader's errors, the split's honesty, the figures against naive ones.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import { FEATURES } from '../../pfa/disk-features.js';
import { heldOut, readDatasets } from '../../pfa/train/dataset.js';
import { readDriveStats } from '../../pfa/train/drive-stats.js';
import { evaluate, rocAuc } from '../../pfa/train/evaluation.js';

const test = suite('pfa training');
const DAY_MS = 86_400_000;
const HEADER = 'date,serial_number,model,capacity_bytes,failure,smart_5_raw,smart_197_raw';
let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'pfa-training-'));
});
test.after(() => rmSync(directory, { recursive: true }));

function file(text: string, name = 'data.csv'): string {
  const path = join(directory, name);
  writeFileSync(path, name.endsWith('.gz') ? gzipSync(text) : text);
  return path;
}

async function failure(text: string): Promise<string> {
  return readDriveStats(file(text), () => {}).then(
    () => 'no error',
    (error: Error) => error.message,
  );
}

test('rows are read by column name, plain and gzipped, with empty cells as missing', async () => {
  const text = `serial_number,date,smart_9_raw,smart_5_raw\r\nS1,2015-07-01,100,\r\nS2,2015-07-02,,4\r\n`;
  for (const path of [file(text), file(text, 'data.csv.gz')]) {
    const rows: unknown[] = [];
    const count = await readDriveStats(path, ({ serial, atMs, raw, failure: failed }, { smartIds }) =>
      rows.push([serial, atMs, [...raw], failed, smartIds]),
    );
    assert.equal(count, 2);
    assert.deepEqual(rows, [
      ['S1', Date.parse('2015-07-01'), [100, Number.NaN], false, [9, 5]],
      ['S2', Date.parse('2015-07-02'), [Number.NaN, 4], false, [9, 5]],
    ]);
  }
});

test('a file of another kind is refused with the line', async () => {
  assert.match(await failure(''), /the file is empty/);
  assert.match(await failure('a,b\n1,2\n'), /line 1: the header has no date and serial_number/);
  assert.match(await failure('date,serial_number\n'), /no smart_N_raw column/);
  assert.match(await failure(`${HEADER}\n2015-07-01,S1,M,1,0,5\n`), /line 2: 6 cells where the header has 7/);
  assert.match(await failure(`${HEADER}\nyesterday,S1,M,1,0,5,0\n`), /line 2: "yesterday" is no date/);
  await assert.rejects(
    readDriveStats(join(directory, 'none.csv'), () => {}),
    /ENOENT/,
  );
  writeFileSync(join(directory, 'broken.csv.gz'), gzipSync('x'.repeat(10_000)).subarray(0, 30));
  await assert.rejects(readDriveStats(join(directory, 'broken.csv.gz'), () => {}));
});

/** Weekly rows of a drive over some weeks, as CSV lines; the last one on its day of failure if it fails. */
function drive(serial: string, fromMs: number, weeks: number, failsDay: number | null): [number, string][] {
  const lines: [number, string][] = [];
  const iso = (atMs: number): string => new Date(atMs).toISOString().slice(0, 10);
  for (let week = 0; week < weeks; week++) {
    const atMs = fromMs + week * 7 * DAY_MS;
    if (failsDay !== null && week * 7 >= failsDay) break;
    lines.push([atMs, `${iso(atMs)},${serial},M,1000,0,${week},0`]);
  }
  if (failsDay !== null) lines.push([fromMs + failsDay * DAY_MS, `${iso(fromMs + failsDay * DAY_MS)},${serial},M,1000,1,999,999`]);
  return lines;
}

test('drives are split by serial number and rows by time, labels come 30 days late, and the day of failure is never used', async () => {
  const fromMs = Date.parse('2015-01-01');
  const plan = { calibrateFromMs: fromMs + 100 * DAY_MS, untilMs: fromMs + 200 * DAY_MS, holdOutOneIn: 3, negativeOneIn: 1 };
  const lines: [number, string][] = [];
  for (let i = 0; i < 60; i++) lines.push(...drive(`S${i}`, fromMs, i % 4 === 1 ? 20 : 52, i % 4 === 0 ? 100 + i * 4 : null));
  lines.sort((a, b) => a[0] - b[0]);
  const sets = await readDatasets(file([HEADER, ...lines.map(([, line]) => line), ''].join('\n')), plan, () => {});
  const value = FEATURES.findIndex(({ name }) => name === 'reallocated_sectors.value');
  for (const [name, rows] of Object.entries({ fit: sets.fit, refit: sets.refit, calibration: sets.calibration, test: sets.test })) {
    assert.ok(rows.length > 50, name);
    for (let i = 0; i < rows.length; i++) {
      const serial = sets.serials[rows.drives[i]];
      const number = Number(serial.slice(1));
      const day = rows.days[i] - fromMs / DAY_MS;
      assert.equal(heldOut(serial, 3), name === 'test', `${name} ${serial}`);
      assert.equal(rows.columns[value][i], day / 7, 'the value of that very week, so never that of the failure');
      const failsDay = number % 4 === 0 ? 100 + number * 4 : Number.POSITIVE_INFINITY;
      assert.ok(day < failsDay);
      assert.equal(rows.labels[i], failsDay <= day + 30 ? 1 : 0);
      if (name === 'fit') assert.ok(day + 30 <= 100);
      if (name === 'refit') assert.ok(day + 30 <= 200);
      if (name === 'calibration') assert.ok(day >= 100 && day + 30 <= 200);
      if (name === 'test') assert.ok(day >= 200);
      const lastDay = number % 4 === 1 ? 19 * 7 : 51 * 7;
      if (rows.labels[i] === 0) assert.ok(lastDay >= day + 23, 'a drive that leaves is censored, not healthy');
    }
  }
});

test('the figures are those of their definitions', () => {
  const probability = Float64Array.from([0.9, 0.8, 0.8, 0.3, 0.2, 0.02, 0.001, 0.001]);
  const label = Uint8Array.from([1, 0, 1, 0, 1, 0, 0, 0]);
  let pairs = 0;
  for (let i = 0; i < 8; i++) {
    for (let j = 0; j < 8; j++) {
      if (label[i] === 1 && label[j] === 0) pairs += probability[i] > probability[j] ? 1 : probability[i] === probability[j] ? 0.5 : 0;
    }
  }
  assert.equal(rocAuc(probability, label), pairs / 15);
  const drive = Uint32Array.from([1, 2, 1, 2, 3, 4, 5, 5]);
  const day = Uint32Array.from([10, 10, 20, 20, 30, 10, 10, 20]);
  const figures = evaluate({ probability, label, drive, day });
  assert.ok(Math.abs(figures.averagePrecision - (1 / 1 + 2 / 3 + 3 / 5) / 3) < 1e-12);
  assert.ok(Math.abs(figures.brier - [0.01, 0.64, 0.04, 0.09, 0.64, 0.0004, 1e-6, 1e-6].reduce((a, b) => a + b) / 8) < 1e-12);
  assert.equal(figures.failedDrives, 2);
  assert.equal(figures.drives, 5);
  const [strict] = figures.drivesFound;
  assert.deepEqual(strict, { falseAlarmRate: 0.001, recall: 0.5, threshold: 0.8, medianLeadDays: 10 });
  const [low] = figures.calibration;
  assert.deepEqual(low, { from: 0, to: 0.001, rows: 2, predicted: 0.001, observed: 0 });
});

test.run();
