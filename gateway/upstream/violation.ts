// The ways in which a storage node can break the protocol, as the metrics count them.

export const VIOLATION_KINDS = [
  'handshake',
  'magic',
  'cookie',
  'reply',
  'offset',
  'data',
  'status',
  'error',
  'errno',
  'truncated',
] as const;
/**
 * handshake: something wrong before the first request. magic: bytes that begin no reply of the agreed style. cookie: an answer to
 * nothing. reply: a kind of answer that the request cannot have. offset: an extended reply to another offset. data: a read's bytes
 * outside, twice, or not all. status: extents that cannot be. error: an error badly told. errno: an error number that the request
 * cannot have. truncated: the connection ended in the middle of a reply.
 */
export type ViolationKind = (typeof VIOLATION_KINDS)[number];

export interface Violation {
  kind: ViolationKind;
  reason: string;
}
