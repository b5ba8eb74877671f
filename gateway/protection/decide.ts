// What follows from a situation: the next move, or none. It looks at what is known, not at what just happened, so the
// same rules hold after a fact, after a wish, when a time has come and after a restart.
import assert from 'node:assert/strict';
import type { ProtectionState } from '../control.js';
import { answer, type Draft, done, markDrop, overrule, rollbackBy, takeTicket, tell } from './draft.js';
import {
  copyOf,
  describeTarget,
  type Home,
  isChoosing,
  isOverdue,
  isSound,
  type Rollback,
  readyCopy,
  type Situation,
  sameTarget,
  surplus,
  threat,
  wanted,
} from './situation.js';
import type { Move } from './transitions.js';

export interface Step {
  move: Move;
  cause: string;
}

const RULES: Record<ProtectionState, (d: Draft) => Step | null> = {
  healthy: (d) => ordered(d) ?? suspected(d) ?? mirrorWanted(d) ?? undone(d),
  suspect: (d) => ordered(d) ?? settled(d, threat(d.s) === null) ?? mirrorWanted(d),
  mirroring: (d) => ordered(d) ?? settled(d, !hasPurpose(d)) ?? mirrorSynced(d) ?? mirrorEnded(d),
  synced: (d) => ordered(d) ?? settled(d, !hasPurpose(d)) ?? mirrorEnded(d) ?? mirrorBehind(d) ?? flipDue(d),
  flipping,
  flipped: (d) => ordered(d) ?? suspected(d) ?? scrubbed(d) ?? observed(d),
  verified: (d) => ordered(d) ?? suspected(d) ?? damaged(d) ?? observed(d),
  'rolling-back': rollingBack,
};

export function decide(d: Draft): Step | null {
  tidy(d);
  if (d.s.arrived !== null) {
    const cause = d.s.arrived;
    d.s.arrived = null;
    return { move: 'flip-done', cause };
  }
  return RULES[d.s.state](d);
}

/** Copies that are of no use whatever the state, and the old node's failure. */
function tidy(d: Draft): void {
  const { s, policy, nowMs } = d;
  if (s.choice?.origin === 'prediction' && !threat(s)) s.choice = null;
  const isHome = (copy: Situation['copies'][number]) => s.home !== null && sameTarget(s.home.target, copy.target);
  for (const copy of s.copies) {
    if (copy.state === 'failed' && copy.origin !== 'operator' && !isHome(copy)) markDrop(d, copy);
  }
  const standing = s.copies.filter((copy) => copy.origin === 'standing' && copy.drop === null && !isHome(copy));
  const good = standing.filter((copy) => copy.state === 'synced' && isSound(s, copy, nowMs));
  if (good.length >= policy.mirror.standing && !threat(s)) {
    const kept = new Set(good.slice(0, policy.mirror.standing));
    for (const copy of standing) if (!kept.has(copy)) markDrop(d, copy);
  }
  if (!threat(s) && wanted(s, nowMs).length > 0) for (const copy of surplus(s)) markDrop(d, copy);
  watchHome(d);
}

function watchHome(d: Draft): void {
  const { s, nowMs } = d;
  const copy = s.home && copyOf(s, s.home.target);
  if (!s.home || !copy || !isOverdue(copy, nowMs) || s.home.told.failed) return;
  s.home.failed = true;
  s.home.told.failed = true;
  const { node } = s.home.target;
  d.effects.push({ type: 'node-failed', node });
  const message = `${node}, which the volume left, does not answer any more${s.home.byVerdict ? ': its prediction came true' : ''}.`;
  tell(d, 'info', 'protection.node-failed', message, { node });
}

function hasHope({ s, nowMs }: Draft): boolean {
  return isChoosing(s) || wanted(s, nowMs).length > 0;
}

function hasPurpose(d: Draft): boolean {
  return threat(d.s) !== null || hasHope(d);
}

/** A flip or rollback that was ordered. */
function ordered({ s, ...d }: Draft): Step | null {
  if (s.flip) return { move: 'flip-started', cause: `an operator flips to ${describeTarget(s.flip.to)}` };
  if (!s.rollback) return null;
  if (s.rollback.phase === 'flip') orderFlipBack({ s, ...d }, s.rollback);
  return { move: 'rollback-started', cause: s.rollback.reason };
}

function orderFlipBack(d: Draft, { by }: Rollback): void {
  assert(d.s.home, 'a way back needs a home');
  d.s.flip = { ticket: takeTicket(d), to: d.s.home.target, kind: 'rollback', by, asked: false };
}

function suspected({ s }: Draft): Step | null {
  const doubt = threat(s);
  if (!doubt) return null;
  s.home = null;
  const percent = (doubt.probability * 100).toFixed(doubt.probability > 0.99 ? 1 : 0);
  return { move: 'verdict-fired', cause: `${s.active.node} fails with a probability of ${percent} %: ${doubt.text}` };
}

function mirrorWanted(d: Draft): Step | null {
  if (!hasHope(d)) return null;
  const [copy] = wanted(d.s, d.nowMs);
  return { move: 'mirror-started', cause: copy ? `there is a copy on ${describeTarget(copy.target)}` : 'a target is being made' };
}

/** What a prediction left behind goes once nothing threatens the volume. */
function undone(d: Draft): Step | null {
  if (surplus(d.s).length === 0) return null;
  const reason = `the verdict over ${d.s.active.node} is cleared`;
  d.s.rollback = rollbackBy('policy', reason);
  return { move: 'rollback-started', cause: reason };
}

function settled(d: Draft, calm: boolean): Step | null {
  if (!calm) return null;
  return undone(d) ?? { move: 'settled', cause: 'nothing threatens it any more' };
}

function mirrorSynced({ s, nowMs }: Draft): Step | null {
  const ready = readyCopy(s, nowMs);
  return ready && { move: 'mirror-synced', cause: `the copy on ${describeTarget(ready.target)} is complete` };
}

function mirrorEnded(d: Draft): Step | null {
  return hasHope(d) ? null : { move: 'mirror-ended', cause: d.s.choiceRetry?.reason ?? 'the copy is gone or of no use' };
}

function mirrorBehind({ s, nowMs }: Draft): Step | null {
  if (readyCopy(s, nowMs)) return null;
  const [copy] = wanted(s, nowMs);
  const cause = copy ? `the copy on ${describeTarget(copy.target)} is ${copy.state}` : 'another target is being made';
  return { move: 'mirror-behind', cause };
}

function flipDue(d: Draft): Step | null {
  const { s, policy, nowMs } = d;
  const doubt = threat(s);
  const ready = readyCopy(s, nowMs);
  if (!doubt || !ready || !policy.flip.automatic) {
    s.flipAtMs = null;
    return null;
  }
  s.flipAtMs ??= Math.max(nowMs + policy.flip.afterSyncedMs, s.flipRetry?.atMs ?? 0);
  if (nowMs < s.flipAtMs) return null;
  s.flip = { ticket: takeTicket(d), to: ready.target, kind: 'flip', by: 'policy', asked: false };
  return { move: 'flip-started', cause: `${s.active.node} is predicted to fail and ${describeTarget(ready.target)} is complete` };
}

function flipping({ s }: Draft): Step | null {
  if (s.flip) return null;
  const cause = s.flipRetry?.reason ?? 'the flip was refused or did not begin';
  return s.home ? { move: 'flip-abandoned', cause } : { move: 'flip-refused', cause };
}

function scrubbed({ s }: Draft): Step | null {
  return s.scrub === 'clean' ? { move: 'scrub-clean', cause: 'the copies were compared and are equal' } : null;
}

function damaged({ s }: Draft): Step | null {
  return s.scrub === 'damaged' ? { move: 'scrub-damage', cause: 'the copies differ and it is not known which is right' } : null;
}

/** The end of the watch over the old node: back to it, or done with it. */
function observed(d: Draft): Step | null {
  const { s, policy, nowMs } = d;
  const home = s.home;
  if (!home) return parted(d, 'the old copy is gone');
  if (home.observeUntilMs === null || nowMs < home.observeUntilMs || s.scrub === 'running') return null;
  if (home.failed) return parted(d, `${home.target.node} did fail`);
  if (!home.byVerdict) return parted(d, 'the time of observation is over');
  // Nobody can say of a node that is lost now that it did not fail: it is back in a moment, or it counts as failed.
  if (copyOf(s, home.target)?.state === 'lost') return null;
  if (s.doubts[home.target.node]?.origin === 'model')
    return policy.rollback.onFalseAlarm === 'stay' ? parted(d, `the verdict over ${home.target.node} still holds`) : lingers(d, home);
  return falseAlarm(d, home);
}

function lingers(d: Draft, home: Home): null {
  if (!home.told.lingering) {
    const message = `${home.target.node} was watched for its time and did not fail, but is still predicted to: the volume goes back when the verdict is cleared.`;
    tell(d, 'info', 'protection.lingering', message, { node: home.target.node });
  }
  home.told.lingering = true;
  return null;
}

function falseAlarm(d: Draft, home: Home): Step | null {
  const { s, policy } = d;
  const copy = copyOf(s, home.target);
  if (!copy || copy.drop || copy.state === 'failed') return parted(d, `the copy on ${describeTarget(home.target)} is of no use`);
  const stays = policy.rollback.onFalseAlarm === 'stay';
  // It is in sync again in a moment, or it is lost.
  if (!stays && copy.state !== 'synced') return null;
  const reason = `${home.target.node} was watched for its time and did not fail`;
  overrule(d, home.target.node);
  d.effects.push({ type: 'false-alarm', node: home.target.node, reason });
  if (stays) return parted(d, `${reason}; the policy stays`);
  const rollback: Rollback = { ...rollbackBy('policy', `a false alarm: ${reason}`), phase: 'flip' };
  s.rollback = rollback;
  orderFlipBack(d, rollback);
  return { move: 'rollback-started', cause: rollback.reason };
}

/** The old node is of no more interest; what a prediction made goes. */
function parted(d: Draft, cause: string): Step {
  d.s.home = null;
  for (const copy of surplus(d.s)) markDrop(d, copy);
  return { move: 'settled', cause };
}

function rollingBack(d: Draft): Step | null {
  const { s } = d;
  const rollback = s.rollback;
  assert(rollback, 'rolling back needs an order');
  if (rollback.phase === 'flip') {
    if (s.flip) return null;
    s.rollback = null;
    return { move: 'rollback-refused', cause: s.flipRetry?.reason ?? 'the flip back was refused' };
  }
  const again = suspected(d);
  if (again) {
    endRollback(d, rollback);
    return again;
  }
  if (rollback.phase === 'mark') markDropped(d, rollback);
  if (s.copies.some((copy) => rollback.marked.some((target) => sameTarget(target, copy.target)))) return null;
  endRollback(d, rollback);
  const where = rollback.certificate ? `back on ${describeTarget(s.active)}` : `still on ${describeTarget(s.active)}`;
  return { move: 'rollback-done', cause: `${where}, the other copy is dropped` };
}

function endRollback(d: Draft, { ticket, certificate, dropped }: Rollback): void {
  d.s.rollback = null;
  answer(d, ticket, done({ target: d.s.active, certificate, dropped }));
}

/** A policy undoes what a prediction made; an operator who rolls back undoes what operators made, too. */
function markDropped(d: Draft, rollback: Rollback): void {
  const { by, away } = rollback;
  for (const copy of d.s.copies) {
    const left = away !== null && sameTarget(copy.target, away);
    const asked = by === 'operator' && copy.origin === 'operator' && (left || away === null);
    if (copy.origin !== 'prediction' && !asked) continue;
    markDrop(d, copy);
    rollback.marked.push(copy.target);
  }
  rollback.phase = 'drop';
}
