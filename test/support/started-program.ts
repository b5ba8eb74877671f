// A program that a test started and that goes on running: what it prints is kept, its end can be awaited and demanded.
// It never outlives the test: its site ends it, and so does the end of this process.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Site } from './site.js';

const alive = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

const OUTPUT_CHARS_MAX = 4 * 1024 * 1024;

export interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export class StartedProgram {
  readonly name: string;
  stdout = '';
  stderr = '';
  ending: Ending | null = null;
  readonly ended: Promise<Ending>;
  readonly #child: ChildProcess;

  private constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (this.stdout.length < OUTPUT_CHARS_MAX) this.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (this.stderr.length < OUTPUT_CHARS_MAX) this.stderr += text;
    });
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        alive.delete(child);
        this.ending = { code, signal };
        resolve(this.ending);
      };
      child.on('error', (error) => {
        this.stderr += `${error.message}\n`;
        end(null, null);
      });
      child.on('close', end);
    });
  }

  static start(site: Site, program: string, args: string[], options: { cwd?: string; stdin?: boolean } = {}): StartedProgram {
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    const child = spawn(program, args, {
      cwd: options.cwd ?? site.directory,
      env,
      stdio: [options.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    });
    alive.add(child);
    const started = new StartedProgram(program, child);
    site.onClose(() => started.kill());
    return started;
  }

  get running(): boolean {
    return this.ending === null;
  }

  get pid(): number {
    assert(this.#child.pid !== undefined, `${this.name} was not started`);
    return this.#child.pid;
  }

  /** To its standard input, which it was started with. */
  type(text: string): void {
    this.#child.stdin!.write(text);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** SIGKILL, and awaits the end. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended;
  }

  /** Resolves once what it printed satisfies `done`; rejects when it ends before, or after `timeoutMs`. */
  async until(done: (program: this) => boolean, timeoutMs = 60_000): Promise<void> {
    const deadline = AbortSignal.timeout(timeoutMs);
    while (!done(this)) {
      assert(this.running, `${this.name} ended (${JSON.stringify(this.ending)}): ${this.tail}`);
      assert(!deadline.aborted, `${this.name} did not come so far within ${timeoutMs} ms: ${this.tail}`);
      const news = new AbortController();
      const signal = AbortSignal.any([news.signal, deadline]);
      const heard = [this.#child.stdout!, this.#child.stderr!].map((stream) => once(stream, 'data', { signal }).catch(() => {}));
      await Promise.race([...heard, this.ended]);
      news.abort();
    }
  }

  /** The last of what it printed, for the message of a failure. */
  get tail(): string {
    return `${this.stdout.slice(-1000)}\n${this.stderr.slice(-4000)}`;
  }
}
