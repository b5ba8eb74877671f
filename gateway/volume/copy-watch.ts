// What a volume does when something happens to one of its copies: a target comes, goes, is blocked, comes back with other
// contents; a mirror falls behind or is in step. Facts are told; what becomes of a lost active target is judged elsewhere.
import type { Mirror } from '../../replication/mirror.js';
import type { MirrorCondition } from '../../replication/mirror-options.js';
import type { Log, Records } from '../../replication/world.js';
import type { VolumeFact } from '../control.js';
import type { ContentsFinding } from '../upstream/contents-check.js';
import type { Copies } from './copies.js';
import type { Copy } from './copy.js';
import type { CopyEvents } from './copy-opener.js';
import type { RecordKeeper } from './record-keeper.js';
import { oursKey } from './volume-record.js';

/** So many samples must be right for each wrong one, or it is not a few regions that went bad. */
const ROTTEN_PER_HELD = 8;

export interface CopyWatchOptions {
  volume: string;
  copies: Copies;
  keeper: RecordKeeper;
  records: Records;
  log: Log;
  fact(fact: VolumeFact): void;
  activeBack(): void;
  activeLost(reason: string): void;
  /** The region at this offset is not what it must be on the active copy, or on every one that was looked at. */
  suspect(offset: number, where?: 'active' | 'every'): void;
}

export class CopyWatch implements CopyEvents {
  readonly #options: CopyWatchOptions;

  constructor(options: CopyWatchOptions) {
    this.#options = options;
  }

  suspect(offset: number, where: 'active' | 'every'): void {
    this.#options.suspect(offset, where);
  }

  connected(copy: Copy): void {
    const { copies, fact, activeBack } = this.#options;
    fact({ type: 'target-back', target: copy.target });
    if (copies.isCopying(copy)) copy.mirror?.connected();
    if (copy !== copies.active) return;
    activeBack();
    for (const each of copies.mirrors) each.mirror.poke();
  }

  lost(copy: Copy, reason: string): void {
    const { copies, fact, activeLost } = this.#options;
    fact({ type: 'target-lost', target: copy.target, reason });
    copy.mirror?.lost(reason);
    if (copy === copies.active) activeLost(reason);
  }

  blocked(copy: Copy, reason: string): void {
    this.#options.fact({ type: 'target-blocked', target: copy.target, reason });
    copy.mirror?.fail(reason);
  }

  /** An old request landed, or never will: whatever was copied from there, or to there, meanwhile is copied again (rule 13). */
  settled(copy: Copy, ranges: readonly { offset: number; end: number }[]): void {
    const reason = 'ranges that an old request may have hit are copied again';
    const mirrors = copy.mirror === null ? this.#options.copies.mirrors.map(({ mirror }) => mirror) : [copy.mirror];
    for (const { offset, end } of ranges) for (const mirror of mirrors) mirror.copyAgain(offset, end - offset, reason);
  }

  /**
   * A target came back without what it must hold. Where what it flushed lately is there, and most else, it is ours with a few bad
   * regions: they are mended, and nobody reads them before. Otherwise the active one is not used. A mirror that was ours begins
   * anew, when it is blank or some of it is there still; one that holds something else altogether is left alone (rule 20).
   */
  async unlike(copy: Copy, finding: ContentsFinding): Promise<boolean> {
    const { copies, keeper, records, log, volume, suspect } = this.#options;
    const { mirror } = copy;
    const ours = finding.blank || finding.held > 0;
    log.error({ volume, target: copy.target, ...finding }, 'a target came back with other contents');
    if (copies.closed || copies.isLeaving(copy)) return false;
    if (finding.lost === 0 && finding.wrong * ROTTEN_PER_HELD <= finding.held) {
      for (const { offset, length } of finding.ranges) {
        if (mirror !== null) mirror.copyAgain(offset, length, 'it came back with regions that are not what was written there');
        else suspect(offset);
      }
      return copy.mirror === mirror;
    }
    if (mirror === null) return false;
    try {
      if (!ours) {
        await records.commit([{ remove: oursKey(copy.target) }]);
        return false;
      }
      mirror.startOver(`it came back ${finding.blank ? 'blank' : 'without some of what was written there'}: all is copied again`);
      await keeper.commit(copy.dirtyRecord!.addAll());
      return copy.mirror === mirror;
    } catch (error) {
      log.error({ volume, reason: (error as Error).message }, 'that a mirror begins anew cannot be written down yet');
      return false;
    }
  }

  mirrorChanged(copy: Copy, mirror: Mirror, from: MirrorCondition, to: MirrorCondition, reason: string | null): void {
    const { copies, keeper, fact } = this.#options;
    if (copy.mirror !== mirror && copy.mirror !== null) return;
    if (to === 'synced' && copy.id !== null && !copies.closed) void keeper.remember();
    fact({ type: 'mirror-state', target: copy.target, from, to, reason });
  }
}
