// Wires over node:net: dials and accepts TCP and Unix sockets. Turns the stream's many ways to end into the one
// `close` of WireHandlers, and never lets a socket's error escape. Knows no protocol.
import { lstat, unlink } from 'node:fs/promises';
import { type AddressInfo, createServer, type NetConnectOpts, type Server, Socket } from 'node:net';
import { type Dialer, describeAddress, type Wire, type WireAddress, type WireHandlers } from './wire.js';

/** Idle time after which the system probes whether the other end still exists. */
const KEEPALIVE_MS = 10_000;
/** A wire that was ended and on which nothing moves for this long is destroyed. */
const END_IDLE_MS = 3000;

class NetWire implements Wire {
  readonly peer: string;
  #socket: Socket;
  #error: Error | null = null;

  constructor(socket: Socket, peer: string) {
    this.#socket = socket;
    this.peer = peer;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
  }

  /** Once, right after construction, before the event loop can deliver anything. */
  attach(handlers: WireHandlers): void {
    const socket = this.#socket;
    if (handlers.open) socket.on('connect', () => handlers.open!());
    socket.on('data', (chunk: Buffer) => handlers.data(chunk));
    socket.on('drain', () => handlers.drain());
    socket.on('end', () => {
      if (handlers.end) handlers.end();
      else socket.destroy();
    });
    socket.on('error', (error) => {
      this.#error ??= error;
    });
    socket.on('close', () => handlers.close(this.#error));
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  write(bytes: Buffer): boolean {
    return this.#socket.write(bytes);
  }

  cork(): void {
    this.#socket.cork();
  }

  uncork(): void {
    this.#socket.uncork();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.end();
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
