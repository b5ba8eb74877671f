// The processes a run is made of: each is started, watched until it is ready, and stopped again whatever happens.
// Guarantees that nothing started here outlives the run, and that a part which fails is reported with what it said.
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Outcome, refuse } from '../gateway/control.js';

export interface PartSpec {
  /** As it is called in messages. */
  name: string;
  /** A program, or a module of ours that is forked and says `{ port }` or `{ ready }` when it is ready. */
  run: { program: string } | { module: string };
  args: string[];
  /** Of a program: whether it is ready now. Asked again and again. */
  isReady?: () => Promise<boolean>;
}

const READY_MS = 30_000;
const POLL_MS = 25;
const TERMINATE_MS = 5_000;
const OUTPUT_AFTER_EXIT_MS = 200;
const OUTPUT_CHARS_MAX = 8_192;

export class Part {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
  /** Null while it runs. */
  ending: string | null = null;
  #output = '';

  constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => this.#keep(text));
    this.ended = new Promise((resolve) => {
      const end = (how: string) => {
        this.ending ??= how;
        resolve(this.ending);
      };
      child.on('error', (error) => end(`could not be started: ${error.message}`));
      // 'close' comes after the last output, but a process it left behind may hold that open.
      const tell = (code: number | null, signal: string | null) =>
        end(signal === null ? `exited with code ${code}` : `was ended by ${signal}`);
      child.on('close', tell);
      child.on('exit', (code, signal) => setTimeout(() => tell(code, signal), OUTPUT_AFTER_EXIT_MS));
    });
  }

  /** What is wrong with it, followed by the end of what it said. */
  explain(what: string): string {
    const said = this.#output.trimEnd();
    return `${this.name} ${what}${said === '' ? '; it said nothing' : `; it said:\n${said.replace(/^/gm, '    ')}`}`;
  }

  #keep(text: string): void {
    this.#output = (this.#output + text).slice(-OUTPUT_CHARS_MAX);
  }
}

/** What a module of ours says when it is ready. */
export interface ReadyMessage {
  port?: number;
}

export class Parts {
  readonly #running = new Set<Part>();
  #closed = false;

  constructor() {
    process.on('exit', () => {
      for (const part of this.#running) part.child.kill('SIGKILL');
    });
  }

  /** Starts a part and waits until it is ready. `port` is the one it told, or 0. */
  async start(spec: PartSpec): Promise<Outcome<{ part: Part; port: number }>> {
    if (this.#closed) return refuse('stopped', `${spec.name} was not started: the run is being stopped`);
    const part = new Part(spec.name, launch(spec));
    this.#running.add(part);
    void part.ended.then(() => this.#running.delete(part));
    const port = await readyPort(part, spec);
    if (port !== null) return { ok: true, value: { part, port } };
    const how = part.ending ?? `was not ready within ${READY_MS / 1000} s`;
    await this.stop(part);
    return refuse('not-started', part.explain(how));
  }

  async stop(part: Part): Promise<void> {
    if (part.ending !== null) return;
    part.child.kill('SIGTERM');
    const timer = setTimeout(() => part.child.kill('SIGKILL'), TERMINATE_MS);
    await part.ended;
    clearTimeout(timer);
  }

  /** From now on none is started any more. */
  async stopAll(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#running].map((part) => this.stop(part)));
  }
}

function launch({ run, args }: PartSpec): ChildProcess {
  if ('module' in run) return fork(run.module, args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  return spawn(run.program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** The port it told (0: it told none), or null when it ended or time ran out before it was ready. */
async function readyPort(part: Part, { isReady }: PartSpec): Promise<number | null> {
  const clock = new AbortController();
  const tooLate = sleep(READY_MS, null, { signal: clock.signal }).catch(() => null);
  const gone = part.ended.then(() => null);
  const ready = isReady === undefined ? readyByMessage(part) : readyByAsking(part, isReady, clock.signal);
  const port = await Promise.race([ready, gone, tooLate]);
  clock.abort();
  return port;
}

function readyByMessage(part: Part): Promise<number> {
  return new Promise((resolve) => {
    part.child.once('message', (message: ReadyMessage) => resolve(message.port ?? 0));
  });
}

async function readyByAsking(part: Part, isReady: () => Promise<boolean>, given: AbortSignal): Promise<number | null> {
  while (part.ending === null && !given.aborted) {
    if (await isReady()) return 0;
    await sleep(POLL_MS);
  }
  return null;
}
