// Takes away the marks of extents that have gone cold (rule 3) and the durable dirty bits of extents a mirror has got, a
// bounded number at a time, behind flushes of every copy concerned. Whatever is written meanwhile stays marked.
import type { IntentLog } from '../../replication/intent-log.js';
import type { RangeLock } from '../../replication/range-lock.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { OP, PromisedRequest, perform } from '../../replication/device.js';
import { type Change, type Clock, type Log, type Records, within } from '../../replication/world.js';
import type { Copy } from './copy.js';

const EVERY_MS = 2000;
const EXTENTS_MAX = 256;
const FINISH_MS = 3000;
/** A copy that does not flush in this time is looked at again with the next sweep. */
const FLUSH_MS = 10_000;

export interface SweeperOptions {
  intents: IntentLog;
  sums: RegionSums;
  records: Records;
  lock: RangeLock;
  clock: Clock;
  log: Log;
  /** The active copy first. */
  copies(): readonly Copy[];
  /** Requests of an earlier gateway may still land where something is marked: nothing is swept, so that the next gateway knows, too (rule 13). */
  unsure(): boolean;
  /** Resolves to whether the journal has durably what was acknowledged so far: a replay of less would make a mirror older, unmarked. */
  journaled(): Promise<boolean>;
}

export class MarkSweeper {
  readonly #options: SweeperOptions;
  #lastMs: number;
  /** The sequence of writes at the last sweep: what was not written since then is cold. */
  #lastTouch = 0;
  #running = false;

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#lastMs = options.clock.nowMs();
  }

  tick(): void {
    const nowMs = this.#options.clock.nowMs();
    if (this.#running || nowMs - this.#lastMs < EVERY_MS || this.#options.copies().length < 2 || this.#options.unsure()) return;
    this.#lastMs = nowMs;
    const touch = this.#lastTouch;
    this.#lastTouch = this.#options.intents.now;
    this.#running = true;
    void this.sweep(touch).finally(() => {
      this.#running = false;
    });
  }

  /** The last sweeps before the end, when nothing is written any more: a clean restart finds nothing to copy again. */
  async finish(): Promise<void> {
    const { clock, intents, unsure } = this.#options;
    if (unsure()) return;
    const untilMs = clock.nowMs() + FINISH_MS;
    let before = Number.POSITIVE_INFINITY;
    while (intents.markedExtents > 0 && intents.markedExtents < before && clock.nowMs() < untilMs) {
      before = intents.markedExtents;
      await within(clock, FINISH_MS, this.sweep(intents.now));
    }
  }

  /** One sweep over what was not written after `touch`. */
  async sweep(touch: number): Promise<void> {
    const { intents, lock, log } = this.#options;
    const copies = this.#options.copies();
    if (copies.some((copy) => copy.mirror === null && !copy.upstream.ready)) return;
    const { extentBytes } = intents;
    // A mirror that is away keeps what it lacks in its own record; the others must be quiet where a mark is to go.
    const present = copies.filter((copy) => copy.mirror === null || copy.upstream.ready);
    const quiet = (extent: number): boolean =>
      !lock.overlaps(extent * extentBytes, extentBytes) &&
      present.every((copy) => !copy.upstream.inDoubt(extent * extentBytes, extentBytes)) &&
      present.every((copy) => copy.mirror === null || !copy.mirror.queue.overlaps(extent * extentBytes, extentBytes));
    const cold = intents.coldExtents(touch, EXTENTS_MAX).filter(quiet);
    // What a mirror lacks now, and all of one that is away: what it answered may be in a cache that it has lost. It may be
    // copied before the mark goes, but not be flushed yet.
    const lacking = new Map<Copy, Set<number>>();
    for (const copy of copies) {
      const { mirror } = copy;
      if (mirror === null) continue;
      const away = !present.includes(copy);
      lacking.set(copy, new Set(cold.filter((extent) => away || mirror.dirty.anyIn(extent * extentBytes, extentBytes))));
    }
    const got = new Map<Copy, number[]>();
    for (const copy of present) {
      if (copy.mirror === null || copy.dirtyRecord!.count === 0) continue;
      const extents: number[] = [];
      for (const extent of copy.dirtyRecord!) {
        // Of a volume that is just growing: what it will lack.
        if (extent >= intents.extents) break;
        if (!copy.mirror.dirty.anyIn(extent * extentBytes, extentBytes) && quiet(extent)) extents.push(extent);
        if (extents.length >= EXTENTS_MAX * 16) break;
      }
      if (extents.length > 0) got.set(copy, extents);
    }
    try {
      if (cold.length > 0 || got.size > 0) {
        const sequence = intents.now;
        const flushes = present.map((copy) => perform(copy.upstream, new PromisedRequest(OP.FLUSH, 0, 0)).then((errno) => errno === 0));
        const durable = await within(this.#options.clock, FLUSH_MS, Promise.all([...flushes, this.#options.journaled()]));
        if (durable === undefined || durable.includes(false)) return;
        if (this.#options.copies() !== copies) return;
        await this.#forgetDirty(got);
        if (this.#options.copies() !== copies) return;
        const cleared = await intents.clear(cold, Math.min(touch, sequence), (extent) => this.#onClear(extent, copies, lacking));
        for (const extent of cleared) this.#options.sums.cleared(extent);
      }
      await this.#options.sums.save();
    } catch (error) {
      log.warn({ error }, 'a sweep of the intent log could not be stored; the next will try again');
    }
  }

  async #forgetDirty(got: Map<Copy, number[]>): Promise<void> {
    const changes: Change[] = [];
    for (const [copy, extents] of got) changes.push(...copy.dirtyRecord!.remove(extents));
    if (changes.length > 0) await this.#options.records.commit(changes);
  }

  /** With a mark goes what is known of the extent: its checksums, and which mirrors lack it. */
  #onClear(extent: number, copies: readonly Copy[], lacking: Map<Copy, Set<number>>): Change[] {
    const { extentBytes } = this.#options.intents;
    const changes: Change[] = [this.#options.sums.onClear(extent)];
    for (const copy of copies) {
      const lacks = lacking.get(copy)?.has(extent) || copy.mirror?.dirty.anyIn(extent * extentBytes, extentBytes);
      if (lacks) changes.push(...copy.dirtyRecord!.add([extent]));
    }
    return changes;
  }
}
