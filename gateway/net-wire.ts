// Wires over node:net: dials and accepts TCP and Unix sockets, and has them go on in TLS. Turns the stream's many ways to
// end into the one `close` of WireHandlers, and never lets a socket's error escape. Knows no protocol.
import assert from 'node:assert/strict';
import { lstat, unlink } from 'node:fs/promises';
import { type AddressInfo, createServer, type NetConnectOpts, type Server, Socket } from 'node:net';
import { PacedWriter } from './paced-writer.js';
import { type Dialer, describeAddress, type Security, type Wire, type WireAddress, type WireHandlers } from './wire.js';

/** Idle time after which the system probes whether the other end still exists. */
const KEEPALIVE_MS = 10_000;
/** A wire that was ended and on which nothing moves for this long is destroyed. */
const END_IDLE_MS = 3000;

class NetWire implements Wire {
  readonly peer: string;
  #socket: Socket;
  #handlers: WireHandlers | null = null;
  #error: Error | null = null;
  #security: Security | null = null;
  /** In TLS alone: a plain socket takes what it is given. */
  #paced: PacedWriter | null = null;

  constructor(socket: Socket, peer: string) {
    this.#socket = socket;
    this.peer = peer;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
  }

  /** Once, right after construction, before the event loop can deliver anything. */
  attach(handlers: WireHandlers): void {
    const socket = this.#socket;
    this.#handlers = handlers;
    if (handlers.open) socket.on('connect', () => handlers.open!());
    socket.on('data', (chunk: Buffer) => handlers.data(chunk));
    socket.on('drain', () => handlers.drain());
    this.#watchEnd(socket);
  }

  /** How `socket` ends, unless another has taken its place. */
  #watchEnd(socket: Socket): void {
    const handlers = this.#handlers!;
    socket.on('end', () => {
      if (socket !== this.#socket) return;
      if (handlers.end) handlers.end();
      else socket.destroy();
    });
    socket.on('error', (error) => {
      this.#error ??= this.#security?.explain(error) ?? error;
    });
    socket.on('close', () => {
      if (socket === this.#socket) handlers.close(this.#error);
    });
  }

  secure(last: Buffer, security: Security): void {
    assert(this.#security === null, 'a wire is secured once');
    this.#security = security;
    const plain = this.#socket;
    plain.pause();
    plain.removeAllListeners('data');
    plain.removeAllListeners('drain');
    plain.write(last, (error) => {
      if (!error && !plain.destroyed) this.#goOn(plain, security);
    });
  }

  /** Everything that was written in plain has left: the rest of the stream is TLS, also what has come meanwhile. */
  #goOn(plain: Socket, security: Security): void {
    const handlers = this.#handlers!;
    let known = false;
    const secured = security.take(plain, (peer) => {
      if (secured.destroyed) return;
      known = true;
      handlers.secured?.(peer);
    });
    this.#socket = secured;
    secured.on('data', (chunk: Buffer) => {
      assert(known, 'nothing is taken from who is not known yet');
      handlers.data(chunk);
    });
    this.#paced = new PacedWriter(secured, () => handlers.drain());
    this.#watchEnd(secured);
  }

  get queuedBytes(): number {
    return this.#paced === null ? this.#socket.writableLength : this.#paced.queuedBytes;
  }

  write(bytes: Buffer): boolean {
    return this.#paced === null ? this.#socket.write(bytes) : this.#paced.write(bytes);
  }

  cork(): void {
    if (this.#paced === null) this.#socket.cork();
    else this.#paced.cork();
  }

  uncork(): void {
    if (this.#paced === null) this.#socket.uncork();
    else this.#paced.uncork();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    if (this.#paced === null) this.#socket.end();
    else this.#paced.end();
    // The other end may hang: then nobody would ever close.
    this.#socket.setTimeout(END_IDLE_MS, () => this.#socket.destroy());
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

export class NetDialer implements Dialer {
  dial(address: WireAddress, handlers: WireHandlers): Wire {
    const socket = new Socket({ allowHalfOpen: true });
    const wire = new NetWire(socket, describeAddress(address));
    wire.attach(handlers);
    const where: NetConnectOpts = 'path' in address ? { path: address.path } : { host: address.host, port: address.port };
    try {
      socket.connect(where);
    } catch (error) {
      socket.destroy(error as Error);
    }
    return wire;
  }
}

export interface Listener {
  /** Where it really listens: port 0 has become the chosen one. */
  readonly address: WireAddress;
  /** Accepts no more; wires that are open stay open. */
  close(): void;
}

export interface ListenHooks {
  /** A client is there; gives what handles its wire. */
  accept(wire: Wire): WireHandlers;
  /** A client could not be accepted (descriptors ran out, say); listening goes on. */
  failed?(error: Error): void;
}

/**
 * Listens on `address`. A Unix socket that a dead program left behind is replaced; one that answers, or another kind of
 * file, is not. Rejects with the reason when listening is impossible.
 */
export async function listen(address: WireAddress, hooks: ListenHooks): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const wire = new NetWire(socket, describePeer(socket));
    wire.attach(hooks.accept(wire));
  });
  try {
    await bind(server, address);
  } catch (error) {
    const stale = 'path' in address && (error as NodeJS.ErrnoException).code === 'EADDRINUSE' && (await isStaleSocket(address.path));
    if (!stale) throw error;
    await unlink(address.path);
    await bind(server, address);
  }
  server.on('error', (error) => hooks.failed?.(error));
  return { address: boundAddress(server, address), close: () => void server.close() };
}

function bind(server: Server, address: WireAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const listening = (): void => {
      server.off('error', reject);
      resolve();
    };
    if ('path' in address) server.listen({ path: address.path }, listening);
    else server.listen({ host: address.host, port: address.port }, listening);
  });
}

function boundAddress(server: Server, asked: WireAddress): WireAddress {
  if ('path' in asked) return asked;
  return { host: asked.host, port: (server.address() as AddressInfo).port };
}

/** True for a socket file nobody listens on. */
async function isStaleSocket(path: string): Promise<boolean> {
  const file = await lstat(path).catch(() => null);
  if (!file?.isSocket()) return false;
  return new Promise((resolve) => {
    const probe = new Socket();
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
    probe.connect({ path });
  });
}

function describePeer(socket: Socket): string {
  const host = socket.remoteAddress;
  if (host === undefined) return 'unix';
  return host.includes(':') ? `[${host}]:${socket.remotePort}` : `${host}:${socket.remotePort}`;
}
