// The payload of a BLOCK_STATUS that names the metadata contexts it asks for (extended headers only).
//
//   effect length64 { context id32 }
import { readUint32, readUint64 } from './codec.js';

/** More than all contexts there are; a longer payload is drained unread. */
export const CONTEXT_SELECTION_BYTES_MAX = 8 + 4 * 64;

/** The length in bytes that is asked about; null: not one context at least, each known and named once. */
export function parseContextSelection(payload: Buffer, known: ReadonlySet<number>): number | null {
  if (payload.length < 12 || payload.length % 4 !== 0) return null;
  const ids = new Set<number>();
  for (let at = 8; at < payload.length; at += 4) ids.add(readUint32(payload, at));
  const allKnown = [...ids].every((id) => known.has(id));
  return allKnown && ids.size === (payload.length - 8) / 4 ? readUint64(payload, 0) : null;
}
