// The agent's HTTP API: create, claim, grow and delete exports, and what the agent says of itself. Bodies, headers and waits
// are bounded; every error is `{code, message, details}`. Has no opinions: the store decides, this translates.
import type { AddressInfo } from 'node:net';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Log } from '../../replication/world.js';
import { type Outcome, refuse } from '../control.js';
import type { AgentInfo } from './agent-schema.js';
import { epochNumber, exportRole, exportSize, volumeName } from './export-record.js';
import type { ExportStore } from './export-store.js';
import { METRICS_CONTENT_TYPE } from './metrics.js';

const BODY_BYTES_MAX = 16 * 1024;
const REQUEST_MS = 30_000;
const KEEP_ALIVE_MS = 60_000;
const CONNECTIONS_MAX = 256;

/** A code that is not here is a refusal by the present state of things: 409. */
const STATUS: Record<string, number> = {
  'invalid-request': 400,
  'invalid-name': 400,
  'epoch-required': 400,
  'too-large': 400,
  'export-unknown': 404,
  'route-unknown': 404,
  'body-too-large': 413,
  'unsupported-media-type': 415,
  internal: 500,
  'storage-error': 500,
  'shutting-down': 503,
  'no-space': 507,
};

export interface AgentApiOptions {
  store: ExportStore;
  info: () => Promise<AgentInfo>;
  metrics: () => Promise<string>;
  log: Log;
}

const newExport = z.strictObject({
  name: z.string(),
  sizeBytes: exportSize,
  volume: volumeName.default(''),
  epoch: epochNumber.default(0),
  role: exportRole.optional(),
});
const change = z
  .strictObject({
    sizeBytes: exportSize.optional(),
    epoch: epochNumber.optional(),
    volume: volumeName.optional(),
    role: exportRole.optional(),
    adopt: z.boolean().optional(),
  })
  .refine((body) => Object.keys(body).length > 0, 'nothing to change: give sizeBytes, epoch, volume, role or adopt');
const deletionQuery = z.strictObject({
  epoch: z.string().regex(/^\d+$/, 'a number from 0').transform(Number).pipe(epochNumber).optional(),
  volume: volumeName.optional(),
});

type NamedRequest = FastifyRequest<{ Params: { name: string } }>;

export class AgentApi {
  readonly #app: FastifyInstance;

  constructor(private readonly options: AgentApiOptions) {
    this.#app = Fastify({
      bodyLimit: BODY_BYTES_MAX,
      requestTimeout: REQUEST_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      forceCloseConnections: true,
      routerOptions: { maxParamLength: 1_000 },
      frameworkErrors: (error, _request, reply) => answerError(error, reply, options.log),
    });
    this.#app.removeContentTypeParser('text/plain');
    this.#app.server.maxConnections = CONNECTIONS_MAX;
    this.#app.setErrorHandler((error: FastifyError, _request, reply) => answerError(error, reply, options.log));
    this.#app.setNotFoundHandler((request, reply) =>
      answerRefusal(reply, refuse('route-unknown', `there is no ${request.method} ${request.url.split('?', 1)[0]} here`)),
    );
    this.#addRoutes();
  }

  /** Resolves with the port; rejects with the system's error when the address cannot be had. */
  async listen(address: { host: string; port: number }): Promise<number> {
    await this.#app.listen(address);
    return (this.#app.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    await this.#app.close();
  }

  #addRoutes(): void {
    const app = this.#app;
    const { store, info, metrics } = this.options;
    app.get('/healthz', async () => ({ status: 'ok' }));
    app.get('/v1/info', () => info());
    app.get('/metrics', async (_request, reply) => reply.type(METRICS_CONTENT_TYPE).send(await metrics()));
    app.get('/v1/exports', async () => ({ exports: await store.views() }));
    app.get('/v1/exports/:name', async (request: NamedRequest, reply) => {
      const stored = store.get(request.params.name);
      if (stored) return stored.view();
      return answerRefusal(reply, refuse('export-unknown', `there is no export named ${JSON.stringify(request.params.name)}`));
    });
    app.post('/v1/exports', async (request, reply) => {
      const wish = parse(newExport, request.body, 'body');
      const created = wish.ok ? await store.create(wish.value) : wish;
      if (!created.ok) return answerRefusal(reply, created);
      return reply.code(created.value.created ? 201 : 200).send(await created.value.stored.view());
    });
    app.patch('/v1/exports/:name', async (request: NamedRequest, reply) => {
      const wish = parse(change, request.body, 'body');
      const changed = wish.ok ? await store.update(request.params.name, wish.value) : wish;
      return changed.ok ? changed.value.view() : answerRefusal(reply, changed);
    });
    app.delete('/v1/exports/:name', async (request: NamedRequest, reply) => {
      const { name } = request.params;
      const wish = parse(deletionQuery, request.query, 'query');
      const deleted = wish.ok ? await store.delete(name, wish.value) : wish;
      return deleted.ok ? { name, removed: deleted.value.removed } : answerRefusal(reply, deleted);
    });
  }
}

function parse<T>(schema: z.ZodType<T>, input: unknown, where: 'body' | 'query'): Outcome<T> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return { ok: true, value: parsed.data };
  const problems = parsed.error.issues.map(({ path, message }) => ({ at: path.join('.'), message }));
  const text = problems.map(({ at, message }) => (at === '' ? message : `${at}: ${message}`)).join('; ');
  return refuse('invalid-request', `the ${where} is not valid: ${text}`, { problems });
}

function answerRefusal(reply: FastifyReply, refusal: Outcome<unknown>): FastifyReply {
  if (refusal.ok) throw new Error('only a refusal is answered as one');
  const { code, message, details = {} } = refusal;
  return reply.code(STATUS[code] ?? 409).send({ code, message, details });
}

function answerError(error: FastifyError, reply: FastifyReply, log: Log): FastifyReply {
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return answerRefusal(reply, refuse('body-too-large', `a body has at most ${BODY_BYTES_MAX} bytes`));
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return answerRefusal(reply, refuse('unsupported-media-type', 'the body is JSON: send content-type: application/json'));
  }
  if (error.statusCode !== undefined && error.statusCode < 500) return answerRefusal(reply, refuse('invalid-request', error.message));
  log.error({ error: error.stack ?? String(error) }, 'a request to the API failed because of a defect');
  return answerRefusal(reply, refuse('internal', 'the agent failed to answer this request; its log says why'));
}
