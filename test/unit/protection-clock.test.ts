// The clock of the machine is set while protection waits, as scenarios (see protection-scenario.ts).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { step } from '../../gateway/protection/machine.js';
import { freshSituation } from '../../gateway/protection/situation.js';
import { policy } from './protection-fakes.js';
import { play } from './protection-scenario.js';
import { suspicion } from './protection-walk.js';

const test = suite('protection: a clock that is set');

for (const way of ['ahead', 'back'] as const) {
  test(`the watch over the old node lasts as long as it must, though the clock is set ${way}`, async () => {
    await play(`
      node a
      node b
      volume vol0 a 1GiB observe=1h
      start
      verdict a 0.99 outside
      mirror vol0 b synced
      tick 30m
      clock ${way} 30h
      tick 29m
      expect vol0 verified on b mirrors a:synced
      tick 2m
      expect vol0 healthy on a mirrors none
      expect lessons false-alarm a
    `);
  });

  test(`what was refused is tried again after its time, though the clock is set ${way}`, async () => {
    await play(`
      node a
      node b
      volume vol0 a 1GiB
      start
      refuse vol0 flip deadline passed
      verdict a 0.99
      mirror vol0 b synced
      expect vol0 synced on a mirrors b:synced
      clock ${way} 30h
      refuse vol0 flip
      tick 1s
      expect vol0 verified on b mirrors a:synced
    `);
  });

  test(`a mirror that is lost counts for as long as it must, though the clock is set ${way}`, async () => {
    await play(`
      node a
      node b
      node c
      volume vol0 a 1GiB
      start
      verdict a 0.99
      mirror vol0 b copying
      mirror vol0 b lost
      tick 30s
      clock ${way} 30h
      tick 29s
      expect exports c none
      tick 2s
      expect exports c vol0.0
    `);
  });
}

test('a clock that was set back while the gateway was down makes no watch longer than the policy says', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    tick 30m
    stop
    clock back 30h
    start
    expect vol0 verified on b mirrors a:synced
    tick 61m
    expect vol0 healthy on a mirrors none
  `);
});

for (const way of ['ahead', 'back'] as const) {
  test(`a flip is watched from when it is known, though the clock was set ${way} since its certificate`, async () => {
    await play(`
      node a
      node b
      volume vol0 a 1GiB observe=1h
      start
      hold vol0 told
      verdict a 0.99
      mirror vol0 b synced
      clock ${way} 30h
      release vol0 told
      tick 1m
      expect vol0 verified on b mirrors a:synced
      expect scrubs vol0 1
      clear a
      tick 58m
      expect vol0 verified on b mirrors a:synced
      tick 2m
      expect vol0 healthy on a mirrors none
    `);
  });
}

test('an outside verdict of before the clock was set back makes no watch longer', () => {
  const nowMs = Date.parse('2026-01-01T00:00:00Z');
  const told = { failed: false, lingering: false };
  const target = { node: 'a', export: 'vol0' };
  const home = { target, sinceMs: nowMs, observeUntilMs: nowMs + 1000, byVerdict: true, failed: false, told };
  const watching = { ...freshSituation('vol0', { node: 'b', export: 'vol0.0' }, 3, nowMs), state: 'flipped', home } as const;
  const fact = { type: 'verdict-fired', node: 'a', suspicion: suspicion(0.9, 'outside', nowMs + 1e8) } as const;
  const { situation } = step({ ...watching, copies: [] }, fact, nowMs, policy({ observeMs: 3_600_000 }));
  assert.equal(situation.home?.observeUntilMs, nowMs + 3_600_000);
});

test('an outside verdict that is given again counts against an earlier refusal, though the clock was set back between', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    expect vol0 verified on b mirrors a:synced
    operator rollback vol0
    expect vol0 healthy on a mirrors none
    clock back 30h
    tick 1m
    expect vol0 healthy on a mirrors none
    verdict a 0.99 outside
    expect vol0 mirroring on a mirrors b:copying
  `);
});

test.run();
