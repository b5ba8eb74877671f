// The reference's connection to one export: the simplest client that is right. One incarnation at a time; after a loss it
// waits until no old request can land, writes again what was not flushed, then what was not answered, one after the other.
// Each step can be left out by a deliberate bug, to show that the checker finds it.
import { ERRNO, OP, type Op } from '../../replication/device.js';
import type { Wire } from '../../gateway/wire.js';
import type { Bug } from './reference-bugs.js';
import type { NodePlace, Surroundings } from './system.js';

const COMMAND: Record<Op, number> = { [OP.READ]: 0, [OP.WRITE]: 1, [OP.FLUSH]: 3, [OP.ZEROES]: 6, [OP.STATUS]: 7 };
const UNIT_BYTES = 512;
const FLAG_FUA = 8;
const FLAG_ZEROES = 64;

export interface TargetRequest {
  op: Op;
  offset: number;
  length: number;
  fua: boolean;
  data: Buffer | null;
  done(errno: number, data: Buffer | null): void;
}

interface Sent {
  request: TargetRequest;
  /** FLUSH: the unflushed writes it covers. */
  covers: readonly TargetRequest[];
  life: number;
  /** Written again after the node came back. */
  replay: boolean;
}

export class ReferenceTarget {
  readonly place: NodePlace;
  readonly #surroundings: Surroundings;
  readonly #exportName: string;
  readonly #bugs: ReadonlySet<Bug>;
  #wire: Wire | null = null;
  #bytes = Buffer.alloc(0);
  #greeted = false;
  #flags = 0;
  #ready = false;
  #life = 0;
  #closed = false;
  #cookie = 0;
  #sent = new Map<number, Sent>();
  #waiting: TargetRequest[] = [];
  #unflushed: TargetRequest[] = [];

  constructor(surroundings: Surroundings, place: NodePlace, exportName: string, bugs: ReadonlySet<Bug>) {
    this.#surroundings = surroundings;
    this.place = place;
    this.#exportName = exportName;
    this.#bugs = bugs;
    surroundings.clock.after(place.fencing || bugs.has('start-early') ? 0 : place.zombieMs + 10, () => this.#dial());
  }

  get busy(): boolean {
    return !this.#ready || this.#sent.size > 0 || this.#waiting.length > 0;
  }

  submit(request: TargetRequest): void {
    if (this.#ready) this.#send(request);
    else this.#waiting.push(request);
  }

  /** Not used any more; nothing is in flight. */
  close(): void {
    this.#closed = true;
    this.#life += 1;
    this.#wire?.destroy();
  }

  #dial(): void {
    if (this.#closed) return;
    this.#bytes = Buffer.alloc(0);
    this.#greeted = false;
    this.#life += 1;
    const life = this.#life;
    this.#wire = this.#surroundings.dialer.dial(this.place.address, {
      data: (chunk) => this.#data(chunk),
      drain: () => {},
      close: () => life === this.#life && this.#lost(),
    });
  }

  #lost(): void {
    this.#ready = false;
    const unanswered = [...this.#sent.values()].filter((sent) => !sent.replay).map((sent) => sent.request);
    const waits = this.#sent.size > 0 && !this.place.fencing && !this.#bugs.has('resend-early');
    this.#sent.clear();
    if (this.#bugs.has('drops-request')) unanswered.shift();
    this.#waiting = [...unanswered, ...this.#waiting];
    this.#surroundings.clock.after(waits ? this.place.zombieMs + 10 : 10, () => this.#dial());
  }

  #data(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    if (!this.#greeted) {
      if (this.#bytes.length < 18) return;
      this.#greeted = true;
      this.#bytes = this.#bytes.subarray(18);
      const name = Buffer.from(this.#exportName);
      const hello = Buffer.alloc(20);
      hello.writeUInt32BE(3, 0);
      hello.write('IHAVEOPT', 4);
      hello.writeUInt32BE(1, 12);
      hello.writeUInt32BE(name.length, 16);
      this.#wire!.write(Buffer.concat([hello, name]));
    } else if (this.#flags === 0 || !this.#ready) {
      if (this.#sent.size > 0) this.#answers();
      else if (this.#bytes.length >= 10) {
        this.#flags = this.#bytes.readUInt16BE(8);
        this.#bytes = this.#bytes.subarray(10);
        void this.#begin(this.#life);
      }
    } else this.#answers();
  }

  async #begin(life: number): Promise<void> {
    const again = this.#bugs.has('no-replay') ? [] : this.#bugs.has('replay-all') ? [...this.#unflushed] : newestOf(this.#unflushed);
    if (this.#bugs.has('replay-out-of-order')) again.splice(0, again.length, ...this.#unflushed.toReversed());
    if (again.length > 0) this.#surroundings.count('replay');
    for (const write of again) {
      let errno = -1;
      while (errno !== 0) {
        errno = await new Promise<number>((resolve) => this.#send({ ...write, fua: false, done: resolve }, true));
        if (life !== this.#life) return;
      }
    }
    this.#ready = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const request of waiting) this.submit(request);
  }

  #send(request: TargetRequest, replay = false): void {
    if (request.op === OP.FLUSH && this.#bugs.has('flush-lies')) {
      this.#surroundings.clock.after(0, () => request.done(0, null));
      return;
    }
    const slowZeroes = request.op === OP.ZEROES && (this.#flags & FLAG_ZEROES) === 0;
    const data = slowZeroes ? Buffer.alloc(request.length) : request.data;
    const op = slowZeroes ? OP.WRITE : request.op;
    const fua = request.fua && (this.#flags & FLAG_FUA) !== 0 && !this.#bugs.has('fua-ignored');
    this.#cookie += 1;
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513, 0);
    header.writeUInt16BE(fua ? 1 : 0, 4);
    header.writeUInt16BE(COMMAND[op], 6);
    header.writeUInt32BE(this.#cookie, 12);
    header.writeBigUInt64BE(BigInt(request.offset), 16);
    header.writeUInt32BE(request.length, 24);
    const covers = request.op === OP.FLUSH ? [...this.#unflushed] : [];
    const sent = { request, replay, covers, life: this.#life };
    this.#sent.set(this.#cookie, sent);
    this.#wire!.write(data === null ? header : Buffer.concat([header, data]));
  }

  #answers(): void {
    while (this.#bytes.length >= 16) {
      const cookie = this.#bytes.readUInt32BE(12);
      const errno = this.#bytes.readUInt32BE(4);
      const sent = this.#sent.get(cookie);
      if (sent === undefined) throw new Error(`an answer to ${cookie}, which was not asked`);
      const dataBytes = sent.request.op === OP.READ && errno === 0 ? sent.request.length : 0;
      if (this.#bytes.length < 16 + dataBytes) return;
      const data = dataBytes > 0 ? Buffer.from(this.#bytes.subarray(16, 16 + dataBytes)) : null;
      this.#bytes = this.#bytes.subarray(16 + dataBytes);
      this.#answered(cookie, sent, errno, data);
    }
  }

  #answered(cookie: number, sent: Sent, errno: number, data: Buffer | null): void {
    const { request } = sent;
    if (errno === ERRNO.ESHUTDOWN && !this.#bugs.has('error-leaks')) return;
    this.#sent.delete(cookie);
    const writes = request.op === OP.WRITE || request.op === OP.ZEROES;
    if (writes && errno === 0 && !sent.replay) {
      this.#unflushed.push(request);
      if (request.fua && (this.#flags & FLAG_FUA) === 0 && !this.#bugs.has('fua-ignored')) {
        this.submit({ op: OP.FLUSH, offset: 0, length: 0, fua: false, data: null, done: (flushErrno) => request.done(flushErrno, null) });
        return;
      }
    }
    if (request.op === OP.FLUSH && errno === 0 && sent.life === this.#life) this.#forget(sent.covers);
    request.done(errno, data);
  }

  #forget(flushed: readonly TargetRequest[]): void {
    const proven = new Set(flushed);
    this.#unflushed = this.#unflushed.filter((write) => !proven.has(write));
  }
}

/** The newest bytes of every block that the writes touch, as writes that do not overlap: no block goes back meanwhile. */
function newestOf(writes: readonly TargetRequest[]): TargetRequest[] {
  const taken = new Set<number>();
  const newest: TargetRequest[] = [];
  for (const write of writes.toReversed()) {
    for (let at = 0; at < write.length; at += UNIT_BYTES) {
      const offset = write.offset + at;
      if (taken.has(offset)) continue;
      taken.add(offset);
      const last = newest[newest.length - 1];
      const length = UNIT_BYTES;
      const data = write.data?.subarray(at, at + length) ?? null;
      if (last !== undefined && last.done === write.done && last.offset + last.length === offset) {
        last.length += length;
        last.data = write.data?.subarray(last.offset - write.offset, at + length) ?? null;
      } else newest.push({ ...write, offset, length, data });
    }
  }
  return newest;
}
