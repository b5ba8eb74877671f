// The predictor's state as a plain value, and the check of one that comes back from a store.
// Guarantees that a value of another version or shape is refused with the place, instead of poisoning judgements. Pure.

import type { AlarmsState } from './alarms.js';
import type { HistoryState } from './history.js';
import type { IoHealthState } from './io-health.js';
import type { OutsideVerdict } from './outside-verdict.js';
import type { FiringState, ThresholdState } from './threshold.js';

export interface PredictorState {
  format: 2;
  history: HistoryState;
  io: IoHealthState;
  alarms: AlarmsState[];
  nodes: { node: string; outside: OutsideVerdict | null }[];
}

export type StateResult = { ok: true; state: PredictorState } | { ok: false; message: string };

/** Checks all but the histories and I/O baselines, which check themselves. */
export function readPredictorState(value: unknown): StateResult {
  const state = (value ?? {}) as Partial<PredictorState>;
  if (state.format !== 2) return refused(`its format is ${JSON.stringify(state.format) ?? 'missing'}, not 2`);
  if (!Array.isArray(state.alarms)) return refused('alarms is no list');
  for (const [index, entry] of state.alarms.entries()) {
    const { criterion, threshold, firing } = (entry ?? {}) as Partial<AlarmsState>;
    if (typeof criterion !== 'string' || !Array.isArray(firing)) return refused(`alarms[${index}] is damaged`);
    if (!isThreshold(threshold)) return refused(`alarms[${index}].threshold is damaged`);
    if (!firing.every((one) => typeof one?.node === 'string' && isFiring(one.state))) return refused(`alarms[${index}].firing is damaged`);
  }
  if (!Array.isArray(state.nodes)) return refused('nodes is no list');
  for (const [index, entry] of state.nodes.entries()) {
    const { node, outside } = (entry ?? {}) as Partial<PredictorState['nodes'][number]>;
    if (typeof node !== 'string' || !(outside === null || isOutside(outside))) return refused(`nodes[${index}] is damaged`);
  }
  return { ok: true, state: state as PredictorState };
}

function isThreshold(value: unknown): boolean {
  const { atMs, base, peak, clusterEvent, failures, raised } = (value ?? {}) as Partial<ThresholdState>;
  const flags = typeof peak === 'boolean' && typeof clusterEvent === 'boolean';
  const numbers = isTime(atMs) && Number.isFinite(base) && Number.isFinite(failures);
  return flags && numbers && typeof raised === 'object' && raised !== null && Object.values(raised).every(Number.isFinite);
}

function isFiring(value: unknown): boolean {
  const { firing, sinceMs, belowSinceMs, silentSinceMs } = (value ?? {}) as Partial<FiringState>;
  return typeof firing === 'boolean' && isTime(sinceMs) && isTime(belowSinceMs) && isTime(silentSinceMs);
}

function isOutside(value: unknown): boolean {
  const { probability, reason, atMs, ttlMs } = (value ?? {}) as Partial<OutsideVerdict>;
  return (
    typeof probability === 'number' &&
    probability >= 0 &&
    probability <= 1 &&
    typeof reason === 'string' &&
    Number.isFinite(atMs) &&
    Number.isFinite(ttlMs)
  );
}

function isTime(value: unknown): boolean {
  return value === null || Number.isFinite(value);
}

function refused(message: string): StateResult {
  return { ok: false, message: `the stored state of the predictor is refused: ${message}` };
}
