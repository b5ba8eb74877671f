// The predictor as the gateway uses it: from samples, I/O and outside verdicts to one judgement a node, over restarts and in bad times.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { criterionKey } from '../../pfa/alarms.js';
import { EMPTY_IO } from '../../pfa/io-aggregate.js';
import type { Metric } from '../../pfa/metric.js';
import { loadModelFile } from '../../pfa/model-file.js';
import { type NodeAssessment, REASONS_MAX } from '../../pfa/node-assessment.js';
import { validateOutsideVerdict } from '../../pfa/outside-verdict.js';
import { Predictor, type PredictorOptions } from '../../pfa/predictor.js';

const test = suite('pfa predictor');
const START_MS = Date.parse('2026-03-01T12:00:00Z');
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const DYING: Partial<Record<Metric, number>> = { reallocated_sectors: 400, pending_sectors: 80, reported_uncorrectable: 20 };

/** The model file is read once for all tests. */
const loaded = loadModelFile();

function predictor(options: Partial<PredictorOptions> = {}): Predictor {
  return new Predictor({ loadModel: () => loaded, ...options });
}

function push(to: Predictor, node: string, values: Partial<Record<Metric, number>>, atMs: number, disk: string | null = 'sda'): void {
  for (const [metric, value] of Object.entries(values)) {
    assert.deepEqual(to.observe({ node, disk, metric: metric as Metric, value, atMs }), { ok: true, late: false });
  }
}

/** Pushes counters that climb from 0 in `steps` steps over a span; returns the time of the last. */
function climb(
  to: Predictor,
  node: string,
  values: Partial<Record<Metric, number>>,
  spanMs = 10 * MINUTE_MS,
  steps = 20,
  fromMs = START_MS,
): number {
  for (let i = 0; i <= steps; i++) {
    const now = Object.fromEntries(Object.entries(values).map(([metric, value]) => [metric, Math.round((value * i) / steps)]));
    push(to, node, now, fromMs + (spanMs * i) / steps);
  }
  return fromMs + spanMs;
}

function addUp({ reasons, probability }: NodeAssessment): void {
  const sum = reasons.reduce((total, { contribution }) => total + contribution, 0);
  assert.ok(Math.abs(sum - (probability ?? 0)) < 1e-9, `${sum} against ${probability}`);
}

test('a node nobody has heard of has no signal, which is no probability at all', () => {
  const { probability, noSignal, firing, reasons, window } = predictor().assess('a', START_MS);
  assert.deepEqual(
    { probability, noSignal, firing, reasons, window },
    { probability: null, noSignal: true, firing: false, reasons: [], window: null },
  );
});

test('counters that climb within half a minute make the node fire, with reasons a person can read that add up to the probability', () => {
  const one = predictor();
  const nowMs = climb(one, 'a', DYING, 30_000);
  const assessment = one.assess('a', nowMs);
  assert.ok(assessment.probability! > 0.6, `${assessment.probability}`);
  assert.equal(assessment.firing, true);
  assert.equal(assessment.firingSince, new Date(nowMs).toISOString());
  assert.equal(assessment.origin, 'model');
  const texts = assessment.reasons.map(({ text }) => text).join('\n');
  assert.match(texts, /^sda: .*pending sectors rose from 0 to 80 in 2\d seconds/m);
  addUp(assessment);
  for (let i = 1; i < assessment.reasons.length; i++) {
    assert.ok(Math.abs(assessment.reasons[i - 1].contribution) >= Math.abs(assessment.reasons[i].contribution), 'largest first');
  }
  assert.equal(assessment.window?.samples, 21);
  assert.ok(
    assessment.counterfactuals.some((text) => text.startsWith('quiet without: ') || text.startsWith('sda: quiet if ')),
    assessment.counterfactuals.join(),
  );
});

test('any one of the classic counters that climbs far while watched makes the node fire', () => {
  for (const values of [{ reallocated_sectors: 2000 }, { pending_sectors: 100 }, { reported_uncorrectable: 200 }]) {
    const one = predictor();
    const nowMs = climb(one, 'a', values);
    assert.equal(one.assess('a', nowMs).firing, true, `${JSON.stringify(values)}: ${one.assess('a', nowMs).probability}`);
  }
});

test('counters pushed without the name of a disk are judged as well', () => {
  const one = predictor();
  for (let i = 0; i <= 20; i++) {
    push(one, 'a', { reallocated_sectors: 20 * i, pending_sectors: 4 * i, reported_uncorrectable: i }, START_MS + i * 1000, null);
  }
  const assessment = one.assess('a', START_MS + 20_000);
  assert.equal(assessment.firing, true, `${assessment.probability}`);
  assert.match(assessment.reasons.map(({ text }) => text).join('\n'), /^pending sectors rose from 0 to 80/m);
});

test('a healthy node of twelve disks stays quiet over months', () => {
  const one = predictor();
  for (let day = 0; day < 90; day++) {
    for (let disk = 0; disk < 12; disk++) {
      const values = {
        reallocated_sectors: 0,
        pending_sectors: 0,
        reported_uncorrectable: 0,
        power_on_hours: 9000 + day * 24,
        temperature_celsius: 35 + (day % 5),
        smart_passed: 1,
      };
      push(one, 'a', values, START_MS + day * DAY_MS, `sd${String.fromCharCode(97 + disk)}`);
    }
  }
  const assessment = one.assess('a', START_MS + 89 * DAY_MS);
  assert.ok(assessment.probability! > 0 && assessment.probability! < 0.08, `${assessment.probability}`);
  assert.equal(assessment.firing, false);
  assert.ok(assessment.reasons.length <= REASONS_MAX + 2);
  assert.deepEqual(assessment.counterfactuals, []);
  addUp(assessment);
});

test('one sick disk of many is named, and the others hardly count', () => {
  const one = predictor();
  for (const disk of ['sdb', 'sdc', 'sdd']) push(one, 'a', { reallocated_sectors: 0, pending_sectors: 0 }, START_MS, disk);
  const nowMs = climb(one, 'a', DYING);
  const { reasons } = one.assess('a', nowMs);
  assert.ok(reasons.filter(({ contribution }) => contribution > 0.05).every(({ text }) => text.startsWith('sda: ')));
});

test('samples that stop leave a verdict for days, then no signal; an alarm outlives its signal', () => {
  const one = predictor();
  const nowMs = climb(one, 'a', DYING);
  assert.equal(one.assess('a', nowMs).firing, true);
  assert.equal(one.assess('a', nowMs + 2 * DAY_MS).noSignal, false);
  const silent = one.assess('a', nowMs + 4 * DAY_MS);
  assert.equal(silent.noSignal, true);
  assert.equal(silent.probability, null);
  assert.equal(silent.firing, true, 'silence is no all-clear');
  assert.ok(silent.silent.length > 0);
  assert.equal(one.assess('a', nowMs + 5 * DAY_MS).firing, false);
});

test('an outside verdict of 0.99 fires at once, a lower one later clears it at once', () => {
  const one = predictor();
  push(one, 'a', { reallocated_sectors: 0, pending_sectors: 0 }, START_MS);
  one.outsideVerdict('a', { probability: 0.99, reason: 'the fan is on fire', atMs: START_MS });
  const alarm = one.assess('a', START_MS + 1);
  assert.ok(alarm.probability! >= 0.99 && alarm.firing && alarm.origin === 'outside');
  assert.match(alarm.reasons[0].text, /given from outside: the fan is on fire/);
  addUp(alarm);
  one.outsideVerdict('a', { probability: 0.01, reason: 'it was a candle', atMs: START_MS + 2 });
  const clear = one.assess('a', START_MS + 3);
  assert.equal(clear.firing, false);
  assert.ok(clear.probability! < 0.05);
});

test('the models cannot talk an outside alarm away; it ends when it expires or is withdrawn', () => {
  const one = predictor();
  one.outsideVerdict('a', { probability: 0.99, reason: 'seen', atMs: START_MS, ttlMs: 60 * MINUTE_MS });
  for (let minute = 0; minute < 60; minute++) {
    push(one, 'a', { reallocated_sectors: 0, pending_sectors: 0, smart_passed: 1 }, START_MS + minute * MINUTE_MS);
    assert.equal(one.assess('a', START_MS + minute * MINUTE_MS).firing, true, `minute ${minute}`);
  }
  assert.equal(one.assess('a', START_MS + 60 * MINUTE_MS).firing, false);
  one.outsideVerdict('b', { probability: 0.99, reason: 'seen', atMs: START_MS });
  assert.equal(one.assess('b', START_MS).firing, true);
  one.withdrawOutsideVerdict('b');
  const after = one.assess('b', START_MS + 1);
  assert.equal(after.firing, false);
  assert.equal(after.noSignal, true, 'there never was another signal');
});

test('a low outside verdict does not silence what the models see', () => {
  const one = predictor();
  const nowMs = climb(one, 'a', DYING);
  one.outsideVerdict('a', { probability: 0.99, reason: 'I agree', atMs: nowMs });
  assert.equal(one.assess('a', nowMs).firing, true);
  one.outsideVerdict('a', { probability: 0.01, reason: 'I changed my mind', atMs: nowMs });
  const after = one.assess('a', nowMs);
  assert.equal(after.firing, true);
  assert.equal(after.origin, 'model');
});

test('a proven false alarm ends, does not fire again on the same evidence, and leaves other nodes nearly as they were', () => {
  const one = predictor();
  const nowMs = climb(one, 'a', DYING);
  const before = one.assess('a', nowMs);
  assert.equal(before.firing, true);
  one.falseAlarm('a', nowMs);
  const after = one.assess('a', nowMs + MINUTE_MS);
  assert.equal(after.firing, false);
  assert.ok(after.threshold > after.probability!);
  const [change] = one.takeThresholdChanges().filter(({ node }) => node === 'a');
  assert.match(change.cause, /proved false/);
  assert.deepEqual(one.takeThresholdChanges(), [], 'told once');
  assert.ok(one.assess('b', nowMs + MINUTE_MS).threshold < before.threshold + 0.15);
  one.outsideVerdict('a', { probability: 0.99, reason: 'no, really', atMs: nowMs + MINUTE_MS });
  assert.equal(one.assess('a', nowMs + 2 * MINUTE_MS).firing, true, 'an outside alarm is not held to the raised threshold');
});

test('a false alarm from outside does not teach the models', () => {
  const one = predictor();
  const { threshold } = one.assess('a', START_MS);
  one.outsideVerdict('a', { probability: 0.99, reason: 'oops', atMs: START_MS });
  assert.equal(one.assess('a', START_MS).firing, true);
  one.falseAlarm('a', START_MS + 1);
  const after = one.assess('a', START_MS + 2);
  assert.equal(after.firing, false);
  assert.equal(after.threshold, threshold);
});

test('a failure makes the rest more sensitive, and says so', () => {
  const one = predictor();
  const { threshold } = one.assess('b', START_MS);
  one.failed('a', START_MS);
  assert.ok(one.assess('b', START_MS + 1).threshold < threshold);
  assert.match(one.takeThresholdChanges()[0].cause, /node a failed/);
});

test('a fixed threshold of the policy is the one in the verdict', () => {
  const one = predictor({ threshold: { kind: 'fixed', value: 0.05 } });
  push(one, 'a', { reallocated_sectors: 0 }, START_MS);
  push(one, 'a', { reallocated_sectors: 60 }, START_MS + 1);
  const { threshold, firing, probability } = one.assess('a', START_MS + 2);
  assert.equal(threshold, 0.05);
  assert.equal(firing, probability! >= 0.05);
  assert.equal(firing, true);
});

test('a shorter horizon is less risk, a trend gives the time of failure', () => {
  const month = predictor();
  const week = predictor({ horizonMs: 7 * DAY_MS });
  for (const one of [month, week]) {
    push(one, 'a', { reallocated_sectors: 0 }, START_MS);
    push(one, 'a', { reallocated_sectors: 60 }, START_MS + 1);
  }
  assert.ok(week.assess('a', START_MS + 2).probability! < month.assess('a', START_MS + 2).probability!);
  assert.equal(week.assess('a', START_MS + 3).horizonSeconds, 7 * 86_400);
  addUp(week.assess('a', START_MS + 4));
  assert.equal(month.assess('a', START_MS + 3).predictedFailureAt, null);
  for (let minute = 0; minute <= 120; minute++) push(month, 'hot', { temperature_celsius: 40 + minute / 6 }, START_MS + minute * MINUTE_MS);
  const foreseen = Date.parse(month.assess('hot', START_MS + 120 * MINUTE_MS).predictedFailureAt!);
  assert.ok(foreseen > START_MS + 130 * MINUTE_MS && foreseen < START_MS + 180 * MINUTE_MS);
});

test('criteria judge side by side: each with its horizon, its threshold and its own false alarms', () => {
  const month = { horizonMs: 30 * DAY_MS, threshold: { kind: 'adaptive', minimum: 0.5 } } as const;
  const week = { horizonMs: 7 * DAY_MS, threshold: { kind: 'fixed', value: 0.02 } } as const;
  const wary = { horizonMs: 30 * DAY_MS, threshold: { kind: 'adaptive', minimum: 0.1 } } as const;
  const both = predictor();
  both.judgeBy([month, week, wary]);
  const [monthKey, weekKey, waryKey] = [month, week, wary].map(criterionKey);
  const alone = predictor({ horizonMs: 7 * DAY_MS });
  for (const one of [both, alone]) {
    push(one, 'a', { reallocated_sectors: 0 }, START_MS);
    push(one, 'a', { reallocated_sectors: 400 }, START_MS + 1);
  }
  const first = both.assess('a', START_MS + 2);
  const { byCriterion } = first;
  assert.equal(byCriterion[weekKey].probability, alone.assess('a', START_MS + 2).probability, 'as if the week were judged alone');
  assert.ok(byCriterion[weekKey].probability! < byCriterion[monthKey].probability!);
  assert.deepEqual([byCriterion[monthKey].horizonSeconds, byCriterion[weekKey].horizonSeconds], [30 * 86_400, 7 * 86_400]);
  assert.equal(byCriterion[weekKey].threshold, 0.02);
  assert.ok(byCriterion[waryKey].threshold < byCriterion[monthKey].threshold);
  for (const { firing, probability, threshold } of Object.values(byCriterion)) assert.equal(firing, probability! >= threshold);
  assert.deepEqual([byCriterion[monthKey].firing, byCriterion[waryKey].firing], [false, true]);
  assert.ok(first.firing && first.threshold === byCriterion[weekKey].threshold, 'explained for the first criterion that fires');
  addUp(first);

  both.falseAlarm('a', START_MS + 3);
  const after = both.assess('a', START_MS + 4).byCriterion;
  assert.equal(after[waryKey].firing, false, 'its alarm was false');
  assert.ok(after[waryKey].threshold > byCriterion[waryKey].threshold);
  assert.equal(after[monthKey].threshold, byCriterion[monthKey].threshold, 'it had not alarmed');
  assert.deepEqual([...new Set(both.takeThresholdChanges().map(({ criterion }) => criterion))], [waryKey]);

  both.judgeBy([week, wary]);
  const kept = both.assess('a', START_MS + 5).byCriterion;
  assert.deepEqual(Object.keys(kept), [weekKey, waryKey]);
  assert.equal(kept[waryKey].threshold, after[waryKey].threshold, 'what goes on counting keeps what it learnt');
  const restarted = predictor();
  restarted.judgeBy([wary, month]);
  assert.deepEqual(restarted.restore(JSON.parse(JSON.stringify(both.serialize()))), { ok: true });
  assert.deepEqual(restarted.assess('a', START_MS + 6).byCriterion[waryKey], both.assess('a', START_MS + 6).byCriterion[waryKey]);
});

test('errors on the I/O path are enough to fire, without any agent', () => {
  const one = predictor();
  for (let i = 0; i < 60; i++) {
    const errors = i < 48 ? 0 : 20;
    for (const node of ['a', 'b']) {
      const io = {
        ...EMPTY_IO,
        atMs: START_MS + i * 5000,
        reads: 1000,
        p50Us: 300,
        p99Us: 900,
        bytes: 4_096_000,
        errors: node === 'a' ? errors : 0,
      };
      assert.equal(one.observeIo(node, io).ok, true);
    }
  }
  const nowMs = START_MS + 60 * 5000;
  assert.equal(one.assess('a', nowMs).firing, true);
  assert.equal(one.assess('b', nowMs).firing, false);
  assert.equal(one.observeIo('a', { ...EMPTY_IO, atMs: nowMs, reads: Number.NaN }).ok, false);
});

test('a restart keeps histories, alarms, outside verdicts and thresholds; a damaged state is refused and changes nothing', () => {
  const one = predictor();
  const nowMs = climb(one, 'a', DYING);
  one.outsideVerdict('b', { probability: 0.99, reason: 'seen', atMs: nowMs });
  one.failed('c', nowMs);
  one.assess('a', nowMs);
  one.assess('b', nowMs);
  const state = JSON.parse(JSON.stringify(one.serialize()));
  const two = predictor();
  assert.deepEqual(two.restore(state), { ok: true });
  assert.deepEqual(two.nodes().sort(), one.nodes().sort());
  for (const node of ['a', 'b']) assert.deepEqual(two.assess(node, nowMs + 1), one.assess(node, nowMs + 1));
  const damages: [unknown, RegExp][] = [
    [null, /format is missing/],
    [{ ...state, format: 9 }, /format is 9, not 2/],
    [
      { ...state, alarms: [{ ...state.alarms[0], threshold: { ...state.alarms[0].threshold, base: 'x' } }] },
      /alarms\[0\].threshold is damaged/,
    ],
    [{ ...state, nodes: [{ node: 'a' }] }, /nodes\[0\] is damaged/],
    [{ ...state, history: { format: 1, nodes: [{}] } }, /histories are damaged/],
    [{ ...state, io: {} }, /baselines are damaged/],
  ];
  const expected = two.assess('a', nowMs + 2);
  for (const [damage, message] of damages) {
    const result = two.restore(damage);
    assert.ok(!result.ok && message.test(result.message), result.ok ? 'taken' : result.message);
  }
  assert.deepEqual(two.assess('a', nowMs + 2), expected);
});

test('without a model the disks have no wear-out signal, everything else goes on, and the reason is at hand', () => {
  const one = predictor({ loadModel: () => ({ ok: false, message: 'the disk wear-out model is refused: it is not JSON' }) });
  assert.match(one.modelProblem()!, /refused: it is not JSON/);
  assert.equal(one.modelId(), null);
  push(one, 'a', { smart_passed: 0 }, START_MS);
  assert.equal(one.assess('a', START_MS).firing, true);
  assert.match(predictor().modelId()!, /^[0-9a-f]{64}$/);
});

test('the model is read once, and not before a node is judged', () => {
  let reads = 0;
  const loadModel = () => {
    reads++;
    return loaded;
  };
  const one = new Predictor({ loadModel });
  push(one, 'a', { pending_sectors: 0 }, START_MS);
  assert.equal(reads, 0);
  one.assess('a', START_MS);
  one.assess('a', START_MS + 1);
  assert.equal(reads, 1);
});

test('nodes are bounded, and a forgotten one is gone', () => {
  const one = predictor({ nodesMax: 1 });
  push(one, 'a', { pending_sectors: 0 }, START_MS);
  assert.deepEqual(one.observe({ node: 'b', disk: null, metric: 'cpu_utilisation', value: 1, atMs: START_MS }), {
    ok: false,
    reason: 'more than 1 nodes',
  });
  one.forget('a');
  assert.deepEqual(one.nodes(), []);
  assert.equal(one.assess('a', START_MS).noSignal, true);
});

test('whatever comes in, a judgement is a probability with reasons that add up, or no signal', () => {
  const event = fc.oneof(
    fc.record({
      kind: fc.constant('sample' as const),
      metric: fc.constantFrom<Metric>(
        'pending_sectors',
        'reallocated_sectors',
        'temperature_celsius',
        'critical_warning',
        'available_spare',
        'link_retransmits',
        'disk_reads',
      ),
      value: fc.nat(100),
      disk: fc.constantFrom('sda', 'nvme0', null),
    }),
    fc.record({ kind: fc.constant('io' as const), reads: fc.nat(5000), errors: fc.nat(5), p50Us: fc.option(fc.nat(1_000_000)) }),
    fc.record({ kind: fc.constant('outside' as const), probability: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ kind: fc.constantFrom('failed' as const, 'false-alarm' as const, 'withdraw' as const) }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(event, fc.constantFrom('a', 'b'), fc.nat(10 * MINUTE_MS)), { maxLength: 60 }), (events) => {
      const one = predictor();
      let atMs = START_MS;
      for (const [given, node, stepMs] of events) {
        atMs += stepMs;
        if (given.kind === 'sample') one.observe({ node, disk: given.disk, metric: given.metric, value: given.value, atMs });
        else if (given.kind === 'io')
          one.observeIo(node, {
            ...EMPTY_IO,
            atMs,
            reads: given.reads,
            errors: given.errors,
            p50Us: given.p50Us,
            p99Us: given.p50Us,
            bytes: given.reads * 4096,
          });
        else if (given.kind === 'outside') one.outsideVerdict(node, { probability: given.probability, reason: 'x', atMs });
        else if (given.kind === 'failed') one.failed(node, atMs);
        else if (given.kind === 'false-alarm') one.falseAlarm(node, atMs);
        else one.withdrawOutsideVerdict(node);
        const assessment = one.assess(node, atMs);
        assert.equal(assessment.noSignal, assessment.probability === null);
        assert.ok(assessment.probability === null || (assessment.probability > 0 && assessment.probability < 1));
        assert.ok(assessment.threshold >= 0.5 && assessment.threshold < 1);
        addUp(assessment);
      }
    }),
    { numRuns: 40 },
  );
});

test('an outside verdict is checked at the door', () => {
  const good = validateOutsideVerdict({ probability: 0.99, reason: ' why ' }, START_MS);
  assert.deepEqual(good, { ok: true, verdict: { probability: 0.99, reason: 'why', atMs: START_MS, ttlMs: DAY_MS } });
  for (const [body, message] of [
    [null, /the body is/],
    [{ reason: 'x' }, /probability is a number from 0 to 1, not nothing/],
    [{ probability: 1.1, reason: 'x' }, /not 1.1/],
    [{ probability: Number.NaN, reason: 'x' }, /from 0 to 1/],
    [{ probability: 0.5 }, /reason is a sentence/],
    [{ probability: 0.5, reason: '  ' }, /reason is a sentence/],
    [{ probability: 0.5, reason: 'x'.repeat(501) }, /at most 500/],
    [{ probability: 0.5, reason: 'x', ttlMs: -1 }, /ttlMs/],
    [{ probability: 0.5, reason: 'x', node: 'a' }, /unknown key "node"/],
  ] as const) {
    const result = validateOutsideVerdict(body, START_MS);
    assert.ok(!result.ok && message.test(result.message), JSON.stringify(body));
  }
});

test.run();
