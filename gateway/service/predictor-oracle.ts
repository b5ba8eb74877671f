// The predictor as health asks it: judges by every policy that volumes have, and keeps its memory in the store, so that
// histories, thresholds and baselines survive a restart. Threshold changes and a missing model are told, not hidden.
import assert from 'node:assert/strict';
import type { PolicyConfig } from '../../config/config.js';
import { type Criterion, criterionKey } from '../../pfa/alarms.js';
import { Predictor } from '../../pfa/predictor.js';
import type { Clock, Log, Records, Timer } from '../../replication/world.js';
import type { EventSink, PolicyVerdict } from '../control.js';
import type { Assessment, Oracle, OutsideVerdict } from '../health/oracle.js';
import type { IoAggregate } from '../../pfa/io-aggregate.js';
import type { Sample } from '../../pfa/sample.js';

const KEY = 'predictor/state';
const SAVE_MS = 60_000;

export class PredictorOracle implements Oracle {
  readonly #predictor = new Predictor();
  readonly #world: { clock: Clock; log: Log; records: Records; events: EventSink };
  /** The criterion's key by the policy's name. */
  readonly #criteria = new Map<string, string>();
  #timer: Timer | null = null;
  #changed = false;

  /** `policies`: as `judgeBy` takes them. */
  constructor(world: { clock: Clock; log: Log; records: Records; events: EventSink }, policies: readonly PolicyConfig[]) {
    this.#world = world;
    this.judgeBy(policies);
    const stored = world.records.get(KEY);
    if (stored !== undefined) {
      const restored = this.#predictor.restore(typeof stored === 'string' ? JSON.parse(stored) : stored);
      if (!restored.ok) world.log.warn({ reason: restored.message }, 'what the predictor knew cannot be read; it learns anew');
    }
  }

  /** Nodes are judged by these from now on; the one named `default` is among them and comes first. */
  judgeBy(policies: readonly PolicyConfig[]): void {
    const first = policies.find(({ name }) => name === 'default');
    assert(first, 'there is always a policy default');
    this.#criteria.clear();
    for (const policy of [first, ...policies]) this.#criteria.set(policy.name, criterionKey(criterionOf(policy)));
    this.#predictor.judgeBy([criterionOf(first), ...policies.map(criterionOf)]);
  }

  start(): void {
    const problem = this.#predictor.modelProblem();
    if (problem !== null) {
      this.#world.events.publish({
        type: 'predictor.no-model',
        level: 'alert',
        message: `Disks are not judged by the trained model: ${problem}`,
      });
    }
    this.#saveLater();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#save();
  }

  observe(sample: Sample): void {
    this.#changed = true;
    const observed = this.#predictor.observe(sample);
    if (!observed.ok) this.#world.log.debug({ node: sample.node, metric: sample.metric, reason: observed.reason }, 'a sample was not kept');
  }

  observeIo(node: string, aggregate: IoAggregate): void {
    this.#changed = true;
    const observed = this.#predictor.observeIo(node, aggregate);
    if (!observed.ok) this.#world.log.warn({ node, reason: observed.reason }, 'an I/O interval was not kept');
  }

  outsideVerdict(node: string, given: OutsideVerdict): void {
    this.#predictor.outsideVerdict(node, given);
  }

  failed(node: string): void {
    this.#predictor.failed(node, this.#world.clock.wallMs());
    this.#tellThresholds();
  }

  falseAlarm(node: string): void {
    this.#predictor.falseAlarm(node, this.#world.clock.wallMs());
    this.#tellThresholds();
  }

  assess(node: string, nowMs: number): Assessment {
    const assessed = this.#predictor.assess(node, nowMs);
    const { probability, threshold, firing, horizonSeconds, reasons, origin, predictedFailureAt, counterfactuals, byCriterion } = assessed;
    this.#tellThresholds();
    const policies: Record<string, PolicyVerdict> = {};
    for (const [name, key] of this.#criteria) policies[name] = byCriterion[key];
    return {
      probability,
      threshold,
      firing,
      horizonSeconds,
      reasons: [...reasons, ...counterfactuals.map((text) => ({ source: 'counterfactual', contribution: 0, text }))],
      origin,
      predictedFailureAtMs: predictedFailureAt === null ? null : Date.parse(predictedFailureAt),
      policies,
    };
  }

  #tellThresholds(): void {
    for (const change of this.#predictor.takeThresholdChanges()) {
      const policies = [...this.#criteria].filter(([, key]) => key === change.criterion).map(([name]) => name);
      this.#world.events.publish({
        type: 'threshold.changed',
        level: 'info',
        message: `The threshold of ${policies.length === 1 ? 'policy' : 'policies'} ${policies.join(', ')} went from ${change.from.toFixed(2)} to ${change.to.toFixed(2)}: ${change.cause}.`,
        details: { node: change.node, from: change.from, to: change.to, cause: change.cause, policies },
      });
    }
  }

  #saveLater(): void {
    this.#timer = this.#world.clock.after(SAVE_MS, () => void this.#save().then(() => this.#saveLater()));
  }

  async #save(): Promise<void> {
    if (!this.#changed) return;
    this.#changed = false;
    try {
      await this.#world.records.commit([{ put: KEY, value: JSON.stringify(this.#predictor.serialize()) }]);
    } catch (error) {
      this.#changed = true;
      this.#world.log.warn({ reason: (error as Error).message }, 'what the predictor knows cannot be stored');
    }
  }
}

function criterionOf({ prediction }: PolicyConfig): Criterion {
  const { threshold, minimum, horizonMs } = prediction;
  return { horizonMs, threshold: threshold === 'adaptive' ? { kind: 'adaptive', minimum } : { kind: 'fixed', value: threshold } };
}
