// The budgets of what a volume does in the background, and how they give way when hosts suffer from it (rule 22).
import { LatencyGuard } from '../../replication/latency-guard.js';
import { Throttle } from '../../replication/throttle.js';
import type { Clock } from '../../replication/world.js';
import type { LatencyHistogram } from '../metrics/histogram.js';
import type { VolumeSettings } from './volume-settings.js';

const EVERY_MS = 1000;
const SCRUB_BYTES_PER_SECOND_MIN = 1024 * 1024;

export class BackgroundPace {
  readonly copy: Throttle;
  readonly scrub: Throttle;
  readonly #guard = new LatencyGuard();
  readonly #clock: Clock;
  #lastMs: number;

  constructor(clock: Clock, settings: VolumeSettings) {
    this.#clock = clock;
    this.#lastMs = clock.nowMs();
    this.copy = new Throttle(clock, settings.copyBytesPerSecond, settings.copyBytesPerSecondMin);
    this.scrub = new Throttle(clock, settings.scrubBytesPerSecond, SCRUB_BYTES_PER_SECOND_MIN);
  }

  configure(settings: VolumeSettings): void {
    this.copy.limit(settings.copyBytesPerSecond, settings.copyBytesPerSecondMin);
    this.scrub.limit(settings.scrubBytesPerSecond, SCRUB_BYTES_PER_SECOND_MIN);
  }

  /** A few times a second; looks about once a second. `recent`: hosts' latency, taken and reset. `busy`: is something copied or compared now? */
  tick(recent: LatencyHistogram, busy: () => boolean, hostLatencyGuard: number): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#lastMs < EVERY_MS) return;
    this.#lastMs = nowMs;
    const suffering = this.#guard.observe(recent.quantile(0.99), recent.count, busy(), hostLatencyGuard);
    recent.reset();
    this.copy.adjust(suffering);
    this.scrub.adjust(suffering);
  }
}
