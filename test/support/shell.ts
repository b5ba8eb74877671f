// A shell that does what a test asks, one order after the other: busybox's, which dials the test, from this machine or from a
// virtual one. It brings its commands along, so that an order means the same in both places.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Site } from './site.js';
import type { StartedProgram } from './started-program.js';

const ORDER_MS = 90_000;
const DIALS_WITHIN_MS = 90_000;
/** What the shell prints behind the output of an order, with its number and exit code. */
const END = '@@end';

/** What an order printed, on both streams, and its exit code. */
export interface Done {
  status: number;
  output: string;
}

/** Where shells dial in. */
export class ShellPort {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open(site: Site): Promise<ShellPort> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    site.onClose(async () => void server.close());
    return new ShellPort(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The next shell that dials; `program` is what it lives in. */
  async shell(program: StartedProgram): Promise<Shell> {
    const late = AbortSignal.timeout(DIALS_WITHIN_MS);
    const ended = new AbortController();
    void program.ended.then(() => ended.abort());
    try {
      const [socket] = (await once(this.#server, 'connection', { signal: AbortSignal.any([late, ended.signal]) })) as [Socket];
      return new Shell(socket, program);
    } catch (error) {
      throw new Error(`no shell in ${program.name}: ${program.tail}`, { cause: error });
    }
  }
}

export class Shell {
  /** What it lives in. */
  readonly program: StartedProgram;
  readonly #socket: Socket;
  #orders = 0;
  #turn: Promise<void> = Promise.resolve();
  #heard = '';
  #closed = false;
  #wake: () => void = () => {};

  constructor(socket: Socket, program: StartedProgram) {
    this.program = program;
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      this.#heard += text;
      this.#wake();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
    void program.ended.then(() => socket.destroy());
  }

  /** Resolves with what it printed; an exit code other than 0 rejects. */
  async run(order: string, timeoutMs = ORDER_MS): Promise<string> {
    const { status, output } = await this.attempt(order, timeoutMs);
    assert.equal(status, 0, `${order}\nexited with ${status}: ${output}`);
    return output;
  }

  /** Rejects only when the shell itself is gone, or has not done it in time. Orders wait for their turn. */
  attempt(order: string, timeoutMs = ORDER_MS): Promise<Done> {
    const done = this.#turn.then(() => this.#attempt(order, timeoutMs));
    this.#turn = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  async #attempt(order: string, timeoutMs: number): Promise<Done> {
    this.#orders += 1;
    const end = `${END} ${this.#orders} `;
    assert.equal(this.#heard, '', `an order was given up, and now: ${order}`);
    this.#socket.write(`{ ${order}\n} </dev/null 2>&1; status=$?; echo; echo "${end}$status"\n`);
    const late = delay(timeoutMs, undefined, { ref: false });
    let given = true;
    void late.then(() => {
      given = false;
      this.#wake();
    });
    for (;;) {
      const at = this.#heard.indexOf(end);
      if (at >= 0 && this.#heard.endsWith('\n')) {
        const status = Number(this.#heard.slice(at + end.length));
        const output = this.#heard.slice(0, at - 1);
        this.#heard = '';
        return { status, output };
      }
      assert(!this.#closed, `the shell is gone, asked to ${order}: ${this.#heard.slice(-1000)}${this.program.tail}`);
      assert(given, `not done within ${timeoutMs} ms: ${order}: ${this.#heard.slice(-1000)}${this.program.tail}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
