// A policy's entry into the product's form, with what must hold within the one entry. What a policy leaves out has the
// built-in default, whatever the policy named `default` says.
import type { PolicyConfig } from './config.js';
import type { Report } from './nodes.js';
import type { KeyPath } from './problem.js';
import type { PolicyInput } from './schema.js';
import { formatBytes, formatDuration } from './units.js';

const COPY_MINIMUM = 8 * 1024 * 1024;
const DEADLINE_MS = 250;
const DEADLINE_MAX_MS = 2000;

/** Null when a problem was reported that leaves nothing to work with. */
export function policyConfig(name: string, input: PolicyInput, path: KeyPath, report: Report): PolicyConfig | null {
  const { mirror, prediction, flip, rollback, scrub, copy, reads, failover } = input;
  if (failover.giveUpAfter < failover.hangAfter) {
    const least = formatDuration(failover.hangAfter);
    report([...path, 'failover', 'giveUpAfter'], `must be at least hangAfter (${least}): before that a request counts as merely slow`);
  }
  const minimum = copy.minimum ?? Math.min(COPY_MINIMUM, copy.bandwidth);
  if (minimum > copy.bandwidth) report([...path, 'copy', 'minimum'], `must be at most bandwidth (${formatBytes(copy.bandwidth)})`);
  const deadlineMs = flip.deadline ?? DEADLINE_MS;
  // Who names a deadline means it.
  const deadlineMaxMs = flip.deadlineMax ?? (flip.deadline === undefined ? DEADLINE_MAX_MS : deadlineMs);
  if (deadlineMaxMs < deadlineMs) {
    report([...path, 'flip', 'deadlineMax'], `must be at least deadline (${formatDuration(deadlineMs)}), which it grows from`);
  }
  return {
    name,
    mirror: {
      standing: mirror.standing,
      onPrediction: mirror.onPrediction,
      durability: mirror.durability,
      queueBytes: mirror.queue,
      whenFull: mirror.whenFull,
    },
    prediction: { threshold: prediction.threshold, minimum: prediction.minimum, horizonMs: prediction.horizon },
    flip: { automatic: flip.automatic, deadlineMs, deadlineMaxMs, afterSyncedMs: flip.afterSynced },
    rollback: { observeMs: rollback.observe, onFalseAlarm: rollback.onFalseAlarm },
    scrub: { afterMirror: scrub.afterMirror, everyMs: scrub.every, bytesPerSecond: scrub.bandwidth },
    copy: { bytesPerSecond: copy.bandwidth, minimumBytesPerSecond: minimum, hostLatencyGuard: copy.hostLatencyGuard },
    reads: { hedgeAfterMs: reads.hedgeAfter },
    failover: { hangAfterMs: failover.hangAfter, giveUpAfterMs: failover.giveUpAfter },
  };
}
