// One route of the API as data: what it takes, what it answers, and what it does. The server checks requests by it and
// the OpenAPI document is made of it, so that neither can differ from the other.
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { z } from 'zod';
import { problemsOf } from './problem.js';
import { ApiError } from './status.js';

export interface ResponseDoc {
  description: string;
  /** JSON, one of the named schemas; none: see `contentType`. */
  schema?: z.ZodType;
  /** Another kind of body than JSON; beside `schema`: both, by the request's Accept header. */
  contentType?: string;
}

/** What a handler gets, checked. `body` is undefined when none came. */
export interface ApiRequest<P, Q, B> {
  params: P;
  query: Q;
  body: B;
  headers: IncomingHttpHeaders;
  url: string;
}

/** What a handler answers: JSON, a text, or nothing more because it took the response over. */
export type ApiReply =
  | { status: number; json: unknown; headers?: Record<string, string> }
  | { status: number; text: string; contentType: string }
  | { takeOver: (response: ServerResponse) => void };

export interface Endpoint {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** As OpenAPI writes it: `/v1/volumes/{name}`. */
  path: string;
  id: string;
  tag: 'system' | 'volumes' | 'nodes' | 'verdicts' | 'events';
  summary: string;
  params?: z.ZodType;
  query?: z.ZodType;
  body?: z.ZodType;
  /** The body may be left out. */
  bodyOptional?: boolean;
  bodyBytesMax?: number;
  responses: Record<number, ResponseDoc>;
  /** Statuses it can refuse with, beyond 400 and 500. */
  refusals: number[];
  handle(request: ApiRequest<unknown, unknown, unknown>): Promise<ApiReply> | ApiReply;
}

type Parsed<S> = S extends z.ZodType ? z.output<S> : undefined;

/** Ties the types of the handler to the schemas. */
export function endpoint<P extends z.ZodType | undefined, Q extends z.ZodType | undefined, B extends z.ZodType | undefined>(
  definition: Omit<Endpoint, 'params' | 'query' | 'body' | 'handle'> & {
    params?: P;
    query?: Q;
    body?: B;
    handle(request: ApiRequest<Parsed<P>, Parsed<Q>, Parsed<B>>): Promise<ApiReply> | ApiReply;
  },
): Endpoint {
  return definition as Endpoint;
}

function check(schema: z.ZodType | undefined, where: string, value: unknown): unknown {
  if (schema === undefined) {
    return undefined;
  }
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) {
    return result.data;
  }
  const problems = problemsOf(result.error, where, schema);
  const message = problems.map(({ path, problem }) => `${path} ${problem}`).join('; ');
  throw new ApiError('invalid-request', `${message}.`, { problems });
}

/** Throws `invalid-request`, with every problem and its place. */
export function checkRequest(
  { params, query, body, bodyOptional }: Endpoint,
  raw: { params: unknown; query: unknown; body: unknown; headers: IncomingHttpHeaders; url: string },
): ApiRequest<unknown, unknown, unknown> {
  if (body !== undefined && bodyOptional !== true && raw.body === undefined) {
    throw new ApiError('invalid-request', 'The request needs a JSON body; /openapi.json lists its fields.', {
      problems: [{ path: 'body', problem: 'must be JSON, it is missing' }],
    });
  }
  return {
    params: check(params, 'path', raw.params),
    query: check(query, 'query', raw.query),
    body: raw.body === undefined || (raw.body === null && bodyOptional === true) ? undefined : check(body, 'body', raw.body),
    headers: raw.headers,
    url: raw.url,
  };
}
