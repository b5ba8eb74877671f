// A byte stream between two programs, as the protocol machines see it: a TCP or Unix socket in the product,
// a simulated one in the simulator. `data` chunks are fresh: the receiver may keep slices of them.

export interface WireHandlers {
  /** The stream is open; only for a wire that was dialled. */
  open?(): void;
  data(chunk: Buffer): void;
  /** What was written has left our buffers after `write` returned false. */
  drain(): void;
  /** The other end sends no more but may still read. Without this handler such a wire is destroyed, since nothing more can come of it. */
  end?(): void;
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
  /** Send what is queued, then close; at once when the other end does not take it. */
  end(): void;
  /** Close at once; what is queued may be lost. `close` is still called. */
  destroy(): void;
}

export interface Dialer {
  /** Never throws: a failure is a `close` with the error. */
  dial(address: WireAddress, handlers: WireHandlers): Wire;
}

export type WireAddress = { host: string; port: number } | { path: string };

export function describeAddress(address: WireAddress): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}
