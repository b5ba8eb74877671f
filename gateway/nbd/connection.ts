// One client's connection from its first byte to its last: handshake, attaching the export, session, and the deadlines
// around them. Detaches an export exactly once, after the session's last request was answered. The rules of the
// protocol are elsewhere (server-handshake.ts, session.ts); here they meet wire, clock and export table.
import assert from 'node:assert/strict';
import type { Clock, Log, Timer } from '../../replication/world.js';
import type { Security, TlsPeer, Wire, WireHandlers } from '../wire.js';
import type { Attachment, Client, ExportTable } from './export.js';
import { ServerHandshake, type ServerStep, type TlsMode } from './server-handshake.js';
import { Session, type SessionWorld } from './session.js';

/** Answers to options the wire may hold before no more options are read. */
const WIRE_QUEUE_BYTES_MAX = 256 * 1024;
/** How long a client may take to close its side once we ended ours. */
const LINGER_MS = 15_000;
/** How long a client in the handshake may take for its next option, which tells it that the server is shutting down. */
const LAST_OPTION_MS = 500;

export interface ConnectionWorld extends SessionWorld {
  exports: ExportTable;
  clock: Clock;
  log: Log;
  /** For the whole handshake, that of TLS included, waiting for the export to be attached excepted. */
  handshakeMs: number;
  /** Null: off. */
  tls: ServedTls | null;
  /** Nothing of the connection is left. */
  over(connection: Connection): void;
}

/** Whether a client that is attached may stay so. */
export type Judge = (exportName: string, client: Client, readOnly: boolean) => boolean;

/** What a server has for STARTTLS. */
export interface ServedTls {
  mode: TlsMode;
  security: Security;
}

export class Connection implements WireHandlers {
  readonly lane: number;
  readonly client: string;
  /** As it is now: a plain client may become a secured one. */
  who: Client;
  #world: ConnectionWorld;
  #wire: Wire;
  /** What was there when it came: a client is never told one thing and then another. */
  #tls: ServedTls | null;
  /** Null once the transmission has begun. */
  #handshake: ServerHandshake | null;
  #attaching = false;
  #securing = false;
  /** What changed while the export was being attached. */
  #judge: Judge | null = null;
  #late = false;
  #shuttingDown = false;
  #attachment: Attachment | null = null;
  #session: Session | null = null;
  #timer: Timer | null;
  #closed = false;
  #toldEnded = false;
  #paused = false;
  /** Why we ended the connection, if we did. */
  #reason: string | null = null;

  constructor(wire: Wire, lane: number, world: ConnectionWorld) {
    this.#wire = wire;
    this.lane = lane;
    this.client = wire.peer;
    this.who = { peer: wire.peer, tls: null };
    this.#world = world;
    assert(world.tls === null || wire.secure !== undefined, 'TLS is served over wires that can have it');
    this.#tls = world.tls;
    const inSight = { names: () => world.exports.names(this.who), find: (name: string) => world.exports.find(name, this.who) };
    const handshake = new ServerHandshake(inSight, this.#tls?.mode);
    this.#handshake = handshake;
    this.#timer = world.clock.after(world.handshakeMs, () => this.#onDeadline());
    wire.write(handshake.greeting());
  }

  /** The export in use; null before and after. */
  get exportName(): string | null {
    return this.#attachment?.export.name ?? null;
  }

  get inFlight(): number {
    return this.#session?.inFlight ?? 0;
  }

  data(chunk: Buffer): void {
    if (this.#session !== null) this.#session.receive(chunk);
    else if (this.#handshake !== null && this.#reason === null) this.#take(this.#handshake, this.#handshake.receive(chunk));
  }

  secured(peer: TlsPeer): void {
    if (this.#handshake === null || this.#reason !== null) return;
    this.#securing = false;
    this.who = { peer: this.client, tls: peer };
    const { protocol, cipher, identity, names, flaw } = peer;
    this.#world.counters.secured += 1;
    this.#world.log.debug({ lane: this.lane, client: this.client, protocol, cipher, identity, names }, 'TLS established');
    if (flaw !== null) {
      this.#world.counters.refused += 1;
      this.#world.log.warn({ lane: this.lane, client: this.client, reason: flaw }, 'client refused: its certificate does not count');
    }
    this.#take(this.#handshake, this.#handshake.secured(flaw === null ? null : `you get nothing on this server: ${flaw}`));
  }

  drain(): void {
    if (this.#session !== null) this.#session.drained();
    else if (!this.#attaching) this.#resume();
  }

  end(): void {
    this.#tellEnded();
    if (this.#session !== null) this.#session.peerEnded();
    else this.#end('the client closed its side');
  }

  close(error: Error | null): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#tellEnded();
    const reason = this.#reason ?? error?.message ?? 'the client closed the connection';
    if (this.#session !== null) {
      this.#world.log.info({ lane: this.lane, client: this.client, export: this.exportName, reason }, 'host detached');
      this.#session.closed();
    } else {
      this.#world.counters.handshakesFailed += 1;
      if (this.#securing) this.#world.log.info({ lane: this.lane, client: this.client, reason }, 'TLS not established');
      else this.#world.log.debug({ lane: this.lane, client: this.client, reason }, 'handshake not completed');
      if (!this.#attaching) this.#world.over(this);
    }
  }

  /** In transmission: answers what is in flight, refuses what is new, ends. Before it: refuses the next option, ends. */
  shutDown(): void {
    if (this.#session !== null) this.#session.shutDown();
    else if (this.#handshake !== null && this.#reason === null) {
      this.#handshake.shutDown();
      this.#shuttingDown = true;
      if (this.#attaching) return;
      this.#timer?.cancel();
      this.#timer = this.#world.clock.after(LAST_OPTION_MS, () => this.#end('the server is shutting down'));
    }
  }

  /** `judge` says whether the export may still be used so: if not, what is in flight is answered, and then the client has to attach again. */
  enforce(judge: Judge): void {
    if (this.#attaching) this.#judge = judge;
    const target = this.#attachment?.export;
    if (target === undefined || this.#reason !== null || judge(target.name, this.who, target.features.readOnly)) return;
    this.#world.counters.refused += 1;
    this.#world.log.warn(
      { lane: this.lane, client: this.client, export: target.name },
      'host may not use the export any more: its session is closed',
    );
    this.shutDown();
  }

  /** Closes at once; requests in flight go unanswered. */
  destroy(reason: string): void {
    this.#reason ??= reason;
    this.#wire.destroy();
  }

  #take(handshake: ServerHandshake, step: ServerStep): void {
    if (step.next.kind === 'starttls') {
      this.#securing = true;
      this.#wire.secure!(Buffer.concat(step.send), this.#tls!.security);
      return;
    }
    this.#wire.cork();
    let ready = true;
    for (const bytes of step.send) if (!this.#wire.write(bytes)) ready = false;
    this.#wire.uncork();
    switch (step.next.kind) {
      case 'read':
        if (!ready && this.#wire.queuedBytes > WIRE_QUEUE_BYTES_MAX) this.#pause();
        break;
      case 'attach':
        this.#pause();
        void this.#attach(step.next.name, handshake);
        break;
      case 'transmit':
        this.#transmit(step.next.agreement);
        break;
      case 'close':
        this.#end(step.next.reason);
        break;
    }
  }

  async #attach(name: string, handshake: ServerHandshake): Promise<void> {
    this.#attaching = true;
    let refusal: string | null = null;
    try {
      this.#attachment = (await this.#world.exports.attach(name, { lane: this.lane, client: this.client, who: this.who })) ?? null;
    } catch (error) {
      refusal = (error as Error).message;
      this.#world.log.warn({ lane: this.lane, client: this.client, export: name, reason: refusal }, 'export refused');
    }
    this.#attaching = false;
    if (this.#closed || this.#reason !== null) {
      this.#detach();
      if (this.#closed) this.#world.over(this);
      return;
    }
    this.#resume();
    if (this.#judge !== null && this.#attachment !== null && !this.#judge(name, this.who, this.#attachment.export.features.readOnly)) {
      this.#detach();
      refusal = 'who may use it has just changed: attach again';
    }
    if (this.#shuttingDown) {
      this.#detach();
      refusal = 'the server is shutting down';
    }
    this.#take(handshake, refusal === null ? handshake.attached(this.#attachment?.export) : handshake.attachRefused(refusal));
    if (this.#late && this.#session === null) this.destroy('the handshake took too long');
  }

  #transmit(agreement: ConstructorParameters<typeof Session>[1]): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#handshake = null;
    this.#world.counters.attached += 1;
    this.#world.log.info({ lane: this.lane, client: this.client, export: agreement.export.name }, 'host attached');
    this.#session = new Session(this.#wire, agreement, this.lane, this.#world, {
      ended: (reason) => this.#linger(reason),
      over: () => {
        this.#detach();
        this.#world.over(this);
      },
    });
    if (agreement.leftover.length > 0) this.#session.receive(agreement.leftover);
  }

  /** The client sends nothing more: its attachment hears of it once. */
  #tellEnded(): void {
    if (this.#toldEnded) return;
    this.#toldEnded = true;
    this.#attachment?.ended?.();
  }

  #detach(): void {
    const attachment = this.#attachment;
    this.#attachment = null;
    attachment?.detach();
  }

  #end(reason: string): void {
    if (this.#reason !== null) return;
    this.#linger(reason);
    this.#resume();
    this.#wire.end();
  }

  /** We are done: the client has a while to close its side too. */
  #linger(reason: string): void {
    this.#reason ??= reason;
    this.#timer?.cancel();
    this.#timer = this.#world.clock.after(LINGER_MS, () => this.#wire.destroy());
  }

  #onDeadline(): void {
    if (this.#attaching) this.#late = true;
    else this.destroy('the handshake took too long');
  }

  #pause(): void {
    this.#paused = true;
    this.#wire.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#wire.resume();
  }
}
