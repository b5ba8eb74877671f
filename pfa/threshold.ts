// When a probability is enough to act: a threshold that adapts and lets go late, as a pure state machine over plain values.
// Guarantees: never below the policy's minimum (or, fixed, never moving at all); every change is returned with its cause; a node that
// fires goes on until it has been clearly below for a while. It must not read a clock or know what the probability is made of.
//
// In log-odds, for node n:  base + n's own raise - (peak load + recent failures + cluster event), not below `minimum`.
// The base follows the budget as an adaptive quantile does (Robbins and Monro, 1951): it steps up by STEP with each proven false alarm
// and down by STEP x budget with each node-month watched, so that in the long run false alarms come at the budget's rate.

import assert from 'node:assert';
import { logOdds, probabilityOf } from './model.js';

export type ThresholdPolicy = { kind: 'fixed'; value: number } | { kind: 'adaptive'; minimum: number; falseAlarmsPerNodeMonth?: number };

/** What moves a threshold. load: 0 to 1 of the busiest seen. */
export type ThresholdEvent =
  | { type: 'tick'; atMs: number; nodes: number; load: number; clusterEvent: boolean }
  | { type: 'failed'; atMs: number; node: string }
  | { type: 'false-alarm'; atMs: number; node: string; probability: number };

export interface ThresholdState {
  atMs: number | null;
  /** Log-odds, before what makes it more sensitive. */
  base: number;
  peak: boolean;
  clusterEvent: boolean;
  /** Log-odds by which recent failures lower it; halves every day. */
  failures: number;
  /** Log-odds by which a node's own proven false alarms raise it; halves every week. */
  raised: Record<string, number>;
}

export interface ThresholdChange {
  /** null: of all nodes. */
  node: string | null;
  from: number;
  to: number;
  cause: string;
}

const DAY_MS = 86_400_000;
const MONTH_MS = 30 * DAY_MS;
const BUDGET = 0.01;
const STEP = 0.4;
/** Above the minimum at the start, so that there is room to get more sensitive. */
const START = 0.2;
const BASE_MAX = logOdds(0.95);
const RAISED_MAX = 9;
const THRESHOLD_MAX = 0.9998;
const FALSE_ALARM_MARGIN = 0.5;
const PEAK_LOWERS = 0.2;
const CLUSTER_LOWERS = 0.2;
const FAILURE_LOWERS = 0.4;
const FAILURES_MAX = 0.8;
const FAILURES_HALVE_MS = DAY_MS;
const RAISED_HALVE_MS = 7 * DAY_MS;
/** The load that is peak, and below which it is over. */
const PEAK_FROM = 0.9;
const PEAK_UNTIL = 0.7;

export function beginThreshold(policy: ThresholdPolicy): ThresholdState {
  const base = policy.kind === 'fixed' ? logOdds(policy.value) : Math.min(BASE_MAX, logOdds(policy.minimum) + START);
  return { atMs: null, base, peak: false, clusterEvent: false, failures: 0, raised: {} };
}

/** The threshold in force for a node; null: for a node of which nothing special is known. */
export function thresholdOf(policy: ThresholdPolicy, state: ThresholdState, node: string | null): number {
  if (policy.kind === 'fixed') return policy.value;
  const lowered = (state.peak ? PEAK_LOWERS : 0) + (state.clusterEvent ? CLUSTER_LOWERS : 0) + state.failures;
  const raised = node === null ? 0 : (state.raised[node] ?? 0);
  const threshold = probabilityOf(Math.max(logOdds(policy.minimum), state.base - lowered) + raised);
  return Math.max(policy.minimum, Math.min(THRESHOLD_MAX, threshold));
}

/** One event's effect. The state passed in is not changed; changes smaller than a thousandth are not told. */
export function stepThreshold(
  policy: ThresholdPolicy,
  state: ThresholdState,
  event: ThresholdEvent,
): { state: ThresholdState; changes: ThresholdChange[] } {
  if (policy.kind === 'fixed') return { state: { ...state, atMs: event.atMs }, changes: [] };
  const decayed = decay(policy, state, event);
  const { next, causes, node } = apply(decayed, event);
  const from = thresholdOf(policy, state, node);
  const to = thresholdOf(policy, next, node);
  assert(to >= policy.minimum && to <= Math.max(policy.minimum, THRESHOLD_MAX));
  if (causes.length === 0 || Math.abs(to - from) < 0.001) return { state: next, changes: [] };
  return { state: next, changes: [{ node, from, to, cause: causes.join('; ') }] };
}

function decay(policy: ThresholdPolicy & { kind: 'adaptive' }, state: ThresholdState, event: ThresholdEvent): ThresholdState {
  const elapsedMs = state.atMs === null ? 0 : Math.max(0, event.atMs - state.atMs);
  const atMs = Math.max(state.atMs ?? event.atMs, event.atMs);
  const budget = policy.falseAlarmsPerNodeMonth ?? BUDGET;
  const nodeMonths = event.type === 'tick' ? (event.nodes * elapsedMs) / MONTH_MS : 0;
  const floor = Math.min(BASE_MAX, logOdds(policy.minimum) + START);
  const raised: Record<string, number> = {};
  for (const [node, by] of Object.entries(state.raised)) {
    const left = by * 0.5 ** (elapsedMs / RAISED_HALVE_MS);
    if (left > 0.01) raised[node] = left;
  }
  const failures = state.failures * 0.5 ** (elapsedMs / FAILURES_HALVE_MS);
  return {
    ...state,
    atMs,
    base: Math.max(floor, state.base - STEP * budget * nodeMonths),
    failures: failures < 0.01 ? 0 : failures,
    raised,
  };
}

function apply(state: ThresholdState, event: ThresholdEvent): { next: ThresholdState; causes: string[]; node: string | null } {
  if (event.type === 'failed') {
    const failures = Math.min(FAILURES_MAX, state.failures + FAILURE_LOWERS);
    return { next: { ...state, failures }, causes: [`node ${event.node} failed: more sensitive for some days`], node: null };
  }
  if (event.type === 'false-alarm') {
    const base = Math.min(BASE_MAX, state.base + STEP);
    // High enough that the same probability does not fire again at once.
    const over = logOdds(event.probability) + FALSE_ALARM_MARGIN - base;
    const raised = { ...state.raised, [event.node]: Math.min(RAISED_MAX, Math.max(over, (state.raised[event.node] ?? 0) + STEP)) };
    return {
      next: { ...state, base, raised },
      causes: [`the alarm over node ${event.node} proved false: less sensitive`],
      node: event.node,
    };
  }
  const causes: string[] = [];
  const peak = event.load >= (state.peak ? PEAK_UNTIL : PEAK_FROM);
  if (peak !== state.peak) causes.push(peak ? 'peak load: more sensitive, a failure would cost most now' : 'peak load is over');
  if (event.clusterEvent !== state.clusterEvent)
    causes.push(event.clusterEvent ? 'cluster-wide event: more sensitive' : 'the cluster-wide event is over');
  return { next: { ...state, peak, clusterEvent: event.clusterEvent }, causes, node: null };
}

/** Whether a node fires, remembered between assessments. */
export interface FiringState {
  firing: boolean;
  sinceMs: number | null;
  /** Since when it has been below the release level without a break. */
  belowSinceMs: number | null;
  /** Since when there has been no signal without a break. */
  silentSinceMs: number | null;
}

export const NOT_FIRING: FiringState = { firing: false, sinceMs: null, belowSinceMs: null, silentSinceMs: null };

export interface Hysteresis {
  /** The release level lies this far below the threshold, in log-odds. */
  releaseLogOdds: number;
  /** It must stay below for this long. */
  releaseHoldMs: number;
  /** No signal is no all-clear: an alarm whose signals went silent holds for this long. */
  silentHoldMs: number;
}

export const HYSTERESIS: Hysteresis = { releaseLogOdds: 0.5, releaseHoldMs: 5 * 60_000, silentHoldMs: DAY_MS };

/** Fires at once; lets go late. A null probability is "no signal". */
export function stepFiring(
  state: FiringState,
  probability: number | null,
  threshold: number,
  atMs: number,
  hysteresis: Hysteresis = HYSTERESIS,
): FiringState {
  if (probability !== null && probability >= threshold) {
    return { firing: true, sinceMs: state.firing ? state.sinceMs : atMs, belowSinceMs: null, silentSinceMs: null };
  }
  if (!state.firing) return NOT_FIRING;
  if (probability === null) {
    const silentSinceMs = state.silentSinceMs ?? atMs;
    return atMs - silentSinceMs >= hysteresis.silentHoldMs ? NOT_FIRING : { ...state, belowSinceMs: null, silentSinceMs };
  }
  if (logOdds(probability) > logOdds(threshold) - hysteresis.releaseLogOdds) return { ...state, belowSinceMs: null, silentSinceMs: null };
  const belowSinceMs = state.belowSinceMs ?? atMs;
  return atMs - belowSinceMs >= hysteresis.releaseHoldMs ? NOT_FIRING : { ...state, belowSinceMs, silentSinceMs: null };
}
