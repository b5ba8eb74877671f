// Mirrors that the policy always keeps, as scenarios (see protection-scenario.ts).
import { suite } from 'uvu';
import { play } from './protection-scenario.js';

const test = suite('protection: standing');

const THREE = `
  node a
  node b
  node c
  volume vol0 a 1GiB
  start
`;

test('standing mirrors are made at the start, kept, and used when a verdict comes', async () => {
  await play(`
    node a
    node b
    node c
    volume vol0 a 1GiB standing=1 observe=1h
    start
    expect vol0 healthy on a mirrors b:copying
    mirror vol0 b synced
    expect vol0 healthy on a mirrors b:synced
    verdict a 0.99 outside
    expect vol0 verified on b mirrors a:synced,c:copying   # a's copy counts no more
    mirror vol0 c synced
    tick 61m
    expect vol0 healthy on a mirrors c:synced              # flipped back; one standing mirror is enough
  `);
});

test('a standing mirror is not dropped when a verdict clears', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB standing=1 automatic=false
    start
    mirror vol0 b synced
    verdict a 0.99
    expect vol0 synced on a
    clear a
    expect vol0 healthy on a mirrors b:synced
  `);
});

test('a standing mirror that is lost for good is replaced', async () => {
  await play(`
    node a
    node b
    node c
    volume vol0 a 1GiB standing=1
    start
    mirror vol0 b synced
    mirror vol0 b lost
    tick 2m
    expect vol0 healthy on a mirrors b:lost,c:copying
    mirror vol0 c synced
    expect vol0 healthy on a mirrors c:synced
  `);
});

test('a failover on a standing mirror is followed by a new standing mirror', async () => {
  await play(`
    node a
    node b
    node c
    volume vol0 a 1GiB standing=1 observe=1h
    start
    mirror vol0 b synced
    agent a down
    failover vol0
    expect vol0 flipped on b mirrors a:lost
    tick 2m
    expect lessons failed a
    expect vol0 flipped on b mirrors a:lost,c:copying
    mirror vol0 c synced
    expect vol0 verified on b
    tick 1h
    expect vol0 healthy on b mirrors c:synced
  `);
});

test('policies taken up anew act at once', async () => {
  await play(`${THREE}
    policy vol0 standing=1
    expect vol0 healthy mirrors b:copying
    mirror vol0 b synced
    policy vol0 standing=0
    expect vol0 healthy mirrors none
    expect exports b none
  `);
});

test('copies are compared regularly', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB standing=1 every=24h
    start
    mirror vol0 b synced
    tick 23h
    expect scrubs vol0 0
    tick 2h
    expect scrubs vol0 1
    tick 24h
    expect scrubs vol0 2
  `);
});

test.run();
