// Zombies: a write hangs in a node, its connection is cut, it is sent again and answered, newer writes follow; then the
// first one lands after all. No newer write may be undone, neither for those who read meanwhile nor on the node in the end.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import { CuttingRelay } from '../support/cutting-relay.js';
import { blankImage } from '../support/blank-image.js';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { NbdClient } from '../support/nbd-client.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: zombie');
const MIB = 1024 * 1024;
const SIZE = 8 * MIB;
const BLOCK = 4096;
const HANGS_AT = 1 * MIB;
const ZOMBIE_MS = 6000;

/**
 * A node in a shell script. While the file `hang` is there, the first write at HANGS_AT takes it away and waits until the
 * file `land` is there before it writes; `landed` says that it did.
 */
async function hangingNode(site: Site): Promise<NbdkitNode> {
  const image = site.path('image');
  await blankImage(image, SIZE);
  const at = (name: string) => `"${site.path(name)}"`;
  const wait = `while [ ! -e ${at('land')} ]; do sleep 0.05; done`;
  const write = (from: string) => `dd of="${image}" seek=$4 oflag=seek_bytes conv=notrunc bs=1M status=none <${from}`;
  return NbdkitNode.start(site, [
    '--threads=16',
    'eval',
    'thread_model=echo parallel',
    `get_size=echo ${SIZE}`,
    'can_write=exit 0',
    'can_flush=exit 0',
    'can_multi_conn=exit 0',
    'flush=exit 0',
    `pread=dd if="${image}" skip=$4 count=$3 iflag=skip_bytes,count_bytes,fullblock bs=1M status=none`,
    `pwrite=if [ $4 = ${HANGS_AT} ] && rm ${at('hang')} 2>/dev/null; then cat >${at('held')}; ${wait}; ${write(at('held'))}; touch ${at('landed')}; else ${write('/dev/stdin')}; fi`,
  ]);
}

async function readBlock(uri: string): Promise<number> {
  const client = await NbdClient.connect(uri);
  try {
    const data = await client.read(HANGS_AT, BLOCK);
    assert(
      data.every((byte) => byte === data[0]),
      'the block is whole',
    );
    return data[0];
  } finally {
    client.destroy();
  }
}

/** `newer`: whether a newer write to the block is answered before the zombie lands. */
for (const newer of [true, false]) {
  const what = newer ? 'a newer write' : 'the write that was sent again and those beside it';
  siteTest(test, ['nbdkit'], `a write that lands long after it was sent again does not undo ${what}`, async (site) => {
    const node = await hangingNode(site);
    const relay = await CuttingRelay.start(site, node.port);
    const gateway = await GatewayProcess.start(site, {
      nodes: [{ id: 'a', nbd: relay.uri, zombie: `${ZOMBIE_MS}ms` }],
      volumes: [{ name: 'vol0', size: '8MiB', node: 'a', export: '', policy: 'alone' }],
      policies: { alone: { mirror: { onPrediction: 0 } } },
    });
    const uri = gateway.uri('vol0');
    const client = await NbdClient.connect(uri);
    await client.write(HANGS_AT, Buffer.alloc(BLOCK, 1));
    await writeFile(site.path('hang'), '');
    const hanging = client.write(HANGS_AT, Buffer.alloc(BLOCK, 2));
    await eventually('the write hangs in the node', async () => existsSync(site.path('held')), Boolean);
    const cutMs = Date.now();
    relay.cut();
    await hanging;
    if (newer) await client.write(HANGS_AT, Buffer.alloc(BLOCK, 3));
    else await client.write(HANGS_AT + BLOCK, Buffer.alloc(BLOCK, 3));
    const newest = newer ? 3 : 2;
    await client.flush();
    assert.equal(await readBlock(uri), newest, 'before it lands');
    await writeFile(site.path('land'), '');
    await eventually('the zombie lands', async () => existsSync(site.path('landed')), Boolean);
    assert.equal(await readBlock(node.uri), 2, 'it did land');
    assert(Date.now() - cutMs < ZOMBIE_MS, 'within the time that the configuration says');
    for (let turn = 0; turn < 5; turn += 1) {
      assert.equal(await readBlock(uri), newest, 'after it landed');
      await delay(20);
    }
    await client.flush();
    await delay(Math.max(0, cutMs + ZOMBIE_MS - Date.now()));
    await eventually(
      'the node itself holds the newest write',
      () => readBlock(node.uri),
      (value) => value === newest,
      20_000,
    );
    assert.equal(await readBlock(uri), newest, 'after the time of zombies');
    assert.deepEqual(await client.read(HANGS_AT + BLOCK, BLOCK), Buffer.alloc(BLOCK, newer ? 0 : 3));
    client.destroy();
    await gateway.stop();
    assert.equal(await readBlock(node.uri), newest, 'after the gateway ended');
  });
}

siteTest(test, ['nbdkit'], 'a write that hangs until its node was failed over lands there without a trace in either copy', async (site) => {
  const a = await hangingNode(site);
  const b = await NbdkitNode.onFile(site, 'b', SIZE);
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', nbd: a.uri, zone: 'rack-1', zombie: '2s' },
      { id: 'b', nbd: b.uri, zone: 'rack-2', zombie: '2s', spares: [''] },
    ],
    volumes: [{ name: 'vol0', size: '8MiB', node: 'a', export: '' }],
    policies: { default: { flip: { automatic: false }, failover: { hangAfter: '2s' } } },
  });
  const uri = gateway.uri('vol0');
  const client = await NbdClient.connect(uri);
  await client.write(HANGS_AT, Buffer.alloc(BLOCK, 1));
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  await writeFile(site.path('hang'), '');
  await client.write(HANGS_AT, Buffer.alloc(BLOCK, 2));
  const { active, lastFlip } = await gateway.volume('vol0');
  assert.deepEqual([active.node, lastFlip?.kind], ['b', 'failover'], 'it was answered by the mirror');
  await client.write(HANGS_AT, Buffer.alloc(BLOCK, 3));
  // Its connection stays open for longer than the time of zombies: as long as that is so it can land.
  await delay(3000);
  assert.notEqual((await gateway.volume('vol0')).mirrors[0].state, 'synced', 'the old node is no mirror before it can land no more');
  await writeFile(site.path('land'), '');
  await eventually('the zombie lands', async () => existsSync(site.path('landed')), Boolean);
  assert.equal(await readBlock(uri), 3);
  await gateway.untilSynced('vol0', 'a');
  assert.equal(await readBlock(a.uri), 3, 'the old node was brought in line');
  const certificate = await gateway.flip('vol0');
  assert.equal(certificate.to.node, 'a');
  assert.equal(await readBlock(uri), 3);
  client.destroy();
});

test.run();
