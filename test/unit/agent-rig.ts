// What the agent's tests share: directories that go away, a log that can be asked, and system calls that wait for the test.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AgentOptions, type RunningAgent, startAgent } from '../../gateway/agent/agent.js';
import { ExportStore } from '../../gateway/agent/export-store.js';
import { IoCounters } from '../../gateway/agent/io-counters.js';
import { FALLOCATE, type Libc } from '../../gateway/agent/libc.js';
import { SystemClock } from '../../gateway/clock.js';
import type { Log } from '../../replication/world.js';

export class RecordingLog implements Log {
  readonly lines: string[] = [];
  #watchers = new Set<() => void>();

  debug(): void {}

  info(fields: object, message: string): void {
    this.#add(`info ${message} ${JSON.stringify(fields)}`);
  }

  warn(fields: object, message: string): void {
    this.#add(`warn ${message} ${JSON.stringify(fields)}`);
  }

  error(fields: object, message: string): void {
    this.#add(`error ${message} ${JSON.stringify(fields)}`);
  }

  /** Resolves when a line with `text` is there. */
  async seen(text: string): Promise<void> {
    while (!this.lines.some((line) => line.includes(text))) await new Promise<void>((resolve) => this.#watchers.add(resolve));
  }

  #add(line: string): void {
    this.lines.push(line);
    for (const watcher of this.#watchers) watcher();
    this.#watchers.clear();
  }
}

/** A directory and everything started in it, gone after `remove`. */
export class Rig {
  readonly dir = mkdtempSync(join(tmpdir(), 'forestall-agent-'));
  readonly log = new RecordingLog();
  readonly clock = new SystemClock();
  #running: { close(): Promise<void> }[] = [];

  async store(options: { dir?: string; libc?: Libc | null } = {}): Promise<ExportStore> {
    const { log, clock, dir } = this;
    const opened = await ExportStore.open({ dir, libc: null, log, clock, counters: new IoCounters(), ...options });
    assert(opened.ok, opened.ok ? '' : opened.message);
    this.#running.push(opened.value);
    return opened.value;
  }

  async agent(options: Partial<AgentOptions> = {}): Promise<RunningAgent> {
    const { log, clock, dir } = this;
    const agent = await startAgent({
      dir,
      host: '127.0.0.1',
      port: 0,
      apiPort: 0,
      log,
      clock,
      smartctl: join(dir, 'no-smartctl'),
      ...options,
    });
    this.#running.push(agent);
    return agent;
  }

  /** Closes one before its time. */
  async stop(running: { close(): Promise<void> }): Promise<void> {
    this.#running = this.#running.filter((other) => other !== running);
    await running.close();
  }

  async remove(): Promise<void> {
    for (const running of this.#running) await running.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** System calls whose zeroing and punching is carried out only when the test lets it; nothing is really zeroed. */
export class GatedLibc implements Libc {
  open = true;
  #held: (() => void)[] = [];
  #awaited: (() => void) | null = null;

  fallocate(_fd: number, mode: number, _offset: number, _length: number, done: (errno: number) => void): void {
    const finish = (): void => done(0);
    assert((mode & FALLOCATE.KEEP_SIZE) !== 0);
    if (this.open) setImmediate(finish);
    else {
      this.#held.push(finish);
      this.#awaited?.();
    }
  }

  seek(_fd: number, offset: number, _whence: number, done: (errno: number, position: number) => void): void {
    setImmediate(done, 0, offset);
  }

  /** Resolves when a call waits. */
  held(): Promise<void> {
    if (this.#held.length > 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#awaited = resolve;
    });
  }

  release(): void {
    this.open = true;
    for (const finish of this.#held.splice(0)) finish();
  }
}
