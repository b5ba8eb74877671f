// A restart or crash goes on where the process ended, as scenarios (see protection-scenario.ts).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { step } from '../../gateway/protection/machine.js';
import { encodeRecord } from '../../gateway/protection/record.js';
import { resume } from '../../gateway/protection/resume.js';
import { freshSituation } from '../../gateway/protection/situation.js';
import { policy } from './protection-fakes.js';
import { play } from './protection-scenario.js';
import { suspicion } from './protection-walk.js';

const test = suite('protection: restart');

const THREE = `
  node a
  node b
  node c
  volume vol0 a 1GiB
  start
`;

test('space is freed when the agent answers again, also after a restart', async () => {
  await play(`${THREE}
    verdict a 0.99
    agent b refuses-delete no route to host
    clear a
    expect vol0 healthy mirrors none
    expect exports b vol0.0
    expect event target.free-delayed no route to host
    verdict a 0.99            # the name is still taken: the next copy has another
    expect exports b vol0.0,vol0.0-2
    clear a
    restart
    expect exports b vol0.0,vol0.0-2
    agent b refuses-delete
    tick 5m
    expect exports b none
  `);
});

test('a restart during the copy goes on with it', async () => {
  await play(`${THREE}
    verdict a 0.99
    expect vol0 mirroring mirrors b:copying
    restart
    expect vol0 mirroring on a mirrors b:copying
    mirror vol0 b synced
    expect vol0 verified on b
    restart
    expect vol0 verified on b mirrors a:synced
  `);
});

test('a restart before the mirror began chooses again, and what was made is freed', async () => {
  await play(`${THREE}
    hold vol0 add
    verdict a 0.99
    expect exports b vol0.0
    crash
    tick 1s
    expect vol0 mirroring mirrors b:copying
  `);
});

test('a flip that was committed without being heard of is known after the restart', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.99 outside
    hold vol0 flip
    mirror vol0 b synced
    expect vol0 flipping on a
    commit-unheard vol0
    crash
    expect vol0 verified on b mirrors a:synced
    tick 61m
    expect vol0 healthy on a mirrors none       # it was a flip for a verdict, so it can prove a false alarm
  `);
});

test('a rollback that was under way at the restart is finished', async () => {
  await play(`${THREE}
    verdict a 0.99 outside
    refuse vol0 remove not now
    verdict a 0.01 outside
    expect vol0 rolling-back
    restart
    refuse vol0 remove
    tick 10s
    expect vol0 healthy mirrors none
    expect exports b none
  `);
});

test('the watch over the old node outlives a restart', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    tick 40m
    restart
    tick 15m
    expect vol0 verified on b
    tick 6m
    expect vol0 healthy on a mirrors none
  `);
});

test('records that cannot be written stop no evacuation that is under way', async () => {
  await play(`${THREE}
    verdict a 0.99
    expect vol0 mirroring
    store fails
    mirror vol0 b synced
    expect vol0 verified on b
  `);
});

test('an outside verdict that proved false does not silence what the model says of the node', () => {
  const nowMs = Date.parse('2026-01-01T00:00:00Z');
  const active = { node: 'a', export: 'vol0' };
  const doubts = { a: suspicion(0.9, 'outside', nowMs) };
  const overruled = { ...freshSituation('vol0', active, 3, nowMs), doubts, pardons: { a: { atMs: nowMs, probability: 0.9 } } };
  const fact = { type: 'verdict-fired', node: 'a', suspicion: suspicion(0.77, 'model', nowMs) } as const;
  const { situation } = step(overruled, fact, nowMs, policy());
  assert.equal(situation.state, 'suspect');
});

test('a verdict that was cleared while the gateway was down is no longer overruled', () => {
  const nowMs = Date.parse('2026-01-01T00:00:00Z');
  const active = { node: 'a', export: 'vol0' };
  const pardons = { a: { atMs: nowMs, probability: 0.9 }, b: { atMs: nowMs, probability: 0.9 } };
  const record = encodeRecord({ ...freshSituation('vol0', active, 3, nowMs), pardons });
  const seen = { active, epoch: 3, mirrors: [] };
  const { situation } = resume('vol0', record, seen, { b: suspicion(0.9, 'model', nowMs) }, policy(), nowMs);
  assert.deepEqual(Object.keys(situation.pardons), ['b']);
});

test('a verdict that came after the one that was overruled counts, though nobody wrote down that the first was cleared', () => {
  const nowMs = Date.parse('2026-01-01T00:00:00Z');
  const active = { node: 'a', export: 'vol0' };
  const pardons = { a: { atMs: nowMs - 1000, probability: 0.9 } };
  const record = encodeRecord({ ...freshSituation('vol0', active, 3, nowMs), pardons });
  const seen = { active, epoch: 3, mirrors: [] };
  const { situation } = resume('vol0', record, seen, { a: suspicion(0.9, 'model', nowMs) }, policy(), nowMs);
  assert.deepEqual(situation.pardons, {});
  assert.equal(situation.state, 'suspect');
});

test.run();
