// deadline: 400s
// The gateway is killed again and again while it copies, catches up and flips; nodes forget what they had not made durable;
// requests land long after they were given up. Hosts come back each time and find all that was acknowledged.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdkitNode, VOLATILE_CACHE } from '../support/nbdkit-node.js';
import { siteTest } from '../support/site.js';

const test = suite('e2e: crash');
const MIB = 1024 * 1024;
const SIZE = 48 * MIB;
/** FORESTALL_SEED plays another one. */
const SEED = Number(process.env.FORESTALL_SEED ?? Date.now() % 1_000_000);
const KILLS = 20;

/** Begins what the gateway is killed in; gives how long after that, in ms. */
type Moment = { name: string; begin: (gateway: GatewayProcess, random: Random) => Promise<number> };

const MOMENTS: Moment[] = [
  {
    name: 'copy',
    async begin(gateway, random) {
      const { active, mirrors } = await gateway.volume('vol0');
      const other = active.node === 'a' ? 'b' : 'a';
      if (mirrors.length > 0) {
        await gateway.ask('DELETE', `/v1/volumes/vol0/mirrors/${other}`);
        await eventually(
          'the spare is free again',
          () => gateway.node(other),
          ({ freeSpares }) => freeSpares.length > 0,
        );
      }
      await gateway.mirror('vol0', other);
      return random.range(0, 1800);
    },
  },
  {
    // A mirror that the gateway was killed over has marked regions to catch up with.
    name: 'catch-up',
    async begin(gateway, random) {
      const { active, mirrors } = await gateway.volume('vol0');
      const other = active.node === 'a' ? 'b' : 'a';
      if (mirrors.length === 0) await gateway.mirror('vol0', other);
      await gateway.untilSynced('vol0', other);
      await gateway.kill();
      await gateway.start();
      return random.range(0, 900);
    },
  },
  {
    name: 'flip',
    async begin(gateway, random) {
      const { active, mirrors } = await gateway.volume('vol0');
      const other = active.node === 'a' ? 'b' : 'a';
      if (mirrors.length === 0) await gateway.mirror('vol0', other);
      await gateway.untilSynced('vol0', other);
      const afterMs = random.range(0, 80);
      void gateway.ask('POST', '/v1/volumes/vol0/flip').catch(() => {});
      return afterMs;
    },
  },
];

siteTest(
  test,
  ['nbdkit'],
  `a gateway killed at ${KILLS} moments of copy, catch-up and flip loses nothing, and the copies become equal`,
  async (site) => {
    print(`seed ${SEED}`);
    const random = new Random(SEED, 'kills');
    const [a, b] = [await NbdkitNode.onFile(site, 'a', SIZE), await NbdkitNode.onFile(site, 'b', SIZE)];
    const gateway = await GatewayProcess.start(site, {
      nodes: [
        { id: 'a', nbd: a.uri, zone: 'rack-1', capacity: '1GiB', spares: [''], zombie: '1s' },
        { id: 'b', nbd: b.uri, zone: 'rack-2', capacity: '1GiB', spares: [''], zombie: '1s' },
      ],
      volumes: [{ name: 'vol0', size: '48MiB', node: 'a', export: '' }],
      policies: {
        default: {
          flip: { automatic: false, deadline: '1s' },
          scrub: { afterMirror: false },
          copy: { bandwidth: '24MiB', hostLatencyGuard: 100 },
        },
      },
    });
    const uri = gateway.uri('vol0');
    const writer = new ModelWriter({
      uri,
      offset: 0,
      length: SIZE,
      random: random.fork('writer'),
      connections: 2,
      depth: 4,
      reconnects: true,
    });
    site.onClose(() => writer.abandon());
    await writer.fill();
    const counts: Record<string, number> = {};
    for (let kill = 0; kill < KILLS; kill += 1) {
      const moment = kill < MOMENTS.length ? MOMENTS[kill] : random.pick(MOMENTS);
      writer.start();
      await writer.progress(50);
      const afterMs = await moment.begin(gateway, random);
      await delay(afterMs);
      const before = await gateway.volume('vol0');
      await gateway.kill();
      await gateway.start();
      await writer.progress(20);
      await writer.stop();
      const after = await gateway.volume('vol0');
      const shown = before.mirrors.map(({ state, reverse }) => `${reverse ? 'reverse ' : ''}${state}`).join(', ') || 'no mirror';
      const flipped = after.epoch === before.epoch ? '' : ', flipped';
      print(
        `  kill ${kill + 1}: ${moment.name} + ${afterMs.toFixed(0)} ms: epoch ${before.epoch} on ${before.active.node}, ${shown}${flipped}`,
      );
      for (const state of [...before.mirrors.map((mirror) => mirror.state), ...(flipped === '' ? [] : ['flipped meanwhile'])]) {
        counts[state] = (counts[state] ?? 0) + 1;
      }
      assert.deepEqual(writer.errors, []);
      assert(after.epoch >= before.epoch, 'no flip is undone');
      assert.deepEqual(await writer.check(), [], `after kill ${kill + 1}`);
    }
    const { active, mirrors } = await gateway.volume('vol0');
    const other = active.node === 'a' ? 'b' : 'a';
    if (mirrors.length === 0) await gateway.mirror('vol0', other);
    writer.start();
    await gateway.untilSynced('vol0', other);
    await writer.progress(200);
    await writer.stop();
    await gateway.untilVolume('vol0', 'the queue is empty', (volume) =>
      volume.mirrors.every(({ lagBytes, dirtyBytes }) => lagBytes + dirtyBytes === 0),
    );
    assert.deepEqual(await writer.check(), []);
    await gateway.stop();
    assert(await sameBytes(site.path('a.img'), site.path('b.img')), 'the copies are equal, byte for byte');
    assert(counts.copying > 0 && counts['catching-up'] > 0, 'some kills came in time');
    print(`  ${JSON.stringify(counts)}; ${writer.writes} writes, ${writer.reconnects} reconnects`);
  },
);

siteTest(test, ['nbdkit'], 'a node that forgets what was not flushed, killed and started again, has it all again', async (site) => {
  const a = await NbdkitNode.onFile(site, 'a', SIZE, VOLATILE_CACHE);
  const gateway = await GatewayProcess.start(site, {
    nodes: [{ id: 'a', nbd: a.uri, zombie: '1s' }],
    volumes: [{ name: 'vol0', size: '48MiB', node: 'a', export: '', policy: 'alone' }],
    policies: { alone: { mirror: { onPrediction: 0 } } },
  });
  const random = new Random(SEED, 'cache');
  const writer = new ModelWriter({
    uri: gateway.uri('vol0'),
    offset: 0,
    length: SIZE,
    random,
    connections: 2,
    depth: 4,
    durableShare: 0.005,
  });
  site.onClose(() => writer.abandon());
  for (let round = 0; round < 3; round += 1) {
    writer.start();
    await writer.progress(400);
    await a.kill();
    await a.start();
    await writer.progress(100);
    await writer.stop();
    assert.deepEqual(writer.errors, []);
    assert.deepEqual(await writer.check(), [], `after kill ${round + 1}`);
  }
});

async function sameBytes(one: string, other: string): Promise<boolean> {
  return (await readFile(one)).equals(await readFile(other));
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

test.run();
