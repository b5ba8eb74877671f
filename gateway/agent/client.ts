// The gateway's side of an agent's API, over undici. Every call ends within its time, reads a bounded answer, checks it, and
// gives an Outcome: the agent's own refusals with their codes, or `agent-unreachable`, `agent-timeout`, `agent-answer-invalid`.
// Repeats nothing: after a timeout nobody knows whether a change was made; all of them may be asked for again.
import { Agent, request } from 'undici';
import type { z } from 'zod';
import { type Outcome, refuse } from '../control.js';
import type { WireAddress } from '../wire.js';
import { type AgentInfo, agentError, agentInfo, type Deletion, deletion, type ExportView, exportList, exportView } from './agent-schema.js';
import type { Change, NewExport } from './export-store.js';
import { parseJson } from './json-text.js';

const TIMEOUT_MS = 10_000;
const JSON_BYTES_MAX = 8 * 1024 * 1024;
const METRICS_BYTES_MAX = 16 * 1024 * 1024;

export interface AgentClientOptions {
  /** For a whole call. Default 10,000. */
  timeoutMs?: number;
}

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

export class AgentClient {
  readonly #base: URL;
  readonly #timeoutMs: number;
  readonly #http: Agent;

  /** `url` is the agent's API: `http://127.0.0.1:8091`. */
  constructor(url: string, options: AgentClientOptions = {}) {
    this.#base = new URL(url.endsWith('/') ? url : `${url}/`);
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#http = new Agent({
      connections: 4,
      connect: { timeout: this.#timeoutMs },
      headersTimeout: this.#timeoutMs,
      bodyTimeout: this.#timeoutMs,
      maxResponseSize: METRICS_BYTES_MAX,
    });
  }

  info(): Promise<Outcome<AgentInfo>> {
    return this.#json(agentInfo, 'GET', 'v1/info');
  }

  /** Where the agent serves its exports: a wildcard host means the one its API was reached by. */
  nbdAddress(info: AgentInfo): WireAddress {
    const wildcard = info.nbd.host === '0.0.0.0' || info.nbd.host === '::';
    const host = wildcard ? this.#base.hostname.replace(/^\[|\]$/g, '') : info.nbd.host;
    return { host, port: info.nbd.port };
  }

  async listExports(): Promise<Outcome<ExportView[]>> {
    const listed = await this.#json(exportList, 'GET', 'v1/exports');
    return listed.ok ? { ok: true, value: listed.value.exports } : listed;
  }

  getExport(name: string): Promise<Outcome<ExportView>> {
    return this.#json(exportView, 'GET', exportPath(name));
  }

  /** A new blank export, or the one that was made by asking for the same before (`blank` says whether it still is). */
  createExport(wish: NewExport): Promise<Outcome<ExportView>> {
    return this.#json(exportView, 'POST', 'v1/exports', wish);
  }

  /** Owner and epoch; `adopt` overrides another owner or a newer epoch, and is refused while connections are open. */
  setEpoch(
    name: string,
    claim: { volume: string; epoch: number; role?: 'active' | 'mirror'; adopt?: boolean },
  ): Promise<Outcome<ExportView>> {
    return this.update(name, claim);
  }

  /** Grows; never shrinks. `epoch` and `volume` fence: a newer epoch or another owner refuses it. */
  resize(name: string, wish: { sizeBytes: number; epoch: number; volume: string }): Promise<Outcome<ExportView>> {
    return this.update(name, wish);
  }

  update(name: string, wish: Change): Promise<Outcome<ExportView>> {
    return this.#json(exportView, 'PATCH', exportPath(name), wish);
  }

  deleteExport(name: string, wish: { epoch: number; volume?: string }): Promise<Outcome<Deletion>> {
    const query = new URLSearchParams({ epoch: String(wish.epoch) });
    if (wish.volume !== undefined) query.set('volume', wish.volume);
    return this.#json(deletion, 'DELETE', `${exportPath(name)}?${query}`);
  }

  /** The Prometheus text of /metrics. */
  metricsText(): Promise<Outcome<string>> {
    return this.#call('GET', 'metrics', undefined, METRICS_BYTES_MAX);
  }

  async close(): Promise<void> {
    await this.#http.destroy();
  }

  async #json<T>(schema: z.ZodType<T>, method: Method, path: string, body?: object): Promise<Outcome<T>> {
    const answer = await this.#call(method, path, body, JSON_BYTES_MAX);
    if (!answer.ok) return answer;
    const parsed = schema.safeParse(parseJson(answer.value));
    if (parsed.success) return { ok: true, value: parsed.data };
    const issue = parsed.error.issues[0];
    return refuse(
      'agent-answer-invalid',
      `${this.#base.origin} answered ${method} /${path} with what is no such answer: ${issue.message}`,
      {
        at: issue.path.join('.'),
      },
    );
  }

  /** The text of a successful answer. */
  async #call(method: Method, path: string, body: object | undefined, bytesMax: number): Promise<Outcome<string>> {
    try {
      const answer = await request(new URL(path, this.#base), {
        method,
        dispatcher: this.#http,
        signal: AbortSignal.timeout(this.#timeoutMs),
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
        body: body === undefined ? null : JSON.stringify(body),
      });
      const text = await readText(answer.body, bytesMax);
      if (text === null)
        return refuse('agent-answer-invalid', `${this.#base.origin} answered ${method} /${path} with over ${bytesMax} bytes`);
      return answer.statusCode < 300 ? { ok: true, value: text } : this.#refusal(method, path, answer.statusCode, text);
    } catch (error) {
      return this.#failure(method, path, error as NodeJS.ErrnoException);
    }
  }

  #refusal(method: Method, path: string, status: number, text: string): Outcome<never> {
    const parsed = agentError.safeParse(parseJson(text));
    if (parsed.success) return refuse(parsed.data.code, parsed.data.message, parsed.data.details ?? {});
    return refuse('agent-answer-invalid', `${this.#base.origin} answered ${method} /${path} with status ${status}: is it an agent?`, {
      status,
    });
  }

  #failure(method: Method, path: string, error: NodeJS.ErrnoException): Outcome<never> {
    const details = { url: this.#base.origin, error: error.code ?? error.name };
    if (error.name === 'TimeoutError' || TIMEOUT_CODES.has(error.code ?? '')) {
      return refuse('agent-timeout', `${this.#base.origin} did not answer ${method} /${path} within ${this.#timeoutMs} ms`, details);
    }
    if (error.code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') {
      return refuse('agent-answer-invalid', `${this.#base.origin} answered ${method} /${path} with too many bytes`, details);
    }
    return refuse('agent-unreachable', `${this.#base.origin} cannot be reached: ${error.message || error.code}`, details);
  }
}

const TIMEOUT_CODES = new Set(['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT']);

function exportPath(name: string): string {
  return `v1/exports/${encodeURIComponent(name)}`;
}

/** Null: there are more than `bytesMax` bytes. */
async function readText(body: AsyncIterable<Buffer>, bytesMax: number): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > bytesMax) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
