// Adds mirrors to a volume and takes them away. A mirror is durably named before the first byte is written there, and
// overwrites only what is blank or ours (rule 20); one that goes is durably forgotten before writes stop to mark (rule 16).
import { ERRNO, OP, PromisedRequest, perform } from '../../replication/device.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { type Clock, type Records, sleep, within } from '../../replication/world.js';
import { type MirrorView, type Outcome, refuse, type TargetRef } from '../control.js';
import type { TargetMemory } from '../upstream/upstream.js';
import { proveBlank } from './blank-proof.js';
import type { Copies, MirrorCopy } from './copies.js';
import { type Copy, describeTarget } from './copy.js';
import type { CopyEvents, CopyOpener } from './copy-opener.js';
import type { IoPath } from './io-path.js';
import { viewMirror } from './mirror-view.js';
import type { RecordKeeper } from './record-keeper.js';
import { oursKey } from './volume-record.js';

const CONNECT_MS = 15_000;
const FLUSH_RETRY_MS = 250;
const REMOVE_DRAIN_MS = 5000;
const RECORD_RETRY_MS = 200;

export interface MirroringOptions {
  volume: string;
  copies: Copies;
  opener: CopyOpener;
  keeper: RecordKeeper;
  path: IoPath;
  sums: RegionSums;
  records: Records;
  clock: Clock;
  /** What happens to a target once it is a copy. */
  events: CopyEvents;
  /** Resolves when nothing that an earlier gateway sent can land in these copies any more. */
  landed(copies: readonly Copy[]): Promise<void>;
  /** There is one copy only: what differed counts no more. */
  forgetDamage(): void;
}

export class Mirroring {
  readonly #options: MirroringOptions;

  constructor(options: MirroringOptions) {
    this.#options = options;
  }

  /** Resolves when the mirror is durable and its copy begins. */
  async add(target: TargetRef, cause: string): Promise<Outcome<MirrorView>> {
    const { volume, sums, copies, opener, keeper, records, landed } = this.#options;
    const copy = opener.make(target, cause);
    const memory = opener.memoryOf(copy);
    const stale = memory.doubts.removeAll();
    try {
      // What was guarded there when it was a copy before has no meaning for what will be.
      if (stale.length > 0) await records.commit(stale);
    } catch (error) {
      return refuse('store-unwritable', `the records cannot be written: ${(error as Error).message}`);
    }
    const { sizeBytes } = sums;
    const connected = await this.#connect(copy, memory);
    if (!connected.ok) return connected;
    const blank = await proveBlank(copy.upstream, sizeBytes);
    if (copies.closed) {
      copy.upstream.close();
      return refuse('closing', `${volume} is shutting down`);
    }
    if (!blank.ok || (!blank.value && records.get(oursKey(target)) === undefined)) {
      copy.upstream.close();
      if (!blank.ok) return blank;
      return refuse(
        'target-not-blank',
        `${describeTarget(target)} holds data that is not ours: a mirror overwrites only what is blank or was a copy before`,
      );
    }
    // Durably named before the first byte is written there.
    const dirtyRecord = opener.name(copy, keeper.newId());
    copy.mirror = opener.mirror(copy, { reverse: false, blank: blank.value });
    copy.mirror.markDirty(0, sizeBytes);
    const mirrorCopy = copy as MirrorCopy;
    connected.value.join();
    copies.add(mirrorCopy);
    try {
      await keeper.commit([{ put: oursKey(target), value: { volume } }, ...dirtyRecord.addAll()]);
    } catch (error) {
      mirrorCopy.mirror.retire('it could not be written down');
      copies.disown(mirrorCopy);
      void this.#disown(mirrorCopy);
      return refuse('store-unwritable', `the mirror cannot be written down, so it is not begun: ${(error as Error).message}`);
    }
    void landed([copies.active, copy]).then(() => this.begin(copy));
    return { ok: true, value: viewMirror(target, mirrorCopy.mirror) };
  }

  /** The store may name it or not: it stays a copy, whose target nobody frees, until it is durable that it is none. */
  async #disown(copy: MirrorCopy): Promise<void> {
    const { copies, keeper, sums, clock } = this.#options;
    for (let durable = false; !durable; ) {
      if (copies.closed) return;
      try {
        await keeper.commit([...copy.dirtyRecord!.drop(), ...(this.#isLast(copy) ? sums.dropAll() : [])]);
        durable = true;
      } catch {
        await sleep(clock, RECORD_RETRY_MS);
      }
    }
    copies.remove(copy);
    // One that was added meanwhile has made writes mark all along.
    if (copies.mirrors.some((other) => !copies.isLeaving(other))) sums.learn();
    copy.upstream.close();
  }

  /** No mirror but those that go keeps checksums true. */
  #isLast(copy: MirrorCopy): boolean {
    const { copies } = this.#options;
    return copies.mirrors.every((other) => other === copy || copies.isLeaving(other));
  }

  /** Writes without a mark, and what the source has not flushed, must be over before the first region is read (rule 2). */
  async begin(copy: Copy): Promise<void> {
    const { copies, path, clock } = this.#options;
    await path.unmarkedWritesDone();
    let errno: number;
    do {
      if (copies.closed || !copies.has(copy)) return;
      errno = await perform(copies.source, new PromisedRequest(OP.FLUSH, 0, 0));
      if (errno !== 0) await sleep(clock, FLUSH_RETRY_MS);
    } while (errno !== 0);
    copies.mayCopy(copy);
    if (copy.upstream.ready) copy.mirror?.connected();
  }

  /** Resolves when no record names it any more and nothing is on its way to its target. */
  async remove(copy: MirrorCopy, cause: string): Promise<Outcome<TargetRef>> {
    const { copies, keeper, sums, clock, forgetDamage } = this.#options;
    const { mirror } = copy;
    mirror.retire(`it is being removed: ${cause}`);
    const last = this.#isLast(copy);
    copies.leave(copy);
    // While it is still among the mirrors, writes mark; only when the checksums are durably gone may they stop to (rule 16).
    try {
      await keeper.commit([...copy.dirtyRecord!.drop(), ...copy.upstream.forgetDoubts(), ...(last ? sums.dropAll() : [])]);
    } catch (error) {
      copies.stay(copy);
      if (last) sums.learn();
      return refuse('store-unwritable', `that the mirror is gone cannot be written down, so it stays: ${(error as Error).message}`);
    }
    copies.remove(copy);
    if (last) forgetDamage();
    const { upstream } = copy;
    // What was not sent is dropped already, and what a node that is away did not answer it will not answer now.
    if (upstream.ready) await within(clock, REMOVE_DRAIN_MS, mirror.queue.drained());
    // Whoever still waits for it (a scrub, a read that the active target refused) is told.
    if (!copies.closed) for (const request of upstream.abandon(() => {}).requests) request.complete(ERRNO.ESHUTDOWN);
    upstream.close();
    return { ok: true, value: copy.target };
  }

  /** Connects a target that is no copy yet. `join`: from now on what happens to it happens to a copy. */
  async #connect(copy: Copy, memory: TargetMemory): Promise<Outcome<{ join(): void }>> {
    const { volume, opener, events, clock } = this.#options;
    let settle: (reason: string | null) => void = () => {};
    const connected = new Promise<string | null>((resolve) => {
      settle = resolve;
    });
    let joined = false;
    const opened = opener.connect(
      copy,
      {
        connected: () => (joined ? events.connected(copy) : settle(null)),
        lost: (_copy, reason) => joined && events.lost(copy, reason),
        blocked: (_copy, reason) => (joined ? events.blocked(copy, reason) : settle(reason)),
        settled: (_copy, ranges) => events.settled(copy, ranges),
        unlike: (_copy, finding) => events.unlike(copy, finding),
      },
      memory,
    );
    if (!opened.ok) return opened;
    const { upstream } = copy;
    const timer = clock.after(CONNECT_MS, () => settle(`it did not answer within ${CONNECT_MS / 1000} s (${upstream.reason})`));
    upstream.start();
    const problem = await connected;
    timer.cancel();
    if (problem !== null) {
      upstream.close();
      return refuse('target-unusable', `${describeTarget(copy.target)} cannot take a mirror of ${volume}: ${problem}`);
    }
    return {
      ok: true,
      value: {
        join: () => {
          joined = true;
        },
      },
    };
  }
}
