// One judgement over a node from the judgements over its disks, its I/O, its link, and from outside.
// Guarantees: probability = 1 - product of (1 - p) over all sources; the contributions of the reasons are in units of probability and add up to
// it; "no signal" from every source is a state of its own, never a low probability. Pure.

import { type Assessment, bySize, clampProbability, type EvidenceWindow, probabilityOf } from './model.js';
import type { OutsideVerdict } from './outside-verdict.js';
import { percent } from './phrase.js';

/** The fields of the gateway's Verdict under the same names, and what explains them. */
export interface NodeAssessment {
  node: string;
  /** ISO 8601. */
  at: string;
  probability: number | null;
  noSignal: boolean;
  threshold: number;
  firing: boolean;
  horizonSeconds: number;
  reasons: Reason[];
  origin: 'model' | 'outside';
  predictedFailureAt: string | null;
  /** When it began to fire, ISO 8601. */
  firingSince: string | null;
  /** The telemetry it rests on. */
  window: { from: string; to: string; samples: number } | null;
  counterfactuals: string[];
  /** Sources that had nothing to say: "no signal". */
  silent: string[];
  /** Set while most nodes are slow at once. */
  clusterEvent: { since: string; nodes: number; factor: number } | null;
  /** What each criterion makes of it, by its key. */
  byCriterion: Record<string, { probability: number | null; threshold: number; firing: boolean; horizonSeconds: number }>;
}

export interface Reason {
  source: string;
  /** Share of the probability; negative: it speaks against failure. */
  contribution: number;
  text: string;
}

export interface Combined {
  probability: number | null;
  /** Of the models alone. */
  modelProbability: number | null;
  reasons: Reason[];
  origin: 'model' | 'outside';
  predictedFailureAtMs: number | null;
  window: EvidenceWindow | null;
  silent: string[];
}

export const REASONS_MAX = 12;

/** Joins the sources. `stretch` scales the hazard of a source whose horizon is not the node's. */
export function combine(assessments: readonly Assessment[], outside: OutsideVerdict | null, stretch: (source: string) => number): Combined {
  const heard = assessments.filter((assessment) => assessment.probability !== null);
  const silent = assessments.filter(({ noSignal }) => noSignal).map(({ source }) => source);
  const hazards = heard.map(({ source, probability }) => hazardOf(probability!) * stretch(source));
  const modelHazard = hazards.reduce((sum, hazard) => sum + hazard, 0);
  const outsideHazard = outside === null ? 0 : hazardOf(outside.probability);
  const times = heard.map(({ predictedFailureAtMs }) => predictedFailureAtMs).filter((atMs) => atMs !== null);
  const total = modelHazard + outsideHazard;
  const probability = heard.length === 0 && outside === null ? null : clampProbability(1 - Math.exp(-total));
  return {
    probability,
    modelProbability: heard.length === 0 ? null : clampProbability(1 - Math.exp(-modelHazard)),
    reasons: probability === null ? [] : reasonsOf(heard, hazards, outside, probability / total),
    origin: outside !== null && outsideHazard >= modelHazard ? 'outside' : 'model',
    predictedFailureAtMs: times.length > 0 ? Math.min(...times) : null,
    window: joined(heard.map(({ window }) => window)),
    silent,
  };
}

/** The probability had one of the sources said nothing. */
export function without(combined: number, part: number): number {
  return clampProbability(1 - (1 - combined) / (1 - part));
}

function reasonsOf(heard: readonly Assessment[], hazards: readonly number[], outside: OutsideVerdict | null, perHazard: number): Reason[] {
  const reasons: Reason[] = [];
  let prior = 0;
  for (const [i, assessment] of heard.entries()) {
    const share = (hazards[i] * perHazard) / assessment.probability!;
    const spread = inProbability(assessment);
    prior += share * spread.base;
    for (const [j, { text }] of assessment.contributions.entries()) {
      reasons.push({ source: assessment.source, contribution: share * spread.contributions[j], text: prefixed(assessment.source, text) });
    }
  }
  if (outside !== null) {
    const text = `given from outside: ${outside.reason} (${percent(outside.probability)})`;
    reasons.push({ source: 'outside', contribution: hazardOf(outside.probability) * perHazard, text });
  }
  bySize(reasons);
  const shown = reasons.slice(0, REASONS_MAX);
  const rest = reasons.slice(REASONS_MAX).reduce((sum, { contribution }) => sum + contribution, 0);
  if (reasons.length > REASONS_MAX)
    shown.push({ source: 'other', contribution: rest, text: `${reasons.length - REASONS_MAX} smaller reasons` });
  if (prior > 0) shown.push({ source: 'prior', contribution: prior, text: 'what any node of this kind risks' });
  return bySize(shown);
}

/** Contributions in log-odds as differences of probability, along the secant from the base, so that they add up to probability - base. */
function inProbability({ probability, baseLogOdds, contributions }: Assessment): { base: number; contributions: number[] } {
  const base = probabilityOf(baseLogOdds);
  const moved = contributions.reduce((sum, { contribution }) => sum + contribution, 0);
  const slope = Math.abs(moved) > 1e-9 ? (probability! - base) / moved : base * (1 - base);
  return { base: probability! - slope * moved, contributions: contributions.map(({ contribution }) => contribution * slope) };
}

/** "sda: pending sectors rose ...": the disk, where the source names one. */
function prefixed(source: string, text: string): string {
  const at = source.indexOf(' ');
  const disk = source.slice(at + 1);
  return at < 0 || disk === 'node' || text.startsWith(`${disk} `) ? text : `${disk}: ${text}`;
}

function joined(windows: readonly (EvidenceWindow | null)[]): EvidenceWindow | null {
  const known = windows.filter((window) => window !== null);
  if (known.length === 0) return null;
  return {
    fromMs: Math.min(...known.map(({ fromMs }) => fromMs)),
    toMs: Math.max(...known.map(({ toMs }) => toMs)),
    samples: Math.max(...known.map(({ samples }) => samples)),
  };
}

function hazardOf(probability: number): number {
  return -Math.log1p(-clampProbability(probability));
}
