// A `forestall` process that the demo starts: the same program as this one, killed and started like any other. What it
// prints as JSON when it serves is its answer; its log is kept for when something goes wrong.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

const LOG_CHARS_MAX = 16 * 1024;
const ANSWER_MS = 30_000;

export class ChildProgram {
  readonly #child: ChildProcess;
  readonly #name: string;
  #stdout = '';
  #log = '';
  #ended = false;

  constructor(name: string, args: string[]) {
    this.#name = name;
    // Its own group: a Ctrl-C at the terminal is the demo's to handle.
    this.#child = spawn(process.execPath, [...process.execArgv, process.argv[1], ...args, '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#log = (this.#log + text).slice(-LOG_CHARS_MAX);
    });
    const end = () => {
      this.#ended = true;
    };
    this.#child.on('error', (error) => {
      this.#log += error.message;
      end();
    });
    this.#child.on('exit', end);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What it printed when it served; rejects with the end of its log when it ends first or takes too long. */
  async answer<T>(): Promise<T> {
    const deadlineMs = Date.now() + ANSWER_MS;
    while (!this.#stdout.trimEnd().endsWith('\n}')) {
      if (this.#ended || Date.now() > deadlineMs) throw new Error(`${this.#name} did not start: ${this.#log.slice(-2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return JSON.parse(this.#stdout) as T;
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    if (this.#ended) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  /** SIGKILL without waiting: for the end of this process. */
  killNow(): void {
    if (!this.#ended) this.#child.kill('SIGKILL');
  }
}
