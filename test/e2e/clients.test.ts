// deadline: 400s
// A gateway with embedded nodes, as `npm start` runs it, and the clients people attach with. It is a process of its own,
// used through its documented interfaces alone.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { eventually } from '../support/eventually.js';
import { FioJob } from '../support/fio-job.js';
import { runForestall } from '../support/forestall-program.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { NbdClient } from '../support/nbd-client.js';
import { runPeer } from '../support/nbd-testbed.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: clients');
const MIB = 1024 * 1024;
const SIZE = 64 * MIB;

function startEmbedded(site: Site): Promise<GatewayProcess> {
  return GatewayProcess.start(site, {
    nodes: ['a', 'b', 'c'].map((id) => ({ id, embedded: { dir: site.path(`node-${id}`) }, zone: `rack-${id}` })),
    volumes: [{ name: 'vol0', size: '64MiB', node: 'a', labels: { program: 'demo' } }],
  });
}

/** Runs a program that must succeed; gives what it printed. */
async function succeed(program: string, args: string[]): Promise<string> {
  const { status, stdout, stderr } = await runPeer(program, args, { timeoutMs: 90_000 });
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

siteTest(test, [], 'a gateway says where to attach, is ready, shows its metrics, and ends at SIGTERM within seconds', async (site) => {
  const gateway = await startEmbedded(site);
  assert.match(gateway.program.stdout, new RegExp(`^Forestall serves 1 volume\\.\\n\\s*attach +${gateway.uri('vol0')}$`, 'm'));
  assert.deepEqual((await gateway.ask('GET', '/healthz')).body, { status: 'ok' });
  const client = await NbdClient.connect(gateway.uri('vol0'));
  await client.write(0, Buffer.alloc(8192, 1));
  await client.read(0, 8192);
  const metrics = String((await gateway.ask('GET', '/metrics')).body);
  for (const line of metrics.split('\n').filter((text) => text !== '' && !text.startsWith('#'))) {
    const name = /^[a-zA-Z_:][a-zA-Z0-9_:]*/.exec(line)?.[0] ?? '';
    const family = name.replace(/_(bucket|sum|count)$/, '');
    assert(metrics.includes(`# HELP ${name} `) || metrics.includes(`# HELP ${family} `), `${line} has a HELP`);
  }
  for (const op of ['read', 'write']) assert(metrics.includes(`forestall_host_bytes_total{volume="vol0",op="${op}"} 8192\n`), op);
  const { labels, clients, service, active } = await gateway.volume('vol0');
  assert.deepEqual(labels, { program: 'demo' });
  assert.equal(clients.length, 1);
  assert.equal(service, 'served');
  assert.deepEqual(active, { node: 'a', export: 'vol0' });
  const startedMs = Date.now();
  await gateway.stop();
  assert(Date.now() - startedMs < 15_000, 'a host that stays attached does not keep it from ending');
  await client.closed;
});

siteTest(test, [], 'a client with extended headers zeroes and looks at more than 4 GiB at once, on every copy', async (site) => {
  const GIB = 1024 * MIB;
  const gateway = await GatewayProcess.start(site, {
    nodes: ['a', 'b'].map((id) => ({ id, embedded: { dir: site.path(`node-${id}`) }, zone: `rack-${id}` })),
    volumes: [{ name: 'vol0', size: '16GiB', node: 'a' }],
    policies: { default: { flip: { automatic: false } } },
  });
  const client = await NbdClient.connect(gateway.uri('vol0'), { extended: true });
  const places = [0, GIB, 6 * GIB - 4096, 9 * GIB, 13 * GIB, 16 * GIB - MIB];
  for (const [i, place] of places.entries()) await client.write(place, Buffer.alloc(MIB, i + 1));
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  await client.zeroes(GIB + 4096, 12 * GIB - 4096, { fua: true });
  const check = async () => {
    for (const [i, place] of places.entries()) {
      const expected = Buffer.alloc(MIB, place > GIB && place < 13 * GIB ? 0 : i + 1);
      if (place === GIB) expected.fill(0, 4096);
      assert((await client.read(place, MIB)).equals(expected), `what is at ${place}`);
    }
    const extents = await client.status(0, 16 * GIB);
    assert(
      extents.some(({ lengthBytes, zero }) => zero && lengthBytes > MIB),
      JSON.stringify(extents),
    );
  };
  await check();
  await gateway.flip('vol0');
  await check();
  await client.disconnect();
});

siteTest(test, [], 'a restart serves the same contents, after SIGTERM and after SIGKILL', async (site) => {
  const gateway = await startEmbedded(site);
  const bytes = randomFillSync(Buffer.alloc(3 * MIB));
  for (const how of ['stop', 'kill'] as const) {
    bytes.reverse();
    const client = await NbdClient.connect(gateway.uri('vol0'));
    assert.equal(client.sizeBytes, SIZE);
    await client.write(5 * MIB + 512, bytes);
    await client.flush();
    client.destroy();
    await gateway[how]();
    await gateway.start();
    const again = await NbdClient.connect(gateway.uri('vol0'));
    assert(bytes.equals(await again.read(5 * MIB + 512, bytes.length)), `after ${how}`);
    again.destroy();
  }
});

siteTest(test, [], 'a second gateway on the same data directory is refused and disturbs nothing', async (site) => {
  const gateway = await startEmbedded(site);
  const second = await runForestall(['serve', '--config', gateway.configFile]);
  assert.equal(second.status, 1);
  assert.match(second.stderr, /^forestall: The data directory .* is in use by process \d+/m);
  const client = await NbdClient.connect(gateway.uri('vol0'));
  await client.write(0, Buffer.alloc(512, 7));
  client.destroy();
});

siteTest(test, ['nbdinfo'], 'nbdinfo sees the volume with everything it can', async (site) => {
  const gateway = await startEmbedded(site);
  const info = JSON.parse(await succeed('nbdinfo', ['--json', gateway.uri('vol0')]));
  assert.equal(info.protocol, 'newstyle-fixed');
  const [volume] = info.exports;
  assert.equal(volume['export-name'], 'vol0');
  assert.equal(volume['export-size'], SIZE);
  assert.deepEqual(volume.contexts, ['base:allocation', 'x-forestall:dirty', 'x-forestall:scrubbed']);
  for (const feature of ['can_cache', 'can_df', 'can_fast_zero', 'can_flush', 'can_fua', 'can_multi_conn', 'can_trim', 'can_zero']) {
    assert.equal(volume[feature], true, feature);
  }
  const map = JSON.parse(await succeed('nbdinfo', ['--map', '--json', gateway.uri('vol0')]));
  assert.equal(
    map.reduce((sum: number, { length }: { length: number }) => sum + length, 0),
    SIZE,
  );
});

siteTest(test, ['nbdcopy'], 'nbdcopy brings back what it took there', async (site) => {
  const gateway = await startEmbedded(site);
  const bytes = randomFillSync(Buffer.alloc(SIZE));
  bytes.fill(0, 8 * MIB, 24 * MIB);
  await writeFile(site.path('source'), bytes);
  await succeed('nbdcopy', ['--flush', site.path('source'), gateway.uri('vol0')]);
  await succeed('nbdcopy', [gateway.uri('vol0'), site.path('back')]);
  assert(bytes.equals(await readFile(site.path('back'))));
});

siteTest(test, ['qemu-io'], 'qemu-io writes, zeroes, discards, flushes and finds its patterns', async (site) => {
  const gateway = await startEmbedded(site);
  const commands = [
    'write -P 0xa5 1000 300k',
    'write -f -P 0x5a 40M 64k',
    'write -z 2M 1M',
    'write -z -u 3M 64k',
    'discard 5M 64k',
    'flush',
    'aio_write -P 0x11 6M 64k',
    'aio_write -P 0x12 6208k 64k',
    'aio_flush',
    'read -P 0xa5 1000 300k',
    'read -P 0x5a 40M 64k',
    'read -P 0 2M 1M',
    'read -P 0x11 6M 64k',
    'read -P 0x12 6208k 64k',
  ];
  const out = await succeed('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), gateway.uri('vol0')]);
  assert.doesNotMatch(out, /failed|verification/i);
});

siteTest(test, ['fio'], 'fio finds every block it wrote, from four connections at depth 16', async (site) => {
  const gateway = await startEmbedded(site);
  const job = FioJob.start(site, gateway.uri('vol0'), [
    '--rw=randrw',
    '--bsrange=512-65536',
    '--iodepth=16',
    '--numjobs=4',
    '--offset_increment=16M',
    '--size=4M',
    '--loops=2',
    '--verify=crc32c',
    '--verify_fatal=1',
  ]);
  const { errors, reads, writes } = await job.result();
  assert.equal(errors, 0);
  assert(reads > 500 && writes > 500, `${reads} reads, ${writes} writes`);
});

siteTest(test, ['nbd-client'], 'nbd-client shakes hands and lists the volume', async (site) => {
  const gateway = await startEmbedded(site);
  const listed = await succeed('nbd-client', ['-l', '127.0.0.1', String(gateway.nbdPort)]);
  assert.deepEqual(listed.trim().split('\n').slice(-1), ['vol0']);
});

siteTest(test, ['nbdcopy', 'qemu-img'], 'a volume of embedded nodes is mirrored and flipped and stays what it was', async (site) => {
  const gateway = await startEmbedded(site);
  await writeFile(site.path('source'), randomFillSync(Buffer.alloc(SIZE)));
  await succeed('nbdcopy', ['--flush', site.path('source'), gateway.uri('vol0')]);
  const { node } = await gateway.mirror('vol0');
  await gateway.untilSynced('vol0', node);
  const certificate = await gateway.flip('vol0');
  assert.deepEqual([certificate.kind, certificate.from.node, certificate.to.node, certificate.epoch], ['flip', 'a', node, 1]);
  await succeed('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', site.path('source'), gateway.uri('vol0')]);
  const after = await eventually(
    'the volume is back in order',
    () => gateway.volume('vol0'),
    ({ state, mirrors }) =>
      ['flipped', 'verified'].includes(state) && mirrors.some((mirror) => mirror.reverse && mirror.state === 'synced'),
  );
  assert.equal(after.active.node, node);
});

test.run();
