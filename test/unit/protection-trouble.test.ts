// Copies, flips, scrubs and nodes that fail on the way, as scenarios (see protection-scenario.ts).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { play } from './protection-scenario.js';

const test = suite('protection: trouble');

const THREE = `
  node a
  node b
  node c
  volume vol0 a 1GiB
  start
`;

test('a mirror that falls behind before the flip is waited for', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB afterSynced=10m
    start
    verdict a 0.99
    mirror vol0 b synced
    mirror vol0 b catching-up
    expect vol0 mirroring on a
    tick 11m
    expect vol0 mirroring on a
    mirror vol0 b synced
    tick 10m
    expect vol0 verified on b
  `);
});

test('a mirror that fails is dropped and another node chosen', async () => {
  await play(`${THREE}
    verdict a 0.99
    expect vol0 mirroring on a mirrors b:copying
    agent b down
    mirror vol0 b failed
    tick 5s
    expect vol0 mirroring on a mirrors c:copying
    expect exports b none
  `);
});

test('a mirror whose own node is predicted to fail is not flipped to', async () => {
  await play(`${THREE}
    verdict a 0.99
    expect vol0 mirroring mirrors b:copying
    verdict b 0.9
    mirror vol0 b synced
    expect vol0 mirroring on a mirrors b:synced,c:copying
    mirror vol0 c synced
    expect vol0 verified on c
  `);
});

test('the volume moves on when its new node is predicted to fail, too', async () => {
  await play(`${THREE}
    verdict a 0.99
    mirror vol0 b synced
    expect vol0 verified on b
    verdict b 0.95
    expect vol0 mirroring on b mirrors a:synced,c:copying
    mirror vol0 c synced
    expect vol0 verified on c
  `);
});

test('when no node can take the copy that is said once, and it is tried again', async () => {
  await play(`
    node a
    node b
    volume vol0 a 200GiB
    start
    verdict a 0.99
    expect vol0 suspect on a
    expect event protection.no-placement b has 90GiB free, of which 5GiB stay in reserve; the copy needs 200GiB
    forget
    tick 10m
    expect no event protection.no-placement
    node c freeBytes=400000000000
    tick 61s
    expect vol0 mirroring mirrors c:copying
  `);
});

test('an agent that cannot make the export is passed over', async () => {
  await play(`${THREE}
    agent b refuses-create no route to host
    verdict a 0.99
    expect vol0 mirroring mirrors c:copying
    expect event placement.chosen nodes ranked above it could not
  `);
});

test('a target the volume refuses is freed, and the next try made on another node', async () => {
  await play(`${THREE}
    refuse vol0 add it holds somebody else's data
    verdict a 0.99
    expect vol0 suspect on a mirrors none
    expect exports b none
    expect event protection.no-placement somebody else's data
    tick 2s
    expect exports c none     # refused, too
    refuse vol0 add
    tick 1m
    expect vol0 mirroring mirrors b:copying
  `);
  await play(`${THREE}
    refuse vol0 add it holds somebody else's data
    verdict a 0.99
    expect vol0 suspect on a mirrors none
    refuse vol0 add
    tick 1m
    expect vol0 mirroring mirrors c:copying
  `);
});

test('a spare that the volume refuses is not tried again before the others', async () => {
  await play(`
    node a
    node p kind=plain spares=s1,s2
    volume vol0 a 1GiB
    start
    refuse vol0 add it holds somebody else's data
    verdict a 0.99
    expect vol0 suspect on a mirrors none
    refuse vol0 add
    tick 1m
    expect vol0 mirroring mirrors p:copying
    expect spares p s1
  `);
});

test('refused flips are tried again ever less often; a person is called at the fifth', async () => {
  await play(`${THREE}
    refuse vol0 flip the drain took too long
    verdict a 0.99
    mirror vol0 b synced
    expect vol0 synced on a
    expect event protection.flip-refused the drain took too long. Next try in 1 s
    forget
    tick 60s
    expect event protection.flip-refused refused 5 times
    forget
    tick 10m
    expect no event protection.flip-refused
    refuse vol0 flip
    tick 11m
    expect vol0 verified on b
  `);
});

test('a source that dies during the flip ends it', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB automatic=false
    start
    operator mirror vol0
    mirror vol0 b synced
    hold vol0 flip
    operator flip vol0
    expect vol0 flipping
    failover vol0
    expect vol0 flipped on b mirrors a:lost
    expect answer ok
    expect answer ok
    refuse vol0 flip too late
    release vol0 flip
    expect vol0 flipped on b mirrors a:lost
  `);
});

test('a mirror that takes over while an operator drops it stays, and he is told', async () => {
  const { records } = await play(`
    node a
    node b
    volume vol0 a 1GiB
    start
    operator mirror vol0
    mirror vol0 b synced
    expect answer ok
    hold vol0 remove
    operator drop vol0 b
    failover vol0
    expect answer overtaken
    release vol0 remove
    expect vol0 flipped on b mirrors a:lost
  `);
  assert.deepEqual([...records.list('free/')], []);
});

test('what an operator is told is written down before, whatever else is under way', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB
    start
    hold vol0 add
    operator mirror vol0
    operator rollback vol0
    expect answer rolled-back
    expect recorded vol0 rolling-back
    expect pending
    release vol0 add
    expect answer ok
  `);
});

test('a mirror that cannot be dropped and takes over before that is tried again leaves nothing on the list', async () => {
  const { records } = await play(`
    node a
    node b
    volume vol0 a 1GiB
    start
    operator mirror vol0
    mirror vol0 b synced
    expect answer ok
    refuse vol0 remove it is being failed over
    operator drop vol0 b
    expect answer drop-pending
    failover vol0
    expect vol0 flipped on b mirrors a:lost
  `);
  assert.deepEqual([...records.list('free/')], []);
});

test('a plain node lends its spare, which comes back once it is trimmed', async () => {
  await play(`
    node a
    node p kind=plain spares=s1,s2
    volume vol0 a 1GiB
    start
    expect spares p s1,s2
    verdict a 0.99
    expect vol0 mirroring mirrors p:copying
    expect spares p s2
    clear a
    expect vol0 healthy mirrors none
    expect trimmed p/s1
    expect spares p s1,s2
  `);
});

test('damage that nobody can repair keeps the volume from being verified and is an alert', async () => {
  await play(`${THREE}
    damage vol0 lasting
    verdict a 0.99
    mirror vol0 b synced
    expect vol0 flipped on b
    expect event protection.damage differ in 1 region
    damage vol0 none
    tick 1s
    operator scrub vol0
    expect answer ok
    expect vol0 verified on b
  `);
});

test('damage that was repaired does not keep the volume from being verified', async () => {
  await play(`${THREE}
    damage vol0 repaired
    verdict a 0.99
    mirror vol0 b synced
    expect vol0 verified on b
    expect no event protection.damage
  `);
});

test('a scrub that is refused is tried again', async () => {
  await play(`${THREE}
    refuse vol0 scrub another is running
    verdict a 0.99
    mirror vol0 b synced
    expect vol0 flipped on b
    refuse vol0 scrub
    tick 11s
    expect vol0 verified on b
  `);
});

test('a volume whose only copy is lost is an alert', async () => {
  await play(`${THREE}
    lost vol0
    expect event protection.exposed no other copy of vol0 is complete
  `);
});

test.run();
