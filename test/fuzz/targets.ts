// All that is fuzzed, by name.
import type { Target } from './target.js';
import { CLIENT_HANDSHAKE } from './targets/client-handshake.js';
import { CODEC } from './targets/codec.js';
import { CONNECTION } from './targets/connection.js';
import { OPTION_DATA } from './targets/option-data.js';
import { REPLY_READER } from './targets/reply-reader.js';
import { SERVER_HANDSHAKE } from './targets/server-handshake.js';
import { SESSION } from './targets/session.js';

export const TARGETS: readonly Target[] = [SERVER_HANDSHAKE, SESSION, CLIENT_HANDSHAKE, REPLY_READER, CODEC, OPTION_DATA, CONNECTION];

export function findTarget(name: string): Target {
  const target = TARGETS.find((candidate) => candidate.name === name);
  if (target === undefined) throw new Error(`no target ${name}: there are ${TARGETS.map((candidate) => candidate.name).join(', ')}`);
  return target;
}
