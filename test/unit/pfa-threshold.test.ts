// The adaptive threshold and its hysteresis, as scenarios: what moves it, by how much, with which cause, and what it never does.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import {
  beginThreshold,
  type FiringState,
  NOT_FIRING,
  stepFiring,
  stepThreshold,
  type ThresholdChange,
  type ThresholdEvent,
  type ThresholdPolicy,
  thresholdOf,
} from '../../pfa/threshold.js';

const test = suite('pfa threshold');
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const ADAPTIVE: ThresholdPolicy = { kind: 'adaptive', minimum: 0.5 };

class Scenario {
  state;
  readonly changes: ThresholdChange[] = [];

  constructor(readonly policy: ThresholdPolicy) {
    this.state = beginThreshold(policy);
  }

  step(event: ThresholdEvent): ThresholdChange[] {
    const { state, changes } = stepThreshold(this.policy, this.state, event);
    this.state = state;
    this.changes.push(...changes);
    return changes;
  }

  tick(atMs: number, more: Partial<{ load: number; clusterEvent: boolean; nodes: number }> = {}): ThresholdChange[] {
    return this.step({ type: 'tick', atMs, nodes: 10, load: 0.2, clusterEvent: false, ...more });
  }

  at(node: string | null = null): number {
    return thresholdOf(this.policy, this.state, node);
  }
}

test('a fixed threshold never moves', () => {
  const scenario = new Scenario({ kind: 'fixed', value: 0.7 });
  scenario.tick(0, { load: 1, clusterEvent: true });
  scenario.step({ type: 'failed', atMs: 1, node: 'a' });
  scenario.step({ type: 'false-alarm', atMs: 2, node: 'a', probability: 0.9 });
  assert.equal(scenario.at('a'), 0.7);
  assert.deepEqual(scenario.changes, []);
});

test('it starts a little above the minimum, so that it can become more sensitive', () => {
  const start = new Scenario(ADAPTIVE).at();
  assert.ok(start > 0.5 && start < 0.6, `${start}`);
});

test('at peak load it is more sensitive until load has clearly fallen, and says so once each', () => {
  const scenario = new Scenario(ADAPTIVE);
  const start = scenario.at();
  const [up] = scenario.tick(0, { load: 0.95 });
  assert.match(up.cause, /peak load/);
  assert.ok(up.to < up.from && up.to === scenario.at() && up.node === null);
  assert.deepEqual(scenario.tick(1, { load: 0.8 }), [], 'still peak: no flapping around the mark');
  const [down] = scenario.tick(2, { load: 0.5 });
  assert.match(down.cause, /peak load is over/);
  assert.equal(scenario.at(), start);
});

test('a cluster-wide event makes it more sensitive while it lasts', () => {
  const scenario = new Scenario(ADAPTIVE);
  assert.match(scenario.tick(0, { clusterEvent: true })[0].cause, /cluster-wide event: more sensitive/);
  assert.match(scenario.tick(1)[0].cause, /cluster-wide event is over/);
});

test('after a failure it is more sensitive, and forgets within days', () => {
  const scenario = new Scenario({ kind: 'adaptive', minimum: 0.2 });
  const start = scenario.at();
  const [change] = scenario.step({ type: 'failed', atMs: 0, node: 'b' });
  assert.match(change.cause, /node b failed/);
  assert.ok(scenario.at() < start);
  scenario.tick(2 * DAY_MS);
  const later = scenario.at();
  assert.ok(later > change.to && later < start);
  scenario.tick(10 * DAY_MS);
  assert.equal(scenario.at(), start);
});

test('a proven false alarm makes it less sensitive, most of all for that node, so that the same probability does not fire again', () => {
  const scenario = new Scenario(ADAPTIVE);
  const start = scenario.at();
  const [change] = scenario.step({ type: 'false-alarm', atMs: 0, node: 'a', probability: 0.93 });
  assert.equal(change.node, 'a');
  assert.match(change.cause, /alarm over node a proved false: less sensitive/);
  assert.ok(scenario.at('a') > 0.93);
  assert.ok(scenario.at('b') > start && scenario.at('b') < 0.93);
  for (let day = 1; day <= 60; day++) scenario.tick(day * DAY_MS);
  assert.ok(scenario.at('a') < 0.93, 'it is forgiven in the end');
});

test('in the long run false alarms come at the rate of the budget', () => {
  // Healthy nodes whose scores are rarely high: an alarm each time one is above the threshold, at most one a node and day.
  const budget = 0.3;
  const nodes = 50;
  const scenario = new Scenario({ kind: 'adaptive', minimum: 0.05, falseAlarmsPerNodeMonth: budget });
  let random = 5;
  let alarms = 0;
  const days = 3000;
  for (let day = 1; day <= days; day++) {
    scenario.tick(day * DAY_MS, { nodes });
    for (let node = 0; node < nodes; node++) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      const score = (random / 2 ** 32) ** 20;
      if (score < scenario.at()) continue;
      scenario.step({ type: 'false-alarm', atMs: day * DAY_MS, node: `n${node}`, probability: score });
      if (day > days / 2) alarms++;
    }
  }
  const rate = alarms / ((nodes * days) / 2 / 30);
  assert.ok(rate > 0.7 * budget && rate < 1.3 * budget, `${rate} false alarms a node-month, budget ${budget}`);
});

test('whatever happens it stays at or above the minimum, below 1, and every change has a cause', () => {
  const event = fc.oneof(
    fc.record({
      type: fc.constant('tick' as const),
      atMs: fc.nat(100 * DAY_MS),
      nodes: fc.nat(1000),
      load: fc.double({ min: 0, max: 1, noNaN: true }),
      clusterEvent: fc.boolean(),
    }),
    fc.record({ type: fc.constant('failed' as const), atMs: fc.nat(100 * DAY_MS), node: fc.constantFrom('a', 'b') }),
    fc.record({
      type: fc.constant('false-alarm' as const),
      atMs: fc.nat(100 * DAY_MS),
      node: fc.constantFrom('a', 'b'),
      probability: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  );
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1, noNaN: true }), fc.array(event, { maxLength: 60 }), (minimum, events) => {
      const scenario = new Scenario({ kind: 'adaptive', minimum });
      for (const one of events) {
        scenario.step(one);
        for (const node of [null, 'a', 'b']) assert.ok(scenario.at(node) >= minimum && scenario.at(node) <= Math.max(minimum, 0.9999));
      }
      for (const { from, to, cause } of scenario.changes) assert.ok(from !== to && cause.length > 10);
    }),
    { numRuns: 300 },
  );
});

/** Feeds [minute, probability] pairs and returns the minutes at which it fired. */
function fired(steps: [number, number | null][]): number[] {
  let state: FiringState = NOT_FIRING;
  const minutes: number[] = [];
  for (const [minute, probability] of steps) {
    state = stepFiring(state, probability, 0.6, minute * MINUTE_MS);
    if (state.firing) minutes.push(minute);
  }
  return minutes;
}

test('it fires at once and lets go only after it was clearly below for five minutes on end', () => {
  assert.deepEqual(
    fired([
      [0, 0.59],
      [1, 0.6],
      [2, 0.55],
      [3, 0.5],
    ]),
    [1, 2, 3],
    'just below is not below',
  );
  assert.deepEqual(
    fired([
      [0, 0.9],
      [1, 0.1],
      [5, 0.1],
      [6, 0.1],
      [7, 0.1],
    ]),
    [0, 1, 5],
  );
  assert.deepEqual(
    fired([
      [0, 0.9],
      [1, 0.1],
      [4, 0.55],
      [5, 0.1],
      [9, 0.1],
      [10, 0.1],
    ]),
    [0, 1, 4, 5, 9],
    'a bounce starts the wait again',
  );
});

test('silence is no all-clear: an alarm without signal holds for a day', () => {
  assert.deepEqual(
    fired([
      [0, 0.9],
      [1, null],
      [60, null],
      [1440, null],
      [1441, null],
    ]),
    [0, 1, 60, 1440],
  );
  assert.deepEqual(
    fired([
      [0, null],
      [1, null],
    ]),
    [],
  );
});

test.run();
