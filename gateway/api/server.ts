// The HTTP API: endpoints on Fastify, and the manners all of them share. Every error is `{code, message, details}`;
// bodies, headers, connections and waits are bounded. Knows the gateway only as a Backend.
import type { AddressInfo, Socket } from 'node:net';
import swagger from '@fastify/swagger';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Log } from '../../replication/world.js';
import type { Backend, MetricsPage } from './backend.js';
import { type ApiReply, checkRequest, type Endpoint } from './endpoint.js';
import { eventRoutes } from './event-routes.js';
import type { StreamTiming } from './event-stream.js';
import { failureOf, rawRefusal } from './failure.js';
import { nodeRoutes } from './node-routes.js';
import { completeDocument, documentEndpoint, type OpenApiDocument } from './openapi.js';
import { ApiError } from './status.js';
import { systemRoutes } from './system-routes.js';
import { volumeRoutes } from './volume-routes.js';

const BODY_BYTES_MAX = 64 * 1024;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_MS = 60_000;
const CONNECTIONS_MAX = 1_024;
const CLOSE_GRACE_MS = 2_000;
const TIMING: StreamTiming = { heartbeatMs: 15_000, stallMs: 30_000 };

export interface ApiOptions {
  backend: Backend;
  metrics: MetricsPage;
  log: Log;
  /** The product's version, for the document. */
  version: string;
  timing?: StreamTiming;
}

interface RouteConfig {
  endpoint?: Endpoint;
}

export class ApiServer {
  readonly #app: FastifyInstance;

  private constructor(app: FastifyInstance) {
    this.#app = app;
  }

  static async create(options: ApiOptions): Promise<ApiServer> {
    const { backend, metrics, log, version, timing = TIMING } = options;
    const app = Fastify({
      bodyLimit: BODY_BYTES_MAX,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      clientErrorHandler: refuseSocket,
      frameworkErrors: (error, request, reply) => answerFailure(error, request, reply, log),
      routerOptions: { ignoreTrailingSlash: true, maxParamLength: 1_000 },
    });
    app.server.maxConnections = CONNECTIONS_MAX;
    const endpoints = [
      ...systemRoutes(backend, metrics, () => app.swagger()),
      ...volumeRoutes(backend),
      ...nodeRoutes(backend),
      ...eventRoutes(backend, timing),
    ];
    acceptJsonOnly(app);
    app.addHook('onRequest', async (request) => refuseCrossSite(request));
    app.setErrorHandler((error, request, reply) => answerFailure(error, request, reply, log));
    app.setNotFoundHandler((request, reply) => answerFailure(noRoute(endpoints, request), request, reply, log));
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: { title: 'Forestall', version, description: 'Volumes that leave failing nodes. Every error is {code, message, details}.' },
      },
      transform: ({ schema, url, route }) => {
        const { endpoint } = (route.config ?? {}) as RouteConfig;
        return { schema: endpoint === undefined ? { ...schema, hide: true } : documentEndpoint(endpoint), url };
      },
      transformObject: (document) => {
        const { openapiObject } = document as { openapiObject: OpenApiDocument };
        return completeDocument(openapiObject, endpoints);
      },
    });
    for (const endpoint of endpoints) {
      addRoute(app, endpoint);
    }
    await app.ready();
    return new ApiServer(app);
  }

  /** Rejects with the system's error when the address cannot be used. */
  async listen(address: { host: string; port: number }): Promise<{ host: string; port: number }> {
    await this.#app.listen(address);
    const { address: host, port } = this.#app.server.address() as AddressInfo;
    return { host, port };
  }

  /** Close the event log first: it ends the streams. What does not end in time is cut off. */
  async close(): Promise<void> {
    const timer = setTimeout(() => this.#app.server.closeAllConnections(), CLOSE_GRACE_MS);
    try {
      await this.#app.close();
    } finally {
      clearTimeout(timer);
    }
  }
}

function addRoute(app: FastifyInstance, endpoint: Endpoint): void {
  const config: RouteConfig = { endpoint };
  app.route({
    method: endpoint.method,
    url: fastifyPath(endpoint.path),
    bodyLimit: endpoint.bodyBytesMax ?? BODY_BYTES_MAX,
    config,
    async handler(request, reply) {
      const { params, query, body, headers, url } = request;
      send(reply, await endpoint.handle(checkRequest(endpoint, { params, query, body, headers, url })));
      return reply;
    },
  });
}

function send(reply: FastifyReply, answer: ApiReply): void {
  if ('takeOver' in answer) {
    reply.hijack();
    answer.takeOver(reply.raw);
    return;
  }
  reply.header('cache-control', 'no-store');
  if ('text' in answer) {
    reply.code(answer.status).type(answer.contentType).send(answer.text);
  } else {
    reply
      .code(answer.status)
      .headers(answer.headers ?? {})
      .type('application/json; charset=utf-8')
      .send(JSON.stringify(answer.json));
  }
}

function fastifyPath(path: string): string {
  return path.replaceAll(/\{(\w+)\}/g, ':$1');
}

/** JSON or nothing; an empty body is no body, whatever its content type says. */
function acceptJsonOnly(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if ((body as string).trim() === '') {
      done(null, undefined);
      return;
    }
    parse(request, body as string, (error, value) => {
      done(error && new ApiError('invalid-json', 'The body is not valid JSON: look at its quotes, commas and braces.'), value);
    });
  });
  app.addHook('onRequest', async (request) => {
    if (request.headers['content-length'] === '0') {
      delete request.headers['content-type'];
    }
  });
}

/** A page of another site that a browser shows must not be able to flip a volume. */
function refuseCrossSite(request: FastifyRequest): void {
  if (request.method !== 'GET' && request.method !== 'HEAD' && request.headers['sec-fetch-site'] === 'cross-site') {
    throw new ApiError('cross-site', 'A page of another site asked for this; changes are taken from the same site or from programs only.');
  }
}

function noRoute(endpoints: Endpoint[], request: FastifyRequest): ApiError {
  const path = request.url.split('?', 1)[0];
  const allowed = endpoints.filter((endpoint) => covers(endpoint.path, path)).map(({ method }) => method);
  if (allowed.length === 0) {
    return new ApiError('route-not-found', `There is nothing at ${path}. /openapi.json lists all routes.`);
  }
  return new ApiError('method-not-allowed', `${path} does not take ${request.method}, but ${allowed.join(' and ')}.`, { allowed });
}

function covers(pattern: string, path: string): boolean {
  const wanted = pattern.split('/');
  const given = path.replace(/\/$/, '').split('/');
  return wanted.length === given.length && wanted.every((part, i) => part.startsWith('{') || part === given[i]);
}

function answerFailure(error: unknown, request: FastifyRequest, reply: FastifyReply, log: Log): void {
  const bodyBytesMax = (request.routeOptions?.config as RouteConfig | undefined)?.endpoint?.bodyBytesMax ?? BODY_BYTES_MAX;
  const failure = failureOf(error, bodyBytesMax, log, request.url);
  if (Array.isArray(failure.body.details.allowed)) {
    reply.header('allow', failure.body.details.allowed.join(', '));
  }
  reply.code(failure.status).header('cache-control', 'no-store').type('application/json; charset=utf-8').send(JSON.stringify(failure.body));
}

function refuseSocket(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
  } else {
    socket.end(rawRefusal(error));
  }
}
