// Says when background work hurts the hosts: their p99 now against what it was while no background work ran. Pure: fed
// about once a second. Learns the baseline slowly, and only from quiet times, so that a long copy is not taken for normal.

const SAMPLES_MIN = 20;
const LEARNING_RATE = 0.2;
/** Differences below this are noise of any machine, not suffering. */
const FLOOR_US = 2000;

export class LatencyGuard {
  #baselineUs: number | null = null;

  get baselineUs(): number | null {
    return this.#baselineUs;
  }

  /** `p99Us` of the last interval and how many requests it had; `working`: background work ran. True: the hosts suffer. */
  observe(p99Us: number | null, requests: number, working: boolean, factor: number): boolean {
    if (p99Us === null || requests < SAMPLES_MIN) return false;
    if (!working) {
      this.#baselineUs = this.#baselineUs === null ? p99Us : this.#baselineUs + (p99Us - this.#baselineUs) * LEARNING_RATE;
      return false;
    }
    return this.#baselineUs !== null && p99Us > Math.max(FLOOR_US, this.#baselineUs * factor);
  }
}
