// How fast a copy advances, smoothed over the last seconds.
const EVERY_MS = 1000;

export class CopyRate {
  #fromMs: number;
  #fromBytes = 0;
  #rate = 0;

  constructor(nowMs: number) {
    this.#fromMs = nowMs;
  }

  get bytesPerSecond(): number {
    return this.#rate;
  }

  /** So many bytes are copied by now. */
  measure(copiedBytes: number, nowMs: number): void {
    if (nowMs - this.#fromMs < EVERY_MS) return;
    const rate = Math.max(0, ((copiedBytes - this.#fromBytes) / (nowMs - this.#fromMs)) * 1000);
    this.#rate = this.#rate === 0 ? rate : this.#rate * 0.5 + rate * 0.5;
    this.#fromMs = nowMs;
    this.#fromBytes = copiedBytes;
  }
}
