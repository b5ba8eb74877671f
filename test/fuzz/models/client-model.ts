// What a client must ask of a server, and what it may make of the answers: walks what the server says, as plainly as possible,
// and shares nothing with the machine.
import { STRING_BYTES_MAX } from '../../../gateway/nbd/constants.js';

const [EXPORT_NAME, STARTTLS, GO, STRUCTURED, SET_META, EXTENDED] = [1, 5, 7, 8, 10, 11];
const [ACK, INFO, META] = [1, 3, 4];
const ERROR = 2 ** 31;
const REPLIES_MAX = 64;

export interface ClientExpectation {
  verdict: 'waits' | 'agrees' | 'refuses';
  sizeBytes: bigint;
  flags: number;
  structured: boolean;
  extended: boolean;
  contextId: number | null;
  block: { minimum: number; preferred: number; maximumPayload: number };
  /** Where it agrees: bytes of the stream that the handshake used. */
  used: number;
  /** The options that the client must have sent, in order, but for a parting ABORT. */
  asked: number[];
  /** Refused because something in plain was in one piece with the answer to STARTTLS. */
  injected: boolean;
}

export interface ModelWishes {
  structured: boolean;
  extended: boolean;
  status: boolean;
  tls: boolean;
}

/** `pieceEnds`: where in the stream a piece of it ends. */
export function expectClient(stream: Buffer, wishes: ModelWishes, pieceEnds: ReadonlySet<number>): ClientExpectation {
  return new Walk(stream, wishes, pieceEnds).walk();
}

/** What comes next: one more reply, the answer to another option, or nothing. */
type Next = 'on' | number | ClientExpectation['verdict'];

class Walk {
  readonly #stream: Buffer;
  readonly #wishes: ModelWishes;
  readonly #pieceEnds: ReadonlySet<number>;
  readonly #found: ClientExpectation = {
    verdict: 'waits',
    sizeBytes: -1n,
    flags: 0,
    structured: false,
    extended: false,
    contextId: null,
    block: { minimum: 1, preferred: 4096, maximumPayload: 2 ** 25 },
    used: 0,
    asked: [],
    injected: false,
  };
  #described: string | null = null;
  #at = 0;
  #replies = 0;

  constructor(stream: Buffer, wishes: ModelWishes, pieceEnds: ReadonlySet<number>) {
    this.#stream = stream;
    this.#wishes = wishes;
    this.#pieceEnds = pieceEnds;
  }

  walk(): ClientExpectation {
    let next = this.#greeting();
    while (typeof next === 'number') {
      const option: number = next;
      this.#found.asked.push(option);
      this.#replies = 0;
      next = option === EXPORT_NAME ? this.#exportReply() : 'on';
      while (next === 'on') next = this.#reply(option);
    }
    return Object.assign(this.#found, { verdict: next, used: this.#at });
  }

  #greeting(): Next {
    if (this.#stream.length < 16) return 'waits';
    if (this.#stream.toString('latin1', 0, 16) !== 'NBDMAGICIHAVEOPT') return 'refuses';
    if (this.#take(18) === null) return 'waits';
    const fixed = this.#stream.readUInt16BE(16) % 2 === 1;
    if (this.#wishes.tls) return fixed ? STARTTLS : 'refuses';
    return fixed ? this.#first() : EXPORT_NAME;
  }

  #first(): number {
    const { extended, structured } = this.#wishes;
    return extended ? EXTENDED : structured ? STRUCTURED : GO;
  }

  #exportReply(): Next {
    const zeroes = (this.#stream.readUInt16BE(16) & 2) === 0;
    const reply = this.#take(zeroes ? 134 : 10);
    if (reply === null) return 'waits';
    this.#found.sizeBytes = reply.readBigUInt64BE(0);
    this.#found.flags = reply.readUInt16BE(8);
    return this.#agree();
  }

  #reply(option: number): Next {
    const head = this.#take(20);
    if (head === null) return 'waits';
    const length = head.readUInt32BE(16);
    if (head.readBigUInt64BE(0) !== 0x3e889045565a9n || head.readUInt32BE(8) !== option || length > 2 * STRING_BYTES_MAX) return 'refuses';
    const data = this.#take(length);
    if (data === null) return 'waits';
    this.#replies += 1;
    const type = head.readUInt32BE(12);
    if (this.#replies > REPLIES_MAX || (type === ACK && length > 0)) return 'refuses';
    if (option === STARTTLS) return this.#onStartTls(type);
    if (option === STRUCTURED || option === EXTENDED) return this.#onStyle(option, type);
    if (option === SET_META) return this.#onContext(type, data);
    return this.#onGo(type, data);
  }

  #onStartTls(type: number): Next {
    if (type !== ACK) return 'refuses';
    if (this.#pieceEnds.has(this.#at)) return this.#first();
    this.#found.injected = true;
    return 'refuses';
  }

  #onStyle(option: number, type: number): Next {
    if (type === ACK) {
      this.#found.structured = true;
      this.#found.extended = option === EXTENDED;
      return this.#wishes.status ? SET_META : GO;
    }
    if (type < ERROR || type === ERROR + 5 || type === ERROR + 7) return 'refuses';
    return option === EXTENDED && this.#wishes.structured ? STRUCTURED : GO;
  }

  #onContext(type: number, data: Buffer): Next {
    if (type === META) {
      if (data.toString('utf8', 4) !== 'base:allocation' || this.#found.contextId !== null) return 'refuses';
      this.#found.contextId = data.readUInt32BE(0);
      return 'on';
    }
    if (type === ERROR + 7 || (type < ERROR && type !== ACK)) return 'refuses';
    if (type !== ACK) this.#found.contextId = null;
    return GO;
  }

  #onGo(type: number, data: Buffer): Next {
    if (type === INFO) return this.#onInfo(data);
    if (type === ACK) return this.#found.sizeBytes < 0n ? 'refuses' : this.#agree();
    // Extended headers without GO are of no use.
    return type === ERROR + 1 && !this.#found.extended ? EXPORT_NAME : 'refuses';
  }

  #onInfo(data: Buffer): Next {
    if (data.length < 2) return 'refuses';
    const info = data.readUInt16BE(0);
    if (info === 0) {
      if (data.length !== 12) return 'refuses';
      this.#found.sizeBytes = data.readBigUInt64BE(2);
      this.#found.flags = data.readUInt16BE(10);
      // Sizes above 2^53 are as good as alike: none of them is agreed to.
      const described = `${Number(this.#found.sizeBytes)} ${this.#found.flags}`;
      if (this.#described !== null && this.#described !== described) return 'refuses';
      this.#described = described;
    } else if (info === 3) {
      if (data.length !== 14) return 'refuses';
      const [minimum, preferred, maximumPayload] = [2, 6, 10].map((at) => data.readUInt32BE(at));
      const powers = Array.from({ length: 32 }, (_, bit) => 2 ** bit);
      const whole = maximumPayload === 2 ** 32 - 1 || maximumPayload % minimum === 0;
      if (!powers.includes(minimum) || !powers.includes(preferred) || preferred < minimum || maximumPayload < minimum || !whole)
        return 'refuses';
      this.#found.block = { minimum, preferred, maximumPayload };
    }
    return 'on';
  }

  #agree(): Next {
    return this.#found.sizeBytes < 2n ** 53n && this.#found.flags % 2 === 1 ? 'agrees' : 'refuses';
  }

  #take(length: number): Buffer | null {
    const end = this.#at + length;
    if (end > this.#stream.length) return null;
    const taken = this.#stream.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}
