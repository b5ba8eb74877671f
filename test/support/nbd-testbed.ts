// An NBD server on a memory device, listening on a TCP port and a Unix socket inside the test, for real clients to use; and
// a way to run one to its end.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '../../gateway/clock.js';
import type { Export } from '../../gateway/nbd/export.js';
import { NbdServer, type NbdServerOptions } from '../../gateway/nbd/server.js';
import { type Listener, listen } from '../../gateway/net-wire.js';
import type { WireAddress } from '../../gateway/wire.js';
import { MemoryExports } from './memory-exports.js';
import { nbdUri } from './nbd-uri.js';
import { QuietLog } from './quiet-log.js';

export class NbdTestbed {
  readonly server: NbdServer;
  readonly exports: MemoryExports;
  readonly directory: string;
  readonly tcp: WireAddress;
  readonly unix: WireAddress;
  #listeners: Listener[];

  private constructor(server: NbdServer, exports: MemoryExports, directory: string, listeners: Listener[]) {
    this.server = server;
    this.exports = exports;
    this.directory = directory;
    this.#listeners = listeners;
    [this.tcp, this.unix] = listeners.map(({ address }) => address);
  }

  static async start(served: Export[], options: Partial<NbdServerOptions> = {}): Promise<NbdTestbed> {
    const directory = await mkdtemp(join(tmpdir(), 'nbd-testbed-'));
    const exports = new MemoryExports(...served);
    const server = new NbdServer({ exports, clock: new SystemClock(), log: new QuietLog(), ...options });
    const listeners: Listener[] = [];
    for (const address of [{ host: '127.0.0.1', port: 0 }, { path: join(directory, 'nbd.sock') }]) {
      listeners.push(await listen(address, { accept: (wire) => server.accept(wire) }));
    }
    return new NbdTestbed(server, exports, directory, listeners);
  }

  /** The URI of an export over one of the sockets. */
  uri(name: string, over: 'tcp' | 'unix' = 'unix'): string {
    return nbdUri(over === 'tcp' ? this.tcp : this.unix, name);
  }

  get port(): number {
    return 'port' in this.tcp ? this.tcp.port : 0;
  }

  async stop(): Promise<void> {
    for (const listener of this.#listeners) listener.close();
    await this.server.close({ graceMs: 2000 });
    await rm(this.directory, { recursive: true, force: true });
  }
}

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end without blocking the event loop; killed after `timeoutMs` (status null). */
export async function runPeer(program: string, args: string[], options: { timeoutMs?: number; input?: string } = {}): Promise<Ran> {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  const child = spawn(program, args, { env: { ...process.env, PATH: path }, timeout: options.timeoutMs ?? 30_000, killSignal: 'SIGKILL' });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  // One that ends without reading its input is no error.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout, stderr };
}
