// A storage-node agent: the exports of one directory over NBD, its API over HTTP, one lock on the directory. The same for
// `forestall node` and for the gateway's embedded nodes. Starts whole or not at all; stops without losing what it answered.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type ServerTls, serverTlsOff } from '../../config/tls.js';
import type { Clock, Log } from '../../replication/world.js';
import type { Outcome } from '../control.js';
import { NbdServer } from '../nbd/server.js';
import { type Listener, listen } from '../net-wire.js';
import { loadServerCredentials } from '../tls/server-credentials.js';
import type { AgentInfo } from './agent-schema.js';
import { AgentApi } from './api.js';
import { establishedPeers } from './established-peers.js';
import { ExportStore } from './export-store.js';
import { AgentExportTable } from './export-table.js';
import { IoCounters } from './io-counters.js';
import { type Libc, loadLibc } from './libc.js';
import { renderMetrics } from './metrics.js';
import { Smart } from './smart.js';

/** Hosts get this long for what is in flight; then they are cut off. */
const GRACE_MS = 5_000;
/** A disk that hangs must not keep the agent from ending. */
const CLOSE_MS = 30_000;

export interface AgentOptions {
  /** Directory of the exports; made if it is not there. */
  dir: string;
  /** Where NBD is served. Port 0: any free one. */
  host: string;
  port: number;
  /** Where the API is served; default 127.0.0.1. */
  apiHost?: string;
  apiPort: number;
  log: Log;
  clock: Clock;
  /** TLS for NBD; default off. The API has none. */
  tls?: ServerTls;
  /** Longest wait of a new connection for requests of those that are gone; default 30,000. */
  fenceMs?: number;
  /** The system's calls; default: this system's. Null: none. */
  libc?: Libc | null;
  /** Program to ask for the disks' health; default `smartctl`. */
  smartctl?: string;
}

export interface RunningAgent {
  readonly nbdPort: number;
  readonly apiPort: number;
  readonly incarnation: string;
  /** Reads certificates and keys again, for connections from now on; what is wrong with them changes nothing. */
  reloadTls(): Promise<Outcome<null>>;
  /** Answers what is in flight, flushes, lets go of the directory. Resolves within about half a minute, whatever the disks do. */
  close(): Promise<void>;
}

/** Rejects with an Error whose message says what is wrong: the directory is in use or unusable, or an address is taken. */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { dir, log, clock } = options;
  const counters = new IoCounters();
  const libc = options.libc === undefined ? await loadLibc() : options.libc;
  const opened = await ExportStore.open({ dir, libc, log, clock, counters });
  if (!opened.ok) throw new Error(opened.message);
  const agent = new StoppableAgent(options, opened.value, counters);
  try {
    await agent.start();
  } catch (error) {
    await agent.close();
    throw error;
  }
  return agent;
}

class StoppableAgent implements RunningAgent {
  readonly incarnation = randomUUID();
  nbdPort = 0;
  apiPort = 0;
  #nbd: NbdServer;
  #api: AgentApi;
  #smart: Smart;
  #listener: Listener | null = null;
  #version = '';
  #closed: Promise<void> | null = null;

  constructor(
    private readonly options: AgentOptions,
    private readonly store: ExportStore,
    private readonly counters: IoCounters,
  ) {
    const { log, clock, fenceMs, smartctl } = options;
    const established = (): Promise<Set<string> | null> => establishedPeers(this.nbdPort);
    this.#nbd = new NbdServer({ exports: new AgentExportTable({ store, clock, log, fenceMs, established }), clock, log });
    this.#smart = new Smart({ dir: store.dir, log, clock, smartctl });
    this.#api = new AgentApi({ store, info: () => this.#info(), metrics: () => this.#metrics(), log });
  }

  async reloadTls(): Promise<Outcome<null>> {
    const { tls = serverTlsOff, clock, log } = this.options;
    const credentials = await loadServerCredentials(tls, clock.wallMs());
    if (!credentials.ok) return credentials;
    this.#nbd.setTls(credentials.value.served);
    for (const warning of credentials.value.warnings) log.warn({ warning }, 'TLS');
    return { ok: true, value: null };
  }

  async start(): Promise<void> {
    const secured = await this.reloadTls();
    if (!secured.ok) throw new Error(secured.message);
    const { host, port, apiHost = '127.0.0.1', apiPort, log } = this.options;
    this.#version = await packageVersion();
    this.#listener = await listen(
      { host, port },
      {
        accept: (wire) => this.#nbd.accept(wire),
        failed: (error) => log.warn({ error: error.message }, 'a connection could not be accepted'),
      },
    ).catch((error: Error) => unusable('NBD', host, port, error));
    const { address } = this.#listener;
    this.nbdPort = 'port' in address ? address.port : port;
    this.apiPort = await this.#api
      .listen({ host: apiHost, port: apiPort })
      .catch((error: Error) => unusable('the API', apiHost, apiPort, error));
    const { incarnation, nbdPort } = this;
    log.info({ dir: this.store.dir, nbdPort, apiPort: this.apiPort, incarnation, exports: this.store.size }, 'storage node serves');
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const { log } = this.options;
    this.#listener?.close();
    await this.#api.close();
    const cutOff = await this.#nbd.close({ graceMs: GRACE_MS });
    if (cutOff > 0) log.warn({ connections: cutOff }, 'connections were cut off with requests in flight');
    await this.#smart.close();
    if (!(await this.#within(CLOSE_MS, this.store.close())))
      log.error({ dir: this.store.dir }, 'the storage hangs: gave up waiting for its last flush');
  }

  /** False: the time was over first. */
  #within(delayMs: number, work: Promise<void>): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const timer = this.options.clock.after(delayMs, () => resolve(false));
      work.finally(() => timer.cancel()).then(() => resolve(true), reject);
    });
  }

  async #info(): Promise<AgentInfo> {
    const { incarnation, nbdPort: port } = this;
    const space = await this.store.space();
    return { incarnation, version: this.#version, ...space, exports: this.store.size, nbd: { host: this.options.host, port } };
  }

  async #metrics(): Promise<string> {
    const [space, exports, disks] = await Promise.all([this.store.space(), this.store.views(), this.#smart.disks()]);
    const { incarnation } = this;
    return renderMetrics({
      version: this.#version,
      incarnation,
      space,
      exports,
      connections: this.#nbd.connections,
      io: this.counters,
      disks,
    });
  }
}

function unusable(what: string, host: string, port: number, error: Error): never {
  throw new Error(`${what} cannot be served at ${host}:${port}: ${error.message}`);
}

/** Of the package this file is part of, whether it runs from the sources or from `dist`. */
async function packageVersion(): Promise<string> {
  for (let dir = import.meta.dirname; dir !== dirname(dir); dir = dirname(dir)) {
    const text = await readFile(join(dir, 'package.json'), 'utf8').catch(() => null);
    if (text !== null) return (JSON.parse(text) as { version?: string }).version ?? 'unknown';
  }
  return 'unknown';
}
