// What no seed is expected to reach, and why. All else that no seed reached is a finding.

export interface Exception {
  file: string;
  /** Part of what is awaited, or of `STATE -> STATE`. */
  what: string;
  /** reach: it is never reached. crash: it is, but no crash meets it. */
  kind: 'reach' | 'crash';
  reason: string;
}

export const EXCEPTIONS: readonly Exception[] = [
  {
    file: 'gateway/volume/flip.ts',
    what: 'sleep(clock, SHORTEN_POLL_MS)',
    kind: 'reach',
    reason: 'a queue of over 1 MiB is shortened, and the queues of the simulation hold 64 KiB: test/unit/volume-flip.test.ts',
  },
  {
    file: 'gateway/volume/journal-recovery.ts',
    what: 'queue.drained()',
    kind: 'reach',
    reason: 'of a replay of over 8 MiB, and the journals of the simulation hold 56 KiB',
  },
  {
    file: 'gateway/volume/read-check.ts',
    what: 'sleep(clock, 0)',
    kind: 'reach',
    reason: 'between the pieces of a read of over 1 MiB, and the volumes of the simulation are smaller',
  },
  {
    file: 'replication/throttle.ts',
    what: 'sleep(this.#clock',
    kind: 'reach',
    reason: 'a burst of 1 MiB is free, and the volumes of the simulation are smaller: test/unit/replication-throttle.test.ts',
  },
  {
    file: 'gateway/volume/volume.ts',
    what: 'this.#journaling.close()',
    kind: 'reach',
    reason:
      'of a record that names a node that is not configured, and the configuration of the simulation does not change: test/unit/volume-returns.test.ts',
  },
  {
    file: 'gateway/volume/volume.ts',
    what: 'this.#latch?.close()',
    kind: 'reach',
    reason: 'the same',
  },
  {
    file: 'gateway/protection/protection.ts',
    what: 'ward?.stop()',
    kind: 'reach',
    reason: 'volumes leave no configuration in the simulation: test/e2e/control.test.ts',
  },
];
