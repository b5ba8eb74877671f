// When the regions of a volume were last found alike on every copy: a time for each extent, not later than that of any of its regions
// that is verified. Lives in memory, as what is verified does.
import type { Clock } from '../../replication/world.js';

export class ScrubTimes {
  readonly #clock: Clock;
  readonly #perExtent: number;
  readonly #extentBytes: number;
  /** By extent, in seconds of the monotonic clock and one; 0: never. */
  #seconds: Uint32Array;

  constructor(options: { clock: Clock; sizeBytes: number; regionBytes: number; extentBytes: number }) {
    this.#clock = options.clock;
    this.#extentBytes = options.extentBytes;
    this.#perExtent = options.extentBytes / options.regionBytes;
    this.#seconds = new Uint32Array(Math.ceil(options.sizeBytes / options.extentBytes));
  }

  /** The volume has become larger: new extents were never compared. */
  grow(sizeBytes: number): void {
    const seconds = new Uint32Array(Math.ceil(sizeBytes / this.#extentBytes));
    seconds.set(this.#seconds);
    this.#seconds = seconds;
  }

  /** Regions from `first` to before `end` were read from every copy, from this moment on (monotonic). A part of an extent makes it no younger. */
  compared(first: number, end: number, begunMs: number): void {
    const seconds = this.#seconds;
    const begun = 1 + Math.floor(begunMs / 1000);
    for (let extent = Math.floor(first / this.#perExtent); extent * this.#perExtent < end && extent < seconds.length; extent += 1) {
      const last = extent === seconds.length - 1;
      const whole = first <= extent * this.#perExtent && (last || end >= (extent + 1) * this.#perExtent);
      if (whole || seconds[extent] === 0) seconds[extent] = begun;
    }
  }

  /** Of a region that is verified; null: it was not compared by this gateway. */
  ageSeconds(region: number): number | null {
    const seconds = this.#seconds[Math.floor(region / this.#perExtent)];
    return seconds === 0 ? null : 1 + Math.floor(this.#clock.nowMs() / 1000) - seconds;
  }
}
