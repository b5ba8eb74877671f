// Writes a tree of files on a mounted file system without a pause, and remembers what it was promised.
import assert from 'node:assert/strict';
import { once, EventEmitter } from 'node:events';
import type { FileTree, Step } from './file-tree.js';
import type { Shell } from './shell.js';

export class FileWriter {
  readonly tree: FileTree;
  readonly #shell: Shell;
  readonly #steps = new EventEmitter();
  #running = false;
  #work: Promise<void> = Promise.resolve();
  steps = 0;
  durableSteps = 0;
  slowestMs = 0;
  /** What stopped it. */
  error: Error | null = null;
  /** Begun and not known to be done. */
  #open: Step | null = null;

  /** Of `shell` `$tree` and `$pool` are set. */
  constructor(shell: Shell, tree: FileTree) {
    this.#shell = shell;
    this.tree = tree;
  }

  /** Writes until `stop`, or until a step fails. */
  start(): void {
    this.#running = true;
    this.#work = this.#write();
  }

  /** Resolves when nothing is in flight; rejects when a step failed. */
  async stop(): Promise<void> {
    await this.end();
    if (this.error !== null) throw this.error;
  }

  /** As `stop`, but a failed step is no failure: it is known what was promised before. */
  async end(): Promise<void> {
    this.#running = false;
    await this.#work;
  }

  /** Resolves when `count` more steps were done, rejects when one failed. */
  async progress(count: number): Promise<void> {
    const goal = this.steps + count;
    while (this.steps < goal) {
      if (this.error !== null) throw this.error;
      assert(this.#running, 'it writes');
      await once(this.#steps, 'step');
    }
  }

  /** The names that the step under way at the crash may or may not have changed; the model does not know them any more. */
  forgetOpenStep(): string[] {
    const names = new Set(this.#open?.names ?? []);
    for (const name of names) for (const other of this.tree.forget(name)) names.add(other);
    this.#open = null;
    this.error = null;
    return [...names];
  }

  async #write(): Promise<void> {
    while (this.#running) {
      const step = this.tree.next();
      this.#open = step;
      const startedMs = performance.now();
      try {
        await this.#shell.run(step.order);
      } catch (error) {
        this.error = error as Error;
        this.#running = false;
        this.#steps.emit('step');
        return;
      }
      step.apply();
      this.#open = null;
      this.steps += 1;
      this.durableSteps += Number(step.durable);
      this.slowestMs = Math.max(this.slowestMs, performance.now() - startedMs);
      this.#steps.emit('step');
    }
  }
}
