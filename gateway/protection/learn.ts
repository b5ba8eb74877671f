// Takes a fact into the situation. Every fact is taken in every state, late ones too: what no longer matters is undone
// (a target made for nothing is freed) or ignored. It never changes the state: `decide` does that from what is known.
import { plural } from '../../config/plural.js';
import { type FlipCertificate, type MirrorView, refuse, type ScrubReport, type TargetRef } from '../control.js';
import { addCopy, answer, type Draft, done, dropRefused, forget, forgetTarget, markDrop, retryAfter, rollbackBy, tell } from './draft.js';
import type { Fact } from './input.js';
import { copyOf, describeTarget, type Origin, type Pardon, type Suspicion, sameTarget, threat } from './situation.js';

const CHOICE_RETRY_MS = { first: 2_000, last: 60_000 };
const FLIP_RETRY_MS = { first: 1_000, last: 600_000 };
const SCRUB_RETRY_MS = { first: 10_000, last: 3_600_000 };
/** From this refusal on in a row a person is needed. */
const FLIP_ALERT_REFUSALS = 5;
/** A model's verdict that was overruled counts again when it has grown by this much. */
const PARDON_STEP = 0.2;

type FactOf<T extends Fact['type']> = Extract<Fact, { type: T }>;
type Learners = { [T in Fact['type']]: (d: Draft, fact: FactOf<T>) => void };

const LEARNERS: Learners = {
  'verdict-fired': verdictFired,
  'verdict-cleared': ({ s }, { node }) => {
    delete s.doubts[node];
    delete s.pardons[node];
  },
  // The machine turns it into a choice, since that is a decision.
  turn: () => {},
  'target-chosen': targetChosen,
  'no-placement': (d, { ticket, reason, details }) => choiceFailed(d, ticket, 'no-placement', reason, details),
  'mirror-started': mirrorStarted,
  'mirror-refused': (d, { ticket, target, code, reason }) => {
    forgetTarget(d, target);
    choiceFailed(d, ticket, code, `${describeTarget(target)}: ${reason}`);
  },
  'mirror-state': mirrorState,
  'mirror-dropped': (d, { target }) => forgetTarget(d, target),
  'drop-refused': (d, { target, reason }) => {
    const copy = copyOf(d.s, target);
    if (copy) dropRefused(d, copy, reason);
  },
  'mirrors-seen': mirrorsSeen,
  'flip-done': (d, { certificate }) => flipDone(d, certificate),
  'flip-refused': flipRefused,
  'scrub-finished': (d, { report }) => scrubFinished(d, report),
  'scrub-refused': (d, { reason }) => scrubRefused(d, reason),
  'target-lost': targetLost,
  // Who volumes are served by and what of it is damaged is told where these facts come from.
  'target-back': () => {},
  'target-blocked': () => {},
  damage: () => {},
  tick: () => {},
};

export function learn<T extends Fact['type']>(d: Draft, fact: FactOf<T>): void {
  const learner = LEARNERS[fact.type as T] as (d: Draft, fact: FactOf<T>) => void;
  learner(d, fact);
}

function verdictFired({ s, policy, nowMs }: Draft, { node, suspicion }: FactOf<'verdict-fired'>): void {
  const pardon = s.pardons[node];
  const before = s.doubts[node];
  // What was decided against was another's judgement, or one that was given again, whatever the clock said.
  const isAnother =
    before !== undefined && (before.origin !== suspicion.origin || (suspicion.origin === 'outside' && before.atMs !== suspicion.atMs));
  if (pardon && (isAnother || isNews(suspicion, pardon))) delete s.pardons[node];
  s.doubts[node] = suspicion;
  // Somebody insists while the old node is watched: the watch starts again.
  const home = s.home;
  if (home?.target.node === node && home.observeUntilMs !== null && suspicion.origin === 'outside') {
    home.observeUntilMs = Math.max(home.observeUntilMs, Math.min(suspicion.atMs, nowMs) + policy.rollback.observeMs);
  }
}

function isNews(suspicion: Suspicion, pardon: Pardon): boolean {
  if (suspicion.origin === 'outside' && suspicion.atMs > pardon.atMs) return true;
  return suspicion.probability >= pardon.probability + PARDON_STEP;
}

function targetChosen(d: Draft, { ticket, target, origin }: FactOf<'target-chosen'>): void {
  const { s } = d;
  const taken = s.active.node === target.node || s.copies.some((copy) => copy.target.node === target.node);
  if (s.choice?.ticket !== ticket || taken) {
    d.effects.push({ type: 'free-target', target });
    choiceFailed(d, ticket, 'overtaken', `${target.node} has got a copy of the volume meanwhile`);
    return;
  }
  s.choice.target = target;
  addCopy(d, { target, origin, state: 'starting' });
  d.effects.push({ type: 'start-mirror', ticket, target, origin, cause: threat(s)?.text ?? `${origin} mirror` });
}

function mirrorStarted(d: Draft, { ticket, target }: FactOf<'mirror-started'>): void {
  const { s } = d;
  const copy = copyOf(s, target);
  if (copy?.state === 'starting') copy.state = 'copying';
  if (!copy && !sameTarget(s.active, target)) markDrop(d, addCopy(d, { target, origin: 'prediction', state: 'copying' }));
  if (s.choice?.ticket !== ticket) return;
  if (s.choice.origin === 'operator') answer(d, ticket, done({ target }));
  s.choice = null;
  s.choiceRetry = null;
}

function choiceFailed(d: Draft, ticket: number, code: string, reason: string, details?: Record<string, unknown>): void {
  const { s } = d;
  if (s.choice?.ticket !== ticket) return;
  const { origin } = s.choice;
  s.choice = null;
  if (origin === 'operator') {
    answer(d, ticket, refuse(code, `No mirror can be made: ${reason}`, details));
    return;
  }
  const told = s.choiceRetry?.reason === reason;
  s.choiceRetry = retryAfter(d, s.choiceRetry, reason, CHOICE_RETRY_MS.first, CHOICE_RETRY_MS.last);
  if (told) return;
  const purpose = origin === 'standing' ? 'The standing mirror cannot be made' : `The volume cannot leave ${s.active.node}`;
  tell(d, 'alert', 'protection.no-placement', `${purpose}: ${reason}. It is tried again.`, { node: s.active.node, details });
}

function mirrorState(d: Draft, { target, to, reason }: FactOf<'mirror-state'>): void {
  const { s } = d;
  if (sameTarget(s.active, target)) return;
  // A mirror nobody here asked for was made beside us: it belongs to whoever made it.
  const copy = copyOf(s, target) ?? addCopy(d, { target, origin: 'operator', state: to });
  if (copy.state !== to) copy.sinceMs = d.nowMs;
  copy.state = to;
  copy.reason = reason;
}

/** Sets right what the facts may not have said, after a restart or a flip. */
function mirrorsSeen(d: Draft, { mirrors }: { mirrors: Pick<MirrorView, 'node' | 'export' | 'state' | 'reason'>[] }): void {
  for (const { node, export: name, state, reason } of mirrors) {
    mirrorState(d, { type: 'mirror-state', target: { node, export: name }, to: state, reason });
  }
  const named = (target: TargetRef) => mirrors.some((view) => view.node === target.node && view.export === target.export);
  const gone = d.s.copies.filter((copy) => copy.state !== 'starting' && !copy.drop?.asked && !named(copy.target));
  for (const copy of gone) forget(d, copy);
}

function flipDone(d: Draft, certificate: FlipCertificate): void {
  const { s } = d;
  if (certificate.epoch <= s.epoch) return;
  const order = s.flip;
  const there = copyOf(s, certificate.to);
  const origin: Origin = there?.origin ?? (threat(s) ? 'prediction' : 'operator');
  const byVerdict = order?.by === 'policy' || threat(s) !== null || origin === 'prediction';
  const failover = certificate.kind === 'failover';
  if (there?.drop) {
    const message = `${describeTarget(certificate.to)} serves ${s.volume} itself now: ${certificate.cause}`;
    answer(d, there.drop.ticket, refuse('overtaken', message));
  }
  s.epoch = certificate.epoch;
  // Its turn was one to copy from where it was: there may be others at that where it is now.
  if (s.choice && s.choice.origin !== 'operator' && s.active.node !== certificate.to.node) s.choice = null;
  s.active = certificate.to;
  s.copies = s.copies.filter((copy) => copy !== there && !sameTarget(copy.target, certificate.from));
  addCopy(d, { target: certificate.from, origin, state: failover ? 'lost' : 'synced', reason: failover ? certificate.cause : null });
  s.flip = null;
  s.flipRetry = null;
  s.scrub = 'none';
  s.scrubRetry = null;
  s.scrubTold = null;
  settleOrder(d, order, certificate);
  if (certificate.kind === 'rollback') {
    s.home = null;
    s.rollback ??= rollbackBy('policy', 'flipped back');
    Object.assign(s.rollback, { phase: 'mark', away: certificate.from, certificate });
    return;
  }
  if (s.rollback)
    answer(d, s.rollback.ticket, refuse('overtaken', `The volume went to ${describeTarget(s.active)} instead: ${certificate.cause}`));
  s.rollback = null;
  const mayEnd = byVerdict || failover || origin !== 'operator';
  // Not the certificate's time: the clock may have been set between.
  const sinceMs = d.nowMs;
  s.home = {
    target: certificate.from,
    sinceMs,
    observeUntilMs: mayEnd ? sinceMs + d.policy.rollback.observeMs : null,
    byVerdict,
    failed: failover,
    told: { failed: false, lingering: false },
  };
  s.arrived = `${failover ? 'failed over' : 'flipped'} from ${describeTarget(certificate.from)} to ${describeTarget(certificate.to)} in ${certificate.pauseMs.toFixed(1)} ms`;
}

/** The order that was out when the active target changed: this was it, or it has been overtaken. */
function settleOrder(d: Draft, order: Draft['s']['flip'], certificate: FlipCertificate): void {
  if (order?.by !== 'operator' || order.kind === 'rollback') return;
  const asked = sameTarget(order.to, certificate.to) && certificate.kind !== 'rollback';
  answer(
    d,
    order.ticket,
    asked
      ? done({ target: certificate.to, certificate })
      : refuse('overtaken', `The volume went to ${describeTarget(certificate.to)} instead: ${certificate.cause}`),
  );
}

function flipRefused(d: Draft, { ticket, code, reason, details }: FactOf<'flip-refused'>): void {
  const { s } = d;
  if (s.flip?.ticket !== ticket) return;
  const { kind, by, to } = s.flip;
  s.flip = null;
  if (by === 'operator') {
    answer(d, kind === 'rollback' ? (s.rollback?.ticket ?? null) : ticket, refuse(code, reason, details));
    return;
  }
  s.flipRetry = retryAfter(d, s.flipRetry, reason, FLIP_RETRY_MS.first, FLIP_RETRY_MS.last);
  if (kind === 'rollback' && s.home?.observeUntilMs) s.home.observeUntilMs = Math.max(s.home.observeUntilMs, s.flipRetry.atMs);
  const { refusals, atMs } = s.flipRetry;
  if (refusals > 1 && refusals !== FLIP_ALERT_REFUSALS) return;
  const what = kind === 'rollback' ? 'flip back' : 'flip';
  const message = `The ${what} to ${describeTarget(to)} was refused${refusals > 1 ? ` ${refusals} times` : ''}: ${reason}. Next try in ${Math.ceil((atMs - d.nowMs) / 1000)} s, then ever less often.`;
  tell(d, refusals > 1 ? 'alert' : 'warning', 'protection.flip-refused', message, { node: to.node, details: { code, refusals } });
}

function scrubFinished(d: Draft, report: ScrubReport): void {
  const { s } = d;
  if (report.state === 'running' || report.finishedAt === s.scrubTold) return;
  s.scrubTold = report.finishedAt;
  if (report.state === 'stopped') {
    scrubRefused(d, 'it was stopped');
    return;
  }
  s.scrubRetry = null;
  s.scrubbedAtMs = d.nowMs;
  // One that began before the flip says nothing of the copies since.
  if (s.home && Date.parse(report.startedAt) < s.home.sinceMs) {
    if (s.scrub === 'running') s.scrub = 'none';
    return;
  }
  const left = report.mismatches.filter((mismatch) => !mismatch.repaired);
  s.scrub = left.length > 0 ? 'damaged' : 'clean';
  if (left.length === 0) return;
  const message = `The copies of ${s.volume} differ in ${plural(left.length, 'region')} and nothing says which is right: they were left as they are.`;
  tell(d, 'alert', 'protection.damage', message, { details: { mismatches: left.slice(0, 20) } });
}

function scrubRefused(d: Draft, reason: string): void {
  const { s } = d;
  if (s.scrub !== 'running') return;
  const told = s.scrubRetry?.reason === reason;
  s.scrub = 'none';
  s.scrubRetry = retryAfter(d, s.scrubRetry, reason, SCRUB_RETRY_MS.first, SCRUB_RETRY_MS.last);
  if (!told) tell(d, 'warning', 'protection.scrub-refused', `The scrub did not run to its end: ${reason}. It is tried again.`);
}

/** An active target that is lost while a complete copy stands by is no matter: the volume goes there. */
function targetLost(d: Draft, { target, reason }: FactOf<'target-lost'>): void {
  const { s } = d;
  if (!sameTarget(target, s.active) || s.copies.some((copy) => copy.state === 'synced' && copy.drop === null)) return;
  const message = `${describeTarget(target)} does not answer (${reason}) and no other copy of ${s.volume} is complete: hosts wait.`;
  tell(d, 'alert', 'protection.exposed', message, { node: target.node });
}
