// One storage node as the gateway deals with it: where its exports are, whether it answers, what it has free, and what
// our own I/O to it looks like. An agent (also an embedded one) is asked; a plain node shows itself by its connections and
// by a handshake now and then.
import type { NodeConfig } from '../../config/config.js';
import type { IoAggregate } from '../../pfa/io-aggregate.js';
import type { Clock, Log } from '../../replication/world.js';
import { type RunningAgent, startAgent } from '../agent/agent.js';
import type { AgentInfo } from '../agent/agent-schema.js';
import { AgentClient } from '../agent/client.js';
import type { Outcome, TargetRef } from '../control.js';
import type { IoMeter } from '../health/oracle.js';
import { LatencyHistogram } from '../metrics/histogram.js';
import type { Upstream } from '../upstream/upstream.js';
import type { Dialer, Security, WireAddress } from '../wire.js';
import { probeExport } from './probe.js';

export interface IoTotals {
  reads: number;
  writes: number;
  flushes: number;
  readBytes: number;
  writtenBytes: number;
  errors: number;
  disconnects: number;
}

const SLOW_REQUEST_MS = 5000;

export class StorageNode implements IoMeter {
  config: NodeConfig;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #dialer: Dialer;
  readonly #upstreams = new Set<Upstream>();
  /** Counts of upstreams that are gone. */
  readonly #past: IoTotals = emptyTotals();
  readonly latency = new LatencyHistogram();
  #client: AgentClient | null = null;
  #embedded: RunningAgent | null = null;
  #embeddedProblem: string | null = null;
  /** Null: plain. */
  #security: Security | null = null;
  #securityProblem: string | null = null;
  #info: AgentInfo | null = null;
  #state: 'up' | 'down' | 'unknown' = 'unknown';
  #reason: string | null = 'not asked yet';
  readonly #spareSizes = new Map<string, number>();
  #lastTotals = emptyTotals();
  #lastMs: number | null = null;
  #lastAggregate: IoAggregate | null = null;
  #lastWindowMs = 0;

  constructor(config: NodeConfig, world: { clock: Clock; log: Log; dialer: Dialer }) {
    this.config = config;
    this.#clock = world.clock;
    this.#log = world.log;
    this.#dialer = world.dialer;
    if (config.kind === 'agent') this.#client = new AgentClient(config.url);
  }

  get id(): string {
    return this.config.id;
  }

  /** What the API calls it: an embedded node is an agent that runs here. */
  get kind(): 'plain' | 'agent' {
    return this.config.kind === 'plain' ? 'plain' : 'agent';
  }

  get agent(): AgentClient | null {
    return this.#client;
  }

  get info(): AgentInfo | null {
    return this.#info;
  }

  /** IoMeter: the node's name. */
  get node(): string {
    return this.config.id;
  }

  /** Our I/O to it in the last interval; null: none was looked at. */
  get recentIo(): { iops: number; bytesPerSecond: number; p50Us: number | null; p99Us: number | null } | null {
    const io = this.#lastAggregate;
    if (io === null) return null;
    const seconds = this.#lastWindowMs / 1000;
    return { iops: (io.reads + io.writes) / seconds, bytesPerSecond: io.bytes / seconds, p50Us: io.p50Us, p99Us: io.p99Us };
  }

  /** Some connection stands, or the last question was answered. */
  get state(): { state: 'up' | 'down' | 'unknown'; reason: string | null } {
    for (const upstream of this.#upstreams) if (upstream.ready) return { state: 'up', reason: null };
    for (const upstream of this.#upstreams) {
      if (upstream.state === 'connecting' && this.kind === 'plain') return { state: 'down', reason: upstream.reason };
    }
    return { state: this.#state, reason: this.#reason };
  }

  spareSize(name: string): number | null {
    return this.#spareSizes.get(name) ?? null;
  }

  /** Starts an embedded agent. A directory that cannot be used makes the node down, not the gateway. */
  async start(): Promise<void> {
    if (this.config.kind === 'embedded') {
      try {
        this.#embedded = await startAgent({
          dir: this.config.directory,
          host: '127.0.0.1',
          port: 0,
          apiPort: 0,
          clock: this.#clock,
          log: this.#log,
        });
        this.#client = new AgentClient(`http://127.0.0.1:${this.#embedded.apiPort}`);
      } catch (error) {
        this.#embeddedProblem = (error as Error).message;
        this.#log.error({ node: this.id, reason: this.#embeddedProblem }, 'an embedded node cannot be started');
      }
    }
    await this.look();
  }

  async stop(): Promise<void> {
    await this.#client?.close();
    await this.#embedded?.close();
  }

  /** What its connections are dialled with from now on. Without what it needs for TLS it is not dialled at all. */
  secure(loaded: Outcome<Security | null>): void {
    this.#security = loaded.ok ? loaded.value : null;
    this.#securityProblem = loaded.ok ? null : loaded.message;
    if (!loaded.ok) this.#log.error({ node: this.id, reason: loaded.message }, 'a node cannot be reached for want of what TLS needs');
  }

  /** Where an export of this node is served; a sentence when nobody knows. */
  address(): WireAddress | string {
    if (this.#securityProblem !== null) return this.#securityProblem;
    const address = this.#plainAddress();
    return typeof address === 'string' || this.#security === null ? address : { ...address, security: this.#security };
  }

  #plainAddress(): WireAddress | string {
    if (this.config.kind === 'plain') return this.config.address;
    if (this.#embeddedProblem !== null) return this.#embeddedProblem;
    if (this.#info === null || this.#client === null) {
      return this.#reason ?? 'its agent has not answered yet';
    }
    return this.#client.nbdAddress(this.#info);
  }

  /** Asks the node how it is. */
  async look(): Promise<void> {
    if (this.config.kind === 'plain') {
      const address = this.address();
      if (typeof address === 'string') this.#enter('down', address);
      else await this.#probeSpares(address, this.config.spares);
      return;
    }
    if (this.#client === null) {
      this.#enter('down', this.#embeddedProblem);
      return;
    }
    const info = await this.#client.info();
    if (info.ok) {
      this.#info = info.value;
      this.#enter('up', null);
    } else this.#enter('down', info.message);
  }

  adopt(upstream: Upstream): void {
    this.#upstreams.add(upstream);
  }

  forget(upstream: Upstream): void {
    if (!this.#upstreams.delete(upstream)) return;
    addTotals(this.#past, upstream.counters);
    this.latency.mergeFrom(upstream.counters.latency);
  }

  upstreams(): Iterable<Upstream> {
    return this.#upstreams;
  }

  totals(): IoTotals {
    const totals = { ...this.#past };
    for (const upstream of this.#upstreams) addTotals(totals, upstream.counters);
    return totals;
  }

  /** Latency of everything since the start, over all targets. */
  latencyOfAll(): LatencyHistogram {
    const all = new LatencyHistogram();
    all.mergeFrom(this.latency);
    for (const upstream of this.#upstreams) all.mergeFrom(upstream.counters.latency);
    return all;
  }

  /** What happened since the last call; `nowMs` is wall time. Null: nothing of ours uses the node, or it is the first look. */
  take(nowMs: number): IoAggregate | null {
    const totals = this.totals();
    const last = this.#lastTotals;
    const lastMs = this.#lastMs;
    const recent = new LatencyHistogram();
    let timeouts = 0;
    for (const upstream of this.#upstreams) {
      recent.mergeFrom(upstream.counters.recent);
      upstream.counters.recent.reset();
      if (upstream.ready && upstream.oldestMs() > SLOW_REQUEST_MS) timeouts += 1;
    }
    this.#lastTotals = totals;
    this.#lastMs = nowMs;
    if (lastMs === null || nowMs <= lastMs || this.#upstreams.size === 0) return null;
    this.#lastAggregate = {
      atMs: nowMs,
      reads: totals.reads - last.reads,
      writes: totals.writes - last.writes,
      bytes: totals.readBytes - last.readBytes + totals.writtenBytes - last.writtenBytes,
      errors: totals.errors - last.errors,
      timeouts,
      reconnects: totals.disconnects - last.disconnects,
      p50Us: recent.quantile(0.5),
      p99Us: recent.quantile(0.99),
    };
    this.#lastWindowMs = nowMs - lastMs;
    return this.#lastAggregate;
  }

  /** Exports of this node that one of our connections uses. */
  uses(target: TargetRef): boolean {
    for (const upstream of this.#upstreams) if (upstream.target.export === target.export) return true;
    return false;
  }

  async #probeSpares(address: WireAddress, spares: readonly string[]): Promise<void> {
    const idle = spares.filter((name) => !this.uses({ node: this.id, export: name }));
    if (idle.length === 0) {
      this.#enter('unknown', 'it has no export that can be asked');
      return;
    }
    for (const name of idle) {
      const found = await probeExport(this.#dialer, this.#clock, address, name);
      if (!found.ok) {
        this.#spareSizes.delete(name);
        this.#enter('down', found.message);
        return;
      }
      this.#spareSizes.set(name, found.value.sizeBytes);
    }
    this.#enter('up', null);
  }

  #enter(state: 'up' | 'down' | 'unknown', reason: string | null): void {
    if (this.#state !== state) this.#log.info({ node: this.id, state, reason }, 'a node changed its state');
    this.#state = state;
    this.#reason = reason;
  }
}

function emptyTotals(): IoTotals {
  return { reads: 0, writes: 0, flushes: 0, readBytes: 0, writtenBytes: 0, errors: 0, disconnects: 0 };
}

function addTotals(into: IoTotals, from: IoTotals): void {
  into.reads += from.reads;
  into.writes += from.writes;
  into.flushes += from.flushes;
  into.readBytes += from.readBytes;
  into.writtenBytes += from.writtenBytes;
  into.errors += from.errors;
  into.disconnects += from.disconnects;
}
