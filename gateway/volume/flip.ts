// Making a mirror the active target while hosts write: the orderly flip (rule 11) and the failover from a target that is
// dead or hangs (rule 12). Both hold the hosts, bring the mirror to where the active target is, commit one transaction
// and swap. Until the commit is submitted everything can be let go as if nothing had happened; from then on nothing is
// released before the commit's outcome is known.
import assert from 'node:assert';
import type { Mirror } from '../../replication/mirror.js';
import { type Clock, type Log, sleep } from '../../replication/world.js';
import { type FlipCertificate, type Outcome, refuse } from '../control.js';
import { type Copy, describeTarget } from './copy.js';
import type { IoPath } from './io-path.js';

const PREFLUSHES_MAX = 5;
const COMMIT_RETRY_MS = 100;
const USABLE_POLL_MS = 20;

/** What a flip needs of its volume. */
export interface FlipGround {
  readonly clock: Clock;
  readonly log: Log;
  readonly path: IoPath;
  active(): Copy;
  /** One transaction: active target, epoch + 1, what becomes of the old target. Rejects when the outcome is unknown. */
  commit(certificate: FlipCertificate, to: Copy, doubtful: { offset: number; length: number }[]): Promise<void>;
  /** Takes up what was committed: roles change, requests go to the new target from now on. */
  swap(to: Copy, certificate: FlipCertificate): void;
  certify(to: Copy, why: FlipCause, held: { startedMs: number; inFlight: number; queueBytes: number }): FlipCertificate;
}

export interface FlipCause {
  kind: FlipCertificate['kind'];
  reason: string;
  verdict: string | null;
}

export async function flip(ground: FlipGround, to: Copy, why: FlipCause, deadlineMs: number): Promise<Outcome<FlipCertificate>> {
  const { clock, path } = ground;
  const mirror = to.mirror!;
  // A slow flush belongs before the hold, not into it.
  for (let round = 0; round < PREFLUSHES_MAX; round += 1) {
    const startedMs = clock.nowMs();
    const errno = await mirror.flush();
    if (errno !== 0) return refuse('mirror-flush-failed', `the mirror on ${describeTarget(to.target)} refused a flush with error ${errno}`);
    if (clock.nowMs() - startedMs <= deadlineMs / 4) break;
  }
  if (to.mirror !== mirror || !mirror.usable) return notReady(to);

  const held = { startedMs: clock.nowMs(), inFlight: path.inFlight, queueBytes: mirror.queue.hostBytes };
  path.hold();
  let expired = false;
  const timer = clock.after(deadlineMs, () => {
    expired = true;
    giveUp();
  });
  let giveUp = (): void => {};
  const deadline = new Promise<void>((resolve) => {
    giveUp = resolve;
  });
  await Promise.race([deadline, drain(path, to)]);
  timer.cancel();
  const drained = path.inFlight === 0 && mirror.queue.empty;
  if (expired || !drained || to.mirror !== mirror || !mirror.usable) {
    path.release();
    if (!expired) return notReady(to);
    return refuse(
      'flip-deadline',
      `the flip to ${describeTarget(to.target)} was not ready for its commit within ${deadlineMs} ms; hosts went on as before`,
      {
        deadlineMs,
      },
    );
  }
  const certificate = ground.certify(to, why, held);
  // The point of no return.
  await commitForCertain(ground, certificate, to, []);
  ground.swap(to, certificate);
  certificate.pauseMs = clock.nowMs() - held.startedMs;
  certificate.held = path.heldRequests;
  path.release();
  return { ok: true, value: certificate };
}

/**
 * The active target does not answer. What it did not answer stays with it until the mirror has everything that was
 * acknowledged; should the mirror fail meanwhile, all goes on as it was.
 */
export async function failOver(
  ground: FlipGround,
  to: Copy,
  why: FlipCause,
  abandonActive: () => { doubtful: { offset: number; length: number }[] },
): Promise<Outcome<FlipCertificate>> {
  const { clock, path } = ground;
  const mirror = to.mirror!;
  const held = { startedMs: clock.nowMs(), inFlight: path.inFlight, queueBytes: mirror.queue.hostBytes };
  path.hold();
  path.suspend();
  for (;;) {
    await whileUsable(ground, mirror, mirror.queue.drained());
    const errno = await whileUsable(ground, mirror, mirror.flush());
    if (errno !== 0 || to.mirror !== mirror || !mirror.usable) {
      path.release();
      return notReady(to);
    }
    // The old target may have answered something meanwhile, which is in the queue then.
    if (mirror.queue.empty) break;
  }
  const { doubtful } = abandonActive();
  const certificate = ground.certify(to, why, held);
  await commitForCertain(ground, certificate, to, doubtful);
  ground.swap(to, certificate);
  certificate.pauseMs = clock.nowMs() - held.startedMs;
  certificate.held = path.heldRequests;
  path.release();
  return { ok: true, value: certificate };
}

/** What `work` gives; undefined when the mirror fails before: waiting for a dead mirror would hold the hosts for ever. */
async function whileUsable<T>(ground: FlipGround, mirror: Mirror, work: Promise<T>): Promise<T | undefined> {
  let settled = false;
  const done = work.then((value) => {
    settled = true;
    return value;
  });
  while (!settled) {
    if (!mirror.usable) return undefined;
    await Promise.race([done, sleep(ground.clock, USABLE_POLL_MS)]);
  }
  return done;
}

async function drain(path: IoPath, to: Copy): Promise<void> {
  await path.drained();
  await to.mirror?.queue.drained();
  const errno = (await to.mirror?.flush()) ?? -1;
  if (errno !== 0) to.mirror?.fail(`it refused the flush of a flip with error ${errno}`);
}

/** The same transaction again and again until it is known to be durable: it says the same each time. */
async function commitForCertain(
  ground: FlipGround,
  certificate: FlipCertificate,
  to: Copy,
  doubtful: { offset: number; length: number }[],
): Promise<void> {
  assert(ground.path.isHeld);
  for (;;) {
    try {
      await ground.commit(certificate, to, doubtful);
      return;
    } catch (error) {
      ground.log.error({ error, volume: certificate.volume }, 'the commit of a flip has no known outcome: hosts wait until it has');
      await sleep(ground.clock, COMMIT_RETRY_MS);
    }
  }
}

function notReady(to: Copy): Outcome<never> {
  const why =
    to.mirror === null
      ? 'it is not a mirror any more'
      : `it is ${to.mirror.condition}${to.mirror.reason === null ? '' : `: ${to.mirror.reason}`}`;
  return refuse('mirror-not-synced', `the mirror on ${describeTarget(to.target)} cannot take over: ${why}`);
}
