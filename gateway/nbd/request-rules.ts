// The one validator of a host's requests, before anything is dispatched: what an attached export takes, and why a
// request is refused. Nothing behind it checks again. Lets through exactly what `export-info.ts` announces.
import type { HeaderStyle, RequestHeader } from './codec.js';
import { COMMAND, COMMAND_FLAG } from './constants.js';
import type { Export } from './export.js';
import { payloadBytesMax } from './export-info.js';
import { REFUSAL, type Refusal } from './refusal.js';

const COMMANDS = 8;
const TWO_64 = 2 ** 64;

/** What an attached export takes: computed once a session. */
export class RequestRules {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly payloadBytesMax: number;
  readonly readOnly: boolean;
  /** Per command: the flags it takes. */
  readonly flags = new Uint16Array(COMMANDS);
  /** Per command: those it cannot do without. */
  readonly neededFlags = new Uint16Array(COMMANDS);
  /** Per command: why it is not to be had at all; null where it is. */
  readonly missing: (Refusal | null)[];

  constructor(target: Export, headers: HeaderStyle, blockStatus: boolean) {
    const { features } = target;
    this.sizeBytes = target.sizeBytes;
    this.blockBytes = target.block.minimum;
    this.payloadBytesMax = payloadBytesMax(target);
    this.readOnly = features.readOnly;
    this.flags.fill(features.fua ? COMMAND_FLAG.FUA : 0);
    if (headers !== 'simple') this.flags[COMMAND.READ] |= COMMAND_FLAG.DF;
    if (headers === 'extended') this.neededFlags[COMMAND.WRITE] = COMMAND_FLAG.PAYLOAD_LEN;
    this.flags[COMMAND.WRITE] |= this.neededFlags[COMMAND.WRITE];
    this.flags[COMMAND.WRITE_ZEROES] |= COMMAND_FLAG.NO_HOLE | (features.fastZero ? COMMAND_FLAG.FAST_ZERO : 0);
    this.flags[COMMAND.BLOCK_STATUS] |= COMMAND_FLAG.REQ_ONE;
    this.missing = new Array(COMMANDS).fill(null);
    if (!features.flush) this.missing[COMMAND.FLUSH] = REFUSAL.notOffered;
    if (!features.trim) this.missing[COMMAND.TRIM] = REFUSAL.notOffered;
    if (!features.cache) this.missing[COMMAND.CACHE] = REFUSAL.notOffered;
    if (!features.zeroes) this.missing[COMMAND.WRITE_ZEROES] = REFUSAL.notOffered;
    if (!blockStatus) this.missing[COMMAND.BLOCK_STATUS] = REFUSAL.noContext;
  }
}

/** Null: the request may be carried out (a length of zero needs nothing done). DISC never comes here. */
export function validateRequest(request: RequestHeader, rules: RequestRules): Refusal | null {
  const { command, offset, length } = request;
  if (command >= COMMANDS) return REFUSAL.unknownCommand;
  const changes = command === COMMAND.WRITE || command === COMMAND.TRIM || command === COMMAND.WRITE_ZEROES;
  if (changes && rules.readOnly) return REFUSAL.readOnly;
  if (rules.missing[command] !== null) return rules.missing[command];
  if ((request.flags & ~rules.flags[command]) !== 0) return REFUSAL.badFlags;
  if ((request.flags & rules.neededFlags[command]) !== rules.neededFlags[command]) return REFUSAL.noPayload;
  if (command === COMMAND.FLUSH) return null;
  if (offset + length > rules.sizeBytes) {
    const noSpace = command === COMMAND.WRITE || command === COMMAND.WRITE_ZEROES;
    return noSpace && offset + length < TWO_64 ? REFUSAL.noSpace : REFUSAL.pastEnd;
  }
  if ((command === COMMAND.READ || command === COMMAND.WRITE) && length > rules.payloadBytesMax) return REFUSAL.tooLong;
  if (rules.blockBytes > 1 && (offset % rules.blockBytes !== 0 || length % rules.blockBytes !== 0)) return REFUSAL.unaligned;
  return null;
}
