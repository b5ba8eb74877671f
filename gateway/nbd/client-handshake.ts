// The client's side of the NBD handshake, for our connections to storage nodes: bytes in, bytes to send and an
// outcome out. Asks for all a node may have and takes what it gives: NO_ZEROES, structured replies, base:allocation,
// block sizes, and EXPORT_NAME where GO is unknown. Trusts nothing: each reply is checked and every length is bounded.
import assert from 'node:assert/strict';
import { type Outcome, refuse } from '../control.js';
import { readUint16, readUint32, readUint64, writeUint16, writeUint32 } from './codec.js';
import {
  BASE_ALLOCATION,
  DEFAULT_PAYLOAD_BYTES_MAX,
  EXPORT_FLAG,
  HANDSHAKE_FLAG,
  INFO,
  NBD_MAGIC,
  OLDSTYLE_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_ERROR_BIT,
  OPTION_REPLY_MAGIC,
  SIZE,
  STRING_BYTES_MAX,
} from './constants.js';
import { Inbox } from './inbox.js';

/** A reply longer than this is no reply of a sane server: names and messages have at most 4096 bytes. */
const REPLY_BYTES_MAX = 2 * STRING_BYTES_MAX;
/** Replies to one option, before the one that ends it. */
const REPLIES_PER_OPTION_MAX = 64;

export interface ClientWishes {
  exportName: string;
  /** Structured replies and with them base:allocation; default true. */
  structured?: boolean;
  /** STARTTLS before anything else, and nothing without it. Default false. */
  tls?: boolean;
}

export interface Negotiated {
  sizeBytes: number;
  /** The export's transmission flags, bits of EXPORT_FLAG. */
  flags: number;
  structured: boolean;
  /** The id BLOCK_STATUS chunks carry for base:allocation; null: the server has no such context. */
  metaContextId: number | null;
  /** As announced, else 1 / 4096 / 32 MiB. */
  block: { minimum: number; preferred: number; maximumPayload: number };
  /** What came after the handshake's last byte. */
  leftover: Buffer;
}

/**
 * Codes of a refusal: `export-unknown`, `tls-required`, `tls-refused` (we want TLS and the server does not), `policy`, `shutting-down`, `block-size-required`, `refused`
 * (the server said no), `not-nbd`, `protocol-error` (the server broke the protocol).
 */
export interface ClientStep {
  /** To be sent now, in this order; also when the handshake has failed (a parting ABORT). */
  send: Buffer[];
  /** Null while the handshake goes on. Nothing may be received after it. */
  outcome: Outcome<Negotiated> | null;
  /** Go on in TLS and say so with `secured`; nothing may be received before. */
  starttls?: true;
}

type State = 'greeting' | 'option' | 'securing' | 'export-name' | 'over';

export class ClientHandshake {
  #inbox = new Inbox();
  #wishes: ClientWishes;
  #name: Buffer;
  #state: State = 'greeting';
  /** The option that is being answered, while in state `option`. */
  #option = 0;
  #replies = 0;
  #zeroes = true;
  #send: Buffer[] = [];
  #outcome: Outcome<Negotiated> | null = null;
  #structured = false;
  #metaContextId: number | null = null;
  #export: { sizeBytes: number; flags: number } | null = null;
  #block = { minimum: 1, preferred: 4096, maximumPayload: DEFAULT_PAYLOAD_BYTES_MAX };

  constructor(wishes: ClientWishes) {
    this.#wishes = wishes;
    this.#name = Buffer.from(wishes.exportName);
    assert(this.#name.length <= STRING_BYTES_MAX, 'an export name has at most 4096 bytes');
  }

  receive(chunk: Buffer): ClientStep {
    assert(this.#state !== 'over', 'nothing is received after the outcome');
    assert(this.#state !== 'securing', 'nothing is received between STARTTLS and TLS');
    this.#inbox.append(chunk);
    while (this.#outcome === null && this.#advance());
    return this.#step();
  }

  /** The answer to a `starttls` step. */
  secured(): ClientStep {
    assert(this.#state === 'securing', 'secured without having been asked');
    this.#askFirst();
    return this.#step();
  }

  #step(): ClientStep {
    const step: ClientStep = { send: this.#send, outcome: this.#outcome };
    if (this.#state === 'securing' && this.#outcome === null) step.starttls = true;
    this.#send = [];
    if (this.#outcome !== null) this.#state = 'over';
    return step;
  }

  /** Understands one more message. False: more bytes are needed. */
  #advance(): boolean {
    switch (this.#state) {
      case 'greeting':
        return this.#takeGreeting();
      case 'option':
        return this.#takeOptionReply();
      case 'export-name':
        return this.#takeExportReply();
      default:
        return false;
    }
  }

  #takeGreeting(): boolean {
    const inbox = this.#inbox;
    if (inbox.available < 16) return false;
    const magics = inbox.peek(16);
    if (readUint32(magics, 0) !== NBD_MAGIC.HIGH || readUint32(magics, 4) !== NBD_MAGIC.LOW) {
      return this.#fail('not-nbd', `wrong magic ${magics.toString('hex', 0, 8)}: not an NBD server`);
    }
    if (readUint32(magics, 8) === OLDSTYLE_MAGIC.HIGH && readUint32(magics, 12) === OLDSTYLE_MAGIC.LOW) {
      return this.#fail('not-nbd', 'the server speaks the old style handshake, which is not supported');
    }
    if (readUint32(magics, 8) !== OPTION_MAGIC.HIGH || readUint32(magics, 12) !== OPTION_MAGIC.LOW) {
      return this.#fail('not-nbd', `wrong magic ${magics.toString('hex', 8, 16)} in the greeting`);
    }
    if (inbox.available < SIZE.GREETING) return false;
    const flags = readUint16(inbox.take(SIZE.GREETING), 16);
    const fixed = (flags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) !== 0;
    this.#zeroes = (flags & HANDSHAKE_FLAG.NO_ZEROES) === 0;
    const answer = Buffer.alloc(SIZE.CLIENT_FLAGS);
    writeUint32(answer, 0, flags & (HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES));
    this.#send.push(answer);
    if (this.#wishes.tls && !fixed) return this.#fail('tls-refused', 'the server is too old for TLS, and without it nothing is said');
    if (this.#wishes.tls) this.#ask(OPTION.STARTTLS, Buffer.alloc(0));
    else if (!fixed) this.#askExportName();
    else this.#askFirst();
    return true;
  }

  #askFirst(): void {
    if (this.#wishes.structured ?? true) this.#ask(OPTION.STRUCTURED_REPLY, Buffer.alloc(0));
    else this.#askGo();
  }

  #onStartTls(type: number, data: Buffer): boolean {
    if (isErrorReply(type)) {
      const said = data.length > 0 ? ` (the server says: ${data.toString('utf8').slice(0, 200)})` : '';
      return this.#fail('tls-refused', `the server does not speak TLS, and without it nothing is said${said}`);
    }
    if (type !== OPTION_REPLY.ACK) return this.#failUnexpected(type);
    // An attacker could have put it there, to be taken for what the server says in TLS.
    if (this.#inbox.available > 0)
      return this.#fail('protocol-error', `${this.#inbox.available} bytes in plain behind the answer to STARTTLS`);
    this.#state = 'securing';
    return false;
  }

  #takeOptionReply(): boolean {
    const inbox = this.#inbox;
    if (inbox.available < SIZE.OPTION_REPLY_HEADER) return false;
    const header = inbox.peek(SIZE.OPTION_REPLY_HEADER);
    if (readUint32(header, 0) !== OPTION_REPLY_MAGIC.HIGH || readUint32(header, 4) !== OPTION_REPLY_MAGIC.LOW) {
      return this.#fail('protocol-error', `wrong magic ${header.toString('hex', 0, 8)} in an option reply`);
    }
    const option = readUint32(header, 8);
    if (option !== this.#option) return this.#fail('protocol-error', `an answer to option ${option}, but ${this.#option} was asked`);
    const length = readUint32(header, 16);
    if (length > REPLY_BYTES_MAX) return this.#fail('protocol-error', `an option reply of ${length} bytes`);
    if (inbox.available < SIZE.OPTION_REPLY_HEADER + length) return false;
    const type = readUint32(header, 12);
    inbox.skip(SIZE.OPTION_REPLY_HEADER);
    const data = inbox.take(length);
    this.#replies += 1;
    if (this.#replies > REPLIES_PER_OPTION_MAX)
      return this.#fail('protocol-error', `more than ${REPLIES_PER_OPTION_MAX} replies to one option`);
    if (type === OPTION_REPLY.ACK && length > 0) return this.#fail('protocol-error', `an ACK with ${length} bytes of data`);
    if (option === OPTION.STARTTLS) return this.#onStartTls(type, data);
    if (option === OPTION.STRUCTURED_REPLY) return this.#onStructuredReply(type, data);
    if (option === OPTION.SET_META_CONTEXT) return this.#onMetaContext(type, data);
    return this.#onGo(type, data);
  }

  #onStructuredReply(type: number, data: Buffer): boolean {
    if (type === OPTION_REPLY.ACK) {
      this.#structured = true;
      this.#ask(OPTION.SET_META_CONTEXT, this.#metaContextQuery());
      return true;
    }
    if (type === OPTION_REPLY.ERR_TLS_REQD || type === OPTION_REPLY.ERR_SHUTDOWN) return this.#failByReply(type, data);
    if (!isErrorReply(type)) return this.#failUnexpected(type);
    this.#askGo();
    return true;
  }

  #onMetaContext(type: number, data: Buffer): boolean {
    if (type === OPTION_REPLY.META_CONTEXT) {
      if (data.length < 4 || data.toString('utf8', 4) !== BASE_ALLOCATION) {
        return this.#fail('protocol-error', 'a metadata context that was not asked for');
      }
      if (this.#metaContextId !== null) return this.#fail('protocol-error', `${BASE_ALLOCATION} answered twice`);
      this.#metaContextId = readUint32(data, 0);
      return true;
    }
    if (type === OPTION_REPLY.ERR_SHUTDOWN) return this.#failByReply(type, data);
    if (isErrorReply(type)) this.#metaContextId = null;
    else if (type !== OPTION_REPLY.ACK) return this.#failUnexpected(type);
    this.#askGo();
    return true;
  }

  #onGo(type: number, data: Buffer): boolean {
    if (type === OPTION_REPLY.INFO) return this.#onInfo(data);
    if (type === OPTION_REPLY.ERR_UNSUP) {
      this.#askExportName();
      return true;
    }
    if (isErrorReply(type)) return this.#failByReply(type, data);
    if (type !== OPTION_REPLY.ACK) return this.#failUnexpected(type);
    if (this.#export === null) return this.#fail('protocol-error', 'GO was acknowledged without the export being described');
    return this.#succeed(this.#export.sizeBytes, this.#export.flags);
  }

  #onInfo(data: Buffer): boolean {
    if (data.length < 2) return this.#fail('protocol-error', 'an INFO reply without a type');
    const info = readUint16(data, 0);
    if (info === INFO.EXPORT) {
      if (data.length !== 12) return this.#fail('protocol-error', `an export described in ${data.length} bytes instead of 12`);
      this.#export = { sizeBytes: readUint64(data, 2), flags: readUint16(data, 10) };
    } else if (info === INFO.BLOCK_SIZE) {
      if (data.length !== 14) return this.#fail('protocol-error', `block sizes in ${data.length} bytes instead of 14`);
      this.#block = { minimum: readUint32(data, 2), preferred: readUint32(data, 6), maximumPayload: readUint32(data, 10) };
      const flaw = findBlockFlaw(this.#block);
      if (flaw !== null) return this.#fail('protocol-error', flaw);
    }
    return true;
  }

  #takeExportReply(): boolean {
    const length = SIZE.EXPORT_REPLY + (this.#zeroes ? SIZE.EXPORT_REPLY_ZEROES : 0);
    if (this.#inbox.available < length) return false;
    const reply = this.#inbox.take(length);
    return this.#succeed(readUint64(reply, 0), readUint16(reply, 8));
  }

  #askExportName(): void {
    this.#ask(OPTION.EXPORT_NAME, this.#name);
    this.#state = 'export-name';
  }

  #askGo(): void {
    const data = Buffer.alloc(4 + this.#name.length + 4);
    writeUint32(data, 0, this.#name.length);
    this.#name.copy(data, 4);
    writeUint16(data, 4 + this.#name.length, 1);
    writeUint16(data, 6 + this.#name.length, INFO.BLOCK_SIZE);
    this.#ask(OPTION.GO, data);
  }

  #metaContextQuery(): Buffer {
    const query = Buffer.from(BASE_ALLOCATION);
    const data = Buffer.alloc(4 + this.#name.length + 8 + query.length);
    writeUint32(data, 0, this.#name.length);
    this.#name.copy(data, 4);
    writeUint32(data, 4 + this.#name.length, 1);
    writeUint32(data, 8 + this.#name.length, query.length);
    query.copy(data, 12 + this.#name.length);
    return data;
  }

  #ask(option: number, data: Buffer): void {
    const message = Buffer.alloc(SIZE.OPTION_HEADER + data.length);
    writeUint32(message, 0, OPTION_MAGIC.HIGH);
    writeUint32(message, 4, OPTION_MAGIC.LOW);
    writeUint32(message, 8, option);
    writeUint32(message, 12, data.length);
    data.copy(message, SIZE.OPTION_HEADER);
    this.#send.push(message);
    this.#option = option;
    this.#replies = 0;
    this.#state = 'option';
  }

  #succeed(sizeBytes: number, flags: number): boolean {
    if (!Number.isSafeInteger(sizeBytes))
      return this.#fail('protocol-error', `an export of ${sizeBytes} bytes is more than can be addressed`);
    if ((flags & EXPORT_FLAG.HAS_FLAGS) === 0) return this.#fail('protocol-error', 'the transmission flags lack HAS_FLAGS');
    this.#outcome = {
      ok: true,
      value: {
        sizeBytes,
        flags,
        structured: this.#structured,
        metaContextId: this.#metaContextId,
        block: this.#block,
        leftover: this.#inbox.take(this.#inbox.available),
      },
    };
    return false;
  }

  /** Always false, so that callers may return it: nothing more is to be understood. */
  #fail(code: string, message: string): boolean {
    if (this.#state === 'option') this.#ask(OPTION.ABORT, Buffer.alloc(0));
    this.#outcome = refuse(code, message);
    return false;
  }

  #failUnexpected(type: number): boolean {
    return this.#fail('protocol-error', `reply type ${type} does not belong to option ${this.#option}`);
  }

  #failByReply(type: number, data: Buffer): boolean {
    const said = data.length > 0 ? ` (the server says: ${data.toString('utf8').slice(0, 200)})` : '';
    const name = JSON.stringify(this.#wishes.exportName);
    switch (type) {
      case OPTION_REPLY.ERR_UNKNOWN:
        return this.#fail('export-unknown', `export not known: ${name}${said}`);
      case OPTION_REPLY.ERR_TLS_REQD:
        return this.#fail('tls-required', `the server requires TLS${said}`);
      case OPTION_REPLY.ERR_POLICY:
        return this.#fail('policy', `the server does not let us use export ${name}${said}`);
      case OPTION_REPLY.ERR_SHUTDOWN:
        return this.#fail('shutting-down', `the server is shutting down${said}`);
      case OPTION_REPLY.ERR_BLOCK_SIZE_REQD:
        return this.#fail('block-size-required', `the server insists on a block size for export ${name}${said}`);
      default:
        return this.#fail('refused', `export ${name} was refused with error ${type - OPTION_REPLY_ERROR_BIT}${said}`);
    }
  }
}

function isErrorReply(type: number): boolean {
  return type >= OPTION_REPLY_ERROR_BIT;
}

function findBlockFlaw(block: { minimum: number; preferred: number; maximumPayload: number }): string | null {
  if (!isPowerOfTwo(block.minimum)) return `a minimum block size of ${block.minimum} is no power of two`;
  if (!isPowerOfTwo(block.preferred) || block.preferred < block.minimum) {
    return `a preferred block size of ${block.preferred} is no power of two of at least ${block.minimum}`;
  }
  const maximum = block.maximumPayload;
  if (maximum < block.minimum || (maximum !== 0xffffffff && maximum % block.minimum !== 0)) {
    return `a maximum payload of ${maximum} bytes is no multiple of the minimum block size ${block.minimum}`;
  }
  return null;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}
