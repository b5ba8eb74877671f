// How fast background work (copy, scrub) may go: a budget in bytes per second under a guard on the hosts' latency.
// A token bucket whose rate is cut in half while hosts suffer, down to a minimum, and grows back slowly when they do not.
import { type Clock, sleep } from './world.js';

/** What may be taken at once after a pause, as time at the present rate. */
const BURST_SECONDS = 0.1;
const BURST_BYTES_MIN = 1024 * 1024;

export class Throttle {
  readonly #clock: Clock;
  #rateMax: number;
  #rateMin: number;
  #rate: number;
  #tokens: number;
  #filledMs: number;

  /** `bytesPerSecond`: the most it may ever be. `minimum`: the least, however hosts suffer. */
  constructor(clock: Clock, bytesPerSecond: number, minimum: number) {
    this.#clock = clock;
    this.#rateMax = bytesPerSecond;
    this.#rateMin = Math.min(minimum, bytesPerSecond);
    this.#rate = bytesPerSecond;
    this.#tokens = this.#burst;
    this.#filledMs = clock.nowMs();
  }

  get bytesPerSecond(): number {
    return this.#rate;
  }

  /** Takes up a changed policy. */
  limit(bytesPerSecond: number, minimum: number): void {
    this.#rateMax = bytesPerSecond;
    this.#rateMin = Math.min(minimum, bytesPerSecond);
    this.#rate = Math.max(this.#rateMin, Math.min(this.#rate, bytesPerSecond));
  }

  /** Called about once a second: `suffering` says that the hosts' latency is over the guard. */
  adjust(suffering: boolean): void {
    const next = suffering ? this.#rate / 2 : this.#rate * 1.25;
    this.#rate = Math.min(this.#rateMax, Math.max(this.#rateMin, next));
  }

  /** Resolves when `bytes` may be moved. Waiters are served in order of their asking, by debt. */
  async take(bytes: number): Promise<void> {
    this.#fill();
    this.#tokens -= bytes;
    if (this.#tokens < 0) await sleep(this.#clock, (-this.#tokens / this.#rate) * 1000);
  }

  get #burst(): number {
    return Math.max(BURST_BYTES_MIN, this.#rate * BURST_SECONDS);
  }

  #fill(): void {
    const nowMs = this.#clock.nowMs();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#filledMs) / 1000) * this.#rate);
    this.#filledMs = nowMs;
  }
}
