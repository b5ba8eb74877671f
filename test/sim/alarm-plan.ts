// What a seed draws for volumes under protection: the policy, what may be copied at once, and what each node can spare.
// Times are short against the real ones, so that a run sees their ends.
import type { EvacuationLimits } from '../../gateway/protection/planner.js';
import type { WardPolicy } from '../../gateway/protection/world.js';
import type { Random } from './random.js';

export interface AlarmPlan {
  policy: WardPolicy;
  limits: EvacuationLimits;
  /** Of plain nodes: exports that may take a mirror. */
  spares: ReadonlyMap<string, readonly string[]>;
}

export function drawPolicy(random: Random): WardPolicy {
  return {
    name: 'default',
    copy: { bytesPerSecond: 500 * 1024 * 1024 },
    mirror: { standing: random.chance(0.25) ? 1 : 0, onPrediction: random.chance(0.15) ? 2 : 1 },
    flip: { automatic: random.chance(0.85), afterSyncedMs: random.pick([0, 0, 50, 2000]) },
    rollback: { observeMs: random.pick([300, 3000, 15_000]), onFalseAlarm: random.pick(['flip-back', 'flip-back', 'stay']) },
    scrub: { afterMirror: random.chance(0.5), everyMs: 0 },
  };
}

export function drawLimits(random: Random): EvacuationLimits {
  return random.pick([
    { perNode: 1, inAll: 1 },
    { perNode: 1, inAll: 2 },
    { perNode: 2, inAll: 4 },
  ]);
}
