// One client's session with the in-memory node: a small NBD server (fixed newstyle, simple replies) over a byte array.
// Pure: bytes in, bytes out. It judges the gateway, so it shares only the protocol's numbers with it. Requests are
// answered at once and in order; one that breaks the protocol ends the session.
import {
  decodeRequest,
  encodeSimpleReply,
  RequestHeader,
  readUint32,
  writeUint16,
  writeUint32,
  writeUint64,
} from '../gateway/nbd/codec.js';
import {
  COMMAND,
  DEFAULT_PAYLOAD_BYTES_MAX,
  EXPORT_FLAG,
  HANDSHAKE_FLAG,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  SIZE,
  STRING_BYTES_MAX,
} from '../gateway/nbd/constants.js';

const FLAGS =
  EXPORT_FLAG.HAS_FLAGS |
  EXPORT_FLAG.SEND_FLUSH |
  EXPORT_FLAG.SEND_FUA |
  EXPORT_FLAG.SEND_TRIM |
  EXPORT_FLAG.SEND_WRITE_ZEROES |
  EXPORT_FLAG.CAN_MULTI_CONN;
const EINVAL = 22;
const ENOSPC = 28;
const ENOTSUP = 95;
/** What is sent in one piece at most, before a large reply starts a piece of its own. */
const GATHER_BYTES = 256 * 1024;

export class MemorySession {
  /** The client said goodbye or broke the protocol: close once everything is sent. */
  ended = false;
  readonly #memory: Buffer;
  readonly #out: (bytes: Buffer) => void;
  #state: 'flags' | 'options' | 'transmission' = 'flags';
  #noZeroes = false;
  #pending: Buffer = Buffer.alloc(0);
  readonly #request = new RequestHeader();
  // A write whose payload is still coming: it goes straight to its place.
  #payloadAt = 0;
  #payloadLeft = 0;
  #gather = Buffer.allocUnsafeSlow(GATHER_BYTES);
  #gathered = 0;

  constructor(memory: Buffer, out: (bytes: Buffer) => void) {
    this.#memory = memory;
    this.#out = out;
    const greeting = Buffer.alloc(SIZE.GREETING);
    writeUint32(greeting, 0, NBD_MAGIC.HIGH);
    writeUint32(greeting, 4, NBD_MAGIC.LOW);
    writeUint32(greeting, 8, OPTION_MAGIC.HIGH);
    writeUint32(greeting, 12, OPTION_MAGIC.LOW);
    writeUint16(greeting, 16, HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES);
    out(greeting);
  }

  /** Takes a chunk from the client; what it answers goes out in as few pieces as possible. */
  receive(chunk: Buffer): void {
    let bytes = chunk;
    if (this.#pending.length > 0) bytes = Buffer.concat([this.#pending, chunk]);
    let at = 0;
    while (!this.ended && at < bytes.length) {
      const used = this.#advance(bytes, at);
      if (used === 0) break;
      at += used;
    }
    this.#pending = Buffer.from(bytes.subarray(at));
    this.#sendGathered();
  }

  /** Understands one more piece at `at` and returns its length; 0: more bytes are needed. */
  #advance(bytes: Buffer, at: number): number {
    if (this.#payloadLeft > 0) return this.#takePayload(bytes, at);
    if (this.#state === 'transmission') return this.#takeRequest(bytes, at);
    return this.#state === 'flags' ? this.#takeFlags(bytes, at) : this.#takeOption(bytes, at);
  }

  #takeFlags(bytes: Buffer, at: number): number {
    if (bytes.length - at < SIZE.CLIENT_FLAGS) return 0;
    this.#noZeroes = (readUint32(bytes, at) & HANDSHAKE_FLAG.NO_ZEROES) !== 0;
    this.#state = 'options';
    return SIZE.CLIENT_FLAGS;
  }

  #takeOption(bytes: Buffer, at: number): number {
    if (bytes.length - at < SIZE.OPTION_HEADER) return 0;
    const option = readUint32(bytes, at + 8);
    const length = readUint32(bytes, at + 12);
    if (length > 2 * STRING_BYTES_MAX) this.ended = true;
    if (this.ended || bytes.length - at < SIZE.OPTION_HEADER + length) return 0;
    if (option === OPTION.EXPORT_NAME) {
      const reply = Buffer.alloc(SIZE.EXPORT_REPLY + (this.#noZeroes ? 0 : SIZE.EXPORT_REPLY_ZEROES));
      writeUint64(reply, 0, this.#memory.length);
      writeUint16(reply, 8, FLAGS);
      this.#out(reply);
      this.#state = 'transmission';
    } else if (option === OPTION.GO || option === OPTION.INFO) {
      this.#describe(option);
      if (option === OPTION.GO) this.#state = 'transmission';
    } else if (option === OPTION.LIST) {
      this.#replyToOption(option, OPTION_REPLY.SERVER, Buffer.alloc(4));
      this.#replyToOption(option, OPTION_REPLY.ACK);
    } else if (option === OPTION.ABORT) {
      this.#replyToOption(option, OPTION_REPLY.ACK);
      this.ended = true;
    } else this.#replyToOption(option, OPTION_REPLY.ERR_UNSUP);
    return SIZE.OPTION_HEADER + length;
  }

  #describe(option: number): void {
    const info = Buffer.alloc(12);
    writeUint16(info, 0, INFO.EXPORT);
    writeUint64(info, 2, this.#memory.length);
    writeUint16(info, 10, FLAGS);
    this.#replyToOption(option, OPTION_REPLY.INFO, info);
    this.#replyToOption(option, OPTION_REPLY.ACK);
  }

  #replyToOption(option: number, type: number, data = Buffer.alloc(0)): void {
    const reply = Buffer.alloc(SIZE.OPTION_REPLY_HEADER + data.length);
    writeUint32(reply, 0, OPTION_REPLY_MAGIC.HIGH);
    writeUint32(reply, 4, OPTION_REPLY_MAGIC.LOW);
    writeUint32(reply, 8, option);
    writeUint32(reply, 12, type);
    writeUint32(reply, 16, data.length);
    data.copy(reply, SIZE.OPTION_REPLY_HEADER);
    this.#out(reply);
  }

  #takeRequest(bytes: Buffer, at: number): number {
    if (bytes.length - at < SIZE.REQUEST) return 0;
    const request = this.#request;
    if (!decodeRequest(bytes, at, request)) this.ended = true;
    else if (request.command === COMMAND.DISC) this.ended = true;
    else if (!this.#isInside(request)) this.#refuse(request);
    else this.#serve(request);
    return SIZE.REQUEST;
  }

  #isInside(request: RequestHeader): boolean {
    if (request.command === COMMAND.FLUSH) return true;
    const moves = request.command === COMMAND.READ || request.command === COMMAND.WRITE;
    if (moves && request.length > DEFAULT_PAYLOAD_BYTES_MAX) return false;
    return request.offset + request.length <= this.#memory.length;
  }

  #refuse(request: RequestHeader): void {
    // A refused write would leave its payload in the stream: no client of a benchmark does that.
    if (request.command === COMMAND.WRITE) this.ended = true;
    else this.#reply(request.command === COMMAND.READ ? EINVAL : ENOSPC);
  }

  #serve(request: RequestHeader): void {
    switch (request.command) {
      case COMMAND.READ:
        this.#serveRead(request);
        break;
      case COMMAND.WRITE:
        this.#payloadAt = request.offset;
        this.#payloadLeft = request.length;
        if (request.length === 0) this.#reply(0);
        break;
      case COMMAND.TRIM:
      case COMMAND.WRITE_ZEROES:
        this.#memory.fill(0, request.offset, request.offset + request.length);
        this.#reply(0);
        break;
      case COMMAND.FLUSH:
        this.#reply(0);
        break;
      default:
        this.#reply(ENOTSUP);
    }
  }

  #serveRead({ offset, length }: RequestHeader): void {
    // Copied: a write that follows must not change what is still to be sent.
    if (length > GATHER_BYTES - SIZE.SIMPLE_REPLY) {
      this.#reply(0);
      this.#sendGathered();
      this.#out(Buffer.from(this.#memory.subarray(offset, offset + length)));
      return;
    }
    if (this.#gathered + SIZE.SIMPLE_REPLY + length > GATHER_BYTES) this.#sendGathered();
    this.#reply(0);
    this.#memory.copy(this.#gather, this.#gathered, offset, offset + length);
    this.#gathered += length;
  }

  #takePayload(bytes: Buffer, at: number): number {
    const length = Math.min(this.#payloadLeft, bytes.length - at);
    bytes.copy(this.#memory, this.#payloadAt, at, at + length);
    this.#payloadAt += length;
    this.#payloadLeft -= length;
    if (this.#payloadLeft === 0) this.#reply(0);
    return length;
  }

  #reply(error: number): void {
    if (this.#gathered + SIZE.SIMPLE_REPLY > GATHER_BYTES) this.#sendGathered();
    encodeSimpleReply(this.#gather, this.#gathered, error, this.#request.cookieHigh, this.#request.cookieLow);
    this.#gathered += SIZE.SIMPLE_REPLY;
  }

  #sendGathered(): void {
    if (this.#gathered === 0) return;
    this.#out(Buffer.from(this.#gather.subarray(0, this.#gathered)));
    this.#gathered = 0;
  }
}
