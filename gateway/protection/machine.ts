// The protection machine of one volume: a situation and an input in; the new situation, the transitions on the way and
// the effects out. Pure: no clock, no I/O, and the same answer for the same question. Every transition is one of the
// table's; a state it has no move for is a bug and fails the assertion.
import assert from 'node:assert/strict';
import { decide } from './decide.js';
import { type Draft, draftOf, takeTicket } from './draft.js';
import type { Effect, Fact, Transition, Wish } from './input.js';
import { learn } from './learn.js';
import { GRACE_MS, type ProtectionPolicy, type Situation, threat, wish as wishOf } from './situation.js';
import { TRANSITIONS } from './transitions.js';
import { ask, type Taken } from './wishes.js';

/** More moves than this for one input would be a circle. */
const MOVES_MAX = 12;

export interface Stepped {
  situation: Situation;
  transitions: Transition[];
  effects: Effect[];
}

/** A fact: always taken. */
export function step(situation: Situation, fact: Fact, nowMs: number, policy: ProtectionPolicy): Stepped {
  const d = draftOf(situation, policy, nowMs);
  learn(d, fact);
  if (fact.type === 'turn') takeTurn(d);
  return run(d);
}

/** A wish: taken up under a ticket, or refused and nothing changes. */
export function request(situation: Situation, wish: Wish, nowMs: number, policy: ProtectionPolicy): Stepped & { taken: Taken } {
  const d = draftOf(situation, policy, nowMs);
  const taken = ask(d, wish);
  return taken.ok ? { ...run(d), taken } : { situation, transitions: [], effects: [], taken };
}

/** Goes on from a situation as it stands, for instance after a restart. */
export function proceed(d: Draft): Stepped {
  return run(d);
}

/** When time alone may change something; null: never. */
export function nextDueMs(s: Situation, policy: ProtectionPolicy, nowMs: number): number | null {
  const dues: (number | null | undefined)[] = [
    s.flipAtMs,
    s.home?.observeUntilMs,
    s.choiceRetry?.atMs,
    s.scrubRetry?.atMs,
    policy.scrub.everyMs > 0 && s.scrubbedAtMs !== null ? s.scrubbedAtMs + policy.scrub.everyMs : null,
    ...s.copies.map((copy) => (copy.state === 'lost' ? copy.sinceMs + GRACE_MS : null)),
    ...s.copies.map((copy) => (copy.drop && !copy.drop.asked ? copy.drop.retryAtMs : null)),
  ];
  const ahead = dues.filter((due): due is number => typeof due === 'number' && due > nowMs);
  return ahead.length > 0 ? Math.min(...ahead) : null;
}

function run(d: Draft): Stepped {
  const { s } = d;
  for (let step = decide(d); step !== null; step = decide(d)) {
    assert(d.transitions.length < MOVES_MAX, `protection of ${s.volume} goes in circles: ${d.transitions.map(({ to }) => to).join(', ')}`);
    const to = TRANSITIONS[s.state][step.move];
    assert(to, `protection of ${s.volume} has no move ${step.move} from ${s.state}`);
    d.transitions.push({ from: s.state, to, move: step.move, cause: step.cause, atMs: d.nowMs });
    s.state = to;
    s.sinceMs = d.nowMs;
    s.cause = step.cause;
    if (to !== 'synced') s.flipAtMs = null;
  }
  act(d);
  return { situation: s, transitions: d.transitions, effects: d.effects };
}

function takeTurn(d: Draft): void {
  const origin = wishOf(d.s, d.policy, d.nowMs);
  if (origin === null) return;
  d.s.choice = { ticket: takeTicket(d), origin, node: null, asked: false, target: null };
}

/** Gives out the orders that stand in the situation and were not given yet. */
function act(d: Draft): void {
  const { s, effects, nowMs } = d;
  for (const copy of s.copies) {
    if (!copy.drop || copy.drop.asked || nowMs < copy.drop.retryAtMs) continue;
    copy.drop.asked = true;
    effects.push({ type: 'drop-mirror', target: copy.target, cause: s.cause });
  }
  if (s.choice && !s.choice.asked) {
    s.choice.asked = true;
    effects.push({ type: 'choose-target', ticket: s.choice.ticket, origin: s.choice.origin, node: s.choice.node });
  }
  if (s.flip && !s.flip.asked) {
    s.flip.asked = true;
    const { ticket, to, kind } = s.flip;
    effects.push({ type: 'flip', ticket, to, kind, reason: s.cause, verdict: threat(s)?.verdict ?? null });
  }
  scrub(d);
}

function scrub({ s, policy, effects, nowMs }: Draft): void {
  const idle = s.scrub !== 'running' && !s.flip && !s.rollback && (!s.scrubRetry || nowMs >= s.scrubRetry.atMs);
  if (!s.copies.some((copy) => copy.state === 'synced' && copy.drop === null) || !idle) return;
  s.scrubbedAtMs ??= nowMs;
  const after = s.state === 'flipped' && s.scrub === 'none' && policy.scrub.afterMirror;
  // A node that may be dying has its reads for the copy that leaves it.
  const periodic = policy.scrub.everyMs > 0 && !threat(s) && nowMs >= s.scrubbedAtMs + policy.scrub.everyMs;
  if (!after && !periodic) return;
  s.scrub = 'running';
  effects.push({ type: 'scrub', after, cause: after ? 'the volume was flipped' : 'the policy compares the copies regularly' });
}
