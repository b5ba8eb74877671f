// The predictor as the gateway asks it: one judgement for each policy that volumes have, over reloads and restarts.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { PolicyConfig } from '../../config/config.js';
import type { NewEvent } from '../../gateway/control.js';
import { PredictorOracle } from '../../gateway/service/predictor-oracle.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryRecords } from '../support/memory-records.js';
import { QuietLog } from '../support/quiet-log.js';

const test = suite('service/predictor-oracle');
const DAY_MS = 86_400_000;

function policy(name: string, prediction: Partial<PolicyConfig['prediction']> = {}): PolicyConfig {
  return { name, prediction: { threshold: 'adaptive', minimum: 0.5, horizonMs: 30 * DAY_MS, ...prediction } } as PolicyConfig;
}

class Rig {
  readonly clock = new ManualClock();
  readonly records = new MemoryRecords();
  readonly events: NewEvent[] = [];

  oracle(policies: PolicyConfig[]): PredictorOracle {
    const world = {
      clock: this.clock,
      log: new QuietLog(),
      records: this.records,
      events: { publish: (event: NewEvent) => this.events.push(event) },
    };
    return new PredictorOracle(world, policies);
  }
}

test('a node is judged by the horizon and the threshold of each policy, and explained by the first that fires', () => {
  const rig = new Rig();
  const oracle = rig.oracle([
    policy('careful', { threshold: 0.9, horizonMs: 7 * DAY_MS }),
    policy('early', { minimum: 0.05 }),
    policy('default'),
  ]);
  const nowMs = rig.clock.wallMs();
  for (const value of [0, 400]) {
    oracle.observe({ node: 'a', disk: 'sda', metric: 'reallocated_sectors', value, atMs: nowMs + value });
  }
  const { policies, threshold, firing } = oracle.assess('a', nowMs + 1000);
  assert.deepEqual(Object.keys(policies), ['default', 'careful', 'early']);
  assert.deepEqual(
    Object.entries(policies).map(([name, by]) => [name, by.firing, by.horizonSeconds / 86_400]),
    [
      ['default', false, 30],
      ['careful', false, 7],
      ['early', true, 30],
    ],
  );
  assert(policies.careful.probability! < policies.default.probability!);
  assert.equal(policies.early.probability, policies.default.probability);
  assert.deepEqual([firing, threshold], [true, policies.early.threshold]);
});

test('what an alarm taught is told with the policies it concerns, and outlives a reload and a restart', async () => {
  const rig = new Rig();
  const policies = [policy('default'), policy('same'), policy('early', { minimum: 0.05 })];
  const oracle = rig.oracle(policies);
  const nowMs = rig.clock.wallMs();
  for (const value of [0, 400]) {
    oracle.observe({ node: 'a', disk: 'sda', metric: 'reallocated_sectors', value, atMs: nowMs + value });
  }
  oracle.assess('a', nowMs + 1000);
  oracle.falseAlarm('a');
  oracle.failed('b');
  const said = rig.events.map(({ message }) => message.replace(/[\d.]+ to [\d.]+/, 'N to N'));
  assert.deepEqual(said, [
    'The threshold of policy early went from N to N: the alarm over node a proved false: less sensitive.',
    'The threshold of policies default, same went from N to N: node b failed: more sensitive for some days.',
    'The threshold of policy early went from N to N: node b failed: more sensitive for some days.',
  ]);
  const taught = oracle.assess('a', nowMs + 1001).policies;
  assert.equal(taught.early.firing, false);
  oracle.judgeBy(policies.slice(0, 2));
  assert.deepEqual(oracle.assess('a', nowMs + 1001).policies, { default: taught.default, same: taught.same });
  await oracle.stop();
  const again = rig.oracle(policies).assess('a', nowMs + 1001).policies;
  assert.equal(again.default.threshold, taught.default.threshold);
});

test.run();
