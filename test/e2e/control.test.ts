// deadline: 400s
// The command line and the API of a live gateway: every command, what is refused and how, reload, and that trouble with
// one volume or node stays with it.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { eventually } from '../support/eventually.js';
import { runForestall, startForestall } from '../support/forestall-program.js';
import { type GatewayConfig, GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdClient } from '../support/nbd-client.js';
import { runPeer } from '../support/nbd-testbed.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { freePort } from '../support/peers.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: control');
const MIB = 1024 * 1024;

function embedded(site: Site, volumes: string[]): GatewayConfig {
  return {
    nodes: ['a', 'b'].map((id) => ({ id, embedded: { dir: site.path(`node-${id}`) }, zone: `rack-${id}` })),
    volumes: volumes.map((name) => ({ name, size: '8MiB', node: 'a', labels: { program: 'billing' } })),
    policies: { default: { flip: { automatic: false } } },
  };
}

/** Bytes of vol0 by what a metadata context says of them, as nbdinfo prints it. */
async function statusBytes(gateway: GatewayProcess, context: string): Promise<Map<number, number>> {
  const { status, stdout, stderr } = await runPeer('nbdinfo', [`--map=${context}`, '--json', gateway.uri('vol0')], { timeoutMs: 30_000 });
  assert.equal(status, 0, stderr);
  const bytes = new Map<number, number>();
  for (const { length, type } of JSON.parse(stdout) as { length: number; type: number }[]) bytes.set(type, (bytes.get(type) ?? 0) + length);
  return bytes;
}

/** A command that asks the gateway; with --json what it printed, parsed. */
async function command<T>(gateway: GatewayProcess, ...args: string[]): Promise<T> {
  const { status, stdout, stderr } = await runForestall([...args, '--json', '--api', gateway.apiUrl]);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}${stdout}`);
  return JSON.parse(stdout) as T;
}

interface Certificate {
  kind: string;
  epoch: number;
  from: { node: string };
  to: { node: string };
  pauseMs: number;
}

siteTest(test, [], 'every command works against a live gateway, for people and for programs', async (site) => {
  const gateway = await GatewayProcess.start(site, embedded(site, ['vol0']));
  const client = await NbdClient.connect(gateway.uri('vol0'));
  await client.write(0, Buffer.alloc(MIB, 5));
  const following = startForestall(site, ['events', '--follow', '--json', '--api', gateway.apiUrl]);
  await following.until(({ stdout }) => stdout.includes('gateway.started'));
  assert.match(following.stdout, /The gateway serves 1 volume of 2 nodes\./);

  const { volumes } = await command<{ volumes: { name: string; size: number; clients: string[] }[] }>(gateway, 'volumes');
  assert.deepEqual(
    volumes.map(({ name, size, clients }) => [name, size, clients.length]),
    [['vol0', 8 * MIB, 1]],
  );
  const { nodes } = await command<{ nodes: { id: string; state: string }[] }>(gateway, 'nodes');
  assert.deepEqual(
    nodes.map(({ id, state }) => [id, state]),
    [
      ['a', 'up'],
      ['b', 'up'],
    ],
  );
  const mirror = await command<{ node: string; state: string }>(gateway, 'mirror', 'vol0', '--wait');
  assert.deepEqual([mirror.node, mirror.state], ['b', 'synced']);
  const there = await command<Certificate>(gateway, 'flip', 'vol0');
  assert.deepEqual([there.kind, there.epoch, there.from.node, there.to.node], ['flip', 1, 'a', 'b']);
  assert(there.pauseMs >= 0);
  await gateway.untilSynced('vol0', 'a');
  const scrub = await command<{ state: string; mismatches: unknown[] }>(gateway, 'scrub', 'vol0', '--wait');
  assert.deepEqual([scrub.state, scrub.mismatches], ['done', []]);
  const back = await command<{ kind: string; certificate: Certificate }>(gateway, 'rollback', 'vol0');
  assert.deepEqual([back.kind, back.certificate.epoch, back.certificate.to.node], ['flipped-back', 2, 'a']);
  await gateway.untilVolume('vol0', 'is at rest', ({ state, mirrors }) => state === 'healthy' && mirrors.length === 0);
  await command(gateway, 'mirror', 'vol0', '--node', 'b', '--wait');
  const dropped = await command<{ node: string }>(gateway, 'mirror', 'vol0', '--node', 'b', '--drop');
  assert.equal(dropped.node, 'b');
  const verdict = await command<{ node: string; firing: boolean }>(gateway, 'verdict', 'b', '--probability', '0.97', '--reason', 'it hums');
  assert.deepEqual([verdict.node, verdict.firing], ['b', true]);
  const { verdicts } = await command<{ verdicts: { node: string; reasons: { text: string }[] }[] }>(gateway, 'verdicts', '--firing');
  assert.equal(verdicts.at(-1)?.node, 'b');
  assert.match(verdicts.at(-1)?.reasons[0].text ?? '', /it hums/);
  const { events } = await command<{ events: { type: string; volume: string | null; labels: Record<string, string> }[] }>(
    gateway,
    'events',
    '--type',
    'volume',
  );
  const flips = events.filter(({ type }) => type === 'volume.flipped');
  assert.deepEqual(
    flips.map(({ volume, labels }) => [volume, labels]),
    [
      ['vol0', { program: 'billing' }],
      ['vol0', { program: 'billing' }],
    ],
  );
  await following.until(({ stdout }) => stdout.includes('it hums'));
  for (const line of following.stdout.trimEnd().split('\n')) assert(JSON.parse(line).id > 0);

  for (const args of [['volumes'], ['volumes', 'vol0'], ['nodes'], ['nodes', 'a'], ['verdicts'], ['events']]) {
    const { status, stdout, stderr } = await runForestall([...args, '--api', gateway.apiUrl]);
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');
    assert.match(stdout, /vol0|it hums/, args.join(' '));
    assert.throws(() => JSON.parse(stdout), 'a table for people');
  }
  assert.deepEqual(await client.read(0, MIB), Buffer.alloc(MIB, 5));
  client.destroy();
});

siteTest(test, [], 'what cannot be done is refused with a code for programs, a sentence for people and an exit code', async (site) => {
  const gateway = await GatewayProcess.start(site, embedded(site, ['vol0']));
  const refusals: [string, string, unknown, number][] = [
    ['GET', '/v1/volumes/nope', undefined, 404],
    ['GET', '/v1/nodes/nope', undefined, 404],
    ['GET', '/nope', undefined, 404],
    ['POST', '/v1/volumes/vol0/flip', undefined, 409],
    ['POST', '/v1/volumes/vol0/scrub', undefined, 409],
    ['POST', '/v1/volumes/vol0/rollback', undefined, 409],
    ['POST', '/v1/volumes/vol0/mirrors', { node: 'a' }, 409],
    ['POST', '/v1/volumes/vol0/mirrors', { node: 'nope' }, 404],
    ['DELETE', '/v1/volumes/vol0/mirrors/b', undefined, 404],
    ['POST', '/v1/nodes/a/verdicts', { probability: 2, reason: 'x' }, 400],
    ['POST', '/v1/nodes/a/verdicts', { probability: 0.5 }, 400],
    ['POST', '/v1/nodes/a/samples', 'nothing of use', 400],
  ];
  for (const [method, path, body, status] of refusals) {
    const answer = await gateway.ask<{ code: string; message: string; details: object }>(method, path, body);
    assert.equal(answer.status, status, `${method} ${path}: ${JSON.stringify(answer.body)}`);
    assert.deepEqual(Object.keys(answer.body).sort(), ['code', 'details', 'message'], `${method} ${path}`);
  }
  const nowhere = `http://127.0.0.1:${await freePort()}`;
  const exits: [string[], number][] = [
    [['flip', 'vol0', '--api', gateway.apiUrl], 1],
    [['flip'], 2],
    [['verdict', 'a', '--probability', '7', '--reason', 'x'], 2],
    [['volumes', '--api', nowhere], 3],
    [['flip', 'nope', '--api', gateway.apiUrl], 4],
    [['mirror', 'vol0', '--drop', '--api', gateway.apiUrl], 4],
  ];
  for (const [args, code] of exits) {
    const { status, stdout, stderr } = await runForestall(args);
    assert.equal(status, code, `${args.join(' ')}: ${stderr}`);
    assert.equal(stdout, '');
    assert.doesNotMatch(stderr, /defect|^\s+at /m, args.join(' '));
  }
});

siteTest(test, [], 'SIGHUP takes up a changed file; one that is wrong changes nothing and is told with its place', async (site) => {
  const gateway = await GatewayProcess.start(site, embedded(site, ['vol0']));
  const client = await NbdClient.connect(gateway.uri('vol0'));
  const names = async () => (await gateway.get<{ volumes: { name: string }[] }>('/v1/volumes')).volumes.map(({ name }) => name);
  await gateway.configure(embedded(site, ['vol0', 'vol1']));
  assert.equal((await runForestall(['check-config', gateway.configFile])).status, 0);
  gateway.program.signal('SIGHUP');
  await gateway.untilVolume('vol1', 'is served', ({ service }) => service === 'served');
  const other = await NbdClient.connect(gateway.uri('vol1'));
  await other.write(0, Buffer.alloc(512, 1));

  const wrong = embedded(site, ['vol0']);
  wrong.nodes[1].zome = 'rack-9';
  await gateway.configure(wrong);
  const checked = await runForestall(['check-config', gateway.configFile]);
  assert.equal(checked.status, 1);
  assert.match(checked.stderr, /gateway\.yaml:\d+:\d+ nodes\[1\]\.zome.*zone/);
  gateway.program.signal('SIGHUP');
  await gateway.program.until(({ stderr }) => stderr.includes('nodes[1].zome'));
  const refused = await gateway.ask<{ code: string }>('POST', '/v1/config/reload');
  assert.deepEqual([refused.status, refused.body.code], [422, 'config-invalid']);
  assert.deepEqual(await names(), ['vol0', 'vol1']);

  await gateway.configure(embedded(site, ['vol0']));
  const attached = await gateway.ask<{ message: string }>('POST', '/v1/config/reload');
  assert.equal(attached.status, 409, `a volume that a host has attached stays: ${JSON.stringify(attached.body)}`);
  await other.disconnect();
  await eventually(
    'vol1 is free',
    () => gateway.volume('vol1'),
    ({ clients }) => clients.length === 0,
  );
  await gateway.post('/v1/config/reload');
  assert.deepEqual(await names(), ['vol0']);
  await client.write(0, Buffer.alloc(512, 2));
  client.destroy();
});

siteTest(
  test,
  [],
  'limits of connections, in all and of one client, are taken up by a reload; hosts that are attached stay',
  async (site) => {
    const config = embedded(site, ['vol0']);
    const gateway = await GatewayProcess.start(site, { ...config, limits: { perClient: 2 } });
    const hosts = [await NbdClient.connect(gateway.uri('vol0')), await NbdClient.connect(gateway.uri('vol0'))];
    await assert.rejects(NbdClient.connect(gateway.uri('vol0')), 'a third of this address');
    await gateway.configure({ ...config, limits: { connections: 3 } });
    await gateway.post('/v1/config/reload');
    hosts.push(await NbdClient.connect(gateway.uri('vol0')));
    await assert.rejects(NbdClient.connect(gateway.uri('vol0')), 'a fourth');
    await gateway.configure({ ...config, limits: { connections: 1 } });
    await gateway.post('/v1/config/reload');
    for (const [i, host] of hosts.entries()) await host.write(i * 512, Buffer.alloc(512, i));
    const metrics = await gateway.get<string>('/metrics');
    assert.match(metrics, /^forestall_nbd_connections_refused_total 2$/m);
    for (const host of hosts) host.destroy();
  },
);

siteTest(test, [], 'a file that is wrong is refused at the start, before anything is opened', async (site) => {
  const file = site.path('bad.yaml');
  await writeFile(
    file,
    `server: { data: ${site.path('data')} }\nnodes:\n  - { id: a, nbd: nbd://127.0.0.1:1 }\nvolumes:\n  - { name: v, size: 1GB!, node: zz }\n`,
  );
  const { status, stdout, stderr } = await runForestall(['serve', '--config', file]);
  assert.equal(status, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /bad\.yaml:5:\d+ volumes\[0\]\.size/);
});

siteTest(test, ['nbdkit'], 'a node that is down, an export of another size: each stops its own volume alone and says so', async (site) => {
  const good = await NbdkitNode.start(site, ['memory', '16M']);
  const later = await NbdkitNode.start(site, ['memory', '16M']);
  await later.kill();
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'good', nbd: good.uri },
      { id: 'later', nbd: later.uri },
      { id: 'small', nbd: (await NbdkitNode.start(site, ['memory', '8M'])).uri },
      { id: 'readonly', nbd: (await NbdkitNode.start(site, ['-r', 'memory', '16M'])).uri },
    ],
    volumes: ['good', 'later', 'small', 'readonly'].map((node) => ({
      name: `on-${node}`,
      size: '16MiB',
      node,
      export: '',
      policy: 'alone',
    })),
    policies: { alone: { mirror: { onPrediction: 0 } } },
  });
  const client = await NbdClient.connect(gateway.uri('on-good'));
  await client.write(0, Buffer.alloc(4096, 1));
  const blocked = async (name: string, reason: RegExp) => {
    const volume = await gateway.untilVolume(name, 'says why it is not served', (view) => reason.test(view.reason ?? ''));
    assert.notEqual(volume.service, 'served');
  };
  await blocked('on-small', /8 ?MiB|8388608/);
  await blocked('on-readonly', /read-only/);
  assert.notEqual((await gateway.volume('on-later')).service, 'served');
  const ready = await gateway.get<{ ready: boolean; reasons: string[] }>('/readyz');
  for (const name of ['on-small', 'on-readonly', 'on-later'])
    assert(
      ready.reasons.some((reason) => reason.includes(name)),
      name,
    );
  await later.start();
  await gateway.untilVolume('on-later', 'is served now', ({ service }) => service === 'served');
  const late = await NbdClient.connect(gateway.uri('on-later'));
  await late.write(0, Buffer.alloc(4096, 2));
  late.destroy();
  assert.deepEqual(await client.read(0, 4096), Buffer.alloc(4096, 1));
  client.destroy();
});

siteTest(test, ['nbdkit'], 'what holds the copies of a volume that is not configured any more is given to no other', async (site) => {
  const [a, b, c] = [
    await NbdkitNode.onFile(site, 'a', 16 * MIB),
    await NbdkitNode.onFile(site, 'b', 16 * MIB),
    await NbdkitNode.onFile(site, 'c', 16 * MIB),
  ];
  const nodes = [
    { id: 'a', nbd: a.uri },
    { id: 'b', nbd: b.uri, capacity: '1GiB', spares: [''] },
    { id: 'c', nbd: c.uri, capacity: '1GiB', spares: [''] },
  ];
  const volume = (name: string, node: string) => ({ name, size: '16MiB', node, export: '' });
  const gateway = await GatewayProcess.start(site, { nodes, volumes: [volume('vol0', 'a')] });
  const client = await NbdClient.connect(gateway.uri('vol0'));
  await client.write(0, Buffer.alloc(4096, 3));
  await client.disconnect();
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');

  await gateway.configure({ nodes, volumes: [volume('other', 'c')] });
  await gateway.post('/v1/config/reload');
  await gateway.untilVolume('other', 'is served', ({ service }) => service === 'served');
  const refused = await gateway.ask<{ message: string }>('POST', '/v1/volumes/other/mirrors', { node: 'b' });
  assert.equal(refused.status, 409);
  assert.match(refused.body.message, /no spare export that is free/);

  await gateway.configure({ nodes, volumes: [volume('thief', 'b')] });
  await gateway.stop();
  await gateway.start({ ready: false });
  await gateway.untilVolume('thief', 'is refused its place', ({ reason }) => reason?.includes('b holds a copy of volume vol0') === true);

  await gateway.configure({ nodes, volumes: [volume('vol0', 'a')] });
  await gateway.post('/v1/config/reload');
  await gateway.untilSynced('vol0', 'b');
  await gateway.flip('vol0');
  const back = await NbdClient.connect(gateway.uri('vol0'));
  assert.deepEqual(await back.read(0, 4096), Buffer.alloc(4096, 3));
  back.destroy();
});

siteTest(
  test,
  ['nbdkit', 'nbdinfo'],
  'a mirror whose node goes away never reaches the hosts, and catches up when it is back, across a restart',
  async (site) => {
    const a = await NbdkitNode.onFile(site, 'a', 16 * MIB);
    const b = await NbdkitNode.onFile(site, 'b', 16 * MIB);
    const gateway = await GatewayProcess.start(site, {
      nodes: [
        { id: 'a', nbd: a.uri, zone: 'rack-1' },
        { id: 'b', nbd: b.uri, zone: 'rack-2', capacity: '1GiB', spares: [''], zombie: '500ms' },
      ],
      volumes: [{ name: 'vol0', size: '16MiB', node: 'a', export: '' }],
      policies: { default: { flip: { automatic: false } } },
    });
    const random = new Random(7, 'mirror');
    const writer = new ModelWriter({ uri: gateway.uri('vol0'), offset: 0, length: 16 * MIB, random, depth: 8 });
    site.onClose(() => writer.abandon());
    writer.start();
    await gateway.mirror('vol0', 'b');
    await gateway.untilSynced('vol0', 'b');
    await b.kill();
    await writer.progress(300);
    await gateway.untilVolume('vol0', 'the mirror is lost', ({ mirrors }) => mirrors[0]?.state === 'lost');
    assert((await statusBytes(gateway, 'x-forestall:dirty')).get(1)! > 0, 'what the mirror lacks');
    await b.start();
    await gateway.untilSynced('vol0', 'b');
    await b.kill();
    await writer.progress(100);
    await writer.stop();
    await gateway.stop();
    await gateway.start();
    writer.start();
    await writer.progress(200);
    await b.start();
    await gateway.untilSynced('vol0', 'b');
    await writer.progress(50);
    await writer.stop();
    assert.deepEqual(writer.errors, []);
    await gateway.untilVolume('vol0', 'nothing is on its way', ({ mirrors }) => mirrors.every(({ lagBytes }) => lagBytes === 0));
    assert.deepEqual(await statusBytes(gateway, 'x-forestall:dirty'), new Map([[0, 16 * MIB]]));
    await gateway.post('/v1/volumes/vol0/scrub');
    await eventually(
      'every region was compared within the last minute',
      () => statusBytes(gateway, 'x-forestall:scrubbed'),
      (bytes) => [...bytes.keys()].every((ageSeconds) => ageSeconds <= 60),
    );
    await gateway.flip('vol0');
    assert.deepEqual(await writer.check(), [], 'read from the mirror');
  },
);

test.run();
