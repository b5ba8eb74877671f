// Making a mirror the active target while hosts write: the orderly flip (rule 11) and the failover from a target that is
// dead or hangs (rule 12). Both hold the hosts, bring the mirror to where the active target is, commit one transaction
// and swap. Until the commit is submitted everything can be let go as if nothing had happened; from then on nothing is
// released before the commit's outcome is known. A flip that insists does not let a slow active target keep it: what that
// has not answered in half of the time goes to the mirror, as in a failover.
import assert from 'node:assert';
import type { Mirror } from '../../replication/mirror.js';
import { type Clock, type Log, sleep, within } from '../../replication/world.js';
import { type FlipCertificate, type Outcome, refuse } from '../control.js';
import { type Copy, describeTarget } from './copy.js';
import type { IoPath } from './io-path.js';
import { whileUsable } from './while-usable.js';

const PREFLUSHES_MAX = 5;
/** A mirror that does not flush in this time is not flipped to. */
const PREFLUSH_MS = 15_000;
const COMMIT_RETRY_MS = 100;
/** Before a flip its queue is made no shorter than this, and for no longer. */
const QUEUE_BYTES_MIN = 1024 * 1024;
const SHORTEN_MS = 15_000;
const SHORTEN_POLL_MS = 20;

/** What a flip needs of its volume. */
export interface FlipGround {
  readonly clock: Clock;
  readonly log: Log;
  readonly path: IoPath;
  active(): Copy;
  /**
   * One transaction: active target, epoch + 1, what becomes of the old target; once it is durable, and before anything
   * else is stored, roles change in memory and requests go to the new target. Rejects when the outcome is unknown.
   */
  commit(certificate: FlipCertificate, to: Copy, doubtful: { offset: number; length: number }[]): Promise<void>;
  certify(to: Copy, why: FlipCause, held: Held): FlipCertificate;
  /** Gives the active target up for `to`: what it did not answer goes back to the path. Gives the ranges in which the two may differ. */
  abandonActive(): { doubtful: { offset: number; length: number }[] };
  /** Called when the active target refuses a request while a flip still waits for it; null: not any more. */
  onRefusal(refused: ((reason: string) => void) | null): void;
}

/** Since when hosts are held, and what was under way then. */
interface Held {
  startedMs: number;
  inFlight: number;
  queueBytes: number;
}

export interface FlipCause {
  kind: FlipCertificate['kind'];
  reason: string;
  verdict: string | null;
}

/** How long a flip may hold the hosts. */
export interface FlipLimits {
  deadlineMs: number;
  /** No flip with a later deadline follows: it does not let the active target keep it. */
  insists: boolean;
  /** What the mirror gets should the active target refuse a request meanwhile. */
  failoverMs: number;
}

/**
 * Before a flip, while hosts go on: a slow flush belongs before the hold, not into it, and so does a long queue. Gives the time
 * in milliseconds that the mirror's last flush took.
 */
export async function preflush(ground: FlipGround, to: Copy, deadlineMs: number): Promise<Outcome<number>> {
  const { clock } = ground;
  const { mirror } = to;
  if (mirror === null) return notReady(to);
  await shorten(ground, mirror, deadlineMs);
  const untilMs = clock.nowMs() + PREFLUSH_MS;
  let tookMs = 0;
  for (let round = 0; round < PREFLUSHES_MAX && clock.nowMs() < untilMs; round += 1) {
    const startedMs = clock.nowMs();
    const errno = await within(clock, untilMs - startedMs, mirror.flush());
    if (errno === undefined)
      return refuse('mirror-flush-late', `the mirror on ${describeTarget(to.target)} did not answer a flush within ${PREFLUSH_MS} ms`);
    if (errno !== 0) return refuse('mirror-flush-failed', `the mirror on ${describeTarget(to.target)} refused a flush with error ${errno}`);
    tookMs = clock.nowMs() - startedMs;
    if (tookMs <= deadlineMs / 4) break;
  }
  return to.mirror === mirror && mirror.usable ? { ok: true, value: tookMs } : notReady(to);
}

/** A queue that the mirror needs longer for than the hosts may be held is made shorter before: hosts get less room in it. */
async function shorten({ clock }: FlipGround, mirror: Mirror, deadlineMs: number): Promise<void> {
  const untilMs = clock.nowMs() + SHORTEN_MS;
  let bytes = Number.POSITIVE_INFINITY;
  const { queue } = mirror;
  while (mirror.usable && queue.oldestMs > deadlineMs / 4 && queue.hostBytes > QUEUE_BYTES_MIN && clock.nowMs() < untilMs) {
    bytes = Math.max(QUEUE_BYTES_MIN, Math.min(bytes, queue.hostBytes / 2));
    mirror.limitQueue(bytes);
    await sleep(clock, SHORTEN_POLL_MS);
  }
}

/** After `preflush`. */
export async function flip(ground: FlipGround, to: Copy, why: FlipCause, limits: FlipLimits): Promise<Outcome<FlipCertificate>> {
  const { clock, path } = ground;
  const { deadlineMs, insists, failoverMs } = limits;
  const mirror = to.mirror!;
  const held = { startedMs: clock.nowMs(), inFlight: path.inFlight, queueBytes: mirror.queue.hostBytes };
  path.hold();
  let over = null as 'deadline' | 'kept' | 'refused' | null;
  let refusal = '';
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  ground.onRefusal((reason) => {
    // From here on the mirror gets the time of a failover: otherwise the host would have the error.
    over = 'refused';
    refusal = reason;
    path.suspend();
    end();
  });
  const deadline = clock.after(deadlineMs, () => {
    over ??= 'deadline';
    end();
  });
  const half = clock.after(deadlineMs / 2, () => {
    if (!insists || path.inFlight === 0) return;
    over ??= 'kept';
    end();
  });
  await Promise.race([ended, drain(path, to, () => over === null)]);
  half.cancel();
  deadline.cancel();
  if (over === 'kept' && to.mirror === mirror && mirror.usable) {
    const reason = `${why.reason}; ${describeTarget(ground.active().target)} kept requests for longer than ${Math.round(deadlineMs / 2)} ms`;
    const untilMs = (): number => held.startedMs + deadlineMs + (over === 'refused' ? failoverMs : 0);
    const taken = await takeOver(ground, to, { ...why, reason }, held, { untilMs, unanswered: () => path.unanswered > 0 });
    ground.onRefusal(null);
    if (taken !== null) return taken;
    path.release();
    return mirror.usable ? tooLate(to, deadlineMs) : notReady(to);
  }
  ground.onRefusal(null);
  // It refused what was in flight: the mirror, which has the rest, answers that.
  if (path.isSuspended)
    return failOver(ground, to, { ...why, kind: 'failover', reason: `${why.reason}; ${refusal}` }, failoverMs, held.startedMs);
  const drained = path.inFlight === 0 && mirror.queue.empty;
  if (over !== null || !drained || to.mirror !== mirror || !mirror.usable) {
    path.release();
    return over === 'deadline' ? tooLate(to, deadlineMs) : notReady(to);
  }
  return conclude(ground, to, why, held, []);
}

/**
 * The active target does not answer. What it did not answer stays with it until the mirror has everything that was
 * acknowledged; should the mirror fail meanwhile, or take longer than `limitMs`, all goes on as it was. `startedMs`: since when
 * hosts are held, if they are.
 */
export async function failOver(
  ground: FlipGround,
  to: Copy,
  why: FlipCause,
  limitMs: number,
  startedMs = ground.clock.nowMs(),
): Promise<Outcome<FlipCertificate>> {
  const { clock, path } = ground;
  const held = { startedMs, inFlight: path.inFlight, queueBytes: to.mirror?.queue.hostBytes ?? 0 };
  path.hold();
  const lateMs = clock.nowMs() + limitMs;
  const taken = await takeOver(ground, to, why, held, { untilMs: () => lateMs, unanswered: () => true });
  if (taken !== null) return taken;
  path.release();
  return notReady(to);
}

/**
 * The mirror gets everything that was acknowledged, then what the active target has not answered by then, if it is to be given
 * up for that. Null: the mirror failed or took too long; hosts are still held.
 */
async function takeOver(
  ground: FlipGround,
  to: Copy,
  why: FlipCause,
  held: Held,
  { untilMs, unanswered }: { untilMs(): number; unanswered(): boolean },
): Promise<Outcome<FlipCertificate> | null> {
  const { clock, path } = ground;
  const { mirror } = to;
  path.suspend();
  for (;;) {
    if (mirror !== null) await whileUsable(clock, mirror, untilMs, mirror.queue.drained());
    const pushes = mirror?.queue.pushes;
    const errno = mirror === null ? undefined : await whileUsable(clock, mirror, untilMs, mirror.flush());
    if (errno !== 0 || to.mirror !== mirror || !mirror?.usable) return null;
    // The old target may have answered something meanwhile, which that flush does not cover.
    if (mirror.queue.empty && mirror.queue.pushes === pushes) break;
  }
  const { doubtful } = unanswered() ? ground.abandonActive() : { doubtful: [] };
  return conclude(ground, to, why, held, doubtful);
}

/** The point of no return. */
async function conclude(
  ground: FlipGround,
  to: Copy,
  why: FlipCause,
  held: Held,
  doubtful: { offset: number; length: number }[],
): Promise<Outcome<FlipCertificate>> {
  const { clock, path } = ground;
  const certificate = ground.certify(to, why, held);
  await commitForCertain(ground, certificate, to, doubtful);
  certificate.pauseMs = clock.nowMs() - held.startedMs;
  certificate.held = path.heldRequests;
  path.release();
  return { ok: true, value: certificate };
}

async function drain(path: IoPath, to: Copy, wanted: () => boolean): Promise<void> {
  await path.drained();
  if (!wanted()) return;
  await to.mirror?.queue.drained();
  if (!wanted()) return;
  const errno = (await to.mirror?.flush()) ?? -1;
  if (errno !== 0 && wanted()) to.mirror?.fail(`it refused the flush of a flip with error ${errno}`);
}

/** The same transaction again and again until it is known to be durable: it says the same each time. */
async function commitForCertain(
  ground: FlipGround,
  certificate: FlipCertificate,
  to: Copy,
  doubtful: { offset: number; length: number }[],
): Promise<void> {
  assert(ground.path.isHeld, 'hosts are held while targets are exchanged');
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

export function tooLate(to: Copy, deadlineMs: number): Outcome<never> {
  const message = `the flip to ${describeTarget(to.target)} was not ready for its commit within ${deadlineMs} ms; hosts went on as before`;
  return refuse('flip-deadline', message, { deadlineMs });
}

function notReady(to: Copy): Outcome<never> {
  const why =
    to.mirror === null
      ? 'it is not a mirror any more'
      : `it is ${to.mirror.condition}${to.mirror.reason === null ? '' : `: ${to.mirror.reason}`}`;
  return refuse('mirror-not-synced', `the mirror on ${describeTarget(to.target)} cannot take over: ${why}`);
}
