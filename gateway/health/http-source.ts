// Fetches an exporter's page over HTTP. It takes no longer than its deadline and reads no more than its bound, whatever
// the other end does; what goes wrong is an outcome with a code. It follows no redirects and keeps one connection.
import { Agent, request } from 'undici';
import { formatBytes } from '../../config/units.js';
import { type Outcome, refuse } from '../control.js';
import type { Source } from './oracle.js';

const TIMEOUT_MS = 10_000;
const BODY_BYTES_MAX = 4 * 2 ** 20;

export interface HttpSourceOptions {
  node: string;
  type: 'smartctl_exporter' | 'node_exporter';
  url: string;
  everyMs: number;
  /** For a whole fetch; never longer than `everyMs`. */
  timeoutMs?: number;
  bodyBytesMax?: number;
}

export class HttpSource implements Source {
  readonly node: string;
  readonly type: 'smartctl_exporter' | 'node_exporter';
  readonly name: string;
  readonly everyMs: number;
  readonly #timeoutMs: number;
  readonly #bodyBytesMax: number;
  readonly #http: Agent;

  constructor({ node, type, url, everyMs, timeoutMs = TIMEOUT_MS, bodyBytesMax = BODY_BYTES_MAX }: HttpSourceOptions) {
    this.node = node;
    this.type = type;
    this.name = url;
    this.everyMs = everyMs;
    this.#timeoutMs = Math.min(timeoutMs, everyMs);
    this.#bodyBytesMax = bodyBytesMax;
    this.#http = new Agent({ connections: 1, connect: { timeout: this.#timeoutMs } });
  }

  /** Codes: `source-unreachable`, `source-timeout`, `source-status`, `source-too-long`, `source-not-text`. */
  async fetch(): Promise<Outcome<string>> {
    try {
      const answer = await request(this.name, {
        dispatcher: this.#http,
        signal: AbortSignal.timeout(this.#timeoutMs),
        headers: { accept: 'text/plain;version=0.0.4;q=1,*/*;q=0.1' },
      });
      if (answer.statusCode !== 200) {
        // Let go of unread, which the stream reports as an error.
        answer.body.on('error', () => {}).destroy();
        return refuse('source-status', `it answered with status ${answer.statusCode}`);
      }
      return await this.#read(answer.body);
    } catch (error) {
      return this.#failure(error as NodeJS.ErrnoException);
    }
  }

  async close(): Promise<void> {
    await this.#http.destroy();
  }

  async #read(body: AsyncIterable<Buffer>): Promise<Outcome<string>> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of body) {
      bytes += chunk.length;
      // Leaving the loop destroys the body.
      if (bytes > this.#bodyBytesMax) return refuse('source-too-long', `its page is longer than ${formatBytes(this.#bodyBytesMax)}`);
      chunks.push(chunk);
    }
    try {
      return { ok: true, value: new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)) };
    } catch {
      return refuse('source-not-text', 'its page is not UTF-8 text');
    }
  }

  #failure(error: NodeJS.ErrnoException): Outcome<never> {
    const late = error.name === 'TimeoutError' || error.code === 'UND_ERR_CONNECT_TIMEOUT';
    if (late) return refuse('source-timeout', `it did not answer within ${this.#timeoutMs} ms`);
    return refuse('source-unreachable', `it cannot be read: ${error.message || error.code || error.name}`);
  }
}
