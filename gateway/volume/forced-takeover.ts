// An operator gives up an active target that will not come back, for a mirror that may be older here and there: the one way out
// when gateway and active node failed together and no journal was kept. Nothing of it happens by itself. What may be older is
// counted before anybody agrees to it, is marked, and has no checksum any more; a takeover that fails leaves all as it was.
import type { IntentLog } from '../../replication/intent-log.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { type Clock, within } from '../../replication/world.js';
import { type FlipCertificate, type Outcome, refuse } from '../control.js';
import { formatBytes } from '../../config/units.js';
import type { Copies, MirrorCopy } from './copies.js';
import { type Copy, describeTarget } from './copy.js';
import type { JournalRecovery } from './journal-recovery.js';
import type { Recovery } from './recovery.js';
import type { Succession } from './succession.js';
import type { VolumeSettings } from './volume-settings.js';

/** A store that does not take the marks in this time keeps the volume where it is. */
const MARK_MS = 10_000;

export interface ForcedTakeoverOptions {
  volume: string;
  copies: Copies;
  succession: Succession;
  recovery: Recovery;
  journalRecovery: JournalRecovery;
  intents: IntentLog;
  sums: RegionSums;
  clock: Clock;
  settings(): VolumeSettings;
}

type Range = { offset: number; length: number };

export class ForcedTakeover {
  readonly #options: ForcedTakeoverOptions;
  /** Where the mirror that takes over may be older, in bytes of the volume. */
  #conceded: { copy: Copy; ranges: Range[] } | null = null;

  constructor(options: ForcedTakeoverOptions) {
    this.#options = options;
  }

  /** Where a copy that takes over may differ from the one it follows, because somebody agreed to that. */
  conceded(copy: Copy): Range[] {
    return this.#conceded?.copy === copy ? this.#conceded.ranges : [];
  }

  async run(to: MirrorCopy, acceptLoss: boolean): Promise<Outcome<FlipCertificate>> {
    const { volume, copies, succession, sums, clock } = this.#options;
    const early = this.#refusal(to, acceptLoss);
    if (early !== null) return early;
    // From here on a restart knows where the two differ, whichever is the active one then, and no checksum counts there.
    if ((await within(clock, MARK_MS, this.#mark(to.mirror.dirtyRanges()))) === undefined)
      return refuse('store-unwritable', `where the copies of ${volume} differ cannot be written down: nothing was changed`);
    const late = this.#refusal(to, acceptLoss);
    if (late !== null) return late;
    const from = describeTarget(copies.active.target);
    const bytes = to.mirror.dirty.countBytes;
    const reason = `an operator gave up ${from}; up to ${formatBytes(bytes)} may be older than what ${volume} had there`;
    const ranges = to.mirror.vouch();
    for (const { offset, length } of ranges) sums.forget(offset, length);
    this.#conceded = { copy: to, ranges };
    const outcome = await succession.takeOver(to, reason);
    this.#conceded = null;
    if (!outcome.ok) to.mirror?.recant(ranges, 'it did not take over');
    return outcome;
  }

  /** Why it cannot be, or must not before somebody agrees to what is lost; null: it can. */
  #refusal(to: MirrorCopy, acceptLoss: boolean): Outcome<never> | null {
    const { volume, copies, recovery, journalRecovery, settings } = this.#options;
    const { active } = copies;
    const there = describeTarget(to.target);
    const { mirror } = to;
    if (active.upstream.ready && active.upstream.oldestMs() <= settings().hangAfterMs)
      return refuse('active-answers', `${describeTarget(active.target)} answers: there is nothing to give up, use a flip`);
    if (mirror === null || !copies.has(to)) return refuse('no-such-mirror', `${volume} has no mirror on ${there} any more`);
    if (mirror.condition === 'failed') return refuse('mirror-unusable', `the mirror on ${there} was given up: ${mirror.reason}`);
    // It may answer and be called lost all the same: nothing is sent to it before the active target has flushed.
    if (!to.upstream.ready) return refuse('mirror-unusable', `the mirror on ${there} does not answer: ${to.upstream.reason}`);
    if (!mirror.everSynced)
      return refuse(
        'mirror-incomplete',
        `the mirror on ${there} was not complete when that was last written down: most of it may be missing`,
      );
    if (recovery.pending)
      return refuse('busy', `requests of the gateway before this one may still land on ${there}: try again when they cannot any more`);
    if (journalRecovery.awaits(to))
      return refuse('busy', `the journal has for ${there} what it lacks: it takes over by itself once it got that`);
    const lossBytes = mirror.dirty.countBytes;
    if (lossBytes === 0 || acceptLoss) return null;
    return refuse(
      'loss-not-accepted',
      `up to ${formatBytes(lossBytes)} on ${there} may be older than what hosts wrote to ${volume}: accept the loss to serve it from there`,
      { lossBytes },
    );
  }

  /** All at once, so that they share transactions. A region lies within one extent. */
  async #mark(ranges: readonly Range[]): Promise<true> {
    const { intents } = this.#options;
    const { extentBytes } = intents;
    const extents = new Set(ranges.map(({ offset }) => Math.floor(offset / extentBytes)));
    const marks = [...extents].map(
      (extent) => new Promise<void>((resolve) => intents.mark({ markOffset: extent * extentBytes, markLength: 1, marked: resolve })),
    );
    await Promise.all(marks);
    return true;
  }
}
