// An NBD server over any wires: gives each connection a number (its lane), bounds how many there are in all and of each client, knows who is
// attached to what, and shuts down so that nothing in flight is lost. Does not listen itself: its owner hands it wires.
import type { Clock, Log, Timer } from '../../replication/world.js';
import type { Wire, WireHandlers } from '../wire.js';
import { Connection, type ConnectionWorld, type Judge, type ServedTls } from './connection.js';
import { ServerCounters } from './counters.js';
import type { ExportTable } from './export.js';
import { SessionMemory } from './memory-share.js';

export interface NbdLimits {
  /** A connection beyond it is closed at once. Default 256. */
  connectionsMax: number;
  /** The same for those of one address, or of the Unix socket. Default as many as there may be. */
  connectionsPerClientMax: number;
  /** Default 10,000. */
  handshakeMs: number;
  /** Requests of one session that are not answered yet. Default 1024. */
  inFlightMax: number;
  /** What requests and replies of all sessions may hold. Default 256 MiB. */
  memoryBytesMax: number;
  /** How long a host may hold memory and move nothing; null: for ever. Default 120,000. */
  stallMs: number | null;
}

export interface NbdServerOptions extends Partial<NbdLimits> {
  exports: ExportTable;
  clock: Clock;
  log: Log;
  /** Default: TLS is off. */
  tls?: ServedTls | null;
}

const STALL_MS = 120_000;
/** How often it is looked whether hosts do their part, at least. */
const WATCH_MS_MAX = 5000;
/** Of the time that they are given. */
const WATCH_PART = 1 / 16;
/** No more than one line of the log in this time tells of connections turned away. */
const TURNED_AWAY_LOG_MS = 1000;

export interface AttachedClient {
  lane: number;
  client: string;
  export: string;
  inFlight: number;
}

export class NbdServer {
  readonly counters = new ServerCounters();
  readonly memory = new SessionMemory();
  #world: ConnectionWorld;
  #connectionsMax: number;
  #connectionsPerClientMax: number;
  #connections = new Set<Connection>();
  /** How many of them each client has, by `hostOf`. */
  #perClient = new Map<string, number>();
  #lanes = 0;
  #closing = false;
  #watchTimer: Timer | null = null;
  #turnedAwayLoggedMs = Number.NEGATIVE_INFINITY;
  #onEmpty: (() => void) | null = null;

  constructor(options: NbdServerOptions) {
    this.#connectionsMax = options.connectionsMax ?? 256;
    this.#connectionsPerClientMax = options.connectionsPerClientMax ?? Number.POSITIVE_INFINITY;
    if (options.memoryBytesMax !== undefined) this.memory.bytesMax = options.memoryBytesMax;
    this.#world = {
      exports: options.exports,
      clock: options.clock,
      log: options.log,
      counters: this.counters,
      memory: this.memory,
      handshakeMs: options.handshakeMs ?? 10_000,
      tls: options.tls ?? null,
      inFlightMax: options.inFlightMax ?? 1024,
      later: (run) => void options.clock.after(0, run),
      stallMs: options.stallMs === undefined ? STALL_MS : options.stallMs,
      over: (connection) => this.#forget(connection),
    };
  }

  /** Connections that are there stay, and keep their number of requests; memory and stalling are looked at anew. */
  setLimits({ connectionsMax, connectionsPerClientMax, handshakeMs, inFlightMax, memoryBytesMax, stallMs }: NbdLimits): void {
    this.#connectionsMax = connectionsMax;
    this.#connectionsPerClientMax = connectionsPerClientMax;
    Object.assign(this.#world, { handshakeMs, inFlightMax, stallMs });
    this.memory.bytesMax = memoryBytesMax;
    this.memory.wake();
  }

  /** For connections from now on. */
  setTls(tls: ServedTls | null): void {
    this.#world.tls = tls;
  }

  /** Closes the sessions that `judge` lets go no further, each after what is in flight is answered. */
  enforce(judge: Judge): void {
    for (const connection of this.#connections) connection.enforce(judge);
  }

  /** Connections that are open, or whose last requests are not answered yet. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Takes a client's wire and greets it; gives what handles the wire (`listen` of net-wire.ts wants just that). */
  accept(wire: Wire): WireHandlers {
    const host = hostOf(wire.peer);
    const ofClient = this.#perClient.get(host) ?? 0;
    if (this.#closing || this.#connections.size >= this.#connectionsMax || ofClient >= this.#connectionsPerClientMax) {
      this.counters.turnedAway += 1;
      this.#logTurnedAway(wire.peer, ofClient);
      wire.destroy();
      return IGNORE;
    }
    this.counters.accepted += 1;
    this.#perClient.set(host, ofClient + 1);
    this.#lanes += 1;
    const connection = new Connection(wire, this.#lanes, this.#world);
    this.#connections.add(connection);
    this.#watchTimer ??= this.#watchSoon();
    return connection;
  }

  /** Hosts in transmission, by lane. */
  clients(): AttachedClient[] {
    const attached: AttachedClient[] = [];
    for (const connection of this.#connections) {
      const { lane, client, exportName, inFlight } = connection;
      if (exportName !== null) attached.push({ lane, client, export: exportName, inFlight });
    }
    return attached;
  }

  /**
   * Accepts no more, has every session answer what is in flight and refuse what is new, and closes them. Resolves when all
   * are gone, or after `graceMs` when the rest was cut off; gives how many were cut off with requests in flight.
   */
  async close(options: { graceMs: number }): Promise<number> {
    this.#closing = true;
    for (const connection of this.#connections) connection.shutDown();
    if (this.#connections.size === 0) return 0;
    return new Promise((resolve) => {
      const timer = this.#world.clock.after(options.graceMs, () => {
        this.#onEmpty = null;
        resolve(this.#cutOff());
      });
      this.#onEmpty = () => {
        timer.cancel();
        resolve(0);
      };
    });
  }

  #logTurnedAway(client: string, ofClient: number): void {
    const nowMs = this.#world.clock.nowMs();
    if (nowMs - this.#turnedAwayLoggedMs < TURNED_AWAY_LOG_MS) return;
    this.#turnedAwayLoggedMs = nowMs;
    const { turnedAway } = this.counters;
    this.#world.log.warn({ client, connections: this.#connections.size, ofClient, turnedAway }, 'connection turned away');
  }

  #watchSoon(): Timer {
    const everyMs = Math.min(WATCH_MS_MAX, (this.#world.stallMs ?? STALL_MS) * WATCH_PART);
    return this.#world.clock.after(everyMs, () => {
      this.#watchTimer = this.#watchSoon();
      const nowMs = this.#world.clock.nowMs();
      for (const connection of this.#connections) connection.watch(nowMs);
    });
  }

  #cutOff(): number {
    let busy = 0;
    for (const connection of this.#connections) {
      if (connection.inFlight > 0) busy += 1;
      connection.destroy('the time to shut down was over');
    }
    return busy;
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection);
    const host = hostOf(connection.client);
    const left = this.#perClient.get(host)! - 1;
    if (left > 0) this.#perClient.set(host, left);
    else this.#perClient.delete(host);
    if (this.#connections.size > 0) return;
    this.#watchTimer?.cancel();
    this.#watchTimer = null;
    this.#onEmpty?.();
  }
}

/** The address without the port; all of a Unix socket are one client. */
function hostOf(peer: string): string {
  const port = peer.lastIndexOf(':');
  return port < 0 ? peer : peer.slice(0, port);
}

const IGNORE: WireHandlers = { data: () => {}, drain: () => {}, close: () => {} };
