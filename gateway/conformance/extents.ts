// The chunks that answer a BLOCK_STATUS, taken apart as their two formats say.
//
//   BLOCK_STATUS       context32 { length32 status32 }
//   BLOCK_STATUS_EXT   context32 count32 { length64 status64 }
import { CHUNK } from '../nbd/constants.js';
import type { Answer, Message } from './raw-session.js';

export interface StatusExtent {
  length: bigint;
  status: bigint;
}

export interface StatusChunk {
  context: number;
  /** Of BLOCK_STATUS_EXT, as the server says it; null: of the other format. */
  count: number | null;
  extents: StatusExtent[];
  /** Bytes of the payload that do not make a whole extent. */
  rest: number;
}

export function isStatus({ style, type }: Message): boolean {
  return style !== 'simple' && (type === CHUNK.BLOCK_STATUS || type === CHUNK.BLOCK_STATUS_EXT);
}

export function statusChunks(answer: Answer): StatusChunk[] {
  return answer.messages.filter(isStatus).map(({ type, payload }) => {
    const wide = type === CHUNK.BLOCK_STATUS_EXT;
    const [head, each] = wide ? [8, 16] : [4, 8];
    const context = payload.length >= 4 ? payload.readUInt32BE(0) : -1;
    const count = wide && payload.length >= 8 ? payload.readUInt32BE(4) : null;
    const extents: StatusExtent[] = [];
    let at = head;
    for (; at + each <= payload.length; at += each) {
      const length = wide ? payload.readBigUInt64BE(at) : BigInt(payload.readUInt32BE(at));
      extents.push({ length, status: wide ? payload.readBigUInt64BE(at + 8) : BigInt(payload.readUInt32BE(at + 4)) });
    }
    return { context, count, extents, rest: payload.length - at };
  });
}

export function lengthOf(extents: readonly StatusExtent[]): bigint {
  return extents.reduce((sum, { length }) => sum + length, 0n);
}
