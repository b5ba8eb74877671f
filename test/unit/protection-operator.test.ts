// What operators may do, and what they are refused, as scenarios (see protection-scenario.ts).
import { suite } from 'uvu';
import { play } from './protection-scenario.js';

const test = suite('protection: operator');

const THREE = `
  node a
  node b
  node c
  volume vol0 a 1GiB
  start
`;

test('without automatic flips the volume waits, complete, for its operator', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB automatic=false
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    tick 1h
    expect vol0 synced on a
    operator flip vol0
    expect answer ok
    expect vol0 verified on b mirrors a:synced
    operator flip vol0 b
    expect answer already-active
  `);
});

test('a mirror an operator made is his: a verdict that clears does not drop it', async () => {
  await play(`${THREE}
    operator mirror vol0 c
    expect answer ok
    expect vol0 mirroring on a mirrors c:copying
    mirror vol0 c synced
    expect vol0 synced on a
    tick 1h
    expect vol0 synced on a
    operator drop vol0 c
    expect answer ok
    expect vol0 healthy on a mirrors none
    expect exports c none
  `);
});

test('a verdict uses the mirror an operator made; its false alarm leaves that mirror in place', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h
    start
    operator mirror vol0
    mirror vol0 b synced
    verdict a 0.99 outside
    expect vol0 verified on b mirrors a:synced
    tick 61m
    expect vol0 synced on a mirrors b:synced
  `);
});

test('an operator who flips on from where a verdict drove the volume keeps no copy on the doubted node', async () => {
  await play(`${THREE}
    verdict a 0.99 outside
    mirror vol0 b synced
    expect vol0 verified on b mirrors a:synced
    operator mirror vol0 c
    mirror vol0 c synced
    operator flip vol0 c
    expect answer ok
    expect vol0 verified on c mirrors b:synced
    operator rollback vol0
    expect answer ok
    expect vol0 healthy on b mirrors none
  `);
});

test('an operator`s flip stays until he rolls it back; then the copy is freed', async () => {
  await play(`${THREE}
    operator mirror vol0 b
    expect answer ok
    operator flip vol0
    expect answer mirror-not-synced
    mirror vol0 b synced
    operator flip vol0
    expect answer ok
    expect vol0 verified on b mirrors a:synced
    tick 72h
    expect vol0 verified on b mirrors a:synced
    operator rollback vol0
    expect answer ok
    expect vol0 healthy on a mirrors none
    expect exports b none
    operator rollback vol0
    expect answer nothing-to-roll-back
  `);
});

test('a rollback before the flip drops the mirror and is not undone by the verdict that still holds', async () => {
  await play(`${THREE}
    verdict a 0.9
    expect vol0 mirroring
    operator rollback vol0
    expect answer ok
    expect vol0 healthy on a mirrors none
    expect exports b none
    tick 1h
    verdict a 0.92
    expect vol0 healthy on a mirrors none
    clear a
    verdict a 0.9
    expect vol0 mirroring
  `);
});

test('a verdict given anew after a rollback counts again', async () => {
  await play(`${THREE}
    verdict a 0.99 outside
    operator rollback vol0
    expect answer ok
    tick 1s
    expect vol0 healthy
    verdict a 0.99 outside
    expect vol0 mirroring
  `);
});

test('a rollback after the flip is refused until the way back is in sync', async () => {
  await play(`${THREE}
    verdict a 0.99 outside
    mirror vol0 b synced
    mirror vol0 a lost
    operator rollback vol0
    expect answer mirror-not-synced
    expect vol0 verified on b
    mirror vol0 a synced
    operator rollback vol0
    expect answer ok
    expect vol0 healthy on a mirrors none
    expect exports b none
    tick 1h
    expect vol0 healthy on a          # although the verdict still fires
  `);
});

test('a refused flip back is answered with the reason and leaves the volume where it is', async () => {
  await play(`${THREE}
    verdict a 0.99 outside
    mirror vol0 b synced
    refuse vol0 flip copies differ
    operator rollback vol0
    expect answer deadline
    expect vol0 verified on b mirrors a:synced
  `);
});

test('wishes are refused with their reason', async () => {
  await play(`${THREE}
    operator mirror vol0 z
    expect answer node-not-found
    operator mirror vol0 a
    expect answer same-node
    operator mirror nothing b
    expect answer volume-not-found
    operator flip vol0
    expect answer no-mirror
    operator drop vol0 b
    expect answer mirror-not-found
    operator rollback vol0
    expect answer nothing-to-roll-back
    agent b down
    operator mirror vol0 b
    expect answer no-placement
    operator mirror vol0 c
    expect answer ok
    operator mirror vol0 c
    expect answer mirror-exists
    mirror vol0 c synced
    hold vol0 flip
    operator flip vol0
    operator mirror vol0 b
    operator rollback vol0
    expect pending
    release vol0 flip
    expect answer ok
    expect answer busy
    expect answer busy
  `);
});

test('a mirror that cannot be dropped yet is told, and dropped later', async () => {
  await play(`${THREE}
    operator mirror vol0 b
    expect answer ok
    refuse vol0 remove a flip is under way
    operator drop vol0 b
    expect answer drop-pending
    expect event protection.drop-delayed a flip is under way
    refuse vol0 remove
    tick 6s
    expect vol0 healthy mirrors none
    expect exports b none
  `);
});

test('the operator`s mirror that is still being started is undone by his rollback', async () => {
  await play(`${THREE}
    hold vol0 add
    operator mirror vol0 b
    expect pending
    operator rollback vol0
    release vol0 add
    expect answer rolled-back
    expect answer ok
    expect vol0 healthy mirrors none
    expect exports b none
  `);
});

test.run();
