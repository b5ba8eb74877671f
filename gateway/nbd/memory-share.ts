// The memory that hosts' requests and replies may hold together, and each session's share of it: a third of what the others
// leave, so that some whose hosts read nothing leave room for the rest, and a small part in any case. Method: Choudhury and
// Hahne, "Dynamic queue length thresholds" (1998).

const BYTES_MAX = 256 * 1024 * 1024;
/** For one session, of what the others leave. */
const PART = 1 / 3;
const SHARE_BYTES_MIN = 1024 * 1024;
/** Two of the largest requests, and replies on the wire. */
const SHARE_BYTES_MAX = 65 * 1024 * 1024;

/** All sessions of a server. */
export class SessionMemory {
  #heldBytes = 0;

  constructor(readonly bytesMax = BYTES_MAX) {}

  /** What all sessions held when each last told. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** What a session may hold now that told that it holds so much. */
  shareBytes(ownBytes: number): number {
    const part = (this.bytesMax - (this.#heldBytes - ownBytes)) * PART;
    return Math.max(SHARE_BYTES_MIN, Math.min(SHARE_BYTES_MAX, part));
  }

  changed(byBytes: number): void {
    this.#heldBytes += byBytes;
  }
}

/** One session's part in it. */
export class MemoryShare {
  readonly #memory: SessionMemory;
  #toldBytes = 0;

  constructor(memory: SessionMemory) {
    this.#memory = memory;
  }

  /** May a session that holds so much take on `moreBytes`? */
  admits(heldBytes: number, moreBytes: number): boolean {
    return heldBytes + moreBytes <= this.#memory.shareBytes(this.#toldBytes);
  }

  /** What the session holds now. */
  tell(heldBytes: number): void {
    if (heldBytes === this.#toldBytes) return;
    this.#memory.changed(heldBytes - this.#toldBytes);
    this.#toldBytes = heldBytes;
  }
}
