// Judges the active target: one that is away for longer than a moment, or does not answer, is given up for its mirror; where
// there is none, hosts wait until the policy's deadline and then get EIO (rule 12).
import type { Clock, Log, Timer } from '../../replication/world.js';
import type { Copies } from './copies.js';
import type { JournalRecovery } from './journal-recovery.js';
import type { Succession } from './succession.js';
import type { VolumeSettings } from './volume-settings.js';

/** A node that restarts quickly is waited for; after this its mirror takes over. */
const LOST_GRACE_MS = 250;
/** After the gateway's own start its target gets more time to answer. */
const START_GRACE_MS = 3000;

export interface ActiveWatchOptions {
  volume: string;
  copies: Copies;
  succession: Succession;
  journalRecovery: JournalRecovery;
  clock: Clock;
  log: Log;
  settings(): VolumeSettings;
}

export class ActiveWatch {
  readonly #options: ActiveWatchOptions;
  #grace: Timer | null = null;

  constructor(options: ActiveWatchOptions) {
    this.#options = options;
  }

  start(): void {
    this.#giveGrace(START_GRACE_MS, 'it does not answer since the start');
  }

  back(): void {
    this.#grace?.cancel();
    this.#grace = null;
  }

  lost(reason: string): void {
    this.#giveGrace(LOST_GRACE_MS, `the connection was lost: ${reason}`);
  }

  /** A few times a second. */
  tick(): void {
    const { copies, succession, settings } = this.#options;
    const { upstream } = copies.active;
    const ageMs = upstream.oldestMs();
    // Another try would keep them from their deadline once more.
    if (succession.failoverFailed) this.#expire();
    if (upstream.ready && ageMs > settings().hangAfterMs) void succession.failOver(`it has not answered for ${Math.round(ageMs)} ms`);
    else if (!upstream.ready && this.#grace === null) void succession.failOver(upstream.reason ?? 'it is not connected');
    this.#expire();
  }

  close(): void {
    this.#grace?.cancel();
  }

  #giveGrace(delayMs: number, reason: string): void {
    const { clock, copies, succession } = this.#options;
    this.#grace?.cancel();
    this.#grace = clock.after(delayMs, () => {
      this.#grace = null;
      if (!copies.active.upstream.ready) void succession.failOver(reason);
    });
  }

  /** The deadline of the policy: hosts' requests on the active target, and reads that a mirror was to answer instead. */
  #expire(): void {
    const { copies, succession, journalRecovery, log, volume, settings } = this.#options;
    const { giveUpAfterMs } = settings();
    if (succession.flipping) return;
    const expired = copies.active.upstream.expire(giveUpAfterMs) + journalRecovery.expire(giveUpAfterMs);
    for (const copy of copies.mirrors) copy.upstream.expire(giveUpAfterMs, 'reads');
    if (expired > 0) log.error({ volume, expired, giveUpAfterMs }, 'requests waited too long for the target and were answered with EIO');
  }
}
