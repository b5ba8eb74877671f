// The clock of the machine is set while protection waits, as scenarios (see protection-scenario.ts).
import { suite } from 'uvu';
import { play } from './protection-scenario.js';

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
