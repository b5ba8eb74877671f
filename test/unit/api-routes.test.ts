// The API over real HTTP: what every route answers, and that what is refused is refused in one shape and in words.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { request } from 'undici';
import { suite } from 'uvu';
import * as schemas from '../../gateway/api/schemas.js';
import { type RunningApi, startFakeApi } from './api-fake-backend.js';

const test = suite<{ api: RunningApi }>('api/routes');

test.before.each(async (context) => {
  context.api = await startFakeApi();
});

test.after.each(async ({ api }) => {
  await api.close();
});

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  // biome-ignore lint/suspicious/noExplicitAny: the tests look into whatever JSON came.
  json: any;
}

async function call(api: RunningApi, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const raw = typeof body === 'string' || body === undefined ? body : JSON.stringify(body);
  const type: Record<string, string> = raw === undefined ? {} : { 'content-type': 'application/json' };
  const response = await request(api.url + path, { method: method as 'GET', body: raw, headers: { ...type, ...headers } });
  const answer = await response.body.text();
  const isJson = response.headers['content-type']?.includes('json') && answer !== '';
  return { status: response.statusCode, headers: response.headers, json: isJson ? JSON.parse(answer) : answer };
}

async function refused(api: RunningApi, status: number, code: string, ...args: [string, string, unknown?, Record<string, string>?]) {
  const answer = await call(api, ...args);
  const what = `${args[0]} ${args[1]} ${JSON.stringify(args[2])}: ${JSON.stringify(answer.json)}`;
  assert.equal(answer.status, status, what);
  assert.deepEqual(Object.keys(answer.json), ['code', 'message', 'details'], what);
  assert.equal(answer.json.code, code, what);
  assert.match(answer.json.message, /[.]$/, what);
  return answer;
}

test('every route answers with what its schema says', async ({ api }) => {
  const { backend } = api;
  const expectations: [string, string, unknown, number, { parse(value: unknown): unknown }][] = [
    ['GET', '/healthz', undefined, 200, schemas.Health],
    ['GET', '/readyz', undefined, 200, schemas.Ready],
    ['GET', '/v1/volumes', undefined, 200, schemas.VolumeList],
    ['GET', '/v1/volumes/vol0', undefined, 200, schemas.Volume],
    ['PATCH', '/v1/volumes/vol0', { size: '20GiB' }, 200, schemas.Volume],
    ['PATCH', '/v1/volumes/vol0', { size: 20 * 1024 ** 3 }, 200, schemas.Volume],
    ['POST', '/v1/volumes/vol0/mirrors', undefined, 202, schemas.Mirror],
    ['DELETE', '/v1/volumes/vol0/mirrors/b', undefined, 200, schemas.Target],
    ['POST', '/v1/volumes/vol0/mirrors', { node: 'b' }, 202, schemas.Mirror],
    ['POST', '/v1/volumes/vol0/scrub', undefined, 202, schemas.Scrub],
    ['POST', '/v1/volumes/vol0/scrub?wait=true', {}, 200, schemas.Scrub],
    ['POST', '/v1/volumes/vol0/rollback', undefined, 200, schemas.Rollback],
    ['GET', '/v1/nodes', undefined, 200, schemas.NodeList],
    ['GET', '/v1/nodes/c', undefined, 200, schemas.Node],
    ['POST', '/v1/nodes/a/samples', { smart: 1 }, 202, schemas.Samples],
    ['POST', '/v1/nodes/a/verdicts', { probability: 0.99, reason: 'clicks' }, 201, schemas.VerdictSchema],
    ['GET', '/v1/verdicts?node=a&firing=true', undefined, 200, schemas.VerdictList],
    ['GET', '/v1/events', undefined, 200, schemas.EventList],
    ['POST', '/v1/config/reload', undefined, 200, schemas.Reload],
  ];
  for (const [method, path, body, status, schema] of expectations) {
    const answer = await call(api, method, path, body);
    assert.equal(answer.status, status, `${method} ${path}: ${JSON.stringify(answer.json)}`);
    schema.parse(answer.json);
    assert.equal(answer.headers['cache-control'], 'no-store');
  }
  const grown = `grow vol0 ${20 * 1024 ** 3}`;
  assert.deepEqual(backend.calls, [grown, grown, 'mirror vol0 null', 'drop vol0 b', 'mirror vol0 b']);
  assert.deepEqual(backend.samples, [{ smart: 1 }]);
});

test('a flip answers 200 with its certificate', async ({ api }) => {
  await call(api, 'POST', '/v1/volumes/vol0/mirrors', { node: 'b' });
  await refused(api, 409, 'not-synced', 'POST', '/v1/volumes/vol0/flip');
  api.backend.volume('vol0')!.mirrors[0].state = 'synced';
  const { status, json } = await call(api, 'POST', '/v1/volumes/vol0/flip', { node: 'b' });
  assert.equal(status, 200);
  schemas.Certificate.parse(json);
  assert.deepEqual([json.epoch, json.from.node, json.to.node, json.pauseMs], [1, 'a', 'b', 3.25]);
  schemas.Volume.parse((await call(api, 'GET', '/v1/volumes/vol0')).json);
});

test('a takeover says what may be lost before it is agreed to, and answers 200 with its certificate', async ({ api }) => {
  const refusal = await refused(api, 409, 'loss-not-accepted', 'POST', '/v1/volumes/vol0/takeover');
  assert.deepEqual(refusal.json.details, { lossBytes: 1_048_576 });
  const { status, json } = await call(api, 'POST', '/v1/volumes/vol0/takeover', { node: 'b', acceptLoss: true });
  assert.equal(status, 200);
  schemas.Certificate.parse(json);
  assert.deepEqual([json.kind, json.dirtyRegions], ['failover', 16]);
  await refused(api, 400, 'invalid-request', 'POST', '/v1/volumes/vol0/takeover', { acceptLoss: 'yes' });
  await refused(api, 404, 'node-not-found', 'POST', '/v1/volumes/vol0/takeover', { node: 'z', acceptLoss: true });
});

test('names with spaces, slashes and other alphabets are found under their encoded form', async ({ api }) => {
  const { status, json } = await call(api, 'GET', `/v1/volumes/${encodeURIComponent('spaced name/ü')}`);
  assert.equal(status, 200);
  assert.equal(json.service, 'blocked');
});

test('what is not ready says why with 503', async ({ api }) => {
  api.backend.isReady = false;
  const { status, json } = await call(api, 'GET', '/readyz');
  assert.equal(status, 503);
  assert.deepEqual(json, { ready: false, reasons: ['vol0 waits for node a'] });
  assert.equal((await call(api, 'GET', '/healthz')).status, 200);
});

test('metrics are text with the type of the exposition', async ({ api }) => {
  const { status, headers, json } = await call(api, 'GET', '/metrics');
  assert.equal(status, 200);
  assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/);
  assert.match(json, /^# HELP x /);
});

test('what does not exist is 404 and names what does', async ({ api }) => {
  const volume = await refused(api, 404, 'volume-not-found', 'GET', '/v1/volumes/nope');
  assert.match(volume.json.message, /no volume "nope".*vol0/);
  for (const action of ['mirrors', 'flip', 'takeover', 'rollback', 'scrub']) {
    await refused(api, 404, 'volume-not-found', 'POST', `/v1/volumes/nope/${action}`);
  }
  const node = await refused(api, 404, 'node-not-found', 'GET', '/v1/nodes/z');
  assert.match(node.json.message, /no node "z".*a, b, c/);
  await refused(api, 404, 'node-not-found', 'POST', '/v1/nodes/z/samples', {});
  await refused(api, 404, 'node-not-found', 'POST', '/v1/volumes/vol0/mirrors', { node: 'z' });
  await refused(api, 404, 'node-not-found', 'GET', '/v1/verdicts?node=z');
  await refused(api, 404, 'mirror-not-found', 'DELETE', '/v1/volumes/vol0/mirrors/b');
  await refused(api, 404, 'route-not-found', 'GET', '/v2/volumes');
  await refused(api, 404, 'route-not-found', 'GET', '/');
});

test('a method that a path does not take is 405 with those it takes', async ({ api }) => {
  const answer = await refused(api, 405, 'method-not-allowed', 'PUT', '/v1/volumes/vol0');
  assert.equal(answer.headers.allow, 'GET, PATCH');
  await refused(api, 405, 'method-not-allowed', 'GET', '/v1/volumes/vol0/flip');
  await refused(api, 405, 'method-not-allowed', 'DELETE', '/openapi.json');
});

test('a size that is none, or out of bounds, is 400 and says what would be right; a smaller one is 409', async ({ api }) => {
  for (const [size, said] of [
    ['20 gigs', /body.size "20 gigs"/],
    ['', /body.size "" is no size/],
    [100, /body.size must be from 512B to 1024TiB, is 100/],
    ['2048TiB', /body.size must be from 512B to 1024TiB/],
    [true, /body.size must be a size such as 1GiB/],
    [undefined, /body.size is missing: it must be a size such as 1GiB/],
    ['20GB/s', /body.size "20GB\/s" is no size/],
  ] as const) {
    const wrong = await refused(api, 400, 'invalid-request', 'PATCH', '/v1/volumes/vol0', { size });
    assert.match(wrong.json.message, said);
  }
  await refused(api, 400, 'invalid-request', 'PATCH', '/v1/volumes/vol0', { size: '2GiB', name: 'vol1' });
  await refused(api, 404, 'volume-not-found', 'PATCH', '/v1/volumes/nope', { size: '2GiB' });
  const smaller = await refused(api, 409, 'shrink-refused', 'PATCH', '/v1/volumes/vol0', { size: '1MiB' });
  assert.deepEqual(smaller.json.details, { sizeBytes: 1024 ** 3 });
});

test('a body or query that is wrong is 400, with every problem and what would be right', async ({ api }) => {
  const verdict = await refused(api, 400, 'invalid-request', 'POST', '/v1/nodes/a/verdicts', { probability: 2, extra: 1 });
  assert.deepEqual(
    verdict.json.details.problems.map((problem: { path: string }) => problem.path),
    ['body.probability', 'body.reason', 'body'],
  );
  assert.match(verdict.json.message, /probability must be at most 1, not 2/);
  for (const body of [
    { probability: '0.9', reason: 'x' },
    { probability: 0.9, reason: '' },
    [],
    7,
    null,
    '{',
    '{"__proto__": {}}',
    undefined,
  ]) {
    const { status, json } = await call(api, 'POST', '/v1/nodes/a/verdicts', body === null ? 'null' : body);
    assert.equal(status, 400, JSON.stringify(body));
    assert.ok(json.message.length > 10);
  }
  assert.equal(api.backend.given.length, 0);
  await refused(api, 400, 'invalid-request', 'POST', '/v1/volumes/vol0/mirrors', { nod: 'b' });
  const wrongType = await refused(api, 400, 'invalid-request', 'POST', '/v1/volumes/vol0/mirrors', { node: 5 });
  assert.equal(wrongType.json.message, 'body.node must be a string, not 5.');
  const wrongBody = await refused(api, 400, 'invalid-request', 'POST', '/v1/volumes/vol0/mirrors', []);
  assert.equal(wrongBody.json.message, 'body must be an object, not [].');
  await refused(api, 400, 'invalid-request', 'POST', '/v1/volumes/vol0/rollback', { really: true });
  await refused(api, 400, 'invalid-request', 'POST', '/v1/volumes/vol0/scrub?wait=yes');
  for (const query of ['limit=0', 'limit=ten', 'since=-1', 'since=1.5', 'sinse=1', 'type=']) {
    await refused(api, 400, 'invalid-request', 'GET', `/v1/events?${query}`);
  }
  await refused(api, 400, 'samples-invalid', 'POST', '/v1/nodes/a/samples', '"text"');
  await refused(api, 400, 'invalid-json', 'POST', '/v1/nodes/a/samples', '{"a":');
});

test('a body may be left out where it says nothing, whatever the content type', async ({ api }) => {
  for (const [body, headers] of [
    ['', { 'content-type': 'application/json' }],
    ['', { 'content-type': 'application/x-www-form-urlencoded' }],
    ['null', {}],
    [' ', {}],
  ] as [string, Record<string, string>][]) {
    assert.equal((await call(api, 'POST', '/v1/volumes/vol0/rollback', body, headers)).status, 200, JSON.stringify([body, headers]));
  }
});

test('bodies of another type or too large are 415 and 413', async ({ api }) => {
  await refused(api, 415, 'unsupported-media-type', 'POST', '/v1/nodes/a/samples', 'a=1', { 'content-type': 'text/plain' });
  const large = await refused(api, 413, 'body-too-large', 'POST', '/v1/volumes/vol0/flip', { node: 'x'.repeat(70_000) });
  assert.match(large.json.message, /at most 65536 bytes/);
  assert.equal((await call(api, 'POST', '/v1/nodes/a/samples', { x: 'x'.repeat(1_000_000) })).status, 202, 'samples may be longer');
});

test('refusals of the gateway keep their code, message and details under the status of the table', async ({ api }) => {
  const same = await refused(api, 409, 'same-node', 'POST', '/v1/volumes/vol0/mirrors', { node: 'a' });
  assert.deepEqual(same.json.details, { candidates: ['b'] });
  await refused(api, 503, 'node-down', 'POST', '/v1/volumes/vol0/mirrors', { node: 'c' });
  await refused(api, 409, 'no-mirror', 'POST', '/v1/volumes/vol0/flip');
  api.backend.reloadOutcome = { ok: false, code: 'config-invalid', message: 'gateway.yaml:3:1 nodes: wrong.', details: { problems: [] } };
  await refused(api, 422, 'config-invalid', 'POST', '/v1/config/reload');
});

test('a defect is 500 and does not tell its message', async ({ api }) => {
  const { json } = await refused(api, 500, 'internal', 'POST', '/v1/nodes/a/samples', '"crash"');
  assert.ok(!JSON.stringify(json).includes('secret'));
});

test('a page of another site cannot change anything', async ({ api }) => {
  await refused(api, 403, 'cross-site', 'POST', '/v1/volumes/vol0/rollback', undefined, { 'sec-fetch-site': 'cross-site' });
  assert.equal((await call(api, 'POST', '/v1/volumes/vol0/rollback', undefined, { 'sec-fetch-site': 'same-origin' })).status, 200);
});

test('bytes that are no request, and paths that are no path, are answered in the same shape', async ({ api }) => {
  await refused(api, 400, 'invalid-request', 'GET', '/v1/volumes/%zz');
  for (const [bytes, status] of [
    ['garbage\r\n\r\n', 400],
    [`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`, 431],
  ] as [string, number][]) {
    const socket = connect(Number(new URL(api.url).port), '127.0.0.1');
    socket.end(bytes);
    const answer = await text(socket);
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `));
    assert.deepEqual(Object.keys(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))), ['code', 'message', 'details']);
  }
});

test.run();
