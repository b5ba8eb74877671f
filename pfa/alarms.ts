// What one criterion (a horizon, and a probability that is enough to act) makes of the nodes: its threshold that adapts and the nodes that fire.
// Guarantees that criteria do not disturb each other: each learns from its own false alarms and lets go by its own level.
// It must not judge: probabilities come from outside. State survives a restart by toState and restore.

import type { OutsideVerdict } from './outside-verdict.js';
import {
  beginThreshold,
  type FiringState,
  type Hysteresis,
  NOT_FIRING,
  stepFiring,
  stepThreshold,
  type ThresholdChange,
  type ThresholdEvent,
  type ThresholdPolicy,
  type ThresholdState,
  thresholdOf,
} from './threshold.js';

/** When a node counts as about to fail. */
export interface Criterion {
  horizonMs: number;
  threshold: ThresholdPolicy;
}

export interface AlarmsState {
  criterion: string;
  threshold: ThresholdState;
  firing: { node: string; state: FiringState }[];
}

/** What one criterion makes of a node. */
export interface Alarm {
  probability: number | null;
  threshold: number;
  firing: boolean;
  /** When it began to fire. */
  sinceMs: number | null;
}

/** Equal for equal criteria. */
export function criterionKey({ horizonMs, threshold }: Criterion): string {
  if (threshold.kind === 'fixed') return `${threshold.value} within ${horizonMs}`;
  const budget = threshold.falseAlarmsPerNodeMonth;
  return `adaptive from ${threshold.minimum}${budget === undefined ? '' : ` at ${budget}`} within ${horizonMs}`;
}

export class Alarms {
  readonly criterion: Criterion;
  readonly #hysteresis: Hysteresis;
  #threshold: ThresholdState;
  readonly #firing = new Map<string, FiringState>();
  /** What the models alone said last. */
  readonly #modelProbability = new Map<string, number>();

  constructor(criterion: Criterion, hysteresis: Hysteresis) {
    this.criterion = criterion;
    this.#hysteresis = hysteresis;
    this.#threshold = beginThreshold(criterion.threshold);
  }

  /** When the threshold was last moved or looked at. */
  get atMs(): number | null {
    return this.#threshold.atMs;
  }

  step(event: ThresholdEvent): ThresholdChange[] {
    const { state, changes } = stepThreshold(this.criterion.threshold, this.#threshold, event);
    this.#threshold = state;
    return changes;
  }

  /**
   * Moves the hysteresis. An alarm from outside is not held to what a node's false alarms added. `outsideEnded`: an outside verdict
   * was lowered, withdrawn or ran out, so what is below the threshold now lets go without waiting.
   */
  decide(
    node: string,
    { probability, modelProbability }: { probability: number | null; modelProbability: number | null },
    outside: OutsideVerdict | null,
    outsideEnded: boolean,
    nowMs: number,
  ): Alarm {
    const shared = this.#thresholdOf(null);
    const own = this.#thresholdOf(node);
    const threshold = outside !== null && outside.probability >= shared ? Math.min(shared, own) : own;
    const below = probability === null || probability < threshold;
    const before = this.#firing.get(node) ?? NOT_FIRING;
    const state = outsideEnded && below ? NOT_FIRING : stepFiring(before, probability, threshold, nowMs, this.#hysteresis);
    this.#setFiring(node, state);
    if (modelProbability === null) this.#modelProbability.delete(node);
    else this.#modelProbability.set(node, modelProbability);
    return { probability, threshold, firing: state.firing, sinceMs: state.sinceMs };
  }

  /** The alarm over a node proved false: it ends, and the threshold rises if the models had raised it. */
  falseAlarm(node: string, outside: OutsideVerdict | null, atMs: number): ThresholdChange[] {
    const probability = this.#modelProbability.get(node) ?? null;
    const fromOutside = outside !== null && outside.probability >= this.#thresholdOf(null);
    const fired = this.#firing.get(node)?.firing === true && !fromOutside;
    const byModels = probability !== null && (probability >= this.#thresholdOf(node) || fired);
    this.#firing.delete(node);
    return byModels ? this.step({ type: 'false-alarm', atMs, node, probability }) : [];
  }

  forget(node: string): void {
    this.#firing.delete(node);
    this.#modelProbability.delete(node);
  }

  toState(): AlarmsState {
    const firing = [...this.#firing].map(([node, state]) => ({ node, state: { ...state } }));
    return { criterion: criterionKey(this.criterion), threshold: structuredClone(this.#threshold), firing };
  }

  /** `state` must be of the same criterion. */
  restore({ threshold, firing }: AlarmsState): void {
    this.#threshold = structuredClone(threshold);
    this.#firing.clear();
    for (const { node, state } of firing) this.#setFiring(node, { ...state });
  }

  #setFiring(node: string, state: FiringState): void {
    if (state.firing) this.#firing.set(node, state);
    else this.#firing.delete(node);
  }

  #thresholdOf(node: string | null): number {
    return thresholdOf(this.criterion.threshold, this.#threshold, node);
  }
}
