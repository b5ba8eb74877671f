// What a server must answer to a client's side of a handshake, written down as plainly as possible from the protocol; shares
// nothing with the machine or its parsers. Where a server may choose its words (messages, which of several errors) so may ours.
import type { HeaderStyle } from '../../../gateway/nbd/codec.js';
import { ALL_FEATURES } from '../../support/memory-exports.js';
import { EXPORT_PLANS, type ExportPlan, LOCKED, SECRET } from '../exports.js';
import { parseInfo, parseMeta, parseText } from './option-model.js';

const [EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED] = [1, 2, 3, 5, 6, 7, 8, 9, 10, 11];
const [ACK, SERVER, INFO_REPLY, META] = [1, 2, 3, 4];
const ERROR = 2 ** 31;
const [UNSUP, POLICY, INVALID, TLS_REQD, UNKNOWN, SHUTDOWN, TOO_BIG, EXT_HEADER_REQD] = [1, 2, 3, 5, 6, 7, 9, 10].map((n) => ERROR + n);
const OPTION_BYTES_MAX = 16 * 1024;
const DRAIN_BYTES_MAX = 1024 * 1024;
const OPTIONS_MAX = 256;

export interface ExpectedOptionReply {
  option: number;
  /** Any of these. */
  types: number[];
  /** Null: a message, or whatever. */
  data: Buffer | null;
}

export interface HandshakeExpectation {
  replies: ExpectedOptionReply[];
  /** What EXPORT_NAME is answered with, behind all replies. */
  bare: Buffer | null;
  end: 'open' | 'closed' | 'transmits';
  /** It ends because something in plain was in one piece with STARTTLS. */
  injected: boolean;
  /** Where it transmits. */
  plan: ExportPlan | null;
  headers: HeaderStyle;
  contexts: { id: number; name: string }[];
  /** Bytes of the stream that the handshake used. */
  used: number;
}

interface HandshakeCircumstances {
  /** From this byte of the stream on the server is shutting down. */
  shutDownAt: number;
  tls: 'off' | 'optional' | 'required';
  /** Whoever has TLS is told that there is nothing for him. */
  refused: boolean;
  /** Where in the stream a piece of it ends: what is in one piece was sent at once. */
  pieceEnds: ReadonlySet<number>;
}

const PLAIN: HandshakeCircumstances = { shutDownAt: Number.POSITIVE_INFINITY, tls: 'off', refused: false, pieceEnds: new Set() };

export function expectHandshake(stream: Buffer, circumstances: HandshakeCircumstances = PLAIN): HandshakeExpectation {
  return new Walk(stream, circumstances).walk();
}

export function contextsOfPlan(plan: ExportPlan): { id: number; name: string }[] {
  return ['base:allocation', ...(plan.wish.contexts ?? []).map(({ name }) => name)].map((name, i) => ({ id: i + 1, name }));
}

/** The transmission flags that the protocol wants for such an export. */
function flagsOf({ wish }: ExportPlan, headers: HeaderStyle, selected: boolean): number {
  const { flush, fua, rotational, trim, zeroes, fastZero, multiConn, cache, readOnly } = { ...ALL_FEATURES, ...wish.features };
  const bits: [number, boolean][] = [
    [0, true],
    [1, readOnly],
    [2, flush],
    [3, fua],
    [4, rotational],
    [5, trim && !readOnly],
    [6, zeroes && !readOnly],
    [7, headers !== 'simple'],
    [8, multiConn],
    [10, cache],
    [11, zeroes && fastZero && !readOnly],
    [12, headers === 'extended' && selected],
  ];
  return bits.reduce((flags, [bit, on]) => flags + (on ? 2 ** bit : 0), 0);
}

function exportInfo(plan: ExportPlan, headers: HeaderStyle, selected: boolean): Buffer {
  const data = Buffer.alloc(12);
  data.writeBigUInt64BE(BigInt(plan.sizeBytes), 2);
  data.writeUInt16BE(flagsOf(plan, headers, selected), 10);
  return data;
}

function textInfo(type: number, text: string): Buffer {
  return Buffer.concat([Buffer.from([0, type]), Buffer.from(text)]);
}

function infosOf(plan: ExportPlan, headers: HeaderStyle, selected: boolean, asked: ReadonlySet<number>): Buffer[] {
  const { description, block } = plan.wish;
  const minimum = block?.minimum ?? 1;
  const maximum = Math.min(block?.maximumPayload ?? 2 ** 25, 2 ** 25);
  const infos = [exportInfo(plan, headers, selected)];
  if (asked.has(1)) infos.push(textInfo(1, plan.name));
  if (asked.has(2) && description !== undefined) infos.push(textInfo(2, description));
  if (asked.has(3) || minimum > 1 || maximum < 2 ** 25) {
    const data = Buffer.alloc(14);
    data.writeUInt16BE(3);
    data.writeUInt32BE(minimum, 2);
    data.writeUInt32BE(block?.preferred ?? 4096, 6);
    data.writeUInt32BE(maximum, 10);
    infos.push(data);
  }
  return infos;
}

type Next = 'on' | HandshakeExpectation['end'];

class Walk {
  readonly #stream: Buffer;
  readonly #circumstances: HandshakeCircumstances;
  readonly #found: HandshakeExpectation = {
    replies: [],
    bare: null,
    end: 'open',
    injected: false,
    plan: null,
    headers: 'simple',
    contexts: [],
    used: 0,
  };
  #at = 0;
  #option = 0;
  #options = 0;
  #fixed = false;
  #zeroes = false;
  #secured = false;
  #selected: { name: string; contexts: { id: number; name: string }[] } | null = null;

  constructor(stream: Buffer, circumstances: HandshakeCircumstances) {
    this.#stream = stream;
    this.#circumstances = circumstances;
  }

  walk(): HandshakeExpectation {
    const flags = this.#take(4);
    let next: Next = flags === null ? 'open' : this.#flags(flags.readUInt32BE());
    while (next === 'on') next = this.#message();
    return Object.assign(this.#found, { end: next, used: this.#at });
  }

  /** Where what was taken ends, the server was shutting down. */
  get #shuttingDown(): boolean {
    return this.#at > this.#circumstances.shutDownAt;
  }

  /** What the client may know of. */
  get #plans(): readonly ExportPlan[] {
    const all = this.#secured || this.#circumstances.tls === 'off';
    return EXPORT_PLANS.filter(({ name }) => all || name !== SECRET);
  }

  #find(wanted: string | null | undefined): ExportPlan | undefined {
    return this.#plans.find(({ name }) => name === wanted);
  }

  /** The error that whatever is asked now gets; null: it is answered. */
  get #barred(): number | null {
    if (this.#secured) return this.#circumstances.refused ? POLICY : null;
    return this.#circumstances.tls === 'required' && this.#option !== STARTTLS ? TLS_REQD : null;
  }

  #bar(error: number): Next {
    if (this.#option === EXPORT_NAME) return 'closed';
    this.#reply(error);
    return 'on';
  }

  #startTls(length: number): Next {
    if (length > 0 || this.#secured || this.#circumstances.tls === 'off') {
      this.#reply(UNSUP, POLICY, INVALID);
      return 'on';
    }
    if (!this.#circumstances.pieceEnds.has(this.#at)) {
      this.#found.injected = true;
      return 'closed';
    }
    this.#reply(ACK);
    this.#secured = true;
    this.#found.headers = 'simple';
    this.#selected = null;
    return 'on';
  }

  #flags(flags: number): Next {
    this.#fixed = flags % 2 === 1;
    this.#zeroes = (flags & 2) === 0;
    return flags > 3 ? 'closed' : 'on';
  }

  #message(): Next {
    const head = this.#take(16);
    if (head === null) return 'open';
    this.#option = head.readUInt32BE(8);
    const length = head.readUInt32BE(12);
    this.#options += 1;
    if (head.toString('latin1', 0, 8) !== 'IHAVEOPT' || this.#options > OPTIONS_MAX) return 'closed';
    if (!this.#fixed && this.#option !== EXPORT_NAME) return 'closed';
    if (this.#option === ABORT) {
      this.#reply(ACK);
      return 'closed';
    }
    if (length > OPTION_BYTES_MAX) return this.#tooLong(length);
    const data = this.#take(length);
    if (data === null) return 'open';
    if (this.#shuttingDown) return this.#shutDown();
    return this.#answer(data);
  }

  #tooLong(length: number): Next {
    if (this.#option === EXPORT_NAME) return 'closed';
    if (length > DRAIN_BYTES_MAX) {
      this.#reply(TOO_BIG);
      return 'closed';
    }
    if (this.#take(length) === null) return 'open';
    if (this.#option === SET_META) this.#selected = null;
    if (this.#shuttingDown) return this.#shutDown();
    if (this.#barred !== null) return this.#bar(this.#barred);
    const known = [LIST, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED].includes(this.#option);
    this.#reply(...(known ? [TOO_BIG] : this.#option === STARTTLS ? [TOO_BIG, UNSUP, POLICY, INVALID] : [UNSUP]));
    return 'on';
  }

  #shutDown(): Next {
    if (this.#option !== EXPORT_NAME) this.#reply(SHUTDOWN);
    return 'closed';
  }

  #answer(data: Buffer): Next {
    if (this.#barred !== null) return this.#bar(this.#barred);
    switch (this.#option) {
      case EXPORT_NAME:
        return this.#exportName(data);
      case LIST:
        return this.#list(data);
      case INFO:
      case GO:
        return this.#info(data);
      case STRUCTURED:
        if (data.length > 0) this.#reply(INVALID);
        else if (this.#found.headers === 'extended') this.#reply(EXT_HEADER_REQD);
        else {
          this.#found.headers = 'structured';
          this.#reply(ACK);
        }
        return 'on';
      case EXTENDED:
        if (data.length === 0) this.#found.headers = 'extended';
        this.#reply(data.length === 0 ? ACK : INVALID);
        return 'on';
      case LIST_META:
      case SET_META:
        return this.#meta(data);
      case STARTTLS:
        return this.#startTls(data.length);
      default:
        this.#reply(UNSUP);
        return 'on';
    }
  }

  #exportName(data: Buffer): Next {
    const plan = this.#find(parseText(data));
    if (this.#found.headers === 'extended' || plan === undefined || plan.name === LOCKED) return 'closed';
    const info = exportInfo(plan, this.#found.headers, false);
    this.#found.bare = Buffer.concat([info.subarray(2), Buffer.alloc(this.#zeroes ? 124 : 0)]);
    return this.#transmit(plan);
  }

  #list(data: Buffer): Next {
    if (data.length > 0) {
      this.#reply(INVALID);
      return 'on';
    }
    for (const name of this.#plans.map((plan) => plan.name).sort()) {
      const bytes = Buffer.from(name);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      this.#replyWith(SERVER, Buffer.concat([length, bytes]));
    }
    this.#reply(ACK);
    return 'on';
  }

  #info(data: Buffer): Next {
    const request = parseInfo(data);
    const plan = this.#find(request?.name);
    if (request === null) this.#reply(INVALID, TOO_BIG);
    else if (plan === undefined) this.#reply(UNKNOWN);
    else if (this.#option === GO && plan.name === LOCKED) {
      if (this.#selected?.name !== LOCKED) this.#selected = null;
      this.#reply(POLICY);
    } else {
      const selected = this.#selected?.name === plan.name && this.#selected.contexts.length > 0;
      for (const info of infosOf(plan, this.#found.headers, selected, request.asked)) this.#replyWith(INFO_REPLY, info);
      this.#reply(ACK);
      if (this.#option === GO) return this.#transmit(plan);
    }
    if (this.#option === GO && request !== null && this.#selected?.name !== request.name) this.#selected = null;
    return 'on';
  }

  #meta(data: Buffer): Next {
    const selecting = this.#option === SET_META;
    if (selecting) this.#selected = null;
    const request = parseMeta(data);
    const plan = this.#find(request?.name);
    if (this.#found.headers === 'simple') this.#reply(INVALID);
    else if (request === null) this.#reply(INVALID, TOO_BIG);
    else if (plan === undefined) this.#reply(UNKNOWN);
    else {
      const chosen = contextsOfPlan(plan).filter(({ name }) => {
        const whole = !selecting && (request.queries.length === 0 || request.queries.includes(name.replace(/[^:]*$/, '')));
        return whole || request.queries.includes(name);
      });
      for (const { id, name } of chosen) {
        const head = Buffer.alloc(4);
        head.writeUInt32BE(selecting ? id : 0);
        this.#replyWith(META, Buffer.concat([head, Buffer.from(name)]));
      }
      this.#reply(ACK);
      if (selecting) this.#selected = { name: request.name, contexts: chosen };
    }
    return 'on';
  }

  #transmit(plan: ExportPlan): Next {
    this.#found.plan = plan;
    this.#found.contexts = this.#selected?.name === plan.name ? this.#selected.contexts : [];
    return 'transmits';
  }

  #reply(...types: number[]): void {
    const data = types[0] === ACK ? Buffer.alloc(0) : null;
    this.#found.replies.push({ option: this.#option, types, data });
  }

  #replyWith(type: number, data: Buffer): void {
    this.#found.replies.push({ option: this.#option, types: [type], data });
  }

  #take(length: number): Buffer | null {
    const end = this.#at + length;
    if (end > this.#stream.length) return null;
    const taken = this.#stream.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}
