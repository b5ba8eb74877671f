// One step of the machine while it is being made: the situation that is changed, what it is judged by, and the effects
// it has so far. The few changes that facts, wishes and decisions share are here.
import { type Outcome, refuse } from '../control.js';
import type { Answer, Effect, Transition } from './input.js';
import {
  backoffMs,
  type Copy,
  copyOf,
  describeTarget,
  type ProtectionPolicy,
  type Retry,
  type Rollback,
  type Situation,
  sameTarget,
} from './situation.js';

const DROP_RETRY_MS = { first: 5_000, last: 300_000 };

export interface Draft {
  s: Situation;
  policy: ProtectionPolicy;
  nowMs: number;
  effects: Effect[];
  transitions: Transition[];
}

export function draftOf(situation: Situation, policy: ProtectionPolicy, nowMs: number): Draft {
  return { s: structuredClone(situation), policy, nowMs, effects: [], transitions: [] };
}

export function takeTicket(d: Draft): number {
  d.s.tickets += 1;
  return d.s.tickets;
}

export function answer(d: Draft, ticket: number | null, outcome: Outcome<Answer>): void {
  if (ticket !== null) d.effects.push({ type: 'answer', ticket, outcome });
}

export function done(part: Partial<Answer>): Outcome<Answer> {
  return { ok: true, value: { target: null, certificate: null, dropped: [], ...part } };
}

export function tell(
  d: Draft,
  level: 'info' | 'warning' | 'alert',
  type: string,
  message: string,
  more: { node?: string; details?: Record<string, unknown> } = {},
): void {
  d.effects.push({ type: 'tell', event: { type, level, message, node: more.node ?? null, details: more.details ?? {} } });
}

export function addCopy(d: Draft, copy: Pick<Copy, 'target' | 'origin' | 'state'> & { reason?: string | null }): Copy {
  const added: Copy = { sinceMs: d.nowMs, reason: null, drop: null, ...copy };
  d.s.copies.push(added);
  return added;
}

/** The copy is to go; asking for it again adds nothing. */
export function markDrop(d: Draft, copy: Copy, ticket: number | null = null): void {
  copy.drop ??= { asked: false, refusals: 0, retryAtMs: d.nowMs, ticket: null };
  copy.drop.ticket ??= ticket;
}

export function dropRefused(d: Draft, copy: Copy, reason: string): void {
  if (!copy.drop) return;
  const { refusals, ticket } = copy.drop;
  const delayMs = backoffMs(refusals + 1, DROP_RETRY_MS.first, DROP_RETRY_MS.last);
  copy.drop = { asked: false, refusals: refusals + 1, retryAtMs: d.nowMs + delayMs, ticket: null };
  const message = `The copy on ${describeTarget(copy.target)} cannot be dropped yet: ${reason}. It is tried again until it is gone.`;
  if (refusals === 0) tell(d, 'warning', 'protection.drop-delayed', message, { node: copy.target.node });
  answer(d, ticket, refuse('drop-pending', message));
  const rollback = d.s.rollback;
  if (rollback?.marked.some((target) => sameTarget(target, copy.target))) {
    answer(d, rollback.ticket, refuse('drop-pending', message));
    rollback.ticket = null;
  }
}

/** The volume no longer has the copy: its space can be given back. */
export function forget(d: Draft, copy: Copy): void {
  const { s } = d;
  s.copies = s.copies.filter((other) => other !== copy);
  d.effects.push({ type: 'free-target', target: copy.target });
  answer(d, copy.drop?.ticket ?? null, done({ target: copy.target, dropped: [copy.target] }));
  if (s.home && sameTarget(s.home.target, copy.target)) s.home = null;
  if (s.rollback?.marked.some((target) => sameTarget(target, copy.target))) s.rollback.dropped.push(copy.target);
}

export function forgetTarget(d: Draft, target: Copy['target']): void {
  const copy = copyOf(d.s, target);
  if (copy) forget(d, copy);
}

/** One more refusal: when to try again. */
export function retryAfter(d: Draft, before: Retry | null, reason: string, firstMs: number, lastMs: number): Retry {
  const refusals = (before?.refusals ?? 0) + 1;
  return { refusals, reason, atMs: d.nowMs + backoffMs(refusals, firstMs, lastMs) };
}

export function rollbackBy(by: Rollback['by'], reason: string, ticket: number | null = null): Rollback {
  return { by, phase: 'mark', away: null, marked: [], dropped: [], certificate: null, ticket, reason };
}

/** What the verdict over `node` asks for was decided against: it is not acted on again until there is news. */
export function overrule(d: Draft, node: string): void {
  const doubt = d.s.doubts[node];
  if (doubt) d.s.pardons[node] = { atMs: d.nowMs, probability: doubt.probability };
}
