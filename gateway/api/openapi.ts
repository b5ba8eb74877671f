// The OpenAPI 3.1 document, made from the same endpoints the server checks requests by. Pure.
import { z } from 'zod';
import type { Endpoint, ResponseDoc } from './endpoint.js';
import { components, Failure } from './schemas.js';

type Json = Record<string, unknown>;

const COMPONENTS = '#/components/schemas/';

const REFUSAL_TEXT: Readonly<Record<number, string>> = {
  400: 'The request is wrong; the message says what would be right',
  404: 'There is no such thing',
  409: 'Refused as things stand now, with the reason',
  413: 'The body is too large',
  415: 'The body is no JSON',
  422: 'The configuration file is wrong; nothing was changed',
  500: 'A defect of the gateway; its log says more',
  503: 'Not possible at this moment; try again',
  504: 'A node did not answer in time; whether it did what was asked is not known',
};

/** As far as we look into it. */
export interface OpenApiDocument {
  paths?: Record<string, Record<string, { requestBody?: { required?: boolean } }>>;
  components?: Json;
}

function componentSchemas(): Record<string, Json> {
  const { schemas } = z.toJSONSchema(components, { uri: (id) => COMPONENTS + id, io: 'input' });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, schema]) => {
      const { $schema: _, $id: __, ...rest } = schema as Json;
      return [id, rest];
    }),
  );
}

function reference(schema: z.ZodType): Json {
  const entry = components.get(schema);
  return entry === undefined ? {} : { $ref: COMPONENTS + entry.id };
}

/** Parameters carry no named schemas. */
function inline(schema: z.ZodType): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Json;
  return rest;
}

function responseOf({ description, schema, contentType }: ResponseDoc): Json {
  const content: Json = {};
  if (schema !== undefined) {
    content['application/json'] = { schema: reference(schema) };
  }
  if (contentType !== undefined) {
    content[contentType] = { schema: { type: 'string' } };
  }
  return { description, content };
}

function refusalsOf({ params, query, body, refusals }: Endpoint): number[] {
  const statuses = new Set([...refusals, 500]);
  if (params !== undefined || query !== undefined || body !== undefined) {
    statuses.add(400);
  }
  if (body !== undefined) {
    statuses.add(413).add(415);
  }
  return [...statuses].sort((a, b) => a - b);
}

/** What @fastify/swagger takes as the schema of a route. */
export function documentEndpoint(endpoint: Endpoint): Json {
  const response: Json = {};
  for (const [status, doc] of Object.entries(endpoint.responses)) {
    response[status] = responseOf(doc);
  }
  for (const status of refusalsOf(endpoint)) {
    response[status] ??= responseOf({ description: REFUSAL_TEXT[status], schema: Failure });
  }
  return {
    operationId: endpoint.id,
    summary: endpoint.summary,
    tags: [endpoint.tag],
    ...(endpoint.params && { params: inline(endpoint.params) }),
    ...(endpoint.query && { querystring: inline(endpoint.query) }),
    ...(endpoint.body && { body: reference(endpoint.body) }),
    response,
  };
}

/** Adds what @fastify/swagger cannot know: the named schemas, and which bodies may be left out. */
export function completeDocument<D extends OpenApiDocument>(document: D, endpoints: Endpoint[]): D {
  for (const { path, method, bodyOptional } of endpoints) {
    const requestBody = document.paths?.[path]?.[method.toLowerCase()]?.requestBody;
    if (requestBody !== undefined) {
      requestBody.required = bodyOptional !== true;
    }
  }
  return { ...document, components: { ...document.components, schemas: componentSchemas() } };
}
