// The moment of a flip: its certificate, the one transaction that makes it so (rule 11), and the change of roles in memory
// in the same turn in which that is durable. Also how an active target is given up before.
import assert from 'node:assert';
import type { IntentLog } from '../../replication/intent-log.js';
import type { RegionSums } from '../../replication/region-sums.js';
import type { Change, Clock } from '../../replication/world.js';
import type { FlipCertificate } from '../control.js';
import type { Copies } from './copies.js';
import type { Copy } from './copy.js';
import type { CopyOpener } from './copy-opener.js';
import type { FlipCause } from './flip.js';
import type { IoPath } from './io-path.js';
import type { JournalRecovery } from './journal-recovery.js';
import type { Journaling } from './journaling.js';
import type { RecordChange, RecordKeeper } from './record-keeper.js';
import { type MirrorRecord, oursKey, type VolumeRecord } from './volume-record.js';

export interface RoleChangeOptions {
  volume: string;
  copies: Copies;
  opener: CopyOpener;
  keeper: RecordKeeper;
  journaling: Journaling;
  journalRecovery: JournalRecovery;
  path: IoPath;
  intents: IntentLog;
  sums: RegionSums;
  clock: Clock;
  /** Where a mirror that takes over may be older, because an operator agreed to that. */
  conceded(to: Copy): { offset: number; length: number }[];
  /** When the oldest of what is verified was read back, as ISO 8601. */
  verifiedSince(): string | null;
}

export class RoleChange {
  readonly #options: RoleChangeOptions;
  /** Told when the roles have changed after the active target was given up. */
  #swapped: (() => void) | null = null;
  /** The id that the old target gets with the flip that is being committed. */
  #reverseId: string | null = null;
  /** The guards of a target that is being given up: its ranges are dirty instead. */
  #staleDoubts: Change[] = [];

  constructor(options: RoleChangeOptions) {
    this.#options = options;
  }

  /** What is true now, before the commit (rule 18); the pause is known only when hosts go on. */
  certify(to: Copy, why: FlipCause, held: { inFlight: number; queueBytes: number }): FlipCertificate {
    const { volume, copies, keeper, sums, clock, conceded, verifiedSince } = this.#options;
    const verified = sums.verified.count;
    return {
      volume,
      epoch: keeper.record.epoch + 1,
      from: copies.active.target,
      to: to.target,
      kind: why.kind,
      at: new Date(clock.wallMs()).toISOString(),
      pauseMs: 0,
      held: 0,
      drained: { inFlight: held.inFlight, queueBytes: held.queueBytes },
      dirtyRegions: to.mirror!.dirty.count + conceded(to).length,
      roots: {
        from: sums.root,
        to: sums.root,
        verifiedRegions: verified,
        unverifiedRegions: sums.verified.regions - verified,
        oldestVerification: verifiedSince(),
      },
      cause: why.reason,
      verdict: why.verdict,
    };
  }

  /** Gives the active target up: its requests go back to the path; it returns as a mirror once nothing old can land in it. Gives the ranges in which that makes it differ. */
  abandonActive(): { doubtful: { offset: number; length: number }[] } {
    const { copies, opener, path, journalRecovery } = this.#options;
    const from = copies.active;
    const old = from.upstream;
    const opened = opener.connect(from);
    assert(opened.ok, 'a node that was known is unknown now');
    const fresh = opened.value;
    this.#staleDoubts = old.forgetDoubts();
    // It starts when nothing old can land any more and it is known what it lacks.
    let waits = 2;
    const come = (): void => {
      waits -= 1;
      if (waits === 0 && !copies.closed && copies.has(from) && from.upstream === fresh) fresh.start();
    };
    this.#swapped = come;
    const { requests, doubtful } = old.abandon(come);
    path.takeBack([...journalRecovery.takeBack(), ...requests]);
    return { doubtful };
  }

  /** What a flip makes durable, in one transaction. Called again with the same arguments until it is. */
  commit(certificate: FlipCertificate, to: Copy, doubtful: { offset: number; length: number }[]): Promise<void> {
    return this.#options.keeper.change((current) => this.#change(current, certificate, to, doubtful));
  }

  #change(current: VolumeRecord, certificate: FlipCertificate, to: Copy, doubtful: { offset: number; length: number }[]): RecordChange {
    const { volume, copies, opener, keeper, journaling, journalRecovery: recovery } = this.#options;
    const from = copies.active;
    // Also where nothing was in flight: what no host had flushed may be on one of the two only.
    const unlike = [...doubtful, ...recovery.unsure(to), ...this.#options.conceded(to)];
    this.#reverseId ??= keeper.newId();
    const id = this.#reverseId;
    const dirtyRecord = opener.dirtyRecord(id);
    const reverse: MirrorRecord = {
      id,
      target: from.target,
      reverse: true,
      synced: true,
      cause: `former active target: ${certificate.cause}`,
    };
    const { journal: _, ...rest } = current;
    const journal = journaling.startAt(to);
    const record: VolumeRecord = {
      ...rest,
      ...(journal && { journal }),
      epoch: certificate.epoch,
      active: to.target,
      mirrors: [...copies.records((copy) => copy !== to && copy !== from), reverse],
      nextMirror: keeper.nextMirror,
      lastFlip: certificate,
    };
    const changes = [
      { put: oursKey(from.target), value: { volume } },
      ...to.dirtyRecord!.drop(),
      ...dirtyRecord.add(this.#extentsOf(unlike)),
      ...this.#staleDoubts,
    ];
    const durable = (): void => {
      this.#staleDoubts = [];
      from.id = id;
      from.dirtyRecord = dirtyRecord;
      from.cause = reverse.cause;
      this.#reverseId = null;
      // At once: the next change of the record must find the copies in their new roles.
      this.#swap(to, unlike);
      journaling.flipped(to, certificate.epoch);
      recovery.flipped(to);
    };
    return { record, changes, durable };
  }

  #extentsOf(ranges: { offset: number; length: number }[]): Set<number> {
    const { extentBytes, extents: all } = this.#options.intents;
    const extents = new Set<number>();
    for (const { offset, length } of ranges) {
      // Zeroes of a growth that came to nothing lie beyond the end.
      const last = Math.min(all - 1, Math.floor((offset + length - 1) / extentBytes));
      for (let extent = Math.floor(offset / extentBytes); extent <= last; extent += 1) extents.add(extent);
    }
    return extents;
  }

  /** The commit is durable: roles change, and the old target is kept in sync (rule 14). */
  #swap(to: Copy, unlike: { offset: number; length: number }[]): void {
    const { copies, opener, path } = this.#options;
    const from = copies.active;
    to.mirror!.stop();
    to.mirror = null;
    to.id = null;
    to.dirtyRecord = null;
    const wasReady = from.upstream.ready;
    copies.activate(to);
    from.mirror = opener.mirror(from, { reverse: true, blank: false });
    from.mirror.adopt();
    copies.mayCopy(from);
    for (const range of unlike) from.mirror.markDirty(range.offset, range.length);
    path.swap(to.upstream);
    copies.route();
    this.#swapped?.();
    this.#swapped = null;
    if (wasReady) from.mirror.connected();
    for (const copy of copies.mirrors) copy.mirror.poke();
  }
}
