// Flaws to be planted in the protocol machines, one at a time, to see that the fuzzer finds them: each is a mistake that
// somebody could make there.
import type { Edit } from '../sim/mutations.js';

export interface Flaw {
  name: string;
  breaks: string;
  /** Targets that must find it, each alone. */
  targets: string[];
  edits: Edit[];
}

const SESSION = 'gateway/nbd/session.ts';
const HANDSHAKE = 'gateway/nbd/server-handshake.ts';
const OPTIONS = 'gateway/nbd/option-data.ts';
const RULES = 'gateway/nbd/request-rules.ts';
const CLIENT = 'gateway/nbd/client-handshake.ts';
const READER = 'gateway/upstream/reply-reader.ts';
const COVERAGE = 'gateway/upstream/coverage.ts';
const CODEC = 'gateway/nbd/codec.ts';
const OUTBOX = 'gateway/nbd/outbox.ts';
const CONNECTION = 'gateway/nbd/connection.ts';
const INBOX = 'gateway/nbd/inbox.ts';

const flaw = (name: string, breaks: string, targets: string[], file: string, find: string, replace: string): Flaw => ({
  name,
  breaks,
  targets,
  edits: [{ file, find, replace }],
});

export const FLAWS: readonly Flaw[] = [
  flaw(
    'name-too-long',
    'a name may have more bytes than the protocol allows',
    ['option-data', 'server-handshake'],
    OPTIONS,
    'if (bytes.length > STRING_BYTES_MAX) return',
    'if (bytes.length > STRING_BYTES_MAX + 1) return',
  ),
  flaw(
    'queries-left-over',
    'bytes behind the last query are ignored',
    ['option-data'],
    OPTIONS,
    'if (at !== data.length) return',
    'if (at > data.length) return',
  ),
  flaw(
    'selection-survives-failure',
    'contexts stay selected when SET_META_CONTEXT fails',
    ['connection'],
    HANDSHAKE,
    'if (selecting) this.#selected = null;\n    const request',
    'const request',
  ),
  flaw(
    'selection-survives-export',
    'contexts of one export are used on another',
    ['server-handshake'],
    HANDSHAKE,
    'if (this.#selected?.name !== name) this.#selected = null;\n    this.#attachInfo',
    'this.#attachInfo',
  ),
  flaw(
    'options-unbounded',
    'a client may ask without end',
    ['server-handshake'],
    HANDSHAKE,
    '} else if (this.#options > OPTIONS_MAX) {',
    '} else if (this.#options < 0) {',
  ),
  flaw(
    'drain-out-of-step',
    'of an option that is drained a byte is taken for the next',
    ['server-handshake'],
    HANDSHAKE,
    'this.#length -= drained;\n    if (this.#length > 0) return false;',
    'this.#length -= drained;\n    if (this.#length > 1) return false;',
  ),
  flaw(
    'inbox-loses-start',
    'bytes that came before are moved wrongly when there is no room',
    ['server-handshake', 'client-handshake'],
    INBOX,
    'this.#bytes.copy(roomy, 0, this.#start, this.#end);',
    'this.#bytes.copy(roomy, 0, this.#start, this.#end - 1);',
  ),
  flaw(
    'headers-survive-tls',
    'what was agreed on in plain counts in TLS',
    ['server-handshake'],
    HANDSHAKE,
    "this.#headers = 'simple';\n      this.#selected = null;\n      this.#acknowledge();",
    'this.#acknowledge();',
  ),
  flaw(
    'selection-survives-tls',
    'contexts that were selected in plain are used in TLS',
    ['server-handshake'],
    HANDSHAKE,
    "this.#headers = 'simple';\n      this.#selected = null;\n      this.#acknowledge();",
    "this.#headers = 'simple';\n      this.#acknowledge();",
  ),
  flaw(
    'plain-after-starttls',
    'what somebody put in plain behind STARTTLS is taken for what the client says in TLS',
    ['server-handshake'],
    HANDSHAKE,
    '} else if (this.#inbox.available > 0) {',
    '} else if (this.#inbox.available < 0) {',
  ),
  flaw(
    'tls-not-required',
    'GO works without the TLS that is required',
    ['server-handshake'],
    HANDSHAKE,
    'this.#option !== OPTION.STARTTLS);',
    'this.#option !== OPTION.STARTTLS && this.#option !== OPTION.GO);',
  ),
  flaw(
    'node-plain-after-starttls',
    'what somebody put in plain behind the answer to STARTTLS is taken for what the node says in TLS',
    ['client-handshake'],
    CLIENT,
    'if (this.#inbox.available > 0)\n',
    'if (this.#inbox.available < 0)\n',
  ),
  flaw(
    'described-twice',
    'the last of two unlike descriptions of an export counts',
    ['client-handshake'],
    CLIENT,
    'before.flags !== described.flags)',
    'before.flags !== before.flags)',
  ),
  flaw(
    'write-without-flag',
    'a refused WRITE without PAYLOAD_LEN ends nothing, so that its payload may be read as requests',
    ['session'],
    SESSION,
    '} else if (this.#extended && !flagged) {',
    '} else if (this.#extended && !flagged && header.length > 4096) {',
  ),
  flaw(
    'wrong-bound',
    'a request may end one byte past the export',
    ['session', 'connection'],
    RULES,
    'if (offset + length > rules.sizeBytes) {',
    'if (offset + length > rules.sizeBytes + 1) {',
  ),
  flaw(
    'read-only-trim',
    'TRIM changes a read-only export',
    ['session'],
    RULES,
    'command === COMMAND.WRITE || command === COMMAND.TRIM || command',
    'command === COMMAND.WRITE || command',
  ),
  flaw(
    'payload-not-drained',
    'the payload of a refused WRITE is read as requests',
    ['session', 'connection'],
    SESSION,
    'if (!hasPayload || header.length === 0) {',
    'if (!hasPayload || header.length <= 64) {',
  ),
  flaw(
    'header-cut',
    'a header that comes in three pieces is put together wrongly',
    ['session'],
    SESSION,
    'chunk.copy(this.#headerBytes, this.#headerFilled, at, at + taken);',
    'chunk.copy(this.#headerBytes, Math.min(this.#headerFilled, 24), at, at + taken);',
  ),
  flaw(
    'selection-sticks',
    'a BLOCK_STATUS that names contexts counts for the next one too',
    ['session'],
    SESSION,
    'this.#asked = this.#contexts;\n      if (request.contexts',
    'if (request.contexts',
  ),
  flaw(
    'partial-write-leaks',
    'room of a WRITE that broke off is never given back',
    ['session'],
    SESSION,
    'if (this.#writing === null) return;\n    this.#release(this.#writing);',
    'if (this.#writing === null) return;',
  ),
  flaw(
    'in-flight-unbounded',
    'a host may have any number of requests in flight',
    ['session'],
    SESSION,
    'if (this.#inFlight >= this.#inFlightMax || !',
    'if (!',
  ),
  flaw(
    'wire-unbounded',
    'replies pile up for a host that takes none',
    ['session'],
    SESSION,
    ' || !this.#memory.admits(this.#heldBytes, cost, isLargeRead(header.command, cost))) return false;',
    ') return false;',
  ),
  flaw(
    'reply-slab-reused',
    'replies are written over others that the wire still holds',
    ['session'],
    OUTBOX,
    'if (wire.queuedBytes === 0) this.#used = this.#partStart = 0;',
    'this.#used = this.#partStart = 0;',
  ),
  flaw(
    'never-resumes',
    'a session that stalled is not read on',
    ['session', 'connection'],
    SESSION,
    'if (this.#stalled && !this.#wireFull && !this.#resting) this.#readOn();',
    'if (this.#stalled && !this.#wireFull && !this.#resting && this.#inFlight > 0) this.#readOn();',
  ),
  flaw(
    'turns-without-end',
    'a session that is ending takes turns for ever',
    ['session'],
    SESSION,
    'if (this.#phase === PHASE.CLOSING && this.#inFlight === 0',
    'if (this.#phase === PHASE.CLOSING) this.#queueTurn();\n    if (this.#phase === PHASE.CLOSING && this.#inFlight === 0',
  ),
  flaw(
    'detached-twice',
    'an export is let go of twice',
    ['connection'],
    CONNECTION,
    'this.#attachment = null;\n    attachment?.detach();',
    'attachment?.detach();\n    if (this.#shuttingDown) attachment?.detach();\n    this.#attachment = null;',
  ),
  flaw(
    'ack-with-data',
    'a server may acknowledge with data',
    ['client-handshake'],
    CLIENT,
    'if (type === OPTION_REPLY.ACK && length > 0) return',
    'if (type === OPTION_REPLY.ACK && length > 4) return',
  ),
  flaw(
    'replies-unbounded',
    'a server may answer without end',
    ['client-handshake'],
    CLIENT,
    'if (this.#replies > REPLIES_PER_OPTION_MAX)',
    'if (this.#replies < 0)',
  ),
  flaw(
    'block-sizes-unchecked',
    'a maximum payload may be no multiple of the block',
    ['client-handshake'],
    CLIENT,
    '(maximum !== 0xffffffff && maximum % block.minimum !== 0)',
    'maximum === 0',
  ),
  flaw(
    'overlap-unnoticed',
    'two data chunks of a reply may overlap',
    ['reply-reader'],
    COVERAGE,
    'if (at < bounds.length && bounds[at] < to) return',
    'if (at < bounds.length && bounds[at] < from) return',
  ),
  flaw(
    'gap-unnoticed',
    'a read is answered with less than was asked',
    ['reply-reader'],
    READER,
    'if (slot.op === OP.READ && slot.covered !== slot.length)\n',
    'if (slot.op === OP.READ && slot.covered > slot.length)\n',
  ),
  flaw(
    'chunk-of-other',
    'data for a write is taken',
    ['reply-reader'],
    READER,
    "if (slot.op !== OP.READ) return this.#wrong('reply', 'data came",
    "if (slot.op === OP.FLUSH) return this.#wrong('reply', 'data came",
  ),
  flaw(
    'offset-not-echoed',
    'an extended reply may have the offset of another request',
    ['reply-reader'],
    READER,
    'if (this.#extended && header.offset !== slot.offset)',
    'if (this.#extended && header.offset < slot.offset)',
  ),
  flaw(
    'one-extent-too-long',
    'the one extent that was asked for may go beyond the request',
    ['reply-reader'],
    READER,
    'if (slot.one && total > slot.length)',
    'if (slot.one && total < slot.length)',
  ),
  flaw(
    'error-anywhere',
    'an error may be told of bytes behind the request',
    ['reply-reader'],
    READER,
    'if (at < slot.offset || at >= slot.offset + slot.length)',
    'if (at < slot.offset || at > slot.offset + slot.length)',
  ),
  flaw(
    'cookie-low-lost',
    'the lower half of a cookie is read from the wrong place',
    ['codec', 'reply-reader'],
    CODEC,
    'into.error = readUint32(buffer, at + 4);\n  into.cookieHigh = readUint32(buffer, at + 8);\n  into.cookieLow = readUint32(buffer, at + 12);',
    'into.error = readUint32(buffer, at + 4);\n  into.cookieHigh = readUint32(buffer, at + 8);\n  into.cookieLow = readUint32(buffer, at + 11);',
  ),
];
