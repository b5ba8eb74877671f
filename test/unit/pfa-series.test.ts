// One metric's history against a naive oracle that keeps every sample, and its bounds.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { LATE_MS_MAX, POINTS_MAX, Series } from '../../pfa/series.js';

const test = suite('pfa series');
const DAY_MS = 86_400_000;
const RETENTION_MS = 35 * DAY_MS;

type Point = readonly [atMs: number, value: number];

/** Keeps all that counts; computes everything by walking over it. */
class Oracle {
  readonly kept: [number, number][] = [];

  constructor(readonly kind: 'counter' | 'gauge') {}

  observe(atMs: number, value: number): boolean {
    const last = this.kept.at(-1);
    if (last !== undefined && atMs < last[0]) {
      if (this.kind === 'gauge' || value <= last[1] || last[0] - atMs > LATE_MS_MAX) return false;
      this.kept.push([last[0], value]);
      return true;
    }
    this.kept.push([atMs, value]);
    return true;
  }

  /** [rise, changes] of the samples after a time, against the value in force then. */
  since(fromMs: number): [number, number] {
    let rise = 0;
    let changes = 0;
    for (let i = 1; i < this.kept.length; i++) {
      if (this.kept[i][0] <= fromMs) continue;
      rise += Math.max(0, this.kept[i][1] - this.kept[i - 1][1]);
      changes += this.kept[i][1] === this.kept[i - 1][1] ? 0 : 1;
    }
    return [rise, changes];
  }

  lastChangeMs(): number | null {
    for (let i = this.kept.length - 1; i > 0; i--) if (this.kept[i][1] !== this.kept[i - 1][1]) return this.kept[i][0];
    return null;
  }

  valueAt(atMs: number): number {
    return this.kept.filter((point) => point[0] <= atMs).at(-1)?.[1] ?? Number.NaN;
  }
}

/** Steps of -10 minutes to 8 days: gaps, duplicates and late samples; few values, so that there are resets and repeats. */
const walk = fc.array(
  fc.tuple(
    fc.oneof(fc.constant(0), fc.integer({ min: -600_000, max: 600_000 }), fc.integer({ min: 0, max: 8 * DAY_MS })),
    fc.integer({ min: 0, max: 5 }),
  ),
  {
    maxLength: POINTS_MAX - 1,
  },
);

function timed(steps: (readonly [number, number])[]): Point[] {
  let atMs = 1_000 * DAY_MS;
  return steps.map(([step, value]) => {
    atMs += step;
    return [atMs, value];
  });
}

test('window features equal those of an oracle that keeps everything, with gaps, resets, duplicates and late samples', () => {
  for (const kind of ['counter', 'gauge'] as const) {
    fc.assert(
      fc.property(walk, (steps) => {
        const series = new Series(kind, RETENTION_MS);
        const oracle = new Oracle(kind);
        for (const [atMs, value] of timed(steps)) {
          assert.equal(series.observe(atMs, value), oracle.observe(atMs, value));
          const nowMs = series.latestAtMs;
          for (const windowMs of [0, 1, 60_000, DAY_MS, 7 * DAY_MS, 30 * DAY_MS]) {
            assert.deepEqual([series.riseSince(nowMs - windowMs), series.changesSince(nowMs - windowMs)], oracle.since(nowMs - windowMs));
          }
          assert.equal(series.value, oracle.kept.at(-1)?.[1]);
          assert.equal(series.lastChangeMs, oracle.lastChangeMs());
          assert.equal(series.valueAt(nowMs - DAY_MS), oracle.valueAt(nowMs - DAY_MS));
        }
        assert.equal(series.samples, oracle.kept.length);
      }),
      { numRuns: 300 },
    );
  }
});

test('a counter that changes a million times stays bounded, keeps its totals, and never misses a rise', () => {
  const series = new Series('counter', RETENTION_MS);
  for (let i = 0; i < 1_000_000; i++) series.observe(i * 1000, i);
  const nowMs = 999_999_000;
  assert.ok(series.toState().points.length <= POINTS_MAX);
  assert.equal(series.value, 999_999);
  for (const windowMs of [60_000, DAY_MS, 7 * DAY_MS]) {
    const exact = windowMs / 1000;
    const rise = series.riseSince(nowMs - windowMs);
    assert.ok(rise >= exact && rise <= exact * 1.5, `rise over ${windowMs} ms: ${rise}, exactly ${exact}`);
  }
});

test('points older than the retention go, the value in force at its start stays', () => {
  const series = new Series('gauge', 10 * DAY_MS);
  for (let day = 0; day <= 40; day++) series.observe(day * DAY_MS, day);
  assert.equal(series.toState().points.length, 11);
  assert.equal(series.valueAt(30 * DAY_MS), 30);
  assert.ok(Number.isNaN(series.valueAt(29 * DAY_MS)));
});

test('a restored series goes on as if nothing had happened', () => {
  fc.assert(
    fc.property(walk, walk, (before, after) => {
      const steps = timed([...before, ...after]);
      const one = new Series('counter', RETENTION_MS);
      for (const [atMs, value] of steps.slice(0, before.length)) one.observe(atMs, value);
      if (before.length === 0) return;
      const two = Series.fromState('counter', RETENTION_MS, JSON.parse(JSON.stringify(one.toState())));
      for (const [atMs, value] of steps.slice(before.length)) {
        one.observe(atMs, value);
        two.observe(atMs, value);
      }
      assert.deepEqual(two.toState(), one.toState());
    }),
    { numRuns: 100 },
  );
});

test('the span of a rise is from its first change to its last', () => {
  const series = new Series('counter', RETENTION_MS);
  for (const [atMs, value] of [
    [0, 0],
    [1000, 0],
    [60_000, 12],
    [600_000, 48],
    [900_000, 48],
  ])
    series.observe(atMs, value);
  assert.deepEqual(series.riseSpan(-1), { from: 0, to: 48, startMs: 60_000, endMs: 600_000 });
  assert.deepEqual(series.riseSpan(60_000), { from: 12, to: 48, startMs: 600_000, endMs: 600_000 });
  assert.equal(series.riseSpan(700_000), null);
});

test.run();
