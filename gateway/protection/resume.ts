// How protection of a volume goes on after a restart. The volume's own facts win over the record: an epoch that grew
// means that the flip happened, a mirror the volume lacks is gone and its space is freed. What was under way when the
// process ended is decided again; nothing is assumed to have happened.
import type { FlipCertificate, MirrorView, TargetRef } from '../control.js';
import { addCopy, type Draft, draftOf, forget, rollbackBy, takeTicket } from './draft.js';
import { learn } from './learn.js';
import { proceed, type Stepped } from './machine.js';
import type { ProtectionRecord } from './record.js';
import { freshSituation, type Pardon, type ProtectionPolicy, type Situation, type Suspicion, sameTarget } from './situation.js';

/** What the volume says of itself when it is served again. */
export interface Seen {
  active: TargetRef;
  epoch: number;
  mirrors: Pick<MirrorView, 'node' | 'export' | 'state' | 'reason' | 'reverse'>[];
}

/** `doubts`: the verdicts in force, by node; without them a restart would take every alarm for a false one. */
export function resume(
  volume: string,
  record: ProtectionRecord | null,
  seen: Seen,
  doubts: Record<string, Suspicion>,
  policy: ProtectionPolicy,
  nowMs: number,
): Stepped {
  const situation = record ? recalled(volume, record, policy, nowMs) : freshSituation(volume, seen.active, seen.epoch, nowMs);
  const d = draftOf({ ...situation, doubts, pardons: standing(situation.pardons, doubts) }, policy, nowMs);
  if (!record) adopt(d, seen);
  if (seen.epoch > d.s.epoch) learn(d, { type: 'flip-done', certificate: unseenFlip(d.s, seen, nowMs) });
  // The store wins: whatever the record thought, this is where the volume is.
  d.s.active = seen.active;
  d.s.epoch = seen.epoch;
  d.s.copies = d.s.copies.filter((copy) => !sameTarget(copy.target, seen.active));
  for (const copy of d.s.copies) if (!seen.mirrors.some((view) => isView(view, copy.target))) forget(d, copy);
  learn(d, { type: 'mirrors-seen', mirrors: seen.mirrors });
  orderAgain(d);
  return proceed(d);
}

/**
 * A verdict that was cleared took its pardon with it, and the next one counts, also when the process ended before it
 * could write that down.
 */
function standing(pardons: Situation['pardons'], doubts: Situation['doubts']): Situation['pardons'] {
  const stands = (node: string, { atMs }: Pardon): boolean => node in doubts && doubts[node].atMs <= atMs;
  return Object.fromEntries(Object.entries(pardons).filter(([node, pardon]) => stands(node, pardon)));
}

function isView(view: { node: string; export: string }, target: TargetRef): boolean {
  return view.node === target.node && view.export === target.export;
}

/** Times that are still to come, because the clock was set back meanwhile, are taken for now. */
function recalled(volume: string, record: ProtectionRecord, policy: ProtectionPolicy, nowMs: number): Situation {
  const { copies, flip, home, rollback, version: _, ...rest } = record;
  const past = (ms: number): number => Math.min(ms, nowMs);
  const until = home?.observeUntilMs ?? null;
  return {
    ...freshSituation(volume, record.active, record.epoch, nowMs),
    ...rest,
    sinceMs: past(rest.sinceMs),
    scrubbedAtMs: rest.scrubbedAtMs === null ? null : past(rest.scrubbedAtMs),
    home: home && {
      ...home,
      sinceMs: past(home.sinceMs),
      observeUntilMs: until === null ? null : Math.min(until, nowMs + policy.rollback.observeMs),
    },
    copies: copies.map(({ dropping, ...copy }) => ({
      ...copy,
      sinceMs: past(copy.sinceMs),
      drop: dropping ? { asked: false, refusals: 0, retryAtMs: nowMs, ticket: null } : null,
    })),
    flip: flip && { ...flip, ticket: 0, asked: true },
    rollback: rollback && { ...rollbackBy(rollback.by, rollback.reason), phase: rollback.phase, away: rollback.away },
  };
}

/** Mirrors without a record: as many as the policy always keeps are taken for those, the others for an operator's. */
function adopt(d: Draft, { mirrors }: Seen): void {
  const kept = mirrors.filter((view) => !view.reverse).slice(0, d.policy.mirror.standing);
  for (const view of kept) addCopy(d, { target: { node: view.node, export: view.export }, origin: 'standing', state: view.state });
}

/** The flip that was committed without our hearing of it: the one that was ordered, or the volume's own failover. */
function unseenFlip(s: Situation, { active, epoch, mirrors }: Seen, nowMs: number): FlipCertificate {
  const ordered = s.flip !== null && sameTarget(s.flip.to, active);
  const reverse = mirrors.find((view) => view.reverse);
  return {
    volume: s.volume,
    epoch,
    from: sameTarget(s.active, active) && reverse ? { node: reverse.node, export: reverse.export } : s.active,
    to: active,
    kind: ordered && s.flip ? s.flip.kind : 'failover',
    at: new Date(nowMs).toISOString(),
    pauseMs: 0,
    held: 0,
    drained: { inFlight: 0, queueBytes: 0 },
    dirtyRegions: 0,
    roots: { from: null, to: null, verifiedRegions: 0, unverifiedRegions: 0, oldestVerification: null },
    cause: 'committed before the gateway was restarted',
    verdict: null,
  };
}

/** A flip back is ordered again; another flip only follows from the rules, since its reason may be gone. */
function orderAgain(d: Draft): void {
  const { s } = d;
  s.flip = null;
  if (s.rollback?.phase === 'drop') s.rollback.phase = 'mark';
  if (s.rollback?.phase === 'flip' && s.home) {
    s.flip = { ticket: takeTicket(d), to: s.home.target, kind: 'rollback', by: s.rollback.by, asked: false };
  } else if (s.rollback?.phase === 'flip') {
    s.rollback = null;
  }
  // A state that stands for an order which is gone.
  if (s.state === 'rolling-back' && !s.rollback) s.rollback = rollbackBy('policy', s.cause);
}
