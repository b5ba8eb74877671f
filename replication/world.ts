// What the lower layers need from the world, as interfaces: time, a log, durable records.
// The composition root gives the real ones, the simulator its own; nothing below calls Date.now or a timer itself.

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds, monotonic, fractional; the origin means nothing. */
  nowMs(): number;
  /** Milliseconds since 1970, for what people read (events, certificates). */
  wallMs(): number;
  after(delayMs: number, run: () => void): Timer;
}

/** Resolves after `delayMs`. */
export function sleep(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(delayMs, resolve);
  });
}

/** What `work` gives; undefined when it takes longer than `delayMs` (it goes on by itself then). Leaves no timer behind. */
export async function within<T>(clock: Clock, delayMs: number, work: Promise<T>): Promise<T | undefined> {
  let timer: Timer | null = null;
  const late = new Promise<undefined>((resolve) => {
    timer = clock.after(delayMs, () => resolve(undefined));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    timer!.cancel();
  }
}

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export type RecordKey = string;
export const RECORD_KEY_BYTES_MAX = 512;
export type RecordValue = unknown;

export type Change = { put: RecordKey; value: RecordValue } | { remove: RecordKey };

/**
 * Durable records: a sorted map of short string keys (at most `RECORD_KEY_BYTES_MAX` bytes) to plain values (JSON-like, plus Uint8Array).
 * `commit` is atomic and resolves only when the changes are on stable storage; it rejects when they are not, and then
 * nobody knows which: the caller treats the outcome as unknown until it has read the records again after a restart.
 */
export interface Records {
  get(key: RecordKey): RecordValue | undefined;
  /** Every record whose key starts with `prefix`, by key. */
  list(prefix: string): Iterable<[RecordKey, RecordValue]>;
  commit(changes: Change[]): Promise<void>;
}
