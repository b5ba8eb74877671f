// What a session must answer, written down as plainly as possible: the stream is walked with Node's own readers and BigInt,
// and shares nothing with the codec, the rules or the session. Says too where the stream stops to make sense.
import type { HeaderStyle } from '../../../gateway/nbd/codec.js';
import { ALL_FEATURES } from '../../support/memory-exports.js';
import { type ExportPlan, failureAt, statusRuns } from '../exports.js';

export const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
export const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN] = [1, 2, 4, 8, 16, 32];
const DEFAULT_PAYLOAD_MAX = 32n * 2n ** 20n;

/** What the rules look at. */
export interface ModelExport {
  sizeBytes: bigint;
  blockBytes: bigint;
  payloadMax: bigint;
  features: typeof ALL_FEATURES;
  headers: HeaderStyle;
  /** Some metadata context was selected. */
  contexts: boolean;
}

export function modelOf({ sizeBytes, wish }: ExportPlan, headers: HeaderStyle, contexts: boolean): ModelExport {
  const announced = BigInt(wish.block?.maximumPayload ?? 2 ** 25);
  return {
    sizeBytes: BigInt(sizeBytes),
    blockBytes: BigInt(wish.block?.minimum ?? 1),
    payloadMax: announced < DEFAULT_PAYLOAD_MAX ? announced : DEFAULT_PAYLOAD_MAX,
    features: { ...ALL_FEATURES, ...wish.features },
    headers,
    contexts,
  };
}

/** The errors one of which such a request must get; [0]: it is a good one. */
export function expectedErrnos(
  { command, flags, offset, length }: { command: number; flags: number; offset: bigint; length: bigint },
  { sizeBytes, blockBytes, payloadMax, features, headers, contexts }: ModelExport,
): number[] {
  const fua = features.fua ? FUA : 0;
  const offered = new Map([
    [READ, headers === 'simple' ? fua : fua | DF],
    [WRITE, headers === 'extended' ? fua | PAYLOAD_LEN : fua],
    ...(features.flush ? ([[FLUSH, fua]] as const) : []),
    ...(features.trim ? ([[TRIM, fua]] as const) : []),
    ...(features.cache ? ([[CACHE, fua]] as const) : []),
    ...(features.zeroes ? ([[ZEROES, fua | NO_HOLE | (features.fastZero ? FAST_ZERO : 0)]] as const) : []),
    ...(contexts ? ([[STATUS, fua | REQ_ONE]] as const) : []),
  ]);
  if (features.readOnly && (command === WRITE || command === TRIM || command === ZEROES)) return [1];
  const allowed = offered.get(command);
  if (allowed === undefined || (flags & ~allowed) !== 0) return [22];
  if (command === WRITE && headers === 'extended' && (flags & PAYLOAD_LEN) === 0) return [22];
  if (command === FLUSH) return [0];
  const end = offset + length;
  if (end > sizeBytes) {
    if (command !== WRITE && command !== ZEROES) return [22];
    // Beyond 2^64 it is no place at all; so near to it both are right.
    if (end > 2n ** 64n - 8192n && end < 2n ** 64n + 8192n) return [22, 28];
    return end < 2n ** 64n ? [28] : [22];
  }
  if ((command === READ || command === WRITE) && length > payloadMax) return [22];
  if (offset % blockBytes !== 0n || length % blockBytes !== 0n) return [22];
  return [0];
}

export interface ExpectedReply {
  command: number;
  cookie: bigint;
  offset: bigint;
  errnos: number[];
  /** It is given to the device. */
  carriedOut: boolean;
  /** READ: as many bytes; those, where they are known. */
  readBytes: number;
  data: Buffer | null;
  /** STATUS: what each context's chunk says, by its id. */
  status: { id: number; extents: { length: bigint; flags: bigint }[] }[];
}

export interface ModelContext {
  id: number;
  name: string;
}

export interface SessionExpectation {
  replies: ExpectedReply[];
  /** open: it waits for more. disconnected: DISC came. violation: it is cut off, whatever is unanswered. */
  end: 'open' | 'disconnected' | 'violation';
  contents: Buffer;
  /** Some request is done in parts, turn by turn: what comes behind it may be answered before. */
  inParts: boolean;
}

interface Request {
  command: number;
  flags: number;
  cookie: bigint;
  offset: bigint;
  length: bigint;
}

/** Of a device that completes at once and has `contents`, which change. */
export function expectSession(
  stream: Buffer,
  plan: ExportPlan,
  headers: HeaderStyle,
  contexts: readonly ModelContext[],
  fails: boolean,
): SessionExpectation {
  return new Walk(stream, plan, headers, contexts, fails).walk();
}

class Walk {
  readonly #stream: Buffer;
  readonly #model: ModelExport;
  readonly #headers: HeaderStyle;
  readonly #contexts: readonly ModelContext[];
  readonly #fails: boolean;
  readonly #contents: Buffer;
  readonly #replies: ExpectedReply[] = [];
  #at = 0;
  #inParts = false;

  constructor(stream: Buffer, plan: ExportPlan, headers: HeaderStyle, contexts: readonly ModelContext[], fails: boolean) {
    this.#stream = stream;
    this.#model = modelOf(plan, headers, contexts.length > 0);
    this.#headers = headers;
    this.#contexts = contexts;
    this.#fails = fails;
    this.#contents = Buffer.alloc(plan.keptBytes);
  }

  walk(): SessionExpectation {
    let end: SessionExpectation['end'] | null = null;
    while (end === null) end = this.#request();
    return { replies: this.#replies, end, contents: this.#contents, inParts: this.#inParts };
  }

  #request(): SessionExpectation['end'] | null {
    const extended = this.#headers === 'extended';
    const head = this.#take(extended ? 32 : 28);
    if (head === null) return 'open';
    if (head.readUInt32BE(0) !== (extended ? 0x21e41c71 : 0x25609513)) return 'violation';
    const request: Request = {
      flags: head.readUInt16BE(4),
      command: head.readUInt16BE(6),
      cookie: head.readBigUInt64BE(8),
      offset: head.readBigUInt64BE(16),
      length: extended ? head.readBigUInt64BE(24) : BigInt(head.readUInt32BE(24)),
    };
    if (request.command === DISC) return 'disconnected';
    let asked = this.#contexts;
    let carries = request.command === WRITE || (extended && (request.flags & PAYLOAD_LEN) !== 0);
    if (extended && request.command === STATUS && carries && this.#contexts.length > 0) {
      if (request.length === 0n || request.length > 264n) return this.#refuse(request, [22], true);
      const payload = this.#take(Number(request.length));
      if (payload === null) return 'open';
      const chosen = this.#selection(payload);
      if (chosen === null) return this.#refuse(request, [22], false);
      asked = chosen;
      request.length = payload.readBigUInt64BE(0);
      request.flags &= ~PAYLOAD_LEN;
      carries = false;
    }
    const errnos = expectedErrnos(request, this.#model);
    if (errnos[0] !== 0) return this.#refuse(request, errnos, carries);
    if (request.command === CACHE || (request.length === 0n && request.command !== FLUSH)) {
      this.#expect(request, [0]);
      return null;
    }
    return this.#carryOut(request, asked);
  }

  #selection(payload: Buffer): ModelContext[] | null {
    if (payload.length % 4 !== 0 || payload.length < 12) return null;
    const ids: number[] = [];
    for (let at = 8; at < payload.length; at += 4) ids.push(payload.readUInt32BE(at));
    if (new Set(ids).size !== ids.length) return null;
    const known = this.#contexts.filter(({ id }) => ids.includes(id));
    return known.length === ids.length ? known : null;
  }

  #refuse(request: Request, errnos: number[], carries: boolean): SessionExpectation['end'] | null {
    // Nobody knows whether what comes next is its payload or a request.
    const unsure = this.#headers === 'extended' && request.command === WRITE && (request.flags & PAYLOAD_LEN) === 0;
    if (unsure && request.length > 0n) return 'violation';
    if (carries && request.length > 0n) {
      if (request.length > 2n * this.#model.payloadMax) return 'violation';
      if (this.#take(Number(request.length)) === null) return 'open';
    }
    this.#expect(request, errnos);
    return null;
  }

  #carryOut(request: Request, asked: readonly ModelContext[]): SessionExpectation['end'] | null {
    const { command, flags } = request;
    const offset = command === FLUSH ? 0 : Number(request.offset);
    const length = command === FLUSH ? 0 : Number(request.length);
    if ((command === ZEROES || command === TRIM) && length > 2 ** 31) this.#inParts = true;
    const payload = command === WRITE ? this.#take(length) : null;
    if (command === WRITE && payload === null) return 'open';
    const own = command === STATUS && asked.every(({ name }) => name !== 'base:allocation');
    const errno = this.#fails && !own ? this.#deviceErrno(command, offset, length, (flags & FAST_ZERO) !== 0) : 0;
    const reply = this.#expect(request, [errno]);
    reply.carriedOut = true;
    if (errno !== 0) return null;
    if (command === READ) {
      reply.readBytes = length;
      reply.data = Buffer.concat([this.#contents.subarray(offset, offset + length)], length);
    } else if (command === WRITE) payload!.copy(this.#contents, offset);
    else if (command === ZEROES || command === TRIM)
      this.#contents.fill(0, Math.min(offset, this.#contents.length), Math.min(offset + length, this.#contents.length));
    else if (command === STATUS) {
      reply.status = asked.map(({ id, name }) => ({ id, extents: this.#extents(name, offset, length, (flags & REQ_ONE) !== 0) }));
    }
    return null;
  }

  /** A request longer than 2 GiB is done in parts, of which any may fail, all of them before one that does. */
  #deviceErrno(command: number, offset: number, length: number, fast: boolean): number {
    const op = command === FLUSH ? 2 : 0;
    let part = 0;
    do {
      const errno = failureAt(op, offset + part);
      if (errno === 27 || errno === 122) return 28;
      if (errno === 95) return fast && part === 0 ? 95 : 5;
      if (errno !== 0) return errno === 1000 ? 5 : errno;
      if (part === 0 && length > 0) this.#zeroPart(command, offset, Math.min(length, 2 ** 31));
      part += 2 ** 31;
    } while ((command === ZEROES || command === TRIM) && part < length);
    return 0;
  }

  #zeroPart(command: number, offset: number, length: number): void {
    if (command !== ZEROES && command !== TRIM) return;
    const end = Math.min(offset + length, this.#contents.length);
    if (offset < end) this.#contents.fill(0, offset, end);
  }

  #extents(name: string, offset: number, length: number, one: boolean): { length: bigint; flags: bigint }[] {
    const asked = Math.min(length, 2 ** 31);
    const extents: { length: bigint; flags: bigint }[] = [];
    let left = asked;
    for (const { lengthBytes, status } of statusRuns(name, offset, asked)) {
      const bytes = BigInt(Math.min(left, lengthBytes));
      left -= Number(bytes);
      const last = extents.at(-1);
      if (last !== undefined && last.flags === BigInt(status)) last.length += bytes;
      else extents.push({ length: bytes, flags: BigInt(status) });
    }
    return one ? extents.slice(0, 1) : extents;
  }

  #expect({ command, cookie, offset }: Request, errnos: number[]): ExpectedReply {
    const reply: ExpectedReply = { command, cookie, offset, errnos, carriedOut: false, readBytes: 0, data: null, status: [] };
    this.#replies.push(reply);
    return reply;
  }

  /** The next `length` bytes; null: they are not there, and the stream is used up. */
  #take(length: number): Buffer | null {
    const end = this.#at + length;
    if (end > this.#stream.length) {
      this.#at = this.#stream.length;
      return null;
    }
    const taken = this.#stream.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}
