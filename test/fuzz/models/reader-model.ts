// What a node's answers mean, and which of them are wrong, as plainly as possible: keeps the whole stream, looks at it anew
// with every byte that matters, and shares nothing with the reader.
import { OP, type Op } from '../../../replication/device.js';

const [SIMPLE, STRUCTURED, EXTENDED] = [0x67446698, 0x668e33ef, 0x6e8a278c];
const [NONE, DATA, HOLE, STATUS, STATUS_EXT, ERROR_OFFSET] = [0, 1, 2, 5, 6, 0x8002];
const EXTENTS_MAX = 2 ** 20;
const ERROR_BYTES_MAX = 6 + 8 + 4096;

export interface ModelJob {
  op: Op;
  offset: number;
  length: number;
  /** ZEROES: ENOTSUP is an answer. */
  fast: boolean;
  /** STATUS: one extent, and none beyond the request. */
  one: boolean;
}

export interface ModelRules {
  style: 'simple' | 'structured' | 'extended';
  contextId: number | null;
  sizeBytes: number;
  blockBytes: number;
}

export interface ModelAnswer {
  cookie: bigint;
  errno: number;
  data: Buffer | null;
  extents: { lengthBytes: number; hole: boolean; zero: boolean }[] | null;
}

interface Waiting extends ModelJob {
  pieces: [number, number][];
  data: Buffer;
  extents: ModelAnswer['extents'];
  errno: number;
  errors: number;
}

export class ReaderModel {
  readonly answers: ModelAnswer[] = [];
  /** The stream has something in it that no node may send. */
  wrong = false;
  /** Errors that such a request cannot have, which are EIO then. */
  misplaced = 0;
  readonly #rules: ModelRules;
  readonly #waiting = new Map<bigint, Waiting>();
  #bytes = Buffer.alloc(0);

  constructor(rules: ModelRules) {
    this.#rules = rules;
  }

  ask(cookie: bigint, job: ModelJob): void {
    const data = Buffer.alloc(job.op === OP.READ ? job.length : 0);
    this.#waiting.set(cookie, { ...job, pieces: [], data, extents: null, errno: 0, errors: 0 });
  }

  feed(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    while (!this.wrong) {
      const used = this.#reply();
      if (used === 0) return;
      this.#bytes = this.#bytes.subarray(used);
    }
  }

  /** Bytes of the next whole reply or chunk; 0: it is not there yet, or wrong. */
  #reply(): number {
    const bytes = this.#bytes;
    if (bytes.length < 4) return 0;
    const magic = bytes.readUInt32BE(0);
    const right = { simple: [SIMPLE], structured: [SIMPLE, STRUCTURED], extended: [EXTENDED] }[this.#rules.style];
    if (!right.includes(magic)) return this.#fail();
    if (bytes.length < (magic === SIMPLE ? 16 : this.#head)) return 0;
    const cookie = bytes.readBigUInt64BE(8);
    const job = this.#waiting.get(cookie);
    return magic === SIMPLE ? this.#simple(cookie, job) : this.#chunk(cookie, job);
  }

  get #head(): number {
    return this.#rules.style === 'extended' ? 32 : 20;
  }

  #simple(cookie: bigint, job: Waiting | undefined): number {
    if (job === undefined || job.errors > 0 || job.pieces.length > 0 || job.extents !== null) return this.#fail();
    if (job.op === OP.READ && this.#rules.style !== 'simple') return this.#fail();
    const error = this.#bytes.readUInt32BE(4);
    if (error !== 0) job.errno = this.#errno(job, error);
    else if (job.op === OP.STATUS) return this.#fail();
    const length = 16 + (job.errno === 0 && job.op === OP.READ ? job.length : 0);
    if (this.#bytes.length < length) return 0;
    this.#bytes.copy(job.data, 0, 16, length);
    this.#answer(cookie, job);
    return length;
  }

  #chunk(cookie: bigint, job: Waiting | undefined): number {
    const bytes = this.#bytes;
    const done = (bytes.readUInt16BE(4) & 1) !== 0;
    const type = bytes.readUInt16BE(6);
    const extended = this.#rules.style === 'extended';
    const head = this.#head;
    const length = extended ? Number(bytes.readBigUInt64BE(24)) : bytes.readUInt32BE(16);
    // Of data the reader looks at nothing before its offset is there.
    if (type === DATA && length > 8 && bytes.length < head + 8) return 0;
    if (job === undefined) return this.#fail();
    if (extended && bytes.readBigUInt64BE(16) !== BigInt(job.offset)) return this.#fail();
    if (type === DATA) {
      const from = length > 8 ? Number(bytes.readBigUInt64BE(head)) - job.offset : -1;
      if (job.op !== OP.READ || !this.#fits(job, from, length - 8)) return this.#fail();
      if (bytes.length < head + length) return 0;
      bytes.copy(job.data, from, head + 8, head + length);
    } else {
      if (length > this.#bodyMost(job, type)) return this.#fail();
      if (bytes.length < head + length) return 0;
      if (!this.#takeBody(job, type, done, bytes.subarray(head, head + length))) return this.#fail();
    }
    if (done) {
      const covered = job.pieces.reduce((sum, [from, to]) => sum + to - from, 0);
      const short = (job.op === OP.READ && covered !== job.length) || (job.op === OP.STATUS && job.extents === null);
      if (job.errno === 0 && short) return this.#fail();
      this.#answer(cookie, job);
    }
    return head + length;
  }

  /** Bytes that such a chunk may have; less than any: the request cannot have one. */
  #bodyMost({ op, length, one }: Waiting, type: number): number {
    const extended = this.#rules.style === 'extended';
    if (type >= 0x8000) return ERROR_BYTES_MAX;
    if (type === NONE) return 0;
    if (type === HOLE && op === OP.READ) return 12;
    if (type !== (extended ? STATUS_EXT : STATUS) || op !== OP.STATUS) return -1;
    const extents = one ? 1 : Math.min(Math.ceil(length / this.#rules.blockBytes), EXTENTS_MAX);
    return extended ? 8 + 16 * extents : 4 + 8 * extents;
  }

  #takeBody(job: Waiting, type: number, done: boolean, body: Buffer): boolean {
    if (type === NONE) return done;
    if (type === HOLE) {
      if (body.length !== 12) return false;
      const from = Number(body.readBigUInt64BE(0)) - job.offset;
      const length = body.readUInt32BE(8);
      if (!this.#fits(job, from, length)) return false;
      job.data.fill(0, from, from + length);
      return true;
    }
    return type < 0x8000 ? this.#takeStatus(job, body) : this.#takeError(job, type, body);
  }

  /** The first of several counts. */
  #takeError(job: Waiting, type: number, body: Buffer): boolean {
    const fixed = type === ERROR_OFFSET ? 14 : 6;
    if (body.length < fixed || body.readUInt32BE(0) === 0) return false;
    const messageBytes = body.readUInt16BE(4);
    if (messageBytes + fixed > body.length) return false;
    if (type === ERROR_OFFSET) {
      const at = body.readBigUInt64BE(6 + messageBytes);
      if (at < BigInt(job.offset) || at >= BigInt(job.offset + job.length)) return false;
    }
    job.errors += 1;
    if (job.errors === 1) job.errno = this.#errno(job, body.readUInt32BE(0));
    return true;
  }

  #errno({ op, fast }: Waiting, error: number): number {
    const misplaced = (error === 95 && !(op === OP.ZEROES && fast)) || error === 75;
    if (misplaced) this.misplaced += 1;
    return misplaced || ![1, 5, 12, 22, 28, 95, 108].includes(error) ? 5 : error;
  }

  #takeStatus(job: Waiting, body: Buffer): boolean {
    const { style, contextId, sizeBytes, blockBytes } = this.#rules;
    const [head, each] = style === 'extended' ? [8, 16] : [4, 8];
    const count = (body.length - head) / each;
    if (job.extents !== null || count < 1 || !Number.isInteger(count) || body.readUInt32BE(0) !== contextId) return false;
    if (style === 'extended' && body.readUInt32BE(4) !== count) return false;
    const ends = [job.offset];
    job.extents = [];
    for (let at = head; at < body.length; at += each) {
      const lengthBytes = style === 'extended' ? Number(body.readBigUInt64BE(at)) : body.readUInt32BE(at);
      const flags = style === 'extended' ? body.readBigUInt64BE(at + 8) : BigInt(body.readUInt32BE(at + 4));
      if (flags >= 2n ** 32n) return false;
      ends.push(ends.at(-1)! + lengthBytes);
      if (lengthBytes === 0 || (lengthBytes % blockBytes !== 0 && ends.at(-1) !== sizeBytes)) return false;
      job.extents.push({ lengthBytes, hole: flags % 2n === 1n, zero: (flags & 2n) !== 0n });
    }
    const end = job.offset + job.length;
    return ends.slice(0, -1).every((at) => at < end) && (!job.one || ends.at(-1)! <= end);
  }

  /** A piece within the request, not over another; from now on it is one. */
  #fits(job: Waiting, from: number, length: number): boolean {
    if (length <= 0 || from < 0 || from + length > job.length) return false;
    if (job.pieces.some(([start, end]) => start < from + length && from < end)) return false;
    job.pieces = [...job.pieces.filter(([start]) => start !== from), [from, from + length]];
    return true;
  }

  #answer(cookie: bigint, { op, errno, data, extents }: Waiting): void {
    this.#waiting.delete(cookie);
    const good = errno === 0;
    this.answers.push({ cookie, errno, data: good && op === OP.READ ? data : null, extents: good && op === OP.STATUS ? extents : null });
  }

  #fail(): number {
    this.wrong = true;
    return 0;
  }
}
