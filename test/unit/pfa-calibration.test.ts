// Beta calibration: it recovers a distortion it can express, stays monotone, and its slope is its derivative.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { calibrated, calibrationSlope, fitBetaCalibration, IDENTITY } from '../../pfa/calibration.js';

const test = suite('pfa calibration');

/** Labels drawn by the true map from margins spread evenly over -8 to 6; the draw is low-discrepancy, so that no luck is involved. */
function drawn(a: number, b: number, c: number): { margins: Float64Array; labels: Uint8Array } {
  const rows = 40_000;
  const margins = Float64Array.from({ length: rows }, (_, i) => -8 + (14 * i) / rows);
  const labels = Uint8Array.from(margins, (m, i) => {
    const p = 1 / (1 + Math.exp(-calibrated({ a, b, c }, m)));
    return (i * 0.6180339887) % 1 < p ? 1 : 0;
  });
  return { margins, labels };
}

test('the identity changes nothing', () => {
  for (const m of [-40, -5, 0, 0.5, 40]) assert.ok(Math.abs(calibrated(IDENTITY, m) - m) < 1e-9);
});

test('a distortion is recovered', () => {
  for (const [a, b, c] of [
    [1, 1, 0],
    [0.7, 1.4, 0.5],
    [1.5, 0.4, -1],
  ]) {
    const { margins, labels } = drawn(a, b, c);
    const fit = fitBetaCalibration(margins, labels);
    for (let m = -6; m <= 5; m++)
      assert.ok(Math.abs(calibrated(fit, m) - calibrated({ a, b, c }, m)) < 0.2, `a ${a} b ${b} c ${c} at ${m}: ${calibrated(fit, m)}`);
  }
});

test('labels that contradict the margins give a flat map, never a falling one', () => {
  const { margins, labels } = drawn(1, 1, 0);
  const fit = fitBetaCalibration(
    margins,
    labels.map((label) => 1 - label),
  );
  assert.ok(fit.a >= 0 && fit.b >= 0);
});

test('the slope is the derivative', () => {
  const map = { a: 1.3, b: 0.5, c: 2 };
  for (const m of [-6, -1, 0, 2, 5]) {
    const numeric = (calibrated(map, m + 1e-5) - calibrated(map, m - 1e-5)) / 2e-5;
    assert.ok(Math.abs(calibrationSlope(map, m) - numeric) < 1e-6);
  }
});

test.run();
