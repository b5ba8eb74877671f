// A shell that does what a test asks, one order after the other: busybox's, which dials the test, from this machine or from a
// virtual one. It brings its commands along, so that an order means the same in both places.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Site } from './site.js';
import type { StartedProgram } from './started-program.js';

const ORDER_MS = 90_000;
const DIALS_WITHIN_MS = 90_000;
/** What the shell prints behind the output of an order, with its number and exit code. */
const END = '@@end';

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

  /** Resolves with what it printed, on both streams; rejects when its exit code is not 0. Orders wait for their turn. */
  run(order: string): Promise<string> {
    const output = this.#turn.then(() => this.#run(order));
    this.#turn = output.then(
      () => {},
      () => {},
    );
    return output;
  }

  async #run(order: string): Promise<string> {
    this.#orders += 1;
    const end = `${END} ${this.#orders} `;
    assert.equal(this.#heard, '', `an order was given up, and now: ${order}`);
    this.#socket.write(`{ ${order}\n} </dev/null 2>&1; status=$?; echo; echo "${end}$status"\n`);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wake();
    }, ORDER_MS);
    try {
      while (!(this.#heard.includes(end) && this.#heard.endsWith('\n'))) {
        const story = `${order}: ${this.#heard.slice(-1000)}${this.program.tail}`;
        assert(!this.#closed, `the shell is gone, asked to ${story}`);
        assert(!late, `not done within ${ORDER_MS} ms: ${story}`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
    const [output, status] = this.#heard.split(`\n${end}`);
    this.#heard = '';
    assert.equal(status.trim(), '0', `${order}\nexited with ${status.trim()}: ${output}`);
    return output;
  }
}
