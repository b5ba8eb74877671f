// What protection knows and intends for one volume, as plain data: it can be stored, printed and compared.
// The functions here only read it. Times are milliseconds of wall time, because they outlive a restart.
import type { FlipCertificate, MirrorState, ProtectionState, TargetRef } from '../control.js';

/**
 * Why a copy is there, which decides when it goes. standing: the policy always wants it. prediction: made because of a
 * verdict, and freed once that proves false. operator: asked for by a person, and only dropped by one.
 */
export type Origin = 'standing' | 'prediction' | 'operator';

/** A firing verdict over a node. */
export interface Suspicion {
  verdict: string;
  probability: number;
  origin: 'model' | 'outside';
  atMs: number;
  /** When the node is expected to fail, if a trend says so. */
  failsAtMs: number | null;
  /** The main reason, for people. */
  text: string;
}

/** A verdict that is not acted on any more: somebody rolled back in spite of it. It ends when the verdict does, or grows. */
export interface Pardon {
  atMs: number;
  probability: number;
}

export interface Drop {
  /** The volume was asked to forget the copy and has not answered. */
  asked: boolean;
  refusals: number;
  retryAtMs: number;
  ticket: number | null;
}

export interface Copy {
  target: TargetRef;
  origin: Origin;
  /** starting: the volume has not said yet that it copies. */
  state: MirrorState | 'starting';
  sinceMs: number;
  reason: string | null;
  /** Not null: the copy is to be removed and its space freed. */
  drop: Drop | null;
}

/** Where the volume came from with its last flip, while that is still watched. */
export interface Home {
  target: TargetRef;
  sinceMs: number;
  /** Null: an operator's own flip, which only an operator undoes. */
  observeUntilMs: number | null;
  /** The flip was made because of a verdict, so it may prove a false alarm. */
  byVerdict: boolean;
  /** The old node did fail: no false alarm any more. */
  failed: boolean;
  /** Somebody was told that it failed, or that its verdict still holds at the end of the observation. */
  told: { failed: boolean; lingering: boolean };
}

/** A search for a target that is under way. */
export interface Choice {
  ticket: number;
  origin: Origin;
  /** The operator's wish; null: placement decides. */
  node: string | null;
  asked: boolean;
  /** Set once a target is made: the volume is starting the mirror on it. */
  target: TargetRef | null;
}

export interface FlipOrder {
  ticket: number;
  to: TargetRef;
  kind: 'flip' | 'rollback';
  by: 'policy' | 'operator';
  asked: boolean;
}

export interface Rollback {
  by: 'policy' | 'operator';
  /** flip: back to home first. mark: choose what is dropped. drop: wait until it is gone. */
  phase: 'flip' | 'mark' | 'drop';
  /** What was flipped away from, once it was. */
  away: TargetRef | null;
  /** What is to be dropped, and what of it is gone. */
  marked: TargetRef[];
  dropped: TargetRef[];
  certificate: FlipCertificate | null;
  ticket: number | null;
  reason: string;
}

export interface Retry {
  refusals: number;
  atMs: number;
  reason: string;
}

/** none: the last flip's copies were not compared yet. */
export type ScrubState = 'none' | 'running' | 'clean' | 'damaged';

export interface Situation {
  volume: string;
  state: ProtectionState;
  sinceMs: number;
  cause: string;
  active: TargetRef;
  epoch: number;
  /** Firing verdicts by node. Not stored: the judge gives them again after a restart. */
  doubts: Record<string, Suspicion>;
  pardons: Record<string, Pardon>;
  copies: Copy[];
  choice: Choice | null;
  flip: FlipOrder | null;
  home: Home | null;
  rollback: Rollback | null;
  /** A flip happened that the state does not show yet. */
  arrived: string | null;
  flipAtMs: number | null;
  choiceRetry: Retry | null;
  flipRetry: Retry | null;
  scrub: ScrubState;
  scrubRetry: Retry | null;
  /** The latest comparison of the copies, or when there was first something to compare. */
  scrubbedAtMs: number | null;
  /** End of the latest scrub that was told: it is told by a fact and by the answer to its order. */
  scrubTold: string | null;
  tickets: number;
}

/** What a policy says to protection (durations in milliseconds); the configuration's policies satisfy it. */
export interface ProtectionPolicy {
  mirror: { standing: number; onPrediction: number };
  flip: { automatic: boolean; afterSyncedMs: number };
  rollback: { observeMs: number; onFalseAlarm: 'flip-back' | 'stay' };
  scrub: { afterMirror: boolean; everyMs: number };
}

/** How long a copy may be lost before it no longer counts, and an old node before it is taken for failed. */
export const GRACE_MS = 60_000;

export function freshSituation(volume: string, active: TargetRef, epoch: number, nowMs: number): Situation {
  return {
    volume,
    state: 'healthy',
    sinceMs: nowMs,
    cause: 'served for the first time',
    active,
    epoch,
    doubts: {},
    pardons: {},
    copies: [],
    choice: null,
    flip: null,
    home: null,
    rollback: null,
    arrived: null,
    flipAtMs: null,
    choiceRetry: null,
    flipRetry: null,
    scrub: 'none',
    scrubRetry: null,
    scrubbedAtMs: null,
    scrubTold: null,
    tickets: 0,
  };
}

export function sameTarget(a: TargetRef, b: TargetRef): boolean {
  return a.node === b.node && a.export === b.export;
}

export function describeTarget(target: TargetRef): string {
  return target.export === '' ? target.node : `${target.node}/${target.export}`;
}

export function copyOf(s: Situation, target: TargetRef): Copy | undefined {
  return s.copies.find((copy) => sameTarget(copy.target, target));
}

/** The verdict over `node`, unless it was overruled. */
export function doubtOver(s: Situation, node: string): Suspicion | null {
  return s.pardons[node] ? null : (s.doubts[node] ?? null);
}

/** The verdict that drives the volume away from where it is; null: nothing does. */
export function threat(s: Situation): Suspicion | null {
  return doubtOver(s, s.active.node);
}

export function isOverdue(copy: Copy, nowMs: number): boolean {
  return copy.state === 'lost' && nowMs - copy.sinceMs >= GRACE_MS;
}

/** It may still become, or is, a complete copy on a node that nobody doubts. */
export function isSound(s: Situation, copy: Copy, nowMs: number): boolean {
  return copy.drop === null && copy.state !== 'failed' && !isOverdue(copy, nowMs) && doubtOver(s, copy.target.node) === null;
}

/** Copies that stand for somebody's wish: with a verdict all sound ones, without one only those an operator asked for. */
export function wanted(s: Situation, nowMs: number): Copy[] {
  if (threat(s)) return s.copies.filter((copy) => isSound(s, copy, nowMs));
  return s.copies.filter((copy) => copy.drop === null && copy.origin === 'operator');
}

/** The complete copy to flip to: a sound one, the longest synced first. */
export function readyCopy(s: Situation, nowMs: number): Copy | null {
  const ready = wanted(s, nowMs).filter((copy) => copy.state === 'synced');
  ready.sort((a, b) => a.sinceMs - b.sinceMs);
  return ready[0] ?? null;
}

/** A target is being looked for, or started on, for a purpose that still holds. */
export function isChoosing(s: Situation): boolean {
  return s.choice !== null && (s.choice.origin === 'operator' || threat(s) !== null);
}

/** Copies of a prediction that no verdict and no observation needs any more. A watch that an operator ends keeps the old node's alone. */
export function surplus(s: Situation): Copy[] {
  const { home } = s;
  if (threat(s) || (home && home.observeUntilMs !== null)) return [];
  return s.copies.filter((copy) => copy.drop === null && copy.origin === 'prediction' && !(home && sameTarget(home.target, copy.target)));
}

/** The next target that should be made, if one should: the planner says when. */
export function wish(s: Situation, policy: ProtectionPolicy, nowMs: number): 'prediction' | 'standing' | null {
  if (s.choice || s.flip || s.rollback || (s.choiceRetry && nowMs < s.choiceRetry.atMs)) return null;
  const sound = s.copies.filter((copy) => isSound(s, copy, nowMs));
  if (threat(s) && sound.length < policy.mirror.onPrediction) return 'prediction';
  return sound.filter((copy) => copy.origin === 'standing').length < policy.mirror.standing ? 'standing' : null;
}

/** Delay before try number `refusals` + 1: doubles from `firstMs` up to `lastMs`. */
export function backoffMs(refusals: number, firstMs: number, lastMs: number): number {
  return Math.min(lastMs, firstMs * 2 ** Math.min(refusals - 1, 20));
}
