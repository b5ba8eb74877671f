// What one node's export can do, read from its handshake, and what makes an export unusable as a copy of a volume.
// The host never sees this set: the upstream translates (a flip between unlike nodes is invisible).
import { formatBytes } from '../../config/units.js';
import type { Negotiated } from '../nbd/client-handshake.js';
import { EXPORT_FLAG } from '../nbd/constants.js';

export interface Features {
  sizeBytes: number;
  flush: boolean;
  fua: boolean;
  zeroes: boolean;
  fastZero: boolean;
  multiConn: boolean;
  status: boolean;
  blockMinimum: number;
  payloadBytesMax: number;
  /** What a request that carries nothing may be about at most: more than 4 GiB only with extended headers. */
  rangeBytesMax: number;
}

/** The most of 32 bits that is a multiple of every block size in use. */
const RANGE_BYTES_MAX = 2 ** 32 - 2 ** 20;

/** What a volume needs of each of its targets. */
export interface Requirements {
  sizeBytes: number;
  /** The smallest unit hosts may use: a node may not insist on a larger one. */
  blockMinimum: number;
}

export function featuresOf(negotiated: Negotiated): Features {
  const has = (flag: number): boolean => (negotiated.flags & flag) !== 0;
  return {
    sizeBytes: negotiated.sizeBytes,
    flush: has(EXPORT_FLAG.SEND_FLUSH),
    fua: has(EXPORT_FLAG.SEND_FUA),
    zeroes: has(EXPORT_FLAG.SEND_WRITE_ZEROES),
    fastZero: has(EXPORT_FLAG.SEND_FAST_ZERO) && has(EXPORT_FLAG.SEND_WRITE_ZEROES),
    multiConn: has(EXPORT_FLAG.CAN_MULTI_CONN),
    status: negotiated.metaContextId !== null,
    blockMinimum: negotiated.block.minimum,
    payloadBytesMax: negotiated.block.maximumPayload,
    rangeBytesMax: negotiated.extended ? Number.MAX_SAFE_INTEGER : RANGE_BYTES_MAX,
  };
}

/** Why an export cannot hold this volume; null when it can. */
export function findMismatch(negotiated: Negotiated, needs: Requirements): string | null {
  if ((negotiated.flags & EXPORT_FLAG.READ_ONLY) !== 0) return 'the export is read-only; a copy of a volume must be writable';
  if (negotiated.sizeBytes < needs.sizeBytes) {
    return `the export has ${formatBytes(negotiated.sizeBytes)} (${negotiated.sizeBytes} bytes), the volume needs ${formatBytes(needs.sizeBytes)} (${needs.sizeBytes} bytes)`;
  }
  if (negotiated.block.minimum > needs.blockMinimum) {
    return `the export takes only multiples of ${negotiated.block.minimum} bytes, hosts of this volume may send multiples of ${needs.blockMinimum}`;
  }
  return null;
}

/** What is not as it was, or not on one connection as on another; null: all that matters is the same. Size aside: exports may grow. */
export function findDifference(before: Features, now: Features): string | null {
  const traits = Object.keys(before) as (keyof Features)[];
  const changed = traits.filter((trait) => trait !== 'sizeBytes' && before[trait] !== now[trait]);
  return changed.length === 0 ? null : changed.map((trait) => `${trait} ${now[trait]} instead of ${before[trait]}`).join(', ');
}
