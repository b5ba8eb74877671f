// The memory that hosts' requests and replies may hold together, and each session's share of it: a third of what the others
// leave, so that some whose hosts read nothing leave room for the rest, and a small part in any case. What is larger than its
// session's share waits until it fits into what is left of the whole, in the order of asking; so all hold no more than the
// whole and that small part for each session. Of large reads few are with the device at once, those of all sessions together, so
// that small requests of others need not wait behind them. Method: Choudhury and Hahne, "Dynamic queue length thresholds" (1998).

const BYTES_MAX = 256 * 1024 * 1024;
/** For one session, of what the others leave. */
const PART = 1 / 3;
/** A session's in any case: 64 requests of 4 KiB. */
const SHARE_BYTES_MIN = 256 * 1024;
/** Two of the largest requests, and replies on the wire. */
const SHARE_BYTES_MAX = 65 * 1024 * 1024;
/** A wire may hold so much without telling when it has sent it, so that it counts as nothing where a session would have to be told. */
const UNTOLD_BYTES = 64 * 1024;

/** Reads of more than this are large; so many bytes of those may be with the device. */
export const LARGE_READ_BYTES = 1024 * 1024;
const LARGE_READS_BYTES_MAX = 64 * 1024 * 1024;

interface Waiting {
  bytes: number;
  large: boolean;
  wake: () => void;
}

/** All sessions of a server. */
export class SessionMemory {
  #heldBytes = 0;
  #largeReadBytes = 0;
  #waiting = new Map<MemoryShare, Waiting>();

  constructor(public bytesMax = BYTES_MAX) {}

  /** What all sessions held when each last told. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Some session waits for others to hold less. */
  get pressed(): boolean {
    return this.#waiting.size > 0;
  }

  /** What a session may hold now that told that it holds so much. */
  shareBytes(ownBytes: number): number {
    const part = (this.bytesMax - (this.#heldBytes - ownBytes)) * PART;
    return Math.max(SHARE_BYTES_MIN, Math.min(SHARE_BYTES_MAX, part));
  }

  fits(bytes: number): boolean {
    return this.#heldBytes + bytes <= this.bytesMax;
  }

  /** Whether a large read of so many bytes may go to the device now. */
  lets(bytes: number): boolean {
    return this.#largeReadBytes + bytes <= LARGE_READS_BYTES_MAX;
  }

  /** A large read goes to the device, or comes back (less than 0). */
  reading(bytes: number): void {
    this.#largeReadBytes += bytes;
    if (bytes < 0 && this.#waiting.size > 0) this.wake();
  }

  /** It keeps its place among those that wait. */
  wait(share: MemoryShare, bytes: number, large: boolean, wake: () => void): void {
    this.#waiting.set(share, { bytes, large, wake });
  }

  stopWaiting(share: MemoryShare): void {
    if (this.#waiting.size > 0) this.#waiting.delete(share);
  }

  changed(byBytes: number): void {
    this.#heldBytes += byBytes;
    if (byBytes < 0 && this.#waiting.size > 0) this.wake();
  }

  /** Those that have waited longest and for whom there is room are told; whoever finds it gone waits again. */
  wake(): void {
    let room = this.bytesMax - this.#heldBytes;
    let largeRoom = LARGE_READS_BYTES_MAX - this.#largeReadBytes;
    for (const [share, { bytes, large, wake }] of this.#waiting) {
      room -= bytes;
      if (large) largeRoom -= bytes;
      if (room < 0 || largeRoom < 0) return;
      this.#waiting.delete(share);
      wake();
    }
  }
}

/** One session's part in it. */
export class MemoryShare {
  readonly #memory: SessionMemory;
  /** There may be room now for what was not admitted. */
  readonly #wake: () => void;
  #toldBytes = 0;

  constructor(memory: SessionMemory, wake: () => void) {
    this.#memory = memory;
    this.#wake = wake;
  }

  /** What the session may hold now. */
  get bytes(): number {
    return this.#memory.shareBytes(this.#toldBytes);
  }

  /**
   * May a session that holds so much take on `moreBytes`, for a large read or something else? If not, its own holding less, or
   * `wake`, is when to ask again.
   */
  admits(heldBytes: number, moreBytes: number, large: boolean): boolean {
    const within = heldBytes + moreBytes <= this.bytes;
    if (within && !large) return true;
    if (!within && heldBytes > UNTOLD_BYTES) return false;
    if ((within || this.#memory.fits(moreBytes)) && (!large || this.#memory.lets(moreBytes))) {
      this.#memory.stopWaiting(this);
      this.tell(heldBytes + moreBytes);
      if (large) this.#memory.reading(moreBytes);
      return true;
    }
    this.#memory.wait(this, moreBytes, large, this.#wake);
    return false;
  }

  /** The device is done with a large read. */
  read(bytes: number): void {
    this.#memory.reading(-bytes);
  }

  /** What the session holds now. */
  tell(heldBytes: number): void {
    if (heldBytes === this.#toldBytes) return;
    this.#memory.changed(heldBytes - this.#toldBytes);
    this.#toldBytes = heldBytes;
  }

  /** The session takes on nothing more. */
  leave(): void {
    this.#memory.stopWaiting(this);
  }
}
