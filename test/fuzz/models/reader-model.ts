// What a node's answers mean, and which of them are wrong, as plainly as possible: keeps the whole stream, looks at it anew
// with every byte that matters, and shares nothing with the reader.
import { ERRNO, OP, type Op } from '../../../replication/device.js';

const [SIMPLE, STRUCTURED] = [0x67446698, 0x668e33ef];
const [NONE, DATA, HOLE, STATUS] = [0, 1, 2, 5];
const STATUS_BYTES_MAX = 4 + 8 * 2 ** 20;
const ERROR_BYTES_MAX = 6 + 8 + 4096;

export interface ModelJob {
  op: Op;
  offset: number;
  length: number;
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
}

export class ReaderModel {
  readonly answers: ModelAnswer[] = [];
  /** The stream has something in it that no node may send. */
  wrong = false;
  readonly #structured: boolean;
  readonly #contextId: number | null;
  readonly #waiting = new Map<bigint, Waiting>();
  #bytes = Buffer.alloc(0);

  constructor(structured: boolean, contextId: number | null) {
    this.#structured = structured;
    this.#contextId = contextId;
  }

  ask(cookie: bigint, job: ModelJob): void {
    this.#waiting.set(cookie, { ...job, pieces: [], data: Buffer.alloc(job.op === OP.READ ? job.length : 0), extents: null, errno: 0 });
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
    if (magic !== SIMPLE && (magic !== STRUCTURED || !this.#structured)) return this.#fail();
    const head = magic === SIMPLE ? 16 : 20;
    if (bytes.length < head) return 0;
    const cookie = bytes.readBigUInt64BE(8);
    const job = this.#waiting.get(cookie);
    return magic === SIMPLE ? this.#simple(cookie, job) : this.#chunk(cookie, job);
  }

  #simple(cookie: bigint, job: Waiting | undefined): number {
    if (job === undefined) return this.#fail();
    job.errno = known(this.#bytes.readUInt32BE(4));
    if (job.errno === 0 && (job.op === OP.STATUS || (job.op === OP.READ && this.#structured))) return this.#fail();
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
    const length = bytes.readUInt32BE(16);
    // Of data the reader looks at nothing before its offset is there.
    if (type === DATA && length >= 8 && bytes.length < 28) return 0;
    if (job === undefined) return this.#fail();
    if (type === DATA) {
      const from = length > 8 ? Number(bytes.readBigUInt64BE(20)) - job.offset : -1;
      if (job.op !== OP.READ || !this.#fits(job, from, length - 8)) return this.#fail();
      if (bytes.length < 20 + length) return 0;
      bytes.copy(job.data, from, 28, 20 + length);
    } else {
      const most = type === NONE ? 0 : type === HOLE ? 12 : type === STATUS ? STATUS_BYTES_MAX : ERROR_BYTES_MAX;
      if (length > most) return this.#fail();
      if (bytes.length < 20 + length) return 0;
      if (!this.#takeBody(job, type, done, bytes.subarray(20, 20 + length))) return this.#fail();
    }
    if (done) {
      const covered = job.pieces.reduce((sum, [from, to]) => sum + to - from, 0);
      const short = (job.op === OP.READ && covered !== job.length) || (job.op === OP.STATUS && job.extents === null);
      if (job.errno === 0 && short) return this.#fail();
      this.#answer(cookie, job);
    }
    return 20 + length;
  }

  #takeBody(job: Waiting, type: number, done: boolean, body: Buffer): boolean {
    if (type === NONE) return done;
    if (type === HOLE) {
      if (job.op !== OP.READ || body.length !== 12) return false;
      const from = Number(body.readBigUInt64BE(0)) - job.offset;
      const length = body.readUInt32BE(8);
      if (!this.#fits(job, from, length)) return false;
      job.data.fill(0, from, from + length);
      return true;
    }
    if (type === STATUS) return this.#takeStatus(job, body);
    if (type < 0x8000 || body.length < 6 || body.readUInt32BE(0) === 0) return false;
    job.errno = known(body.readUInt32BE(0));
    return true;
  }

  #takeStatus(job: Waiting, body: Buffer): boolean {
    if (job.op !== OP.STATUS || job.extents !== null || body.length < 12 || body.length % 8 !== 4) return false;
    if (body.readUInt32BE(0) !== this.#contextId) return false;
    const extents: NonNullable<ModelAnswer['extents']> = [];
    for (let at = 4; at < body.length; at += 8) {
      const flags = body.readUInt32BE(at + 4);
      extents.push({ lengthBytes: body.readUInt32BE(at), hole: flags % 2 === 1, zero: (flags & 2) !== 0 });
    }
    job.extents = extents;
    return extents.every(({ lengthBytes }) => lengthBytes > 0);
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

const ERRNOS: readonly number[] = Object.values(ERRNO);

function known(errno: number): number {
  return ERRNOS.includes(errno) ? errno : 5;
}
