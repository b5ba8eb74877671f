// The OpenAPI document: it holds every promised route, nothing in it dangles, and it says how requests fail.
import assert from 'node:assert/strict';
import { request } from 'undici';
import { suite } from 'uvu';
import { startFakeApi } from './api-fake-backend.js';

const test = suite('api/openapi');

type Json = Record<string, unknown>;
interface Operation extends Json {
  operationId: string;
  summary: string;
  parameters?: { name: string; in: string; required: boolean; schema: Json }[];
  requestBody?: { required: boolean; content: Record<string, { schema: Json }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: Json }> }>;
}

const api = await startFakeApi();
const document = (await (await request(`${api.url}/openapi.json`)).body.json()) as {
  openapi: string;
  info: Json;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Json> };
};
await api.close();

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, path, operation })),
);

function everyObject(value: unknown, visit: (object: Json) => void): void {
  if (Array.isArray(value)) {
    for (const item of value) {
      everyObject(item, visit);
    }
  } else if (value !== null && typeof value === 'object') {
    visit(value as Json);
    for (const item of Object.values(value)) {
      everyObject(item, visit);
    }
  }
}

test('it is OpenAPI 3.1 and holds the promised routes, no others', () => {
  assert.equal(document.openapi, '3.1.0');
  assert.ok(document.info.title && document.info.version);
  assert.deepEqual(
    operations.map(({ name }) => name).sort(),
    [
      'DELETE /v1/volumes/{name}/mirrors/{node}',
      'GET /healthz',
      'GET /metrics',
      'GET /openapi.json',
      'GET /readyz',
      'GET /v1/events',
      'GET /v1/nodes',
      'GET /v1/nodes/{id}',
      'GET /v1/verdicts',
      'GET /v1/volumes',
      'GET /v1/volumes/{name}',
      'PATCH /v1/volumes/{name}',
      'POST /v1/config/reload',
      'POST /v1/nodes/{id}/samples',
      'POST /v1/nodes/{id}/verdicts',
      'POST /v1/volumes/{name}/flip',
      'POST /v1/volumes/{name}/mirrors',
      'POST /v1/volumes/{name}/rollback',
      'POST /v1/volumes/{name}/scrub',
      'POST /v1/volumes/{name}/takeover',
    ].sort(),
  );
});

test('every reference resolves, and every named schema is used', () => {
  const used = new Set<string>();
  everyObject(document, (object) => {
    if ('$ref' in object) {
      const match = /^#\/components\/schemas\/(\w+)$/.exec(String(object.$ref));
      assert.ok(match && document.components.schemas[match[1]], `dangling ${object.$ref}`);
      used.add(match[1]);
    }
    assert.ok(!('$id' in object) && !('$schema' in object), 'no identity of its own inside the document');
  });
  assert.deepEqual([...used].sort(), Object.keys(document.components.schemas).sort());
});

test('a size is a text or a number of bytes, and must be given', () => {
  const { properties, required } = document.components.schemas.NewSize as { properties: { size: Json }; required: string[] };
  assert.deepEqual([required, properties.size.type], [['size'], ['string', 'number']]);
});

test('every operation has an id of its own, a summary, answers with contents, and failures in the one shape', () => {
  assert.equal(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length);
  for (const { name, operation } of operations) {
    assert.ok(operation.summary, name);
    const statuses = Object.keys(operation.responses);
    assert.ok(
      statuses.some((status) => status.startsWith('2')),
      name,
    );
    assert.ok(statuses.includes('500'), name);
    for (const [status, { description, content }] of Object.entries(operation.responses)) {
      assert.ok(description, `${name} ${status}`);
      assert.ok(Object.keys(content ?? {}).length > 0, `${name} ${status}`);
      if (Number(status) >= 400 && name !== 'GET /readyz') {
        assert.deepEqual(content!['application/json'].schema, { $ref: '#/components/schemas/Error' }, `${name} ${status}`);
      }
    }
  }
});

test('the parameters of a path are declared, required and typed; bodies say whether they may be left out', () => {
  for (const { name, path, operation } of operations) {
    const inPath = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
    const wanted = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
    assert.deepEqual(inPath.map((parameter) => parameter.name).sort(), wanted.sort(), name);
    for (const parameter of operation.parameters ?? []) {
      assert.ok(parameter.schema.type !== undefined || parameter.schema.enum !== undefined, `${name} ${parameter.name}`);
      assert.equal(parameter.required, parameter.in === 'path', `${name} ${parameter.name}`);
    }
  }
  const required = operations.filter(({ operation }) => operation.requestBody?.required).map(({ operation }) => operation.operationId);
  assert.deepEqual(required.sort(), ['giveVerdict', 'growVolume', 'pushSamples']);
});

test.run();
