// The simulated network: dials from a gateway to listening nodes, each connection a pair of ends over two pipes.
// Faults: cut (both ends learn of it, each at its own time), stall (half open: bytes go nowhere and nobody is told),
// refused and slow connects. A crashed gateway's ends fall silent at once and its peers see the connection close later.
import { type Dialer, describeAddress, type Wire, type WireAddress, type WireHandlers } from '../../gateway/wire.js';
import { Pipe, type PipeTiming } from './pipe.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

/** One connection, as both ends and the faults know it. */
export class Connection {
  /** When the gateway's end closed, for whatever reason: from then on what it carried is in doubt. Null: it stands. */
  gatewayClosedMs: number | null = null;
  readonly gateway: End;
  readonly node: End;
  #cut = false;
  #stalled = false;
  readonly #network: Network;

  constructor(
    readonly id: number,
    readonly address: string,
    network: Network,
  ) {
    this.#network = network;
    this.gateway = new End(this, `node ${address}`, network);
    this.node = new End(this, `gateway#${id}`, network);
    this.gateway.join(this.node, () => {
      this.gatewayClosedMs ??= network.scheduler.nowMs;
    });
    this.node.join(this.gateway, () => {});
  }

  get standing(): boolean {
    return !this.#cut && !this.gateway.closed && !this.node.closed;
  }

  /** The line breaks: a prefix of what is under way arrives, then each end is told, in its own time. */
  cut(): void {
    if (this.#cut) return;
    this.#cut = true;
    for (const end of [this.gateway, this.node]) end.lose(new Error('read ECONNRESET'));
  }

  /** Bytes go nowhere for `forMs`; then they arrive, or nothing ever does and the connection is reset. */
  stall(forMs: number, thenCut: boolean): void {
    if (this.#stalled || !this.standing) return;
    this.#stalled = true;
    this.gateway.outgoing.stall();
    this.node.outgoing.stall();
    this.#network.scheduler.after(forMs, () => {
      this.#stalled = false;
      if (thenCut) this.cut();
      else {
        this.gateway.outgoing.unstall();
        this.node.outgoing.unstall();
      }
    });
  }
}

/** One end of a connection. */
class End implements Wire {
  readonly peer: string;
  closed = false;
  outgoing!: Pipe;
  readonly #connection: Connection;
  readonly #network: Network;
  #handlers: WireHandlers | null = null;
  #other!: End;
  #onClosed!: () => void;
  #silenced = false;
  #lost: Error | null = null;
  /** The other end sends no more. */
  #ended = false;
  /** This end sends no more. */
  #finishing = false;

  constructor(connection: Connection, peer: string, network: Network) {
    this.#connection = connection;
    this.#network = network;
    this.peer = peer;
  }

  join(other: End, onClosed: () => void): void {
    this.#other = other;
    this.#onClosed = onClosed;
    this.outgoing = new Pipe(this.#network.scheduler, this.#network.random, this.#network.timing, {
      data: (chunk) => other.#tell((handlers) => handlers.data(chunk)),
      finished: () => other.#peerFinished(),
      drained: () => this.#tell((handlers) => handlers.drain()),
    });
  }

  attach(handlers: WireHandlers): void {
    this.#handlers = handlers;
  }

  get connection(): Connection {
    return this.#connection;
  }

  get queuedBytes(): number {
    return this.outgoing.queuedBytes;
  }

  write(bytes: Buffer): boolean {
    return this.closed ? false : this.outgoing.write(bytes);
  }

  cork(): void {}

  uncork(): void {}

  pause(): void {
    this.#other.outgoing.pause();
  }

  resume(): void {
    this.#other.outgoing.resume();
  }

  end(): void {
    if (this.closed) return;
    this.#finishing = true;
    this.outgoing.finish();
    if (this.#other.closed) this.#closeSoon();
  }

  destroy(): void {
    if (this.closed) return;
    this.outgoing.truncate();
    this.#close(null);
  }

  /** The program at this end is gone: no handler is called any more. */
  silence(): void {
    this.#silenced = true;
    this.destroy();
  }

  open(): void {
    this.#tell((handlers) => handlers.open?.());
  }

  /** The connection never came about. */
  refuse(error: Error): void {
    this.#close(error);
  }

  /** Part of what this end wrote still arrives at the other, which is then told; so is this one, in its own time. */
  lose(error: Error): void {
    if (this.closed) return;
    this.#lost = error;
    this.outgoing.truncate();
    this.#network.scheduler.after(this.#network.random.range(0, 5 * this.#network.timing.mostMs), () => this.#close(error));
  }

  #peerFinished(): void {
    if (this.closed || this.#ended) return;
    this.#ended = true;
    if (this.#lost === null && this.#handlers?.end !== undefined) this.#tell((handlers) => handlers.end!());
    else this.destroy();
    // Both have said all they wanted, in whichever order that was seen.
    if (this.#finishing && this.#other.closed && !this.closed) this.#closeSoon();
  }

  /** Both directions are done with. */
  #closeSoon(): void {
    this.#network.scheduler.after(0, () => this.#close(null));
  }

  #tell(what: (handlers: WireHandlers) => void): void {
    if (!this.closed && !this.#silenced && this.#handlers !== null) what(this.#handlers);
  }

  #close(error: Error | null): void {
    if (this.closed) return;
    this.closed = true;
    this.#onClosed();
    this.#other.outgoing.close();
    if (this.#other.#ended && this.#other.#finishing) this.#other.#closeSoon();
    this.#network.scheduler.after(0, () => {
      if (!this.#silenced) this.#handlers?.close(error);
    });
  }
}

export type { End };

export interface Listening {
  /** Null: nobody accepts connections here now. */
  accept(end: End, connection: Connection): WireHandlers | null;
}

export class Network {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly timing: PipeTiming;
  readonly connections: Connection[] = [];
  readonly #listening = new Map<string, Listening>();
  #dialled = 0;

  constructor(scheduler: Scheduler, random: Random, timing: PipeTiming) {
    this.scheduler = scheduler;
    this.random = random;
    this.timing = timing;
  }

  listen(address: WireAddress, listening: Listening): void {
    this.#listening.set(describeAddress(address), listening);
  }

  /** The dialer of one gateway incarnation; `opened` is told of each of its connections. */
  dialer(opened: (connection: Connection) => void): Dialer {
    return { dial: (address, handlers) => this.#dial(describeAddress(address), handlers, opened) };
  }

  standing(address: WireAddress): Connection[] {
    const name = describeAddress(address);
    return this.connections.filter((connection) => connection.address === name && connection.standing);
  }

  #dial(address: string, handlers: WireHandlers, opened: (connection: Connection) => void): Wire {
    this.#dialled += 1;
    const connection = new Connection(this.#dialled, address, this);
    connection.gateway.attach(handlers);
    opened(connection);
    const slow = this.random.chance(0.05);
    this.scheduler.after(this.random.range(this.timing.leastMs, this.timing.mostMs * (slow ? 50 : 2)), () => {
      if (connection.gateway.closed) return;
      const accepted = this.#listening.get(address)?.accept(connection.node, connection) ?? null;
      if (accepted === null) {
        connection.gateway.refuse(new Error(`connect ECONNREFUSED ${address}`));
        return;
      }
      connection.node.attach(accepted);
      this.#forgetClosed();
      this.connections.push(connection);
      connection.gateway.open();
    });
    return connection.gateway;
  }

  #forgetClosed(): void {
    if (this.connections.length < 64) return;
    const standing = this.connections.filter((connection) => connection.standing);
    this.connections.splice(0, this.connections.length, ...standing);
  }
}
