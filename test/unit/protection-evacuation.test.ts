// Volumes leave a node that is predicted to fail, as scenarios (see protection-scenario.ts).
import { suite } from 'uvu';
import { play } from './protection-scenario.js';

const test = suite('protection: evacuation');

const THREE = `
  node a
  node b
  node c
  volume vol0 a 1GiB
  start
`;

test('a verdict moves the volume to a healthy node, which is scrubbed', async () => {
  await play(`${THREE}
    expect vol0 healthy on a mirrors none
    verdict a 0.99 outside
    expect vol0 mirroring on a mirrors b:copying
    expect event placement.chosen b takes the copy
    expect event protection.transition vol0 is suspect (was healthy): a fails with a probability of 99 %
    mirror vol0 b synced
    expect vol0 verified on b mirrors a:synced
    expect scrubs vol0 1
    expect event protection.transition vol0 is flipping (was synced)
    expect event protection.transition vol0 is verified (was flipped)
  `);
});

test('a verdict that does not fire does nothing', async () => {
  await play(`${THREE}
    verdict a 0.49
    expect vol0 healthy on a mirrors none
  `);
});

test('a volume does what the verdict says for its own policy, whatever it says for others', async () => {
  await play(`
    node a
    node b
    volume careful a 1GiB threshold=0.9
    volume quick a 1GiB threshold=0.2
    start
    verdict a 0.8
    expect careful healthy
    expect quick mirroring
    verdict a 0.95
    expect careful mirroring
    verdict a 0.3
    expect careful healthy mirrors none
    expect quick mirroring
  `);
});

test('a copy goes to no node that the volume`s own policy doubts, though others do not', async () => {
  await play(`
    node a
    node b
    node c
    volume quick a 1GiB threshold=0.2
    start
    verdict b 0.3
    verdict a 0.8
    expect quick mirroring mirrors c:copying
  `);
});

test('no signal is no all-clear', async () => {
  await play(`${THREE}
    verdict a 0.8
    verdict a none
    expect vol0 mirroring on a mirrors b:copying
  `);
});

test('a source that dies with a complete mirror is left by the volume itself; nothing flips back to it', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB observe=1h automatic=false
    start
    verdict a 0.99 outside
    mirror vol0 b synced
    expect vol0 synced on a mirrors b:synced
    failover vol0
    expect vol0 flipped on b mirrors a:lost
    expect no event protection.exposed
    mirror vol0 a synced
    expect vol0 verified on b mirrors a:synced
    tick 2h
    expect vol0 healthy on b mirrors none
    expect exports a none
  `);
});

test('the flip waits as long as the policy says', async () => {
  await play(`
    node a
    node b
    volume vol0 a 1GiB afterSynced=10m
    start
    verdict a 0.99
    mirror vol0 b synced
    tick 9m
    expect vol0 synced on a
    tick 61s
    expect vol0 verified on b
  `);
});

test('volumes leave by priority, at most two from a node at once', async () => {
  await play(`
    node a
    node b
    node c
    volume low a 1GiB priority=10
    volume high a 1GiB priority=900
    volume middle a 1GiB priority=100
    start
    verdict a 0.99
    expect high mirroring
    expect middle mirroring
    expect low suspect
    mirror high b synced
    expect high verified on b
    expect low mirroring
  `);
});

test('what cannot leave in time is said at once, with the figures', async () => {
  await play(`
    node a
    node b
    volume big a 60GiB
    volume small a 1GiB
    start
    verdict a 0.9 fails=5m
    expect event protection.late big will not be gone in time: its copy (60GiB at 100MiB/s) is complete in 10m 14s, a is expected to fail in 5m
    expect big mirroring
    expect small mirroring
    forget
    tick 1m
    expect no event protection.late
  `);
});

test('volumes on one node that fails all leave, whatever the others do', async () => {
  await play(`
    node a
    node b
    node c
    volume v1 a 1GiB
    volume v2 a 1GiB
    volume v3 c 1GiB
    start
    verdict a 0.99
    expect v1 mirroring
    expect v2 mirroring
    expect v3 healthy
  `);
});

test('every transition is an event with labels and attached clients', async () => {
  const world = await play(`${THREE}
    verdict a 0.99
  `);
  const transitions = world.events.filter((event) => event.type === 'protection.transition');
  if (transitions.length < 2) throw new Error('there were no transitions');
  for (const event of transitions) {
    const { volume, labels, clients } = event;
    const text = JSON.stringify({ volume, labels, clients });
    if (text !== '{"volume":"vol0","labels":{"program":"owner-of-vol0"},"clients":["127.0.0.1:5000"]}') throw new Error(text);
  }
});

test('volumes that leave at the same moment are spread over the nodes', async () => {
  await play(`
    node a
    node b
    node c
    volume v1 a 1GiB
    volume v2 a 1GiB
    start
    verdict a 0.99
    expect v1 mirroring mirrors b:copying
    expect v2 mirroring mirrors c:copying
  `);
});

test('space that a copy under way will take is not given away twice', async () => {
  await play(`
    node a
    node b freeBytes=12000000000     # room for one of them and the reserve
    node c zone=rack-a               # less liked: in the zone of a
    volume v1 a 5GB
    volume v2 a 5GB
    start
    verdict a 0.99
    expect v1 mirroring mirrors b:copying
    expect v2 mirroring mirrors c:copying
    expect event placement.chosen b has 6.52GiB free
  `);
});

test.run();
