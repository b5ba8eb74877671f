// A block device as every layer sees it: something that takes requests and completes each exactly once.
// The volume, an upstream and a file on an agent are all devices, so that a session, a copier or a scrubber
// never knows what stands behind. Nothing here allocates per request: requests are pooled by their owners.

/** What a request asks for. TRIM is no operation of its own: rule 6 turns it into ZEROES with `punch`. */
export const OP = { READ: 0, WRITE: 1, FLUSH: 2, ZEROES: 3, STATUS: 4 } as const;
export type Op = (typeof OP)[keyof typeof OP];

/** Error numbers as NBD carries them (the protocol's own list, not the host's errno.h). 0 is success. */
export const ERRNO = {
  OK: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** One run of like blocks: `lengthBytes`, and whether it is a hole (not allocated) and reads as zero. */
export interface Extent {
  lengthBytes: number;
  hole: boolean;
  zero: boolean;
}

export interface DeviceRequest {
  op: Op;
  /** Bytes from the start of the device. */
  offset: number;
  /** Bytes. 0 for FLUSH. Never 0 for another operation: sessions answer empty requests themselves. */
  length: number;
  /** WRITE, ZEROES: answer only when the bytes are on stable storage. */
  fua: boolean;
  /** ZEROES: the range may be deallocated (no NO_HOLE). */
  punch: boolean;
  /** ZEROES: fail with ENOTSUP rather than be slower than a write would be. */
  fast: boolean;
  /** STATUS: one extent is enough. */
  one: boolean;
  /** A hint that keeps requests of one origin together (a session's number); any integer >= 0. */
  lane: number;
  /** When its origin asked for it, in monotonic milliseconds, where it has waited before it was submitted; its deadline counts from then. */
  readonly askedMs?: number;
  /**
   * WRITE: the payload, `length` bytes; the device may keep it for as long as it likes and nobody changes it.
   * READ: set by the device before `complete(0)`, `length` bytes, the receiver's own.
   */
  data: Buffer | null;
  /** STATUS: set by the device before `complete(0)`; starts at `offset`, at least one extent, may end before or after the range. */
  extents: Extent[] | null;
  /** Called exactly once, never from inside `submit`'s caller's stack before `submit` returned control for asynchronous devices; may be called synchronously. */
  complete(errno: number): void;
}

export interface Device {
  readonly sizeBytes: number;
  submit(request: DeviceRequest): void;
}

/** A request whose completion settles a promise: for control paths (copy, scrub, start-up), not for a host's I/O. */
export class PromisedRequest implements DeviceRequest {
  fua = false;
  punch = false;
  fast = false;
  one = false;
  lane = 0;
  extents: Extent[] | null = null;
  readonly done: Promise<number>;
  #settle!: (errno: number) => void;

  constructor(
    public op: Op,
    public offset: number,
    public length: number,
    public data: Buffer | null = null,
  ) {
    this.done = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  complete(errno: number): void {
    this.#settle(errno);
  }
}

/** Submits `request` and gives its error number (0: success). */
export function perform(device: Device, request: PromisedRequest): Promise<number> {
  device.submit(request);
  return request.done;
}
