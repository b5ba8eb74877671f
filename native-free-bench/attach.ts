// The handshake of a load connection: bytes in, bytes to send out, until an export is attached with plain simple
// replies, which every server can do and the kernel's client uses. It wants exactly what the benchmark needs.
import { readUint16, readUint32, readUint64, writeUint16, writeUint32 } from '../gateway/nbd/codec.js';
import { HANDSHAKE_FLAG, INFO, NBD_MAGIC, OPTION, OPTION_MAGIC, OPTION_REPLY, SIZE } from '../gateway/nbd/constants.js';

/** More than any server says before it lets a client attach. */
const HANDSHAKE_BYTES_MAX = 64 * 1024;

export interface AttachStep {
  send: Buffer | null;
  /** The export's size once it is attached. */
  sizeBytes: number | null;
  /** Why it cannot be attached. */
  flaw: string | null;
}

export class Attach {
  readonly #exportName: string;
  #received = Buffer.alloc(0);
  #asked = false;
  #sizeBytes: number | null = null;

  constructor(exportName: string) {
    this.#exportName = exportName;
  }

  receive(bytes: Buffer): AttachStep {
    this.#received = Buffer.concat([this.#received, bytes]);
    if (this.#received.length > HANDSHAKE_BYTES_MAX) return failed('the handshake does not end');
    return this.#asked ? this.#takeReplies() : this.#takeGreeting();
  }

  #takeGreeting(): AttachStep {
    const greeting = this.#received;
    if (greeting.length < SIZE.GREETING) return waiting();
    if (readUint32(greeting, 0) !== NBD_MAGIC.HIGH || readUint32(greeting, 8) !== OPTION_MAGIC.HIGH) return failed('no NBD server');
    if ((readUint16(greeting, 16) & HANDSHAKE_FLAG.FIXED_NEWSTYLE) === 0) return failed('no fixed newstyle handshake');
    this.#received = greeting.subarray(SIZE.GREETING);
    this.#asked = true;
    return { send: this.#go(), sizeBytes: null, flaw: null };
  }

  #takeReplies(): AttachStep {
    while (this.#received.length >= SIZE.OPTION_REPLY_HEADER) {
      const type = readUint32(this.#received, 12);
      const end = SIZE.OPTION_REPLY_HEADER + readUint32(this.#received, 16);
      if (this.#received.length < end) return waiting();
      const data = this.#received.subarray(SIZE.OPTION_REPLY_HEADER, end);
      this.#received = this.#received.subarray(end);
      if (type === OPTION_REPLY.ACK) {
        if (this.#sizeBytes === null || this.#received.length > 0) return failed('the handshake ended oddly');
        return { send: null, sizeBytes: this.#sizeBytes, flaw: null };
      }
      if (type !== OPTION_REPLY.INFO) {
        return failed(`export ${JSON.stringify(this.#exportName)} was refused (reply ${type.toString(16)}): ${data.toString('utf8')}`);
      }
      if (data.length >= 12 && readUint16(data, 0) === INFO.EXPORT) this.#sizeBytes = readUint64(data, 2);
    }
    return waiting();
  }

  #go(): Buffer {
    const name = Buffer.from(this.#exportName);
    const message = Buffer.alloc(SIZE.CLIENT_FLAGS + SIZE.OPTION_HEADER + 4 + name.length + 2);
    writeUint32(message, 0, HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES);
    writeUint32(message, 4, OPTION_MAGIC.HIGH);
    writeUint32(message, 8, OPTION_MAGIC.LOW);
    writeUint32(message, 12, OPTION.GO);
    writeUint32(message, 16, 4 + name.length + 2);
    writeUint32(message, 20, name.length);
    name.copy(message, 24);
    writeUint16(message, 24 + name.length, 0);
    return message;
  }
}

function waiting(): AttachStep {
  return { send: null, sizeBytes: null, flaw: null };
}

function failed(flaw: string): AttachStep {
  return { send: null, sizeBytes: null, flaw };
}
