// Whether the host of one connection does its part: takes the replies that are there for it, and sends the payload it began.
// Who holds memory has to move all of that, or at least 1 MiB, in the time it is given; one byte now and then is not enough.

const PACE_BYTES = 1024 * 1024;

export class StallWatch {
  #sinceMs = 0;
  #movedBytes = 0;
  /** How many it has to move from there on. */
  #owedBytes = 0;

  /** For how long it has not done its part. `heldBytes`: what is held until it does; `movedBytes`: what it moved since the start. */
  stalledMs(nowMs: number, heldBytes: number, movedBytes: number): number {
    if (heldBytes === 0 || this.#owedBytes === 0 || movedBytes - this.#movedBytes >= this.#owedBytes) {
      this.#sinceMs = nowMs;
      this.#movedBytes = movedBytes;
      this.#owedBytes = Math.min(heldBytes, PACE_BYTES);
    }
    return nowMs - this.#sinceMs;
  }
}
