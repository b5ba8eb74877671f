// The server's side of the NBD handshake: bytes in, bytes to send and the next step out. Stays in step with a client
// whatever it asks: what is unknown or malformed is drained and refused, what is too long to be honest ends the
// connection, and no more than one option is ever held. Touches no export before the client asks to use it (INFO and
// GO look it up); attaching is a step of the owner, because it may take time, and so is TLS: nothing that came before it
// counts after it.
import assert from 'node:assert/strict';
import { type HeaderStyle, readUint32, writeUint16, writeUint32 } from './codec.js';
import { HANDSHAKE_FLAG, NBD_MAGIC, OPTION, OPTION_MAGIC, OPTION_REPLY, OPTION_REPLY_MAGIC, SIZE } from './constants.js';
import type { Export } from './export.js';
import { encodeExportReply, encodeInfos, transmissionFlags } from './export-info.js';
import { Inbox } from './inbox.js';
import { contextsOf, type SelectedContext } from './meta-context.js';
import { type InfoRequest, type MetaContextRequest, parseInfoRequest, parseMetaContextRequest, parseName } from './option-data.js';

/** The most data of an option that is looked at; a longer one is drained and answered TOO_BIG. */
const OPTION_BYTES_MAX = 16 * 1024;
/** The most that is drained; a client that announces more is not waited for. */
const DRAIN_BYTES_MAX = 1024 * 1024;
const OPTIONS_MAX = 256;
/** Characters of a reason from elsewhere that a client is told, so that it stays within the protocol's 4096 bytes. */
const REASON_LENGTH_MAX = 1000;
const SHUTTING_DOWN = 'the server is shutting down';
const CLIENT_FLAGS_KNOWN = HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES;

/** What both sides agreed on when the transmission begins. */
export interface Agreement {
  export: Export;
  headers: HeaderStyle;
  /** What was selected for this export; with none there is no BLOCK_STATUS. */
  contexts: readonly SelectedContext[];
  /** What the client sent behind its last option. */
  leftover: Buffer;
}

export type ServerNext =
  /** Give what arrives next to `receive`. */
  | { kind: 'read' }
  /** Attach the export and say so with `attached`. */
  | { kind: 'attach'; name: string }
  /** Send what is to be sent, go on in TLS and say so with `secured`. */
  | { kind: 'starttls' }
  | { kind: 'transmit'; agreement: Agreement }
  /** Send what is to be sent, then close. */
  | { kind: 'close'; reason: string };

export interface ServerStep {
  send: Buffer[];
  next: ServerNext;
}

const READ: ServerNext = { kind: 'read' };

type State = 'flags' | 'option' | 'data' | 'drain' | 'attaching' | 'securing' | 'over';

/** Whether STARTTLS is to be had, and whether anything else is before it. */
export type TlsMode = 'off' | 'optional' | 'required';

/** Of the table of exports, what a client may see of it. */
export interface ExportsInSight {
  names(): string[];
  find(name: string): Export | undefined;
}

export class ServerHandshake {
  #table: ExportsInSight;
  #inbox = new Inbox();
  #state: State = 'flags';
  #send: Buffer[] = [];
  #next: ServerNext = READ;
  #fixed = false;
  #zeroes = true;
  #options = 0;
  #option = 0;
  /** Bytes of the option's data that are still to come (`drain`) or to be complete (`data`). */
  #length = 0;
  #attachInfo: InfoRequest | null = null;
  #headers: HeaderStyle = 'simple';
  /** Names of the contexts that were selected, and for which export. */
  #selected: { name: string; contexts: string[] } | null = null;
  #shuttingDown = false;
  #tlsMode: TlsMode;
  #secured = false;
  /** Why a secured client gets nothing here. */
  #refusal: string | null = null;

  constructor(table: ExportsInSight, tlsMode: TlsMode = 'off') {
    this.#table = table;
    this.#tlsMode = tlsMode;
  }

  /** The first bytes, to be sent unasked. */
  greeting(): Buffer {
    const bytes = Buffer.alloc(SIZE.GREETING);
    writeUint32(bytes, 0, NBD_MAGIC.HIGH);
    writeUint32(bytes, 4, NBD_MAGIC.LOW);
    writeUint32(bytes, 8, OPTION_MAGIC.HIGH);
    writeUint32(bytes, 12, OPTION_MAGIC.LOW);
    writeUint16(bytes, 16, HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES);
    return bytes;
  }

  /** The next option, or the one that waits for its export, is the last: it is answered so, as far as it can be. */
  shutDown(): void {
    this.#shuttingDown = true;
  }

  /** While an export is being attached, what arrives is only kept: the owner should pause the wire. */
  receive(chunk: Buffer): ServerStep {
    assert(this.#state !== 'over', 'nothing is received after the last step');
    assert(this.#state !== 'securing', 'nothing is received between STARTTLS and TLS');
    this.#inbox.append(chunk);
    return this.#run();
  }

  /** The answer to an `attach` step; undefined: there is no such export. */
  attached(target: Export | undefined): ServerStep {
    assert(this.#state === 'attaching', 'attached without having been asked');
    this.#state = 'option';
    if (this.#attachInfo === null) {
      if (target === undefined) this.#close('export not known');
      else this.#send.push(encodeExportReply(target, transmissionFlags(target, this.#headers, false), this.#zeroes));
    } else if (target === undefined) this.#refuseUnknown(this.#attachInfo.name);
    else this.#acknowledgeInfo(target, this.#attachInfo);
    if (target !== undefined) this.#transmit(target);
    this.#attachInfo = null;
    return this.#run();
  }

  /** The other answer to an `attach` step: the export is there but cannot be used now, for this reason. */
  attachRefused(reason: string): ServerStep {
    assert(this.#state === 'attaching', 'refused without having been asked');
    this.#state = 'option';
    if (this.#shuttingDown) this.#refuseForGood();
    else if (this.#attachInfo === null) this.#close(`export refused: ${reason}`);
    else this.#refuse(OPTION_REPLY.ERR_POLICY, reason.slice(0, REASON_LENGTH_MAX));
    this.#attachInfo = null;
    return this.#run();
  }

  /** The answer to a `starttls` step: what comes now is encrypted. With `refusal` the client is told that, whatever it asks. */
  secured(refusal: string | null): ServerStep {
    assert(this.#state === 'securing', 'secured without having been asked');
    this.#secured = true;
    this.#refusal = refusal;
    this.#state = 'option';
    return this.#run();
  }

  #run(): ServerStep {
    while (this.#next === READ && this.#advance());
    const step = { send: this.#send, next: this.#next };
    this.#send = [];
    if (step.next.kind === 'attach' || step.next.kind === 'starttls') this.#next = READ;
    return step;
  }

  /** Understands one more piece. False: more bytes (or the owner's answer) are needed. */
  #advance(): boolean {
    const inbox = this.#inbox;
    switch (this.#state) {
      case 'flags':
        if (inbox.available < SIZE.CLIENT_FLAGS) return false;
        this.#onFlags(readUint32(inbox.take(SIZE.CLIENT_FLAGS), 0));
        return true;
      case 'option':
        if (inbox.available < SIZE.OPTION_HEADER) return false;
        this.#onOptionHeader(inbox.take(SIZE.OPTION_HEADER));
        return true;
      case 'data':
        if (inbox.available < this.#length) return false;
        this.#state = 'option';
        this.#onOption(inbox.take(this.#length));
        return true;
      case 'drain':
        return this.#drain();
      default:
        return false;
    }
  }

  #onFlags(flags: number): void {
    this.#fixed = (flags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) !== 0;
    this.#zeroes = (flags & HANDSHAKE_FLAG.NO_ZEROES) === 0;
    this.#state = 'option';
    if ((flags & ~CLIENT_FLAGS_KNOWN) !== 0) this.#close(`unknown client flags 0x${flags.toString(16)}`);
  }

  #onOptionHeader(header: Buffer): void {
    this.#option = readUint32(header, 8);
    this.#length = readUint32(header, 12);
    this.#options += 1;
    if (readUint32(header, 0) !== OPTION_MAGIC.HIGH || readUint32(header, 4) !== OPTION_MAGIC.LOW) {
      this.#close(`wrong magic ${header.toString('hex', 0, 8)} before an option`);
    } else if (this.#options > OPTIONS_MAX) {
      this.#close(`more than ${OPTIONS_MAX} options`);
    } else if (!this.#fixed && this.#option !== OPTION.EXPORT_NAME) {
      this.#close(`option ${this.#option} from a client that does not speak fixed newstyle`);
    } else if (this.#option === OPTION.ABORT) {
      this.#acknowledge();
      this.#close('the client gave up');
    } else if (this.#length <= OPTION_BYTES_MAX) {
      this.#state = 'data';
    } else if (this.#option === OPTION.EXPORT_NAME) {
      this.#close(`an export name of ${this.#length} bytes`);
    } else if (this.#length <= DRAIN_BYTES_MAX) {
      this.#state = 'drain';
    } else {
      this.#refuse(OPTION_REPLY.ERR_TOO_BIG, `${this.#length} bytes of option data are too many`);
      this.#close(`option ${this.#option} with ${this.#length} bytes of data`);
    }
  }

  #drain(): boolean {
    const drained = Math.min(this.#inbox.available, this.#length);
    this.#inbox.skip(drained);
    this.#length -= drained;
    if (this.#length > 0) return false;
    this.#state = 'option';
    if (this.#option === OPTION.SET_META_CONTEXT) this.#selected = null;
    if (this.#shuttingDown) this.#refuseForGood();
    else if (this.#isRefused()) this.#refuseAnyway();
    else if (isSupported(this.#option)) this.#refuse(OPTION_REPLY.ERR_TOO_BIG, `option data has at most ${OPTION_BYTES_MAX} bytes`);
    else this.#refuseUnsupported();
    return true;
  }

  #onOption(data: Buffer): void {
    if (this.#shuttingDown) {
      this.#refuseForGood();
      return;
    }
    if (this.#isRefused()) {
      this.#refuseAnyway();
      return;
    }
    switch (this.#option) {
      case OPTION.STARTTLS:
        this.#onStartTls(data);
        break;
      case OPTION.EXPORT_NAME:
        this.#onExportName(data);
        break;
      case OPTION.LIST:
        this.#onList(data);
        break;
      case OPTION.INFO:
      case OPTION.GO:
        this.#onInfo(data);
        break;
      case OPTION.STRUCTURED_REPLY:
        this.#onStructuredReply(data);
        break;
      case OPTION.EXTENDED_HEADERS:
        this.#onExtendedHeaders(data);
        break;
      case OPTION.LIST_META_CONTEXT:
      case OPTION.SET_META_CONTEXT:
        this.#onMetaContext(data);
        break;
      default:
        this.#refuseUnsupported();
    }
  }

  /** Does the client get nothing yet, or nothing at all? */
  #isRefused(): boolean {
    return this.#refusal !== null || (this.#tlsMode === 'required' && !this.#secured && this.#option !== OPTION.STARTTLS);
  }

  #refuseAnyway(): void {
    const reason = this.#refusal ?? 'this server wants TLS first';
    if (this.#option === OPTION.EXPORT_NAME) this.#close(`export refused: ${reason}`);
    else this.#refuse(this.#refusal === null ? OPTION_REPLY.ERR_TLS_REQD : OPTION_REPLY.ERR_POLICY, reason.slice(0, REASON_LENGTH_MAX));
  }

  /** What was agreed on in plain may be another's word: none of it is kept but the flags, which cannot be sent again. */
  #onStartTls(data: Buffer): void {
    if (data.length > 0) {
      this.#refuse(OPTION_REPLY.ERR_INVALID, 'STARTTLS takes no data');
    } else if (this.#secured) {
      this.#refuse(OPTION_REPLY.ERR_INVALID, 'TLS is there already');
    } else if (this.#tlsMode === 'off') {
      this.#refuse(OPTION_REPLY.ERR_POLICY, 'TLS is off on this server');
    } else if (this.#inbox.available > 0) {
      // An attacker could have put it there, to be taken for what the client says in TLS.
      this.#close(`${this.#inbox.available} bytes in plain behind STARTTLS`);
    } else {
      this.#headers = 'simple';
      this.#selected = null;
      this.#acknowledge();
      this.#state = 'securing';
      this.#next = { kind: 'starttls' };
    }
  }

  #onExportName(data: Buffer): void {
    const name = parseName(data);
    if (this.#headers === 'extended') this.#close('EXPORT_NAME from a client that speaks extended headers, which has to use GO');
    else if (name.flaw !== null) this.#close(name.flaw.message);
    else this.#attach(name.value, null);
  }

  #onList(data: Buffer): void {
    if (data.length > 0) {
      this.#refuse(OPTION_REPLY.ERR_INVALID, 'LIST takes no data');
      return;
    }
    for (const name of this.#table.names()) {
      const bytes = Buffer.from(name);
      const entry = Buffer.alloc(4 + bytes.length);
      writeUint32(entry, 0, bytes.length);
      bytes.copy(entry, 4);
      this.#reply(OPTION_REPLY.SERVER, entry);
    }
    this.#acknowledge();
  }

  #onInfo(data: Buffer): void {
    const request = parseInfoRequest(data);
    if (request.flaw !== null) {
      this.#refuse(request.flaw.reply, request.flaw.message);
    } else if (this.#option === OPTION.GO) {
      this.#attach(request.value.name, request.value);
    } else {
      const target = this.#table.find(request.value.name);
      if (target === undefined) this.#refuseUnknown(request.value.name);
      else this.#acknowledgeInfo(target, request.value);
    }
  }

  #onStructuredReply(data: Buffer): void {
    if (data.length > 0) {
      this.#refuse(OPTION_REPLY.ERR_INVALID, 'STRUCTURED_REPLY takes no data');
    } else if (this.#headers === 'extended') {
      this.#refuse(OPTION_REPLY.ERR_EXT_HEADER_REQD, 'extended headers are agreed on, there is no way back to structured replies');
    } else {
      this.#headers = 'structured';
      this.#acknowledge();
    }
  }

  #onExtendedHeaders(data: Buffer): void {
    if (data.length > 0) {
      this.#refuse(OPTION_REPLY.ERR_INVALID, 'EXTENDED_HEADERS takes no data');
    } else {
      this.#headers = 'extended';
      this.#acknowledge();
    }
  }

  #onMetaContext(data: Buffer): void {
    const selecting = this.#option === OPTION.SET_META_CONTEXT;
    if (selecting) this.#selected = null;
    const request = parseMetaContextRequest(data);
    if (this.#headers === 'simple') {
      this.#refuse(OPTION_REPLY.ERR_INVALID, 'metadata contexts need structured replies first');
    } else if (request.flaw !== null) {
      this.#refuse(request.flaw.reply, request.flaw.message);
    } else {
      const target = this.#table.find(request.value.name);
      if (target === undefined) this.#refuseUnknown(request.value.name);
      else this.#answerContexts(target, request.value, selecting);
    }
  }

  /** SET takes a context by its name alone; LIST takes a whole namespace too, and no query means all. */
  #answerContexts(target: Export, { name, queries }: MetaContextRequest, selecting: boolean): void {
    const contexts: string[] = [];
    for (const [context, { id }] of contextsOf(target)) {
      const named = queries.includes(context);
      const listed = queries.length === 0 || queries.includes(context.slice(0, context.indexOf(':') + 1));
      if (!named && (selecting || !listed)) continue;
      this.#replyContext(selecting ? id : 0, context);
      contexts.push(context);
    }
    if (selecting) this.#selected = { name, contexts };
    this.#acknowledge();
  }

  #replyContext(id: number, name: string): void {
    const data = Buffer.alloc(4 + name.length);
    writeUint32(data, 0, id);
    data.write(name, 4);
    this.#reply(OPTION_REPLY.META_CONTEXT, data);
  }

  #attach(name: string, info: InfoRequest | null): void {
    if (this.#selected?.name !== name) this.#selected = null;
    this.#attachInfo = info;
    this.#state = 'attaching';
    this.#next = { kind: 'attach', name };
  }

  #acknowledgeInfo(target: Export, request: InfoRequest): void {
    const selected = this.#selected?.name === request.name && this.#selected.contexts.length > 0;
    const flags = transmissionFlags(target, this.#headers, selected);
    for (const info of encodeInfos(target, flags, request.asked)) this.#reply(OPTION_REPLY.INFO, info);
    this.#acknowledge();
  }

  #transmit(target: Export): void {
    this.#state = 'over';
    const leftover = this.#inbox.take(this.#inbox.available);
    const offered = contextsOf(target);
    const contexts = (this.#selected?.contexts ?? []).flatMap((name) => offered.get(name) ?? []);
    const agreement = { export: target, headers: this.#headers, contexts, leftover };
    this.#next = { kind: 'transmit', agreement };
  }

  #close(reason: string): void {
    this.#state = 'over';
    this.#next = { kind: 'close', reason };
  }

  #acknowledge(): void {
    this.#reply(OPTION_REPLY.ACK, Buffer.alloc(0));
  }

  /** EXPORT_NAME has no answer that refuses. */
  #refuseForGood(): void {
    if (this.#option !== OPTION.EXPORT_NAME) this.#refuse(OPTION_REPLY.ERR_SHUTDOWN, SHUTTING_DOWN);
    this.#close(SHUTTING_DOWN);
  }

  #refuseUnknown(name: string): void {
    this.#refuse(OPTION_REPLY.ERR_UNKNOWN, `no export is named ${JSON.stringify(name).slice(0, 300)}`);
  }

  #refuseUnsupported(): void {
    this.#refuse(OPTION_REPLY.ERR_UNSUP, `option ${this.#option} is not supported`);
  }

  #refuse(error: number, message: string): void {
    this.#reply(error, Buffer.from(message));
  }

  #reply(type: number, data: Buffer): void {
    const header = Buffer.alloc(SIZE.OPTION_REPLY_HEADER);
    writeUint32(header, 0, OPTION_REPLY_MAGIC.HIGH);
    writeUint32(header, 4, OPTION_REPLY_MAGIC.LOW);
    writeUint32(header, 8, this.#option);
    writeUint32(header, 12, type);
    writeUint32(header, 16, data.length);
    this.#send.push(header);
    if (data.length > 0) this.#send.push(data);
  }
}

const SUPPORTED: ReadonlySet<number> = new Set([
  OPTION.EXPORT_NAME,
  OPTION.LIST,
  OPTION.STARTTLS,
  OPTION.INFO,
  OPTION.GO,
  OPTION.STRUCTURED_REPLY,
  OPTION.EXTENDED_HEADERS,
  OPTION.LIST_META_CONTEXT,
  OPTION.SET_META_CONTEXT,
]);

function isSupported(option: number): boolean {
  return SUPPORTED.has(option);
}
