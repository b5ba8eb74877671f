// Gives a plain node's space back: the whole export is zeroed with leave to punch holes, in bounded pieces, and flushed.
// The target is no volume's any more when this is called (rule 20).
import type { Clock, Timer } from '../../replication/world.js';
import { OP, PromisedRequest, perform } from '../../replication/device.js';
import { type Outcome, refuse, type TargetRef } from '../control.js';
import type { Features, Requirements } from '../upstream/features.js';
import type { Upstream, UpstreamEvents } from '../upstream/upstream.js';
import { describeTarget } from '../volume/copy.js';

const PIECE_BYTES = 256 * 1024 * 1024;
const PATIENCE_MS = 60_000;

/** gateway/fleet's Fleet satisfies it. */
export interface TrimFleet {
  get(node: string): { spareSize(name: string): number | null; look(): Promise<void> } | undefined;
  connect(target: TargetRef, needs: Requirements, events: UpstreamEvents, memory: null): Outcome<Upstream>;
}

export async function trimTarget(fleet: TrimFleet, clock: Clock, target: TargetRef): Promise<Outcome<null>> {
  const sizeBytes = fleet.get(target.node)?.spareSize(target.export) ?? null;
  if (sizeBytes === null) {
    await fleet.get(target.node)?.look();
    if ((fleet.get(target.node)?.spareSize(target.export) ?? null) === null)
      return refuse('node-down', `${describeTarget(target)} does not answer`);
    return trimTarget(fleet, clock, target);
  }
  let fail: (reason: string) => void = () => {};
  const failed = new Promise<string>((resolve) => {
    fail = resolve;
  });
  // It may have become larger, with the volume that it was lent to, since it was last asked as a spare.
  let found: (wholeBytes: number) => void = () => {};
  const whole = new Promise<number>((resolve) => {
    found = resolve;
  });
  const events = {
    connected: (features: Features) => found(features.sizeBytes),
    lost: fail,
    blocked: fail,
    settled: () => {},
    unlike: async () => true,
  };
  const opened = fleet.connect(target, { sizeBytes, blockMinimum: 4096 }, events, null);
  if (!opened.ok) return opened;
  const upstream = opened.value;
  const timer: Timer = clock.after(PATIENCE_MS, () => fail(`it did not answer for ${PATIENCE_MS / 1000} s`));
  upstream.start();
  const work = async (): Promise<Outcome<null>> => {
    const wholeBytes = await whole;
    for (let at = 0; at < wholeBytes; at += PIECE_BYTES) {
      const zero = new PromisedRequest(OP.ZEROES, at, Math.min(PIECE_BYTES, wholeBytes - at));
      zero.punch = true;
      const errno = await perform(upstream, zero);
      if (errno !== 0) return refuse('trim-failed', `${describeTarget(target)} refused to be zeroed at ${at} with error ${errno}`);
    }
    const errno = await perform(upstream, new PromisedRequest(OP.FLUSH, 0, 0));
    return errno === 0 ? { ok: true, value: null } : refuse('trim-failed', `${describeTarget(target)} refused a flush with error ${errno}`);
  };
  const outcome = await Promise.race([work(), failed.then((reason) => refuse('trim-failed', `${describeTarget(target)}: ${reason}`))]);
  timer.cancel();
  upstream.close();
  return outcome;
}
