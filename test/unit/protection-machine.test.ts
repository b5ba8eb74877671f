// The protection machine itself: every state takes every fact, moves only along its table, and always has a way out.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { PROTECTION_STATES, type ProtectionState, type ScrubReport } from '../../gateway/control.js';
import type { Fact, Wish } from '../../gateway/protection/input.js';
import { request, step } from '../../gateway/protection/machine.js';
import { decodeRecord, encodeRecord } from '../../gateway/protection/record.js';
import { resume } from '../../gateway/protection/resume.js';
import { freshSituation, type ProtectionPolicy, type Situation } from '../../gateway/protection/situation.js';
import { MOVES, type Move, TRANSITIONS } from '../../gateway/protection/transitions.js';
import { certificate, random, suspicion, Walk } from './protection-walk.js';

const test = suite('protection: machine');

const TARGET = { node: 'b', export: 'vol0.0' };
const ELSEWHERE = { node: 'z', export: 'x' };

function policyOf(pick: (below: number) => number): ProtectionPolicy {
  return {
    mirror: { standing: pick(3), onPrediction: pick(3) },
    flip: { automatic: pick(4) > 0, afterSyncedMs: [0, 0, 60_000][pick(3)] },
    rollback: { observeMs: [0, 60_000, 86_400_000][pick(3)], onFalseAlarm: pick(3) ? 'flip-back' : 'stay' },
    scrub: { afterMirror: pick(3) > 0, everyMs: 0 },
  };
}

/** What can be told to a machine: one of each kind, fitting or not. */
function facts(s: Situation, nowMs: number): Fact[] {
  const ticket = s.choice?.ticket ?? s.flip?.ticket ?? 9999;
  const target = s.copies[0]?.target ?? TARGET;
  const at = new Date(nowMs).toISOString();
  const report: ScrubReport = {
    volume: 'vol0',
    startedAt: at,
    finishedAt: at,
    state: 'done',
    comparedBytes: 1,
    totalBytes: 1,
    mismatches: [],
    bytesPerSecond: 1,
  };
  const wrong = { offset: 0, lengthBytes: 4096, wrong: 'b', repaired: false, reason: 'both differ' };
  return [
    { type: 'verdict-fired', node: s.active.node, suspicion: suspicion(0.9, 'model', nowMs) },
    { type: 'verdict-fired', node: target.node, suspicion: suspicion(0.9, 'outside', nowMs) },
    { type: 'verdict-cleared', node: s.active.node },
    { type: 'turn' },
    { type: 'target-chosen', ticket, target: ELSEWHERE, origin: 'prediction' },
    { type: 'target-chosen', ticket: 9999, target: ELSEWHERE, origin: 'prediction' },
    { type: 'no-placement', ticket, reason: 'all are full' },
    { type: 'mirror-started', ticket, target },
    { type: 'mirror-started', ticket: 9999, target: ELSEWHERE },
    { type: 'mirror-refused', ticket, target, code: 'no', reason: 'not blank' },
    { type: 'mirror-state', target, to: 'synced', reason: null },
    { type: 'mirror-state', target, to: 'lost', reason: 'reset' },
    { type: 'mirror-state', target: ELSEWHERE, to: 'failed', reason: 'EIO' },
    { type: 'mirror-dropped', target },
    { type: 'drop-refused', target, reason: 'busy' },
    { type: 'mirrors-seen', mirrors: [] },
    { type: 'mirrors-seen', mirrors: [{ ...TARGET, state: 'synced', reason: null }] },
    { type: 'flip-done', certificate: certificate(s.active, target, s.epoch + 1, 'flip', nowMs) },
    { type: 'flip-done', certificate: certificate(s.active, target, s.epoch + 1, 'failover', nowMs) },
    { type: 'flip-done', certificate: certificate(s.active, target, s.epoch + 1, 'rollback', nowMs) },
    { type: 'flip-done', certificate: certificate(s.active, target, s.epoch, 'flip', nowMs) },
    { type: 'flip-refused', ticket, code: 'deadline', reason: 'too slow' },
    { type: 'flip-refused', ticket: 9999, code: 'deadline', reason: 'too slow' },
    { type: 'scrub-finished', report },
    { type: 'scrub-finished', report: { ...report, mismatches: [wrong] } },
    { type: 'scrub-finished', report: { ...report, state: 'stopped' } },
    { type: 'scrub-refused', reason: 'busy' },
    { type: 'target-lost', target: s.active, reason: 'reset' },
    { type: 'target-back', target: s.active },
    { type: 'target-blocked', target, reason: 'too small' },
    { type: 'damage', offset: 0, lengthBytes: 4096, reason: 'both copies differ' },
    { type: 'tick' },
  ];
}

const WISHES: Wish[] = [
  { type: 'operator-mirror', node: null },
  { type: 'operator-mirror', node: 'c' },
  { type: 'operator-drop', node: 'b' },
  { type: 'operator-flip', node: null },
  { type: 'operator-flip', node: 'b' },
  { type: 'operator-rollback' },
];

function walkThrough(seed: number, steps: number, visit: (walk: Walk) => void): Walk {
  const pick = random(seed);
  const walk = new Walk(policyOf(pick));
  for (let turn = 0; turn < steps; turn++) {
    walk.stir(pick);
    walk.check();
    visit(walk);
  }
  return walk;
}

test('every state takes every fact and every wish, and moves only along the table', () => {
  const tried = new Map<ProtectionState, Set<string>>(PROTECTION_STATES.map((state) => [state, new Set()]));
  const allowed = (from: ProtectionState, move: Move) => TRANSITIONS[from][move];
  for (let seed = 1; seed <= 120; seed++) {
    walkThrough(seed, 40, ({ situation, policy, nowMs }) => {
      const before = JSON.stringify(situation);
      const seen = tried.get(situation.state);
      for (const fact of facts(situation, nowMs)) {
        const { transitions } = step(situation, fact, nowMs, policy);
        for (const { from, move, to } of transitions) assert.equal(allowed(from, move), to);
        seen?.add(fact.type);
      }
      for (const wished of WISHES) {
        const { taken, situation: after } = request(situation, wished, nowMs, policy);
        if (!taken.ok) {
          assert.match(taken.message, /\w{3}/);
          assert.equal(after, situation, 'a refused wish changes nothing');
        }
        seen?.add(wished.type);
      }
      assert.equal(JSON.stringify(situation), before, 'a step changes no situation but its own');
    });
  }
  const types = new Set([...facts(freshSituation('vol0', TARGET, 0, 0), 0), ...WISHES].map(({ type }) => type));
  for (const [state, seen] of tried)
    assert.deepEqual(
      [...types].filter((type) => !seen.has(type)),
      [],
      `never tried in ${state}`,
    );
});

test('every move of the table happens', () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 1500; seed++)
    for (const { from, move } of walkThrough(seed, 60, () => {}).transitions) seen.add(`${from} ${move}`);
  const all = PROTECTION_STATES.flatMap((state) => MOVES.filter((move) => TRANSITIONS[state][move]).map((move) => `${state} ${move}`));
  assert.deepEqual(
    all.filter((entry) => !seen.has(entry)),
    [],
  );
});

test('no state is a dead end: once nothing goes wrong any more, the volume comes to rest and nothing is left over', () => {
  for (let seed = 1; seed <= 600; seed++) {
    const walk = walkThrough(seed, 50, () => {});
    walk.calmDown();
    walk.check();
    const s = walk.situation;
    const why = `seed ${seed}: ${JSON.stringify(s)}`;
    const operators = s.copies.some((copy) => copy.origin === 'operator');
    const rests =
      s.state === 'healthy' ||
      (operators && s.state === 'synced') ||
      (s.home?.observeUntilMs === null && (s.state === 'flipped' || s.state === 'verified'));
    assert(rests, why);
    assert(!s.copies.some((copy) => copy.drop || copy.origin === 'prediction'), why);
    assert.equal(walk.owed.size, 0, `${walk.owed.size} wishes were never answered; ${why}`);
    const known = [walk.active, ...walk.mirrors.map((mirror) => mirror.target)].map((target) => target.export);
    assert.deepEqual(
      walk.made.map((target) => target.export).filter((name) => !known.includes(name)),
      [],
      `targets left over; ${why}`,
    );
    assert.deepEqual(s.copies.map((copy) => copy.target.export).sort(), walk.mirrors.map((mirror) => mirror.target.export).sort(), why);
  }
});

test('a restart at any moment loses no copy and no target, and comes to rest as well', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const walk = walkThrough(seed, 5 + (seed % 45), () => {});
    const record = decodeRecord(JSON.parse(JSON.stringify(encodeRecord(walk.situation))));
    assert(record.ok, record.ok ? '' : record.message);
    const mirrors = walk.mirrors.map(({ target, state }) => ({ ...target, state, reason: null, reverse: false }));
    const seen = { active: walk.active, epoch: walk.epoch, mirrors };
    const resumed = resume('vol0', record.value, seen, walk.situation.doubts, walk.policy, walk.nowMs);
    const after = new Walk(walk.policy);
    Object.assign(after, {
      nowMs: walk.nowMs,
      active: walk.active,
      epoch: walk.epoch,
      mirrors: walk.mirrors,
      situation: resumed.situation,
    });
    // What was made and never named by anyone is in the list of targets to be freed, which is not the machine's.
    after.made = walk.made.filter((target) => resumed.situation.copies.some((copy) => copy.target.export === target.export));
    after.pending = resumed.effects.filter(({ type }) => !['free-target', 'tell', 'answer', 'node-failed', 'false-alarm'].includes(type));
    after.calmDown();
    after.check();
    assert(!after.situation.copies.some((copy) => copy.origin === 'prediction'), `seed ${seed}: ${JSON.stringify(after.situation)}`);
  }
});

test('a turn to copy is lost with the node that it was to copy from', () => {
  const policy: ProtectionPolicy = { ...policyOf(() => 1), mirror: { standing: 0, onPrediction: 1 } };
  const tell = (s: Situation, ...told: Fact[]): Situation => told.reduce((now, fact) => step(now, fact, 1000, policy).situation, s);
  const start = freshSituation('vol0', { node: 'a', export: 'vol0' }, 1, 1000);
  const doubts = ['b', 'a'].map((node): Fact => ({ type: 'verdict-fired', node, suspicion: suspicion(0.9, 'model', 1000) }));
  const chosen = tell(start, { type: 'mirror-state', target: TARGET, to: 'synced', reason: null }, ...doubts, { type: 'turn' });
  assert.equal(chosen.choice?.origin, 'prediction');
  const moved = tell(chosen, { type: 'flip-done', certificate: certificate(start.active, TARGET, 2, 'failover', 1000) });
  assert.equal(moved.choice, null);
  const again = tell(moved, { type: 'turn' });
  assert.notEqual(again.choice, null);
  assert.notEqual(again.choice?.ticket, chosen.choice?.ticket);
});

test('a record of an unknown form is refused with what is wrong', () => {
  const record = encodeRecord(freshSituation('vol0', TARGET, 3, 0));
  assert(decodeRecord(record).ok);
  for (const wrong of [null, {}, { ...record, version: 2 }, { ...record, state: 'confused' }, { ...record, epoch: -1 }]) {
    const decoded = decodeRecord(wrong);
    assert(!decoded.ok && decoded.message.includes('version 1'), JSON.stringify(wrong));
  }
});

test.run();
