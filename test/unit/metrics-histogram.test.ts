// The histogram against a naive oracle that keeps every value.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { LatencyHistogram, SNAPSHOT_BOUNDS_SECONDS } from '../../gateway/metrics/histogram.js';

const test = suite('metrics/histogram');

const valueUs = fc.oneof(
  fc.integer({ min: 0, max: 100 }),
  fc.double({ min: 0, max: 5_000, noNaN: true }),
  fc.double({ min: 0, max: 250_000_000, noNaN: true }),
  fc.nat({ max: 27 }).map((e) => 2 ** e),
);

function exactQuantile(values: number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length, Math.max(1, Math.ceil(q * sorted.length))) - 1];
}

function filled(values: number[]): LatencyHistogram {
  const histogram = new LatencyHistogram();
  for (const value of values) {
    histogram.record(value);
  }
  return histogram;
}

test('a quantile is within 1/32 or 1 us of the exact one', () => {
  fc.assert(
    fc.property(fc.array(valueUs, { minLength: 1, maxLength: 300 }), fc.double({ min: 0, max: 1, noNaN: true }), (values, q) => {
      const exact = exactQuantile(values, q);
      const got = filled(values).quantile(q)!;
      assert.ok(Math.abs(got - exact) <= Math.max(1, exact / 32), `quantile ${q}: ${got}, exactly ${exact}`);
    }),
  );
});

test('count, sum and maximum are exact', () => {
  fc.assert(
    fc.property(fc.array(valueUs), (values) => {
      const histogram = filled(values);
      assert.equal(histogram.count, values.length);
      assert.equal(
        histogram.sumUs,
        values.reduce((a, b) => a + b, 0),
      );
      assert.equal(histogram.maxUs, Math.max(0, ...values));
    }),
  );
});

test('a snapshot counts every value in its octave', () => {
  fc.assert(
    fc.property(fc.array(valueUs), (values) => {
      const snapshot = filled(values).snapshot();
      const expected = new Array<number>(SNAPSHOT_BOUNDS_SECONDS.length + 1).fill(0);
      for (const value of values) {
        const at = SNAPSHOT_BOUNDS_SECONDS.findIndex((bound) => Math.trunc(value) < Math.round(bound * 1e6));
        expected[at === -1 ? SNAPSHOT_BOUNDS_SECONDS.length : at]++;
      }
      assert.deepEqual(snapshot.counts, expected);
      assert.equal(snapshot.count, values.length);
    }),
  );
});

test('merging is the same as recording everything in one', () => {
  fc.assert(
    fc.property(fc.array(valueUs), fc.array(valueUs), (left, right) => {
      const merged = filled(left);
      merged.mergeFrom(filled(right));
      const whole = filled([...left, ...right]);
      assert.deepEqual(merged.snapshot().counts, whole.snapshot().counts);
      assert.equal(merged.count, whole.count);
      assert.equal(merged.maxUs, whole.maxUs);
      assert.equal(merged.quantile(0.9), whole.quantile(0.9));
    }),
  );
});

test('taking an interval adds it to the total and leaves nothing behind', () => {
  const interval = filled([10, 20]);
  const total = filled([5]);
  interval.takeInto(total);
  assert.equal(interval.count, 0);
  assert.equal(interval.quantile(0.5), null);
  assert.equal(interval.maxUs, 0);
  assert.equal(total.count, 3);
  assert.equal(total.sumUs, 35);
});

test('values beyond the range, below zero and not numbers stay inside it', () => {
  const histogram = filled([1e12, Number.POSITIVE_INFINITY, -5, Number.NaN]);
  assert.equal(histogram.count, 4);
  assert.ok(histogram.quantile(0.75)! < 1, 'infinity, NaN and what is below zero count as 0');
  assert.equal(histogram.quantile(1), 1e12);
  assert.equal(histogram.sumUs, 1e12);
  assert.equal(histogram.snapshot().counts.at(-1), 1);
});

test.run();
