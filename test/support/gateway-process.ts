// A gateway as its users have one: `forestall serve` in a process of its own, configured by a file, seen through its API
// and its NBD port. Killed and started again it keeps its ports, so that hosts find it.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import type { FlipCertificate, ForestallEvent, MirrorView, NodeView, ScrubReport, VolumeView } from '../../gateway/control.js';
import { eventually } from './eventually.js';
import { startForestall } from './forestall-program.js';
import { freePort } from './peers.js';
import type { Site } from './site.js';
import type { StartedProgram } from './started-program.js';

const REQUEST_MS = 60_000;
const STORY_EVENTS = 15;

/** What the file says besides addresses and the data directory, as the documentation of the configuration has it. */
export interface GatewayConfig {
  nodes: Record<string, unknown>[];
  volumes: Record<string, unknown>[];
  policies?: Record<string, unknown>;
  /** Of `server.nbd`. */
  limits?: Record<string, unknown>;
  /** The rest of `server.nbd`. */
  nbd?: Record<string, unknown>;
}

export interface ApiAnswer<T> {
  status: number;
  body: T;
}

export class GatewayProcess {
  readonly configFile: string;
  readonly dataDirectory: string;
  readonly nbdPort: number;
  readonly apiPort: number;
  readonly #site: Site;
  #program: StartedProgram | null = null;

  private constructor(site: Site, ports: [number, number]) {
    this.#site = site;
    this.configFile = site.path('gateway.yaml');
    this.dataDirectory = site.path('gateway');
    [this.nbdPort, this.apiPort] = ports;
  }

  /** Of the process that runs; null: none does. */
  get pid(): number | null {
    return this.#program?.pid ?? null;
  }

  /** Resolves when every volume that can be is served. */
  static async start(site: Site, config: GatewayConfig): Promise<GatewayProcess> {
    const gateway = new GatewayProcess(site, [await freePort(), await freePort()]);
    await gateway.configure(config);
    await gateway.start();
    return gateway;
  }

  /** Writes the file; a running gateway takes it up only when it is told to. */
  async configure({ limits = {}, nbd = {}, ...config }: GatewayConfig): Promise<void> {
    const server = {
      nbd: { host: '127.0.0.1', port: this.nbdPort, limits, ...nbd },
      api: { host: '127.0.0.1', port: this.apiPort },
      data: this.dataDirectory,
    };
    await writeFile(this.configFile, stringify({ server, ...config }));
  }

  /** Resolves when it is ready, unless `ready` is false: then when it listens. */
  async start(options: { ready?: boolean } = {}): Promise<void> {
    this.#program = startForestall(this.#site, ['serve', '--config', this.configFile]);
    await this.#program.until(({ stdout }) => stdout.includes('metrics'));
    if (options.ready === false) return;
    await eventually(
      'the gateway is ready',
      () => this.ask<unknown>('GET', '/readyz'),
      ({ status }) => status === 200,
    );
  }

  get program(): StartedProgram {
    assert(this.#program !== null, 'the gateway was started');
    return this.#program;
  }

  get apiUrl(): string {
    return `http://127.0.0.1:${this.apiPort}`;
  }

  uri(volume: string): string {
    return `nbd://127.0.0.1:${this.nbdPort}/${encodeURIComponent(volume)}`;
  }

  async kill(): Promise<void> {
    await this.program.kill();
  }

  /** SIGTERM; it must end in good order. */
  async stop(): Promise<void> {
    this.program.signal('SIGTERM');
    const ending = await this.program.ended;
    assert.deepEqual(ending, { code: 0, signal: null }, `SIGTERM ends it with 0: ${this.program.tail}`);
  }

  async ask<T>(method: string, path: string, body?: unknown): Promise<ApiAnswer<T>> {
    const response = await fetch(`${this.apiUrl}${path}`, {
      method,
      signal: AbortSignal.timeout(REQUEST_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await response.text();
    const json = response.headers.get('content-type')?.includes('json') === true;
    return { status: response.status, body: (json ? JSON.parse(text) : text) as T };
  }

  /** An answer that must be a success. */
  async get<T>(path: string): Promise<T> {
    return this.#granted<T>('GET', path);
  }

  async post<T>(path: string, body?: unknown): Promise<T> {
    return this.#granted<T>('POST', path, body);
  }

  volume(name: string): Promise<VolumeView> {
    return this.get(`/v1/volumes/${name}`);
  }

  node(id: string): Promise<NodeView> {
    return this.get(`/v1/nodes/${id}`);
  }

  async untilVolume(name: string, what: string, right: (volume: VolumeView) => boolean, timeoutMs?: number): Promise<VolumeView> {
    try {
      return await eventually(`${name}: ${what}`, () => this.volume(name), right, timeoutMs);
    } catch (error) {
      throw new Error(`${await this.#story()}\n${(error as Error).message}`, { cause: error });
    }
  }

  async mirror(name: string, node?: string): Promise<MirrorView> {
    return this.post(`/v1/volumes/${name}/mirrors`, node === undefined ? undefined : { node });
  }

  /** Resolves when the mirror on `node` has everything. */
  untilSynced(name: string, node: string, timeoutMs?: number): Promise<VolumeView> {
    const synced = ({ mirrors }: VolumeView) => mirrors.some((mirror) => mirror.node === node && mirror.state === 'synced');
    return this.untilVolume(name, `the mirror on ${node} is synced`, synced, timeoutMs);
  }

  flip(name: string): Promise<FlipCertificate> {
    return this.post(`/v1/volumes/${name}/flip`);
  }

  scrub(name: string): Promise<ScrubReport> {
    return this.post(`/v1/volumes/${name}/scrub?wait=true`);
  }

  verdict(node: string, probability: number, reason: string): Promise<unknown> {
    return this.post(`/v1/nodes/${node}/verdicts`, { probability, reason });
  }

  async events(query = ''): Promise<ForestallEvent[]> {
    const { events } = await this.get<{ events: ForestallEvent[] }>(`/v1/events?limit=1000${query}`);
    return events;
  }

  /** The newest events, a line each: what a failed wait leaves to understand. */
  async #story(): Promise<string> {
    try {
      const events = await this.events();
      return events
        .slice(-STORY_EVENTS)
        .map(({ at, type, message }) => `${at} ${type}: ${message}`)
        .join('\n');
    } catch (error) {
      return `no events: ${(error as Error).message}; ${this.program.tail}`;
    }
  }

  async #granted<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.ask<T>(method, path, body);
    assert(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
}
