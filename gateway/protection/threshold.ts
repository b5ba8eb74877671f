// Whether a node's verdict is one for this policy: nodes are judged once, but policies differ in what they act on.
import type { Verdict } from '../control.js';

export interface PredictionPolicy {
  /** adaptive: the judge's own threshold. A number: that probability, whatever the judge thinks. */
  threshold: 'adaptive' | number;
  /** The adaptive threshold counts as this at least. */
  minimum: number;
}

/** A verdict that fires lets go only below this share of what made it fire. */
const LETS_GO_SHARE = 0.8;

/** `fired`: it did for this policy before. Without a signal it goes on for as long as the judge holds the alarm. */
export function firesFor(
  { probability, firing }: Pick<Verdict, 'probability' | 'firing'>,
  policy: PredictionPolicy,
  fired: boolean,
): boolean {
  if (probability === null) return fired && firing;
  const share = fired ? LETS_GO_SHARE : 1;
  if (policy.threshold !== 'adaptive') return probability >= policy.threshold * share;
  return firing && probability >= policy.minimum * share;
}
