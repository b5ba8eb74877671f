// The clock of the machine may be set while protection waits for something: what it waits for moves with it, so that a day
// that never passed ends no observation and a day that is repeated keeps no volume where it is.
import type { Clock } from '../../replication/world.js';
import type { Situation } from './situation.js';

/** Less is how clocks drift, and changes nothing that matters here. */
const STEP_MS = 1000;

export class ClockSteps {
  readonly #clock: Clock;
  /** Wall time less the time that really passes. */
  #aheadMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#aheadMs = clock.wallMs() - clock.nowMs();
  }

  /** By how many milliseconds the clock was set since the last call; negative: back; 0: not to speak of. */
  take(): number {
    const aheadMs = this.#clock.wallMs() - this.#clock.nowMs();
    const stepMs = aheadMs - this.#aheadMs;
    if (Math.abs(stepMs) < STEP_MS) return 0;
    this.#aheadMs = aheadMs;
    return stepMs;
  }
}

/** The same situation by a clock that was set by `byMs`. Verdicts, and what overrules them, keep the times they were given at. */
export function moved(s: Situation, byMs: number): Situation {
  const later = <T extends number | null>(ms: T): T => (ms === null ? ms : ((ms + byMs) as T));
  const retry = <T extends { atMs: number } | null>(each: T): T => each && { ...each, atMs: later(each.atMs) };
  return {
    ...s,
    sinceMs: later(s.sinceMs),
    copies: s.copies.map((copy) => ({
      ...copy,
      sinceMs: later(copy.sinceMs),
      drop: copy.drop && { ...copy.drop, retryAtMs: later(copy.drop.retryAtMs) },
    })),
    home: s.home && { ...s.home, sinceMs: later(s.home.sinceMs), observeUntilMs: later(s.home.observeUntilMs) },
    flipAtMs: later(s.flipAtMs),
    choiceRetry: retry(s.choiceRetry),
    flipRetry: retry(s.flipRetry),
    scrubRetry: retry(s.scrubRetry),
    scrubbedAtMs: later(s.scrubbedAtMs),
  };
}
