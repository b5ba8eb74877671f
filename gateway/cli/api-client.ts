// The command line's way to the API: one request, its JSON, or a CliError with the sentence the API gave. Waits are
// bounded, except where a command says that it waits for the end of a long job.
import { request } from 'undici';
import { CliError, EXIT, type ExitCode } from './cli-error.js';

const CONNECT_MS = 5_000;
const ANSWER_MS = 60_000;
const ANSWER_CHARS_MAX = 64 * 1024 * 1024;

const EXIT_BY_STATUS: Readonly<Record<number, ExitCode>> = { 400: EXIT.USAGE, 404: EXIT.NOT_FOUND };

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** Throws a usage error. */
export function checkedApiUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw new CliError(EXIT.USAGE, `The API's address ${JSON.stringify(text)} is no URL such as http://127.0.0.1:8080.`);
  }
  return url.href.replace(/\/+$/, '');
}

export class ApiClient {
  readonly url: string;

  constructor(url: string) {
    this.url = checkedApiUrl(url);
  }

  get<T>(path: string): Promise<T> {
    return this.#call<T>('GET', path);
  }

  post<T>(path: string, body?: object): Promise<T> {
    return this.#call<T>('POST', path, body);
  }

  /** Waits for the answer however long the job takes. */
  postAndWait<T>(path: string): Promise<T> {
    return this.#call<T>('POST', path, undefined, 0);
  }

  /** Waits for the answer however long the job takes. */
  patchAndWait<T>(path: string, body: object): Promise<T> {
    return this.#call<T>('PATCH', path, body, 0);
  }

  delete<T>(path: string): Promise<T> {
    return this.#call<T>('DELETE', path);
  }

  async #call<T>(method: Method, path: string, body?: object, answerMs = ANSWER_MS): Promise<T> {
    const { status, text } = await this.#exchange(method, path, body, answerMs);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      throw new CliError(EXIT.REFUSED, `What answers at ${this.url} is no Forestall API: status ${status} without JSON.`);
    }
    if (status < 400) {
      return json as T;
    }
    const { message } = (json ?? {}) as { message?: string };
    throw new CliError(EXIT_BY_STATUS[status] ?? EXIT.REFUSED, message ?? `The API answered with status ${status}.`);
  }

  async #exchange(method: Method, path: string, body: object | undefined, answerMs: number) {
    try {
      const response = await request(this.url + path, {
        method,
        body: body === undefined ? undefined : JSON.stringify(body),
        headers: { accept: 'application/json', ...(body && { 'content-type': 'application/json' }) },
        headersTimeout: answerMs,
        bodyTimeout: ANSWER_MS,
        signal: answerMs === 0 ? undefined : AbortSignal.timeout(answerMs + CONNECT_MS),
      });
      let text = '';
      for await (const chunk of response.body.setEncoding('utf8')) {
        text += chunk;
        if (text.length > ANSWER_CHARS_MAX) {
          throw new CliError(EXIT.REFUSED, `The answer of ${this.url}${path} is too long.`);
        }
      }
      return { status: response.statusCode, text };
    } catch (error) {
      throw error instanceof CliError ? error : unreachable(this.url, error);
    }
  }
}

/** For what keeps a request from being answered. */
export function unreachable(url: string, error: unknown): CliError {
  const { code, message, errors } = error as NodeJS.ErrnoException & { errors?: NodeJS.ErrnoException[] };
  const cause = code ?? errors?.[0]?.code;
  const reasons: Record<string, string> = {
    ECONNREFUSED: 'the connection was refused',
    ENOTFOUND: 'there is no such host',
    EAI_AGAIN: 'the name of the host cannot be resolved now',
    ECONNRESET: 'the connection was cut off',
    UND_ERR_SOCKET: 'the connection was cut off',
    UND_ERR_CONNECT_TIMEOUT: 'it does not answer',
    UND_ERR_HEADERS_TIMEOUT: 'it does not answer in time',
    UND_ERR_BODY_TIMEOUT: 'its answer stopped half way',
  };
  const reason = reasons[cause ?? ''] ?? ((error as Error).name === 'TimeoutError' ? 'it does not answer in time' : message);
  const advice = 'Is the gateway running (forestall serve)? --api URL or FORESTALL_API names another address.';
  return new CliError(EXIT.UNREACHABLE, `Cannot reach the API at ${url}: ${reason}. ${advice}`);
}
