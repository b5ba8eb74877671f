// What a rule of the suite is: one sentence of the protocol document in our own words, where it stands there, what a server must
// have for it to apply, and a check that fails by throwing (verdict.ts).
import type { Need } from './needs.js';
import type { Probe } from './probe.js';

/** must: the document says MUST, or defines the bytes. should: it says SHOULD; there may be reasons to do otherwise. */
export type Level = 'must' | 'should';

export interface Rule {
  /** Stable: group, point, name. */
  id: string;
  level: Level;
  /** Heading of the protocol document (doc/proto.md). */
  section: string;
  says: string;
  needs: readonly Need[];
  /** Why the check is as it is, where the document leaves room or servers commonly fail. */
  note?: string;
  check(probe: Probe): Promise<void>;
}

/** Headings of the protocol document, as it names them. */
export const SECTION = {
  CONVENTIONS: 'Conventions',
  NEWSTYLE: 'Newstyle negotiation',
  FIXED_NEWSTYLE: 'Fixed newstyle negotiation',
  TERMINATION: 'Termination of the session during option haggling',
  TRANSMISSION: 'Transmission',
  ORDERING: 'Ordering of messages and writes',
  REQUEST: 'Request message',
  SIMPLE_REPLY: 'Simple reply message',
  CHUNK: 'Structured reply chunk message',
  EXTENDED_CHUNK: 'Extended reply chunk message',
  END: 'Terminating the transmission phase',
  NOTLS: 'NOTLS mode',
  TLS: 'Server-side requirements',
  FORCEDTLS: 'FORCEDTLS mode',
  TLS_VERSIONS: 'TLS versions',
  BLOCK_SIZE: 'Block size constraints',
  METADATA: 'Metadata querying',
  BASE: 'The base: metadata namespace',
  ALLOCATION: 'base:allocation metadata context',
  HANDSHAKE_FLAGS: 'Handshake flags',
  CLIENT_FLAGS: 'Client flags',
  TRANSMISSION_FLAGS: 'Transmission flags',
  OPTIONS: 'Option types',
  OPTION_REPLIES: 'Option reply types',
  COMMAND_FLAGS: 'Command flags',
  REPLY_FLAGS: 'Structured reply flags',
  CHUNKS: 'Structured reply types',
  REQUESTS: 'Request types',
  ERRORS: 'Error values',
  BASELINE: 'Baseline',
} as const;
