// The agent's API as a gateway uses it (through AgentClient) and as anybody may misuse it: every error is
// {code, message, details}, every call ends, and what the agent says of itself is true.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import type { RunningAgent } from '../../gateway/agent/agent.js';
import { AgentClient } from '../../gateway/agent/client.js';
import type { Outcome } from '../../gateway/control.js';
import { samplesFromSmartctlExporter } from '../../pfa/smartctl-exporter.js';
import { parsePrometheusText } from '../../pfa/prometheus-text.js';
import { NbdClient } from '../support/nbd-client.js';
import { Rig } from './agent-rig.js';

const MIB = 1024 * 1024;

interface Served {
  rig: Rig;
  agent: RunningAgent;
  client: AgentClient;
  url: string;
}

function value<T>(outcome: Outcome<T>): T {
  assert(outcome.ok, outcome.ok ? '' : `${outcome.code}: ${outcome.message}`);
  return outcome.value;
}

function code(outcome: Outcome<unknown>): string {
  assert(!outcome.ok, 'it should have been refused');
  return outcome.code;
}

const api = suite<Served>('agent API');
api.before.each(async (context) => {
  context.rig = new Rig();
  context.agent = await context.rig.agent();
  context.url = `http://127.0.0.1:${context.agent.apiPort}`;
  context.client = new AgentClient(context.url);
});
api.after.each(async (context) => {
  await context.client.close();
  await context.rig.remove();
});

const wish = { name: 'a', sizeBytes: MIB, volume: 'v', epoch: 1 };

api('creates, claims, grows, lists and deletes an export', async ({ client, rig }) => {
  const made = value(await client.createExport({ ...wish, role: 'mirror' }));
  assert.deepEqual([made.blank, made.volume, made.epoch, made.role], [true, 'v', 1, 'mirror']);
  assert.equal(value(await client.createExport(wish)).name, 'a');
  assert.equal(value(await client.setEpoch('a', { volume: 'v', epoch: 2, role: 'active' })).epoch, 2);
  assert.equal(value(await client.resize('a', { sizeBytes: 2 * MIB, epoch: 2, volume: 'v' })).sizeBytes, 2 * MIB);
  assert.deepEqual(
    value(await client.listExports()).map(({ name, sizeBytes }) => [name, sizeBytes]),
    [['a', 2 * MIB]],
  );
  assert.equal(value(await client.getExport('a')).role, 'active');
  assert.deepEqual(value(await client.deleteExport('a', { epoch: 2, volume: 'v' })), { name: 'a', removed: true });
  assert(!existsSync(join(rig.dir, 'a.img')));
});

api('passes on the refusals of the store with their codes', async ({ client }) => {
  value(await client.createExport(wish));
  assert.equal(code(await client.createExport({ ...wish, sizeBytes: 2 * MIB })), 'export-exists');
  assert.equal(code(await client.createExport({ ...wish, name: '../a' })), 'invalid-name');
  assert.equal(code(await client.setEpoch('a', { volume: 'v', epoch: 0 })), 'stale-epoch');
  assert.equal(code(await client.setEpoch('a', { volume: 'w', epoch: 5 })), 'owner-mismatch');
  assert.equal(code(await client.resize('a', { sizeBytes: 512, epoch: 1, volume: 'v' })), 'shrink-refused');
  assert.equal(code(await client.deleteExport('a', { epoch: 0 })), 'stale-epoch');
  assert.equal(code(await client.deleteExport('a', { epoch: 1, volume: 'w' })), 'owner-mismatch');
  assert.equal(code(await client.deleteExport('nope', { epoch: 1 })), 'export-unknown');
  assert.equal(code(await client.getExport('a/../../b?x')), 'export-unknown');
  assert.equal(value(await client.setEpoch('a', { volume: 'w', epoch: 0, adopt: true })).volume, 'w');
});

api('refuses to delete or adopt an export under an open connection', async ({ client, agent }) => {
  value(await client.createExport(wish));
  const host = await NbdClient.connect(`nbd://127.0.0.1:${agent.nbdPort}/a`);
  assert.equal(code(await client.deleteExport('a', { epoch: 1 })), 'export-in-use');
  assert.equal(code(await client.setEpoch('a', { volume: 'w', epoch: 9, adopt: true })), 'export-in-use');
  assert.equal(value(await client.setEpoch('a', { volume: 'v', epoch: 9 })).clients.length, 1);
  const grown = value(await client.resize('a', { sizeBytes: 2 * MIB, epoch: 9, volume: 'v' }));
  assert.equal(grown.sizeBytes, 2 * MIB);
  await assert.rejects(host.read(MIB, 512), 'a session keeps the size it attached');
  await host.disconnect();
  const later = await NbdClient.connect(`nbd://127.0.0.1:${agent.nbdPort}/a`);
  assert.equal(later.sizeBytes, 2 * MIB);
  assert((await later.read(MIB, 512)).every((byte) => byte === 0));
  await later.disconnect();
});

api('says what it is, and is another incarnation after a restart', async ({ client, agent, rig }) => {
  const info = value(await client.info());
  assert.deepEqual([info.incarnation, info.nbd.port, info.exports], [agent.incarnation, agent.nbdPort, 0]);
  assert(info.freeBytes > 0 && info.freeBytes <= info.capacityBytes);
  assert.match(info.version, /^\d+\.\d+\.\d+/);
  assert.deepEqual(client.nbdAddress(info), { host: '127.0.0.1', port: agent.nbdPort });
  assert.deepEqual(client.nbdAddress({ ...info, nbd: { host: '0.0.0.0', port: 5 } }), { host: '127.0.0.1', port: 5 });
  await rig.stop(agent);
  const again = await rig.agent();
  assert.notEqual(again.incarnation, info.incarnation);
});

const misuses: [name: string, path: string, init: RequestInit, status: number, code: string][] = [
  ['an unknown route', '/v2/exports', {}, 404, 'route-unknown'],
  ['an unknown method', '/v1/info', { method: 'DELETE' }, 404, 'route-unknown'],
  ['an unknown export', '/v1/exports/nope', {}, 404, 'export-unknown'],
  ['a body that is no JSON', '/v1/exports', post('{"name"'), 400, 'invalid-request'],
  ['no body', '/v1/exports', { method: 'POST' }, 400, 'invalid-request'],
  [
    'a body of another type',
    '/v1/exports',
    { method: 'POST', body: 'name=a', headers: { 'content-type': 'text/plain' } },
    415,
    'unsupported-media-type',
  ],
  ['a body too large', '/v1/exports', post(JSON.stringify({ name: 'x'.repeat(20_000) })), 413, 'body-too-large'],
  ['a key it does not know', '/v1/exports', post('{"name":"a","sizeBytes":512,"size":1}'), 400, 'invalid-request'],
  ['a size of zero', '/v1/exports', post('{"name":"a","sizeBytes":0}'), 400, 'invalid-request'],
  ['a size that is no integer', '/v1/exports', post('{"name":"a","sizeBytes":1.5}'), 400, 'invalid-request'],
  ['a size beyond any disk', '/v1/exports', post('{"name":"a","sizeBytes":1e300}'), 400, 'invalid-request'],
  ['a negative epoch', '/v1/exports', post('{"name":"a","sizeBytes":512,"epoch":-1}'), 400, 'invalid-request'],
  ['a name with a slash', '/v1/exports', post('{"name":"a/b","sizeBytes":512}'), 400, 'invalid-name'],
  ['a change of nothing', '/v1/exports/a', { ...post('{}'), method: 'PATCH' }, 400, 'invalid-request'],
  ['an epoch that is no number', '/v1/exports/a?epoch=x', { method: 'DELETE' }, 400, 'invalid-request'],
  ['a name that is not well-formed', '/v1/exports/%ff', {}, 400, 'invalid-request'],
];

function post(body: string): RequestInit {
  return { method: 'POST', body, headers: { 'content-type': 'application/json' } };
}

for (const [name, path, init, status, expected] of misuses) {
  api(`answers ${name} with ${status} and a reason`, async ({ url }) => {
    const answer = await fetch(url + path, init);
    const body = (await answer.json()) as { code: string; message: string; details: unknown };
    assert.deepEqual([answer.status, body.code], [status, expected]);
    assert(body.message.length > 0);
    assert.equal(typeof body.details, 'object');
  });
}

api('shows its figures and simulated disks as the predictor reads them', async ({ client, agent, rig }) => {
  value(await client.createExport(wish));
  const host = await NbdClient.connect(`nbd://127.0.0.1:${agent.nbdPort}/a`);
  await host.write(0, Buffer.alloc(8192, 1));
  await host.flush();
  await host.disconnect();
  const disk = {
    device: 'sim0',
    model: 'M',
    serialNumber: 'S1',
    attributes: { 5: 0, 187: 3, 9: 1000 },
    temperatureCelsius: 35,
    smartStatusPassed: true,
  };
  writeFileSync(join(rig.dir, 'smart.json'), JSON.stringify({ disks: [disk] }));
  const samples = await scrapeSamples(client);
  assert.deepEqual(
    samples.filter(([name]) => name !== 'power_cycles'),
    [
      ['power_on_hours', 1000],
      ['reallocated_sectors', 0],
      ['reported_uncorrectable', 3],
      ['smart_passed', 1],
      ['temperature_celsius', 35],
    ],
  );
  disk.attributes[5] = 24;
  disk.smartStatusPassed = false;
  writeFileSync(join(rig.dir, 'smart.json'), JSON.stringify({ disks: [disk] }));
  const later = new Map(await scrapeSamples(client));
  assert.deepEqual([later.get('reallocated_sectors'), later.get('smart_passed')], [24, 0]);
  const text = value(await client.metricsText());
  assert.match(text, /^forestall_agent_io_bytes_total\{operation="write"\} 8192$/m);
  assert.match(text, /^forestall_agent_exports 1$/m);
  const allocated = statSync(join(rig.dir, 'a.img')).blocks * 512;
  assert.match(text, new RegExp(`^forestall_agent_export_allocated_bytes\\{export="a",volume="v"\\} ${allocated}$`, 'm'));
});

/** [metric, value] of the node's only disk, by name. */
async function scrapeSamples(client: AgentClient): Promise<[string, number][]> {
  const parsed = parsePrometheusText(value(await client.metricsText()));
  assert(parsed.ok);
  const samples = samplesFromSmartctlExporter(parsed.families, 'node', 0);
  assert(samples.every(({ disk, labels }) => disk === 'sim0' && labels?.serial === 'S1'));
  return samples.map(({ metric, value }): [string, number] => [metric, value]).sort(([a], [b]) => (a < b ? -1 : 1));
}

api('is refused a port that is taken, and then leaves the directory free', async ({ agent }) => {
  const other = new Rig();
  await assert.rejects(other.agent({ port: agent.nbdPort }), /NBD cannot be served at 127\.0\.0\.1:\d+: .*EADDRINUSE/);
  await assert.rejects(other.agent({ apiPort: agent.apiPort }), /the API cannot be served at 127\.0\.0\.1:\d+: .*EADDRINUSE/);
  await other.agent();
  await other.remove();
});

api('is refused a directory that another agent serves', async ({ rig }) => {
  await assert.rejects(rig.agent(), /is in use by an agent in process \d+; one directory has one agent/);
});

api('answers what is in flight before it stops, and keeps it', async ({ client, agent, rig }) => {
  value(await client.createExport(wish));
  const host = await NbdClient.connect(`nbd://127.0.0.1:${agent.nbdPort}/a`);
  const written = host.write(0, Buffer.alloc(4096, 6));
  await written;
  await rig.stop(agent);
  await host.closed;
  const again = await rig.agent();
  const later = await NbdClient.connect(`nbd://127.0.0.1:${again.nbdPort}/a`);
  assert((await later.read(0, 4096)).every((byte) => byte === 6));
  await later.disconnect();
});

api.run();

const client = suite<{ server: Server | null }>('agent client');
client.after.each(async (context) => {
  context.server?.closeAllConnections();
  await new Promise((resolve) => (context.server ? context.server.close(resolve) : resolve(null)));
  context.server = null;
});

async function answering(context: { server: Server | null }, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  context.server = server;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

client('says that nobody is there', async (context) => {
  const url = await answering(context, () => {});
  const { server } = context;
  await new Promise((resolve) => server!.close(resolve));
  context.server = null;
  const agent = new AgentClient(url);
  assert.equal(code(await agent.info()), 'agent-unreachable');
  await agent.close();
});

client('gives up on one that does not answer, or never ends its answer', async (context) => {
  const url = await answering(context, (request, response) => {
    if (request.url === '/metrics') response.write('# TYPE a gauge\n');
  });
  const agent = new AgentClient(url, { timeoutMs: 50 });
  assert.equal(code(await agent.info()), 'agent-timeout');
  assert.equal(code(await agent.metricsText()), 'agent-timeout');
  await agent.close();
});

client('takes no answer that is not an agent’s', async (context) => {
  const url = await answering(context, (request, response) => {
    if (request.url === '/v1/info') response.end('<html>');
    else if (request.url === '/v1/exports/a') response.end('{"name":5}');
    else response.writeHead(502).end('<html>bad gateway</html>');
  });
  const agent = new AgentClient(url);
  assert.equal(code(await agent.info()), 'agent-answer-invalid');
  assert.equal(code(await agent.getExport('a')), 'agent-answer-invalid');
  assert.equal(code(await agent.listExports()), 'agent-answer-invalid');
  await agent.close();
});

client('reads no more of an answer than its bound', async (context) => {
  const megabyte = Buffer.alloc(MIB, 32);
  let sentBytes = 0;
  const url = await answering(context, async (_request, response) => {
    const gone = once(response, 'close');
    while (!response.destroyed && sentBytes < 64 * MIB) {
      sentBytes += MIB;
      if (!response.write(megabyte)) await Promise.race([once(response, 'drain'), gone]);
    }
    response.end();
  });
  const agent = new AgentClient(url);
  assert.equal(code(await agent.info()), 'agent-answer-invalid');
  await agent.close();
  assert(sentBytes < 64 * MIB);
});

client.run();
