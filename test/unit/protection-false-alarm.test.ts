// What becomes of a verdict that proves false, and of one that proves true, as scenarios (see protection-scenario.ts).
import { suite } from 'uvu';
import { play } from './protection-scenario.js';

const test = suite('protection: false alarm');

const THREE = `
  node a
  node b
  node c
  volume vol0 a 1GiB
  start
`;

test('a verdict that is withdrawn before the flip drops the mirror and frees its space', async () => {
  await play(`${THREE}
    verdict a 0.99 outside
    expect vol0 mirroring on a mirrors b:copying
    expect exports b vol0.0
    verdict a 0.02 outside
    expect vol0 healthy on a mirrors none
    expect exports b none
    expect event protection.transition vol0 is rolling-back (was mirroring)
    expect event target.freed b/vol0.0
  `);
});

test('a false alarm after the flip is flipped back once the old node was watched, and the copy is freed', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    expect vol0 verified on b mirrors a:synced
    tick 59m
    expect vol0 verified on b mirrors a:synced
    tick 2m
    expect vol0 healthy on a mirrors none
    expect lessons false-alarm a
    expect exports b none
    expect exports a vol0
    tick 2h
    expect vol0 healthy on a mirrors none   # and it does not begin again
  `);
});

test('the watch ends although a timer fired a moment too early', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    early-timers
    verdict a 0.99 outside
    mirror vol0 b synced
    tick 3601s
    expect vol0 healthy on a mirrors none
  `);
});

test('an outside verdict that is given again while the old node is watched makes the watch start again', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    tick 50m
    verdict a 0.99 outside
    tick 50m
    expect vol0 verified on b
    tick 11m
    expect vol0 healthy on a mirrors none
  `);
});

test('a model that still predicts the failure keeps the volume away, until it clears', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.8
    mirror vol0 b synced
    tick 2h
    expect vol0 verified on b mirrors a:synced
    expect event protection.lingering still predicted
    clear a
    expect vol0 healthy on a mirrors none
  `);
});

test('the policy `stay` frees the old copy instead of going back', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h onFalseAlarm=stay
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    tick 2h
    expect vol0 healthy on b mirrors none
    expect lessons false-alarm a
    expect exports a none
    expect exports b vol0.0
  `);
});

test('an old node that fails while it is watched proves the verdict: the volume stays', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    mirror vol0 a lost
    tick 2m
    expect lessons failed a
    expect event protection.node-failed its prediction came true
    tick 1h
    expect vol0 healthy on b mirrors none
  `);
});

for (const [policy, verdict] of [
  ['flip-back', '0.8'],
  ['stay', '0.99 outside'],
] as const) {
  test(`nothing is said of an old node that is lost when its watch ends, until it is back or failed (${policy})`, async () => {
    await play(`
      node a
      node b
      volume vol0 a 1GiB observe=1h onFalseAlarm=${policy}
      start
      verdict a ${verdict}
      mirror vol0 b synced
      tick 59m
      tick 50s
      mirror vol0 a lost
      tick 30s
      expect vol0 verified on b
      expect waits vol0 a to answer again
      expect no event protection.lingering
      expect lessons none
      tick 1m
      expect lessons failed a
      expect event protection.node-failed
      expect vol0 healthy on b mirrors none
    `);
  });
}

test('a short loss of the old node is no failure: it is flipped back when it is in sync again', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    tick 59m
    mirror vol0 a lost
    tick 30s
    mirror vol0 a catching-up
    tick 2m
    expect vol0 verified on b mirrors a:catching-up
    mirror vol0 a synced
    expect vol0 healthy on a mirrors none
    expect lessons false-alarm a
  `);
});

test('a mirror that stays lost is replaced, one that comes back is not', async () => {
  await play(`${THREE}
    verdict a 0.99
    mirror vol0 b lost
    tick 30s
    expect vol0 mirroring on a mirrors b:lost
    mirror vol0 b catching-up
    tick 2m
    expect vol0 mirroring on a mirrors b:catching-up
    mirror vol0 b lost
    tick 2m
    expect vol0 mirroring on a mirrors b:lost,c:copying
    mirror vol0 c synced
    expect vol0 verified on c
  `);
});

test('a verdict that is withdrawn during the flip does not stop it; the watch decides', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    hold vol0 flip
    verdict a 0.99
    mirror vol0 b synced
    expect vol0 flipping on a
    clear a
    expect vol0 flipping on a
    release vol0 flip
    expect vol0 verified on b mirrors a:synced
    tick 61m
    expect vol0 healthy on a mirrors none
  `);
});

test.run();
