// A device's extents as the payload of a BLOCK_STATUS chunk. Keeps the protocol's rules whatever the device gives: starts
// at the request, never runs past it, each length a multiple of the minimum block, neighbours alike are one, a bounded
// number. Where a block holds different extents it is what all of them are: a hole only if all are, zero only if all are.
//
//   context id32 { length32 flags32 }
import assert from 'node:assert/strict';
import type { Extent } from '../../replication/device.js';
import { readUint32, writeUint32 } from './codec.js';
import { EXTENT_FLAG } from './constants.js';

/** Extents in one reply: clients ask again for what is behind them. */
const EXTENTS_MAX = 16 * 1024;
export const BLOCK_STATUS_BYTES_MAX = 4 + 8 * EXTENTS_MAX;

/** The payload while it grows, extent by extent. */
class Descriptors {
  #bytes: Buffer;
  #end = 4;

  constructor(contextId: number, extentsMax: number) {
    this.#bytes = Buffer.allocUnsafe(4 + 8 * extentsMax);
    writeUint32(this.#bytes, 0, contextId);
  }

  get empty(): boolean {
    return this.#end === 4;
  }

  /** False: there is no room for one more. */
  add(lengthBytes: number, flags: number): boolean {
    const last = this.#end - 8;
    if (last > 0 && readUint32(this.#bytes, last + 4) === flags) {
      writeUint32(this.#bytes, last, readUint32(this.#bytes, last) + lengthBytes);
      return true;
    }
    if (this.#end === this.#bytes.length) return false;
    writeUint32(this.#bytes, this.#end, lengthBytes);
    writeUint32(this.#bytes, this.#end + 4, flags);
    this.#end += 8;
    return true;
  }

  payload(): Buffer {
    return this.#bytes.subarray(0, this.#end);
  }
}

/** `extents` start where the request does; `length` is the request's, over 0 and a multiple of `blockBytes`. */
export function encodeBlockStatus(contextId: number, extents: readonly Extent[], length: number, blockBytes: number, one: boolean): Buffer {
  assert(extents.length > 0 && extents[0].lengthBytes > 0, 'a device gives at least one extent');
  // Between two extents there may be a block that holds some of both.
  const descriptors = new Descriptors(contextId, one ? 1 : Math.min(2 * extents.length, EXTENTS_MAX));
  let at = 0;
  let blockFlags = 0;
  for (const extent of extents) {
    const flags = flagsOf(extent);
    let rest = Math.min(extent.lengthBytes, length - at);
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

function flagsOf(extent: Extent): number {
  return (extent.hole ? EXTENT_FLAG.HOLE : 0) | (extent.zero ? EXTENT_FLAG.ZERO : 0);
}
