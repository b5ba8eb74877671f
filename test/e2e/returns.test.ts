// Nodes that come back with other contents: somebody put a new disk in. What they held is never taken for granted: a blank mirror
// is copied anew before it may take over, a blank active node is not served from.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { blankImage } from '../support/blank-image.js';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdClient } from '../support/nbd-client.js';
import { runPeer } from '../support/nbd-testbed.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: returns');
const MIB = 1024 * 1024;
const SIZE = 32 * MIB;
const SEED = 20_261_122;

interface Scene {
  a: NbdkitNode;
  b: NbdkitNode;
  gateway: GatewayProcess;
  writer: ModelWriter;
}

/** A volume on a with a full second half, hosts that write to its first half, a mirror on b. */
async function setScene(site: Site, name: string): Promise<Scene> {
  const a = await NbdkitNode.onFile(site, 'a', SIZE);
  const b = await NbdkitNode.onFile(site, 'b', SIZE);
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', nbd: a.uri, spares: [''], zombie: '1s' },
      { id: 'b', nbd: b.uri, spares: [''], zombie: '1s' },
    ],
    volumes: [{ name: 'vol0', size: `${SIZE / MIB}MiB`, node: 'a', export: '' }],
    policies: { default: { scrub: { afterMirror: false }, flip: { automatic: false, deadline: '2s' } } },
  });
  const host = await NbdClient.connect(gateway.uri('vol0'));
  for (let offset = SIZE / 2; offset < SIZE; offset += MIB) await host.write(offset, Buffer.alloc(MIB, 1 + offset / MIB));
  await host.flush();
  await host.disconnect();
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  await untilFlushed(gateway);
  const writer = new ModelWriter({ uri: gateway.uri('vol0'), offset: 0, length: SIZE / 2, random: new Random(SEED, name), depth: 4 });
  site.onClose(() => writer.abandon());
  writer.start();
  await writer.progress(300);
  return { a, b, gateway, writer };
}

/** Until then the gateway has in memory what a node may have forgotten, and simply writes it again. */
async function untilFlushed(gateway: GatewayProcess): Promise<void> {
  await eventually(
    'both nodes have flushed what they hold',
    () => gateway.get<string>('/metrics'),
    (metrics) => /^forestall_volume_resync_extents.* 0$/m.test(metrics),
  );
}

/** Stops the writer; everything is on both nodes as hosts left it. */
async function finish({ a, b, gateway, writer }: Scene): Promise<void> {
  await writer.progress(200);
  await writer.stop();
  assert.deepEqual(writer.errors, []);
  assert.equal(writer.reconnects, 0, 'no host noticed');
  assert.deepEqual(await writer.check(), []);
  const host = await NbdClient.connect(gateway.uri('vol0'));
  for (let offset = SIZE / 2; offset < SIZE; offset += MIB) {
    const data = await host.read(offset, MIB);
    assert(
      data.every((byte) => byte === 1 + offset / MIB),
      `what was written at ${offset} is there`,
    );
  }
  await host.disconnect();
  await gateway.untilVolume('vol0', 'nothing is left to copy', ({ mirrors }) =>
    mirrors.every(({ state, lagBytes, dirtyBytes }) => state === 'synced' && lagBytes + dirtyBytes === 0),
  );
  const compared = await runPeer('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', a.uri, b.uri], { timeoutMs: 60_000 });
  assert.equal(compared.status, 0, compared.stdout + compared.stderr);
}

/** Its copy began again from nothing; how long that takes is nobody's business here. */
async function untilCopiedAnew(gateway: GatewayProcess): Promise<void> {
  await eventually(
    'the mirror on b began anew',
    () => gateway.events('&type=mirror.state&node=b'),
    (events) => events.some(({ message }) => /copying/.test(message)),
  );
}

async function restartBlank(site: Site, node: NbdkitNode, name: 'a' | 'b'): Promise<void> {
  await node.kill();
  await blankImage(site.path(`${name}.img`), SIZE);
  await node.start();
}

siteTest(test, ['nbdkit', 'qemu-img'], 'a mirror that is started again blank is copied anew, and can be flipped to then', async (site) => {
  const scene = await setScene(site, 'mirror');
  const { b, gateway, writer } = scene;
  await restartBlank(site, b, 'b');
  await untilCopiedAnew(gateway);
  await gateway.untilSynced('vol0', 'b');
  await writer.progress(100);
  const certificate = await gateway.flip('vol0');
  assert.deepEqual([certificate.to.node, certificate.dirtyRegions], ['b', 0]);
  await finish(scene);
});

siteTest(
  test,
  ['nbdkit', 'qemu-img'],
  'an active node that is started again blank is failed over from and becomes the mirror',
  async (site) => {
    const scene = await setScene(site, 'active');
    const { a, gateway } = scene;
    await restartBlank(site, a, 'a');
    await gateway.untilVolume('vol0', 'failed over to b', ({ active }) => active.node === 'b');
    await gateway.untilSynced('vol0', 'a');
    await finish(scene);
  },
);

siteTest(test, ['nbdkit', 'qemu-img'], 'a mirror that is blank when a killed gateway is back is copied anew', async (site) => {
  const scene = await setScene(site, 'gateway');
  const { b, gateway, writer } = scene;
  await writer.stop();
  // Marks go and checksums become durable when nothing is written.
  await gateway.stop();
  await restartBlank(site, b, 'b');
  await gateway.start();
  await untilCopiedAnew(gateway);
  await gateway.untilSynced('vol0', 'b');
  writer.start();
  await finish(scene);
});

siteTest(test, ['nbdkit'], 'without a mirror a blank node is not served from, and the reason is told', async (site) => {
  const a = await NbdkitNode.onFile(site, 'a', SIZE);
  const gateway = await GatewayProcess.start(site, {
    nodes: [{ id: 'a', nbd: a.uri, zombie: '0s' }],
    volumes: [{ name: 'vol0', size: `${SIZE / MIB}MiB`, node: 'a', export: '', policy: 'alone' }],
    policies: { alone: { mirror: { onPrediction: 0 } } },
  });
  const host = await NbdClient.connect(gateway.uri('vol0'));
  await host.write(MIB, Buffer.alloc(4096, 7));
  await host.flush();
  await restartBlank(site, a, 'a');
  const { reason } = await gateway.untilVolume('vol0', 'blocked', ({ service }) => service === 'blocked');
  assert.match(String(reason), /came back with other contents/);
  let answered = false;
  host.read(MIB, 4096).then(
    () => {
      answered = true;
    },
    () => {},
  );
  await gateway.untilVolume('vol0', 'blocked still', ({ service }) => service === 'blocked');
  assert.equal(answered, false, 'no host gets zeroes for what it wrote');
  host.destroy();
});

siteTest(test, ['nbdkit'], 'a gateway ends in good order while a node hangs', async (site) => {
  const { a, b, gateway, writer } = await setScene(site, 'hangs');
  await writer.stop();
  b.program.signal('SIGSTOP');
  await gateway.stop();
  b.program.signal('SIGCONT');
  await gateway.start();
  a.program.signal('SIGSTOP');
  await gateway.stop();
  a.program.signal('SIGCONT');
  await gateway.start();
  assert.deepEqual(await writer.check(), []);
  await gateway.stop();
});

test.run();
