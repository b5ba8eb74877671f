// Runs of like bytes as the payload of a BLOCK_STATUS chunk. Keeps the protocol's rules whatever it is given: starts
// at the request, never runs past it, each length a multiple of the minimum block, neighbours alike are one, a bounded
// number. Where a block holds different runs it has the bits that all of them have: it is a hole only if all of it is, zero only if all is.
//
//   context id32 { length32 flags32 }                with extended headers: context id32 count32 { length64 flags64 }
import assert from 'node:assert/strict';
import type { Extent } from '../../replication/device.js';
import { readUint32, readUint64, writeUint32, writeUint64 } from './codec.js';
import { EXTENT_FLAG } from './constants.js';
import type { StatusRun } from './meta-context.js';

/** Extents in one reply: clients ask again for what is behind them. */
const EXTENTS_MAX = 16 * 1024;
/** Of the wider form. */
export const BLOCK_STATUS_BYTES_MAX = 8 + 16 * EXTENTS_MAX;

/** The payload while it grows, extent by extent. */
class Descriptors {
  readonly #wide: boolean;
  readonly #head: number;
  readonly #each: number;
  #bytes: Buffer;
  #end: number;

  constructor(contextId: number, extentsMax: number, wide: boolean) {
    this.#wide = wide;
    this.#head = wide ? 8 : 4;
    this.#each = wide ? 16 : 8;
    this.#bytes = Buffer.allocUnsafe(this.#head + this.#each * extentsMax);
    this.#end = this.#head;
    writeUint32(this.#bytes, 0, contextId);
  }

  get empty(): boolean {
    return this.#end === this.#head;
  }

  /** False: there is no room for one more. */
  add(lengthBytes: number, flags: number): boolean {
    const last = this.#end - this.#each;
    if (!this.empty && this.#flagsAt(last) === flags) {
      this.#put(last, this.#lengthAt(last) + lengthBytes, flags);
      return true;
    }
    if (this.#end === this.#bytes.length) return false;
    this.#put(this.#end, lengthBytes, flags);
    this.#end += this.#each;
    return true;
  }

  #lengthAt(at: number): number {
    return this.#wide ? readUint64(this.#bytes, at) : readUint32(this.#bytes, at);
  }

  #flagsAt(at: number): number {
    return readUint32(this.#bytes, at + this.#each - 4);
  }

  #put(at: number, lengthBytes: number, flags: number): void {
    if (this.#wide) {
      writeUint64(this.#bytes, at, lengthBytes);
      writeUint64(this.#bytes, at + 8, flags);
    } else {
      writeUint32(this.#bytes, at, lengthBytes);
      writeUint32(this.#bytes, at + 4, flags);
    }
  }

  payload(): Buffer {
    if (this.#wide) writeUint32(this.#bytes, 4, (this.#end - this.#head) / this.#each);
    return this.#bytes.subarray(0, this.#end);
  }
}

export interface BlockStatusForm {
  contextId: number;
  /** In bytes, of the request: over 0, and a multiple of `blockBytes`. */
  length: number;
  blockBytes: number;
  /** REQ_ONE: the first extent alone. */
  one: boolean;
  /** For extended headers. */
  wide: boolean;
}

/** `runs` start where the request does. */
export function encodeBlockStatus(runs: readonly StatusRun[], { contextId, length, blockBytes, one, wide }: BlockStatusForm): Buffer {
  assert(runs.length > 0 && runs[0].lengthBytes > 0, 'there is at least one run');
  // Between two runs there may be a block that holds some of both.
  const descriptors = new Descriptors(contextId, one ? 1 : Math.min(2 * runs.length, EXTENTS_MAX), wide);
  let at = 0;
  let blockFlags = 0;
  for (const { lengthBytes, status: flags } of runs) {
    let rest = Math.min(lengthBytes, length - at);
    const begun = at % blockBytes;
    if (begun > 0) {
      const fill = Math.min(blockBytes - begun, rest);
      blockFlags &= flags;
      at += fill;
      rest -= fill;
      if (begun + fill === blockBytes && !descriptors.add(blockBytes, blockFlags)) break;
    }
    const over = rest % blockBytes;
    if (rest > over && !descriptors.add(rest - over, flags)) break;
    if (over > 0) blockFlags = flags;
    at += rest;
    if (at === length) break;
  }
  // Nothing but a piece of the first block is known: then the rest of it may be data.
  if (descriptors.empty) descriptors.add(blockBytes, 0);
  return descriptors.payload();
}

/** What a device says, as base:allocation has it. */
export function allocationRuns(extents: readonly Extent[]): StatusRun[] {
  return extents.map(({ lengthBytes, hole, zero }) => ({
    lengthBytes,
    status: (hole ? EXTENT_FLAG.HOLE : 0) | (zero ? EXTENT_FLAG.ZERO : 0),
  }));
}
