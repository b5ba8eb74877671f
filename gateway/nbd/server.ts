// An NBD server over any wires: gives each connection a number (its lane), bounds how many there are, knows who is
// attached to what, and shuts down so that nothing in flight is lost. Does not listen itself: its owner hands it wires.
import type { Clock, Log } from '../../replication/world.js';
import type { Wire, WireHandlers } from '../wire.js';
import { Connection, type ConnectionWorld } from './connection.js';
import { ServerCounters } from './counters.js';
import type { ExportTable } from './export.js';
import { SessionMemory } from './memory-share.js';

export interface NbdServerOptions {
  exports: ExportTable;
  clock: Clock;
  log: Log;
  /** Default 256; a connection beyond it is closed at once. */
  connectionsMax?: number;
  /** Default 10,000. */
  handshakeMs?: number;
}

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
  #connections = new Set<Connection>();
  #lanes = 0;
  #closing = false;
  #onEmpty: (() => void) | null = null;

  constructor(options: NbdServerOptions) {
    this.#connectionsMax = options.connectionsMax ?? 256;
    this.#world = {
      exports: options.exports,
      clock: options.clock,
      log: options.log,
      counters: this.counters,
      memory: this.memory,
      handshakeMs: options.handshakeMs ?? 10_000,
      over: (connection) => this.#forget(connection),
    };
  }

  /** Connections that are open, or whose last requests are not answered yet. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Takes a client's wire and greets it; gives what handles the wire (`listen` of net-wire.ts wants just that). */
  accept(wire: Wire): WireHandlers {
    if (this.#closing || this.#connections.size >= this.#connectionsMax) {
      this.counters.turnedAway += 1;
      this.#world.log.warn({ client: wire.peer, connections: this.#connections.size }, 'connection turned away');
      wire.destroy();
      return IGNORE;
    }
    this.counters.accepted += 1;
    this.#lanes += 1;
    const connection = new Connection(wire, this.#lanes, this.#world);
    this.#connections.add(connection);
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
    if (this.#connections.size === 0) this.#onEmpty?.();
  }
}

const IGNORE: WireHandlers = { data: () => {}, drain: () => {}, close: () => {} };
