// What every model answers: a probability with reasons that add up, or "no signal".
// Guarantees one contract for all of them: log-odds(probability) = baseLogOdds + sum of the contributions, exactly. A model must be pure:
// it sees what it is given and a time, and keeps no clock.

/** One reason: what was seen, how much it moved the log-odds, and a sentence for the person who is woken up. */
export interface Contribution {
  feature: string;
  /** The value seen, in the metric's unit; null: not reported. */
  value: number | null;
  contribution: number;
  text: string;
}

/** The stretch of telemetry a judgement rests on. */
export interface EvidenceWindow {
  fromMs: number;
  toMs: number;
  samples: number;
}

export interface Assessment {
  /** Which model, over what: "wear-out sda", "latency". */
  source: string;
  /** P(fails within the model's horizon); null exactly when noSignal. */
  probability: number | null;
  noSignal: boolean;
  baseLogOdds: number;
  /** Largest absolute contribution first. */
  contributions: Contribution[];
  window: EvidenceWindow | null;
  /** When a trend reaches its limit, if one does within the horizon. */
  predictedFailureAtMs: number | null;
  /** What would have kept it quiet, as sentences. */
  counterfactuals: string[];
}

export interface Model<Input> {
  /** Names the model and its version; for a trained one, the SHA-256 of its file. */
  readonly id: string;
  assess(input: Input, nowMs: number): Assessment;
}

/** Probabilities are kept off 0 and 1, where log-odds end. */
export const PROBABILITY_MIN = 1e-6;
export const PROBABILITY_MAX = 0.9999;

export function logOdds(probability: number): number {
  const p = clampProbability(probability);
  return Math.log(p / (1 - p));
}

export function probabilityOf(logOddsValue: number): number {
  return 1 / (1 + Math.exp(-logOddsValue));
}

export function clampProbability(probability: number): number {
  return Math.min(PROBABILITY_MAX, Math.max(PROBABILITY_MIN, probability));
}

export function noSignal(source: string): Assessment {
  return {
    source,
    probability: null,
    noSignal: true,
    baseLogOdds: 0,
    contributions: [],
    window: null,
    predictedFailureAtMs: null,
    counterfactuals: [],
  };
}

/** A finding that alone would make failure this probable. */
export interface Evidence {
  feature: string;
  value: number | null;
  probability: number;
  text: string;
}

/**
 * Joins independent findings over a prior: 1 - (1 - prior) x product of (1 - p). Each one's share of the log-odds is its share of the
 * hazard, -ln(1 - p), so that the contributions add up.
 */
export function fromEvidence(source: string, prior: number, evidence: readonly Evidence[], window: EvidenceWindow | null): Assessment {
  const hazards = evidence.map(({ probability }) => -Math.log1p(-clampProbability(probability)));
  const hazard = hazards.reduce((sum, one) => sum + one, 0);
  const probability = clampProbability(1 - (1 - prior) * Math.exp(-hazard));
  const baseLogOdds = logOdds(prior);
  const moved = logOdds(probability) - baseLogOdds;
  const contributions = evidence.map(({ feature, value, text }, i) => ({
    feature,
    value,
    text,
    contribution: hazard > 0 ? (moved * hazards[i]) / hazard : 0,
  }));
  return { ...noSignal(source), probability, noSignal: false, baseLogOdds, contributions: bySize(contributions), window };
}

export function bySize<T extends { contribution: number }>(contributions: T[]): T[] {
  return contributions.sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution));
}
