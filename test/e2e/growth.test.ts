// deadline: 400s
// Volumes are made larger while hosts write: those that attach again see it, those that stay attached see nothing of it; on agents
// the gateway makes the exports larger, on plain nodes their owner does. The gateway is killed in the middle, again and again.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { appendFile, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import type { VolumeView } from '../../gateway/control.js';
import { ERRNO } from '../../replication/device.js';
import { Random } from '../sim/random.js';
import { runForestall } from '../support/forestall-program.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdClient, type NbdError } from '../support/nbd-client.js';
import { runPeer } from '../support/nbd-testbed.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { siteTest } from '../support/site.js';

const test = suite('e2e: growth');
const MIB = 1024 * 1024;
/** FORESTALL_SEED plays another one. */
const SEED = Number(process.env.FORESTALL_SEED ?? Date.now() % 1_000_000);
const KILLS = 6;

/** What every later host sees. */
async function seenBy(uri: string): Promise<number> {
  const { status, stdout, stderr } = await runPeer('nbdinfo', ['--size', uri], { timeoutMs: 30_000 });
  assert.equal(status, 0, stderr);
  return Number(stdout.trim());
}

async function qemuIo(uri: string, ...commands: string[]): Promise<string> {
  const { stdout, stderr } = await runPeer('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri], {
    timeoutMs: 60_000,
  });
  return stdout + stderr;
}

siteTest(
  test,
  ['nbdinfo', 'qemu-io'],
  'a volume on agents grows with its mirror, live, and stays as large over a restart with the old file',
  async (site) => {
    const config = {
      nodes: ['a', 'b', 'c'].map((id) => ({ id, embedded: { dir: site.path(`node-${id}`) }, zone: `rack-${id}` })),
      // Its last region is a short one.
      volumes: [{ name: 'vol0', size: `${8 * MIB + 512}`, node: 'a' }],
      policies: { default: { flip: { automatic: false } } },
    };
    const gateway = await GatewayProcess.start(site, config);
    const uri = gateway.uri('vol0');
    const forestall = (...args: string[]) => runForestall(['--api', gateway.apiUrl, ...args]);
    const client = await NbdClient.connect(uri);
    const old = randomFillSync(Buffer.alloc(MIB + 512));
    await client.write(8 * MIB + 512 - old.length, old);
    await gateway.mirror('vol0', 'b');
    await gateway.untilSynced('vol0', 'b');

    const grown = await forestall('grow', 'vol0', '20MiB');
    assert.equal(grown.status, 0, grown.stderr);
    assert.match(grown.stdout, /^vol0 has grown from 8MiB to 20MiB \(20971520 bytes\)\. Hosts see it when they attach again\.$/m);
    assert.equal(await seenBy(uri), 20 * MIB);
    // Who stays attached has what it had.
    assert.equal(client.sizeBytes, 8 * MIB + 512);
    assert.deepEqual(await client.read(8 * MIB + 512 - old.length, old.length), old);
    await assert.rejects(client.write(8 * MIB, Buffer.alloc(1024, 1)), ({ errno }: NbdError) => errno === ERRNO.ENOSPC);
    await client.write(8 * MIB, Buffer.alloc(512, 0x11));
    old.fill(0x11, old.length - 512);
    await client.disconnect();

    const said = await qemuIo(
      uri,
      `read -P 0x11 ${8 * MIB} 512`,
      `read -P 0 ${8 * MIB + 512} ${12 * MIB - 512}`,
      'write -P 7 15M 64k',
      'flush',
    );
    assert(!/failed|error/i.test(said), said);
    const { size, mirrors } = await gateway.volume('vol0');
    assert.deepEqual([size, mirrors[0].state], [20 * MIB, 'synced']);
    await gateway.flip('vol0');
    const report = await gateway.scrub('vol0');
    assert.deepEqual([report.state, report.totalBytes, report.mismatches], ['done', 20 * MIB, []]);
    assert.match(String((await gateway.ask('GET', '/metrics')).body), /^forestall_volume_size_bytes\{volume="vol0"\} 20971520$/m);
    const [event] = await gateway.events('&type=volume.grown');
    assert.deepEqual(event.details, { from: 8 * MIB + 512, size: 20 * MIB });

    const smaller = await forestall('grow', 'vol0', '10MiB');
    assert.deepEqual([smaller.status, smaller.stdout], [1, '']);
    assert.match(smaller.stderr, /only grows/);
    const same = await gateway.ask<VolumeView>('PATCH', '/v1/volumes/vol0', { size: 20 * MIB });
    assert.deepEqual([same.status, same.body.size], [200, 20 * MIB]);

    await gateway.stop();
    await gateway.start();
    assert.equal(await seenBy(uri), 20 * MIB);
    const after = await qemuIo(uri, `read -P 0x11 ${8 * MIB} 512`, 'read -P 7 15M 64k', `read -P 0 ${16 * MIB} 4M`);
    assert(!/failed|error/i.test(after), after);
    const again = await NbdClient.connect(uri);
    assert.deepEqual(await again.read(8 * MIB + 512 - old.length, old.length), old);
    await again.disconnect();
    // A mirror that is made now is as large.
    await gateway.mirror('vol0', 'c');
    await gateway.untilSynced('vol0', 'c');
  },
);

siteTest(
  test,
  ['nbdkit', 'nbdinfo'],
  `a volume on plain nodes grows once their exports have, with the gateway killed ${KILLS} times in it`,
  async (site) => {
    print(`seed ${SEED}`);
    const random = new Random(SEED, 'growth');
    let size = 16 * MIB;
    const [a, b] = [await NbdkitNode.onFile(site, 'a', size), await NbdkitNode.onFile(site, 'b', size)];
    const images = [site.path('a.img'), site.path('b.img')];
    const gateway = await GatewayProcess.start(site, {
      nodes: [
        { id: 'a', nbd: a.uri, zone: 'rack-1', capacity: '1GiB', spares: [''], zombie: '1s' },
        { id: 'b', nbd: b.uri, zone: 'rack-2', capacity: '1GiB', spares: [''], zombie: '1s' },
      ],
      volumes: [{ name: 'vol0', size: '16MiB', node: 'a', export: '' }],
      policies: { default: { flip: { automatic: false, deadline: '1s' }, scrub: { afterMirror: false } } },
    });
    const uri = gateway.uri('vol0');
    const grow = (bytes: number) =>
      gateway.ask<VolumeView & { code: string; details: { copies: unknown[] } }>('PATCH', '/v1/volumes/vol0', { size: bytes });
    const writer = new ModelWriter({
      uri,
      offset: 0,
      length: size,
      random: random.fork('writer'),
      connections: 2,
      depth: 4,
      reconnects: true,
    });
    site.onClose(() => writer.abandon());
    await writer.fill();
    await gateway.mirror('vol0', 'b');
    await gateway.untilSynced('vol0', 'b');

    const refused = await grow(size + 4 * MIB);
    assert.deepEqual([refused.status, refused.body.code], [409, 'copies-too-small']);
    assert.deepEqual(
      refused.body.details.copies,
      ['a', 'b'].map((node) => ({ node, export: '', sizeBytes: size })),
    );
    const beyond = await grow(2 * 1024 * MIB);
    assert.deepEqual([beyond.status, beyond.body.code], [409, 'no-room'], 'more than the nodes are said to hold');
    assert.equal(await seenBy(uri), size);

    let inTime = 0;
    for (let kill = 0; kill < KILLS; kill += 1) {
      const before = size;
      // Not by whole regions, so that the last one is a short one.
      size += 3 * MIB + 512 * random.between(1, 64);
      // What is new there is somebody else's.
      for (const image of images) await appendFile(image, Buffer.alloc(size - before, 0xee));
      writer.start();
      await writer.progress(50);
      const afterMs = random.range(0, random.pick([10, 60, 200]));
      const answered = grow(size).then(
        () => true,
        () => false,
      );
      await delay(afterMs);
      await gateway.kill();
      if (!(await answered)) inTime += 1;
      await gateway.start();
      await writer.progress(50);
      const found = await seenBy(uri);
      assert(found === before || found === size, `${found} after ${before}, of ${size}`);
      let last = await grow(size);
      for (let tries = 0; tries < 60 && last.status === 409; tries += 1) {
        await delay(250);
        last = await grow(size);
      }
      assert.deepEqual([last.status, last.body.size], [200, size], JSON.stringify(last.body));
      assert.equal(await seenBy(uri), size);
      await writer.stop();
      assert.deepEqual(writer.errors, []);
      assert.deepEqual(await writer.check(), [], `after kill ${kill + 1}`);
      const client = await NbdClient.connect(uri);
      assert(
        (await client.read(before, size - before)).every((byte) => byte === 0),
        'nobody sees what was there',
      );
      await client.write(size - 4096, Buffer.alloc(4096, kill + 1), { fua: true });
      await client.disconnect();
    }
    assert(inTime > 0, 'some kills came in time');
    await gateway.untilSynced('vol0', 'b');
    await gateway.flip('vol0');
    const report = await gateway.scrub('vol0');
    assert.deepEqual([report.state, report.totalBytes, report.mismatches], ['done', size, []]);
    await gateway.stop();
    const [one, other] = [await readFile(images[0]), await readFile(images[1])];
    assert.equal(one.length, size);
    assert(one.equals(other), 'the copies are equal, byte for byte');
    print(`  ${inTime} of ${KILLS} kills in the middle; ${writer.writes} writes, ${writer.reconnects} reconnects`);
  },
);

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

test.run();
