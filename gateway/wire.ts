// A byte stream between two programs, as the protocol machines see it: a TCP or Unix socket in the product,
// a simulated one in the simulator. `data` chunks are fresh: the receiver may keep slices of them.
import type { Socket } from 'node:net';

export interface WireHandlers {
  /** The stream is open; only for a wire that was dialled. */
  open?(): void;
  data(chunk: Buffer): void;
  /** What was written has left our buffers after `write` returned false. */
  drain(): void;
  /** The other end sends no more but may still read. Without this handler such a wire is destroyed, since nothing more can come of it. */
  end?(): void;
  /** The TLS handshake that `secure` began is done; only then does `data` follow. */
  secured?(peer: TlsPeer): void;
  /** The stream is gone, for whatever reason; called once, nothing follows. `error` is for the log. */
  close(error: Error | null): void;
}

export interface Wire {
  /** Name of the other end, for logs and access rules: `127.0.0.1:43122`, `unix`. */
  readonly peer: string;
  /** Bytes written and not yet taken by the system; when it is 0, what was written may be changed again. */
  readonly queuedBytes: number;
  /** False: stop writing until `drain`. The bytes must not change until the wire has closed or drained. */
  write(bytes: Buffer): boolean;
  /** Several writes between cork and uncork leave in one system call. */
  cork(): void;
  uncork(): void;
  pause(): void;
  resume(): void;
  /**
   * Sends `last` as it is, then goes on in TLS, in place; at most once. Whatever came and was not handed out yet belongs to TLS. Wires
   * that cannot have none.
   */
  secure?(last: Buffer, security: Security): void;
  /** Send what is queued, then close; at once when the other end does not take it. */
  end(): void;
  /** Close at once; what is queued may be lost. `close` is still called. */
  destroy(): void;
}

/** Who is at the other end of a secured wire. */
export interface TlsPeer {
  /** As OpenSSL names them: `TLSv1.3`, `TLS_AES_128_GCM_SHA256`. */
  protocol: string;
  cipher: string;
  /** The pre-shared key it proved to know; null: none was used. */
  identity: string | null;
  /** Names in its certificate, which was verified; null: it has shown none, or none that counts. */
  names: readonly string[] | null;
  /** Why the certificate it has shown does not count. */
  flaw: string | null;
}

/** One side's means for TLS (gateway/tls). */
export interface Security {
  /** Takes over `socket`: gives the secured one in its place, which calls `secured` when the handshake is done and fails otherwise. */
  take(socket: Socket, secured: (peer: TlsPeer) => void): Socket;
  /** A failure of that socket, in words. */
  explain(error: Error): Error;
}

export interface Dialer {
  /** Never throws: a failure is a `close` with the error. */
  dial(address: WireAddress, handlers: WireHandlers): Wire;
}

export type WireAddress = ({ host: string; port: number } | { path: string }) & {
  /** What is said there goes on over TLS with these means, or not at all. Seen to by the protocol, not by who dials. */
  security?: Security;
};

export function describeAddress(address: WireAddress): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}
