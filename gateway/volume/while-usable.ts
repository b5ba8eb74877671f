// Waiting for something that a mirror does, for as long as the mirror is one that can take over.
import type { Mirror } from '../../replication/mirror.js';
import { type Clock, within } from '../../replication/world.js';

const POLL_MS = 20;

/** What `work` gives; undefined when the mirror fails or is lost, or the time is over before: waiting longer would hold hosts for ever. */
export async function whileUsable<T>(clock: Clock, mirror: Mirror, untilMs: () => number, work: Promise<T>): Promise<T | undefined> {
  let settled = false;
  const done = work.then((value) => {
    settled = true;
    return value;
  });
  while (!settled) {
    if (!mirror.usable || clock.nowMs() >= untilMs()) return undefined;
    await within(clock, POLL_MS, done);
  }
  return done;
}
