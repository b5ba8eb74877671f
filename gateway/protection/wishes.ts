// An operator's wishes: taken up as an order in the situation, or refused with a code and a sentence that says what is
// wrong and what would be right. The answer to what was taken up comes with the effect `answer`.
import { type Outcome, refuse, type TargetRef } from '../control.js';
import { answer, type Draft, done, markDrop, overrule, rollbackBy, takeTicket } from './draft.js';
import type { Wish } from './input.js';
import { type Copy, copyOf, describeTarget, type Situation, threat } from './situation.js';

/** The ticket under which the answer will come. */
export type Taken = Outcome<number>;

export function ask(d: Draft, wish: Wish): Taken {
  const { s } = d;
  if (s.flip || s.state === 'flipping') return refuse('busy', `${s.volume} is being flipped; ask again when that has ended.`);
  if (s.rollback) return refuse('busy', `${s.volume} is being rolled back; ask again when that has ended.`);
  switch (wish.type) {
    case 'operator-mirror':
      return askMirror(d, wish.node);
    case 'operator-drop':
      return askDrop(d, wish.node);
    case 'operator-flip':
      return askFlip(d, wish.node);
    case 'operator-rollback':
      return askRollback(d);
  }
}

function askMirror(d: Draft, node: string | null): Taken {
  const { s } = d;
  if (s.choice) return refuse('busy', `A target for another mirror of ${s.volume} is being made; ask again in a moment.`);
  if (node === s.active.node) {
    return refuse('same-node', `${node} serves ${s.volume} itself; a mirror belongs on another node.`);
  }
  const there = s.copies.find((copy) => copy.target.node === node);
  if (there) {
    const how = there.drop ? 'is being dropped' : `is ${there.state}`;
    return refuse('mirror-exists', `${node} has a mirror of ${s.volume} already, which ${how}.`, { state: there.state });
  }
  const ticket = takeTicket(d);
  s.choice = { ticket, origin: 'operator', node, asked: false, target: null };
  return { ok: true, value: ticket };
}

function askDrop(d: Draft, node: string): Taken {
  const { s } = d;
  const copy = s.copies.find((other) => other.target.node === node);
  if (!copy) return refuse('mirror-not-found', `${s.volume} has no mirror on ${node}${node === s.active.node ? ', which serves it' : ''}.`);
  if (copy.drop?.ticket) return refuse('busy', `The mirror on ${node} is being dropped already.`);
  const ticket = takeTicket(d);
  if (copy.origin === 'prediction') overrule(d, s.active.node);
  markDrop(d, copy, ticket);
  return { ok: true, value: ticket };
}

function askFlip(d: Draft, node: string | null): Taken {
  const { s } = d;
  if (node === s.active.node) return refuse('already-active', `${s.volume} is served by ${node} already.`);
  const kept = s.copies.filter((copy) => copy.drop === null && (node === null || copy.target.node === node));
  if (kept.length === 0) {
    const where = node === null ? '' : ` on ${node}`;
    return refuse('no-mirror', `${s.volume} has no mirror${where} to flip to; make one first.`);
  }
  const synced = kept.filter((copy) => copy.state === 'synced').sort((a, b) => byDoubt(s, a, b));
  if (synced.length === 0) {
    const states = kept.map((copy) => `${describeTarget(copy.target)} is ${copy.state}`).join(', ');
    return refuse('mirror-not-synced', `${s.volume} cannot be flipped before a mirror is complete: ${states}.`, { states });
  }
  const ticket = takeTicket(d);
  s.flip = { ticket, to: synced[0].target, kind: 'flip', by: 'operator', asked: false };
  return { ok: true, value: ticket };
}

/** Undoubted nodes first, then the longest synced. */
function byDoubt(s: Situation, a: Copy, b: Copy): number {
  return Number(a.target.node in s.doubts) - Number(b.target.node in s.doubts) || a.sinceMs - b.sinceMs;
}

function askRollback(d: Draft): Taken {
  return d.s.home ? askFlipBack(d, d.s.home.target) : askUndo(d);
}

function askFlipBack(d: Draft, home: TargetRef): Taken {
  const { s } = d;
  const copy = copyOf(s, home);
  if (!copy || copy.drop) return refuse('no-way-back', `The copy on ${describeTarget(home)} is gone, so ${s.volume} cannot go back to it.`);
  if (copy.state !== 'synced') {
    const why = copy.reason === null ? '' : ` (${copy.reason})`;
    const message = `${s.volume} cannot go back to ${describeTarget(home)} before it is in sync again: it is ${copy.state}${why}.`;
    return refuse('mirror-not-synced', message, { state: copy.state });
  }
  const ticket = takeTicket(d);
  overrule(d, home.node);
  s.rollback = { ...rollbackBy('operator', 'asked for by an operator', ticket), phase: 'flip' };
  return { ok: true, value: ticket };
}

function askUndo(d: Draft): Taken {
  const { s } = d;
  const made = s.copies.filter((copy) => copy.origin !== 'standing' && copy.drop === null);
  const choosing = s.choice !== null && s.choice.origin !== 'standing';
  if (made.length === 0 && !choosing && !threat(s)) {
    return refuse('nothing-to-roll-back', `${s.volume} was not flipped and has no mirror but those its policy always keeps.`);
  }
  const ticket = takeTicket(d);
  overrule(d, s.active.node);
  if (choosing) {
    answer(d, s.choice?.ticket ?? null, refuse('rolled-back', `The mirror of ${s.volume} was rolled back before it began.`));
    s.choice = null;
  }
  if (made.length === 0) answer(d, ticket, done({}));
  else s.rollback = rollbackBy('operator', 'asked for by an operator', ticket);
  return { ok: true, value: ticket };
}
