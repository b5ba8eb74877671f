// The ranges of a volume that no copy can give: the active target could not read them, and no other copy had them when they were
// copied. A mirror has zeroes there. Nobody reads them before a host writes them (rule 16); until a flip makes another copy the
// active one that target alone may still be read there, should it answer after all. Durable before a mirror gets anything in
// place of the bytes, and before a write that fills a range is answered.
//
// Record `lost/<volume>/<extent, 8 hex digits>`: [[offset, end, epoch], ...], bytes, in order, apart from each other, within the
// extent; `epoch`: of the volume when its active target was the only one that may have them, or -1. One that cannot be read
// counts as the whole extent. The volume's record says that there are some, so that no version overlooks them.
import type { RegionSums } from '../../replication/region-sums.js';
import { type Change, type Clock, type Log, type Records, sleep } from '../../replication/world.js';
import { type Outcome, refuse, type VolumeFact } from '../control.js';
import type { RecordKeeper } from './record-keeper.js';

/** All of a volume's together. */
const RANGES_MAX = 65_536;
const RETRY_MS = 200;
/** No target may have it. */
const NOBODY = -1;

export interface LostRange {
  /** Bytes. */
  offset: number;
  end: number;
  /** While the volume is at this epoch its active target may have it; -1: none. */
  epoch: number;
}

function lostPrefix(volume: string): string {
  return `lost/${volume}/`;
}

/** Judges one record, which belongs to the extent that begins at `start`. */
export function readLost(volume: string, value: unknown, start: number, extentBytes: number): Outcome<LostRange[]> {
  const refused = refuse(
    'record-damaged',
    `which ranges of ${volume} are lost in the extent at ${start} cannot be read: all of it counts as lost`,
  );
  if (!Array.isArray(value) || value.length === 0) return refused;
  const ranges: LostRange[] = [];
  let least = start;
  for (const each of value) {
    if (!Array.isArray(each) || each.length !== 3 || !each.every((part) => Number.isSafeInteger(part))) return refused;
    const [offset, end, epoch] = each as number[];
    if (offset < least || end <= offset || end > start + extentBytes || epoch < NOBODY) return refused;
    ranges.push({ offset, end, epoch });
    least = end;
  }
  return { ok: true, value: ranges };
}

export interface LostRangesOptions {
  volume: string;
  sizeBytes: number;
  extentBytes: number;
  records: Records;
  keeper: RecordKeeper;
  sums: RegionSums;
  clock: Clock;
  log: Log;
  fact(fact: VolumeFact): void;
}

export class LostRanges {
  readonly #options: LostRangesOptions;
  readonly #extents = new Map<number, LostRange[]>();
  #count = 0;
  #bytes = 0;
  /** Changes, one after the other. */
  #turns: Promise<unknown> = Promise.resolve();
  /** What a commit of unknown outcome may have stored is being put right: until then nothing more is declared. */
  #mending = false;
  #closed = false;

  /** Reads what is stored. */
  constructor(options: LostRangesOptions) {
    this.#options = options;
    const { records, volume, extentBytes, sizeBytes, log } = options;
    const prefix = lostPrefix(volume);
    for (const [key, value] of records.list(prefix)) {
      const extent = Number.parseInt(key.slice(prefix.length), 16);
      const start = extent * extentBytes;
      if (!(start < sizeBytes)) continue;
      const read = readLost(volume, value, start, extentBytes);
      if (!read.ok) log.error({ volume }, read.message);
      this.#put(extent, read.ok ? read.value : [{ offset: start, end: Math.min(sizeBytes, start + extentBytes), epoch: NOBODY }]);
    }
  }

  get any(): boolean {
    return this.#count > 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  overlaps(offset: number, length: number): boolean {
    return this.#some(offset, length, () => true);
  }

  /** Must what was read there not be believed? `everywhere`: it came from a mirror, not from the active target. */
  fences(offset: number, length: number, everywhere: boolean): boolean {
    return this.#some(offset, length, ({ epoch }) => everywhere || epoch !== this.#options.keeper.record.epoch);
  }

  /**
   * The active target cannot read these ranges, and no other copy has them. Under their lock. True: that is durable, a mirror may
   * get anything there. False: it is not, because the records cannot be written, there are too many, or the active target is
   * another by now.
   */
  declare(ranges: readonly { offset: number; end: number }[], reason: string): Promise<boolean> {
    if (this.#mending) return Promise.resolve(false);
    const { epoch } = this.#options.keeper.record;
    const pieces = ranges.flatMap((range) => this.#split({ ...range, epoch }));
    // What is lost already the present active target may have no more than any other.
    const fresh = (): LostRange[] => pieces.flatMap((piece) => this.#without(piece));
    return this.#turn(() => this.#declare(fresh(), epoch, reason));
  }

  /** No copy has these ranges right, whichever is the active one. True: that is durable. False: the volume closes, or there are too many. */
  async condemn(ranges: readonly { offset: number; end: number }[], reason: string): Promise<boolean> {
    const pieces = ranges.flatMap((range) => this.#split({ ...range, epoch: NOBODY }));
    while (!this.#closed && !this.#isFull(pieces)) {
      if (await this.#turn(() => this.#declare(pieces, this.#options.keeper.record.epoch, reason))) return true;
      await sleep(this.#options.clock, RETRY_MS);
    }
    return false;
  }

  /** A host has written there, and the active target has it on stable storage: it may be read when this resolves to true. False: the volume closes. */
  written(offset: number, length: number): Promise<boolean> {
    return this.#turn(() => this.#remove(this.#split({ offset, end: offset + length, epoch: NOBODY })));
  }

  /** There is no copy but the active one: what only that may have is nowhere else missing. */
  onlyActive(): void {
    if (!this.any) return;
    const { epoch } = this.#options.keeper.record;
    void this.#turn(() => this.#remove([...this.#extents.values()].flat().filter((range) => range.epoch === epoch)));
  }

  close(): void {
    this.#closed = true;
  }

  #turn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turns.then(work);
    this.#turns = turn;
    return turn;
  }

  async #declare(pieces: readonly LostRange[], epoch: number, reason: string): Promise<boolean> {
    const { keeper, volume, log, fact } = this.#options;
    if (this.#closed || this.#mending) return false;
    if (pieces.length === 0) return true;
    if (this.#isFull(pieces)) {
      log.error({ volume }, `more than ${RANGES_MAX} ranges cannot be read from the active target: a mirror cannot become complete`);
      return false;
    }
    const after = new Map<number, LostRange[]>();
    for (const piece of pieces) {
      const extent = this.#extentOf(piece.offset);
      after.set(extent, joined([...subtract(after.get(extent) ?? this.#extents.get(extent) ?? [], piece), piece]));
    }
    try {
      await keeper.change((current) => {
        if (current.epoch !== epoch) throw new Error('another target is the active one by now');
        return {
          record: { ...current, lost: true },
          changes: [...after].map(([extent, ranges]) => this.#change(extent, ranges)),
          durable: () => {
            for (const { offset, end } of pieces) this.#options.sums.unverifyRange(offset, end);
            for (const [extent, ranges] of after) this.#put(extent, ranges);
          },
        };
      });
    } catch (error) {
      log.warn({ volume, reason: (error as Error).message }, 'that a range cannot be read by anybody could not be stored');
      // Nobody knows whether it was. The turn after this one must not find more than memory has.
      this.#mending = true;
      void this.#turn(async () => {
        await this.#store(() => [...after.keys()].map((extent) => this.#change(extent, this.#of(extent))));
        this.#mending = false;
      });
      return false;
    }
    for (const { offset, end } of pieces) {
      log.error({ volume, offset, lengthBytes: end - offset, reason }, 'a range is lost: hosts cannot read it until they write it');
      fact({ type: 'lost', offset, lengthBytes: end - offset, reason });
    }
    return true;
  }

  async #remove(pieces: readonly LostRange[]): Promise<boolean> {
    const after = new Map<number, LostRange[]>();
    for (const piece of pieces) {
      const extent = this.#extentOf(piece.offset);
      const ranges = after.get(extent) ?? this.#of(extent);
      if (ranges.some(({ offset, end }) => offset < piece.end && end > piece.offset)) after.set(extent, subtract(ranges, piece));
    }
    if (after.size === 0) return true;
    const stored = await this.#store(() => [...after].map(([extent, ranges]) => this.#change(extent, ranges)));
    if (!stored) return false;
    for (const [extent, ranges] of after) this.#put(extent, ranges);
    // Its record need not say any more that there are some.
    if (!this.any) void this.#options.keeper.remember();
    return true;
  }

  /** Until it is durable. False: the volume closes, and nobody knows. */
  async #store(changes: () => Change[]): Promise<boolean> {
    const { records, clock, volume, log } = this.#options;
    while (!this.#closed) {
      try {
        await records.commit(changes());
        return true;
      } catch (error) {
        log.warn({ volume, reason: (error as Error).message }, 'which ranges are lost could not be stored; it is tried again');
        await sleep(clock, RETRY_MS);
      }
    }
    return false;
  }

  #some(offset: number, length: number, counts: (range: LostRange) => boolean): boolean {
    if (this.#count === 0) return false;
    const end = offset + length;
    for (let extent = this.#extentOf(offset); extent <= this.#extentOf(end - 1); extent += 1) {
      const ranges = this.#extents.get(extent);
      if (ranges?.some((range) => range.offset < end && range.end > offset && counts(range))) return true;
    }
    return false;
  }

  #extentOf(offset: number): number {
    return Math.floor(offset / this.#options.extentBytes);
  }

  /** The parts of it that are not lost. */
  #without(piece: LostRange): LostRange[] {
    return this.#of(this.#extentOf(piece.offset)).reduce<LostRange[]>((left, lost) => subtract(left, lost), [piece]);
  }

  #isFull(more: readonly LostRange[]): boolean {
    return this.#count + more.length > RANGES_MAX;
  }

  #of(extent: number): readonly LostRange[] {
    return this.#extents.get(extent) ?? [];
  }

  #put(extent: number, ranges: LostRange[]): void {
    const before = this.#of(extent);
    this.#count += ranges.length - before.length;
    this.#bytes += lengthOf(ranges) - lengthOf(before);
    if (ranges.length === 0) this.#extents.delete(extent);
    else this.#extents.set(extent, ranges);
  }

  #change(extent: number, ranges: readonly LostRange[]): Change {
    const key = lostPrefix(this.#options.volume) + extent.toString(16).padStart(8, '0');
    if (ranges.length === 0) return { remove: key };
    return { put: key, value: ranges.map(({ offset, end, epoch }) => [offset, end, epoch]) };
  }

  /** The range in pieces, none of which crosses the border of an extent. */
  #split(range: LostRange): LostRange[] {
    const { extentBytes } = this.#options;
    const pieces: LostRange[] = [];
    for (let { offset } = range; offset < range.end; ) {
      const end = Math.min(range.end, (this.#extentOf(offset) + 1) * extentBytes);
      pieces.push({ offset, end, epoch: range.epoch });
      offset = end;
    }
    return pieces;
  }
}

function lengthOf(ranges: readonly LostRange[]): number {
  return ranges.reduce((sum, { offset, end }) => sum + end - offset, 0);
}

function subtract(ranges: readonly LostRange[], { offset, end }: { offset: number; end: number }): LostRange[] {
  const left: LostRange[] = [];
  for (const range of ranges) {
    if (range.end <= offset || range.offset >= end) left.push(range);
    else {
      if (range.offset < offset) left.push({ ...range, end: offset });
      if (range.end > end) left.push({ ...range, offset: end });
    }
  }
  return left;
}

/** In order, with neighbours of one epoch as one. */
function joined(ranges: LostRange[]): LostRange[] {
  const whole: LostRange[] = [];
  for (const range of ranges.sort((one, other) => one.offset - other.offset)) {
    const last = whole.at(-1);
    if (last !== undefined && last.end === range.offset && last.epoch === range.epoch) last.end = range.end;
    else whole.push({ ...range });
  }
  return whole;
}
