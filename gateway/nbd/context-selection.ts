// The payload of a BLOCK_STATUS that names the metadata contexts it asks for (extended headers only).
//
//   effect length64 { context id32 }
import { readUint32, readUint64 } from './codec.js';
import type { SelectedContext } from './meta-context.js';

/** More than all contexts there are; a longer payload is drained unread. */
export const CONTEXT_SELECTION_BYTES_MAX = 8 + 4 * 64;

/** What is asked about: so many bytes, in these contexts. */
export interface ContextSelection {
  length: number;
  contexts: SelectedContext[];
}

/** Null: it does not name one context at least, each one of the `negotiated` and once. */
export function parseContextSelection(payload: Buffer, negotiated: readonly SelectedContext[]): ContextSelection | null {
  if (payload.length < 12 || payload.length % 4 !== 0) return null;
  const ids = new Set<number>();
  for (let at = 8; at < payload.length; at += 4) ids.add(readUint32(payload, at));
  const contexts = negotiated.filter(({ id }) => ids.has(id));
  return contexts.length === (payload.length - 8) / 4 ? { length: readUint64(payload, 0), contexts } : null;
}
