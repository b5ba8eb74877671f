// Ranges in doubt on a plain node (rule 13): a write whose connection was lost may still land there. Until that can no
// longer happen, the newest bytes of such a range are kept here; reads are answered from them, and at the end they are
// written again. Pure: the upstream says what happened and when.
import assert from 'node:assert';
import { IntervalSet } from './interval-set.js';

export interface GuardRange {
  offset: number;
  end: number;
  expiresMs: number;
  /** Its durable record's. */
  number: number;
}

/** Ranges that are to be settled together: the guards themselves, and what they cover as sorted, disjoint pieces. */
export interface DueGuards {
  readonly guards: ReadonlySet<GuardRange>;
  readonly pieces: readonly { offset: number; end: number }[];
}

/** Newest acknowledged bytes of part of a guarded range; null data: zeroes. */
export interface GuardSegment {
  offset: number;
  end: number;
  data: Buffer | null;
}

export class Guards {
  #ranges: GuardRange[] = [];
  /** Sorted by offset, never overlapping, all inside some range. */
  #segments: GuardSegment[] = [];

  get empty(): boolean {
    return this.#ranges.length === 0;
  }

  ranges(): readonly GuardRange[] {
    return this.#ranges;
  }

  /** A write of this range may still land until `expiresMs`. Infinity: its connection is still open; the result's `expiresMs` is set when it has ended. */
  protect(offset: number, length: number, expiresMs: number, number = 0): GuardRange {
    const range = { offset, end: offset + length, expiresMs, number };
    this.#ranges.push(range);
    return range;
  }

  /** What was to be past may still happen until `untilMs`. */
  postpone(untilMs: number): void {
    for (const range of this.#ranges) range.expiresMs = Math.max(range.expiresMs, untilMs);
  }

  overlaps(offset: number, length: number): boolean {
    const end = offset + length;
    for (const range of this.#ranges) if (range.offset < end && range.end > offset) return true;
    return false;
  }

  /** A write was acknowledged: keep the parts of it that lie in guarded ranges. */
  wrote(offset: number, length: number, data: Buffer | null): void {
    const end = offset + length;
    for (const range of this.#ranges) {
      const from = Math.max(offset, range.offset);
      const to = Math.min(end, range.end);
      if (from < to)
        this.#replace({ offset: from, end: to, data: data === null ? null : Buffer.from(data.subarray(from - offset, to - offset)) });
    }
  }

  /** The newest bytes of a range, as far as they are kept. */
  segmentsOf(range: GuardRange): GuardSegment[] {
    return cutAll(this.#segments, [range]);
  }

  /** Puts the newest bytes over what a read of `bytes.length` at `offset` brought. */
  patch(offset: number, bytes: Buffer): void {
    const end = offset + bytes.length;
    for (const segment of this.#segments) {
      const from = Math.max(offset, segment.offset);
      const to = Math.min(end, segment.end);
      if (from >= to) continue;
      if (segment.data === null) bytes.fill(0, from - offset, to - offset);
      else segment.data.copy(bytes, from - offset, from - segment.offset, to - segment.offset);
    }
  }

  /**
   * A read is going to be answered with these bytes, so they are what is there from now on: where nothing newer is kept they are, so
   * that an old request which lands later changes nothing that was seen. Not where none can land any more. False: nothing was new.
   */
  pin(offset: number, bytes: Buffer, nowMs: number): boolean {
    const seen = new IntervalSet();
    for (const segment of this.#segments) seen.add(segment.offset, segment.end);
    let fresh = false;
    for (const range of this.#ranges) {
      const from = Math.max(offset, range.offset);
      const to = Math.min(offset + bytes.length, range.end);
      if (from >= to || range.expiresMs <= nowMs) continue;
      for (const [start, end] of seen.add(from, to)) {
        this.#replace({ offset: start, end, data: Buffer.from(bytes.subarray(start - offset, end - offset)) });
        fresh = true;
      }
    }
    return fresh;
  }

  /** The earliest moment at which a range can be settled; Infinity when none can be yet. */
  nextExpiryMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const range of this.#ranges) next = Math.min(next, range.expiresMs);
    return next;
  }

  /** Ranges that can no longer be hit by an old request. */
  due(nowMs: number): DueGuards {
    const guards = this.#ranges.filter((range) => range.expiresMs <= nowMs);
    return { guards: new Set(guards), pieces: unionOf(guards) };
  }

  /** The newest bytes to write again there. */
  newest(due: DueGuards): GuardSegment[] {
    return cutAll(this.#segments, due.pieces);
  }

  /** What of them was not written since, so that nobody knows what the target holds there. */
  unknown(due: DueGuards): { offset: number; end: number }[] {
    const covered = new IntervalSet();
    for (const { offset, end } of this.newest(due)) covered.add(offset, end);
    return due.pieces.flatMap((piece) => covered.add(piece.offset, piece.end).map(([offset, end]) => ({ offset, end })));
  }

  /**
   * These ranges were written again and flushed: they need no guard any more, unless another covers them. Others that
   * became due meanwhile were not written and stay.
   */
  settle(due: DueGuards): void {
    this.#ranges = this.#ranges.filter((range) => !due.guards.has(range));
    this.#segments = cutAll(this.#segments, unionOf(this.#ranges));
  }

  clear(): void {
    this.#ranges = [];
    this.#segments = [];
  }

  #replace(fresh: GuardSegment): void {
    const result: GuardSegment[] = [];
    for (const segment of this.#segments) {
      if (segment.end <= fresh.offset || segment.offset >= fresh.end) {
        result.push(segment);
        continue;
      }
      if (segment.offset < fresh.offset) result.push(cut(segment, segment.offset, fresh.offset));
      if (segment.end > fresh.end) result.push(cut(segment, fresh.end, segment.end));
    }
    result.push(fresh);
    result.sort((one, other) => one.offset - other.offset);
    this.#segments = result;
  }
}

/** The ranges as sorted, disjoint pieces. */
function unionOf(ranges: readonly { offset: number; end: number }[]): { offset: number; end: number }[] {
  const sorted = [...ranges].sort((one, other) => one.offset - other.offset);
  const pieces: { offset: number; end: number }[] = [];
  for (const range of sorted) {
    const last = pieces[pieces.length - 1];
    if (last !== undefined && range.offset <= last.end) last.end = Math.max(last.end, range.end);
    else pieces.push({ offset: range.offset, end: range.end });
  }
  return pieces;
}

/** The parts of the segments that lie in the pieces. */
function cutAll(segments: readonly GuardSegment[], pieces: readonly { offset: number; end: number }[]): GuardSegment[] {
  const parts: GuardSegment[] = [];
  for (const segment of segments) {
    for (const piece of pieces) {
      const from = Math.max(segment.offset, piece.offset);
      const to = Math.min(segment.end, piece.end);
      if (from < to) parts.push(cut(segment, from, to));
    }
  }
  return parts;
}

function cut(segment: GuardSegment, offset: number, end: number): GuardSegment {
  assert(offset >= segment.offset && end <= segment.end && offset < end, 'what is cut out of a segment lies in it');
  if (offset === segment.offset && end === segment.end) return segment;
  return { offset, end, data: segment.data === null ? null : segment.data.subarray(offset - segment.offset, end - segment.offset) };
}
