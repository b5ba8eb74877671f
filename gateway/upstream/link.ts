// One NBD connection to a storage node: dials, shakes hands, sends requests many to a system call and matches the answers.
// Knows nothing of resending or of other connections: when it ends it hands back every job that was not answered.
import assert from 'node:assert';
import { OP } from '../../replication/device.js';
import type { Clock, Timer } from '../../replication/world.js';
import { ClientHandshake, type ClientStep, type ClientWishes, type Negotiated } from '../nbd/client-handshake.js';
import { encodeExtendedRequest, encodeRequest } from '../nbd/codec.js';
import { COMMAND, COMMAND_FLAG, OPTION, SIZE } from '../nbd/constants.js';
import type { Dialer, Security, Wire, WireAddress } from '../wire.js';
import type { Job } from './job.js';
import { LinkSlot, ReplyReader, type ReplySink } from './reply-reader.js';
import type { Violation } from './violation.js';

/** Payloads up to this are copied next to their header, so that many requests leave as one piece; larger ones go by reference. */
const COPY_BYTES_MAX = 16 * 1024;
/** Never reused, only replaced: the bytes must stand still until the socket has taken them, and then nobody refers to them. */
const SLAB_BYTES = 128 * 1024;

const WIRE_COMMAND = [COMMAND.READ, COMMAND.WRITE, COMMAND.FLUSH, COMMAND.WRITE_ZEROES, COMMAND.BLOCK_STATUS] as const;

export interface LinkEvents {
  ready(link: Link, negotiated: Negotiated): void;
  answered(link: Link, job: Job, errno: number): void;
  /** The node broke the protocol; unless it is a small matter (`errno`) the connection ends, and `closed` follows. */
  violated?(link: Link, violation: Violation): void;
  /** The connection is over; `unanswered` are the jobs whose outcome nobody knows. Called once. */
  closed(link: Link, unanswered: Job[], reason: string): void;
}

export interface LinkOptions {
  dialer: Dialer;
  clock: Clock;
  address: WireAddress;
  exportName: string;
  handshakeMs: number;
  /** What is not asked for though it could be had; default: all is. */
  wishes?: Omit<ClientWishes, 'exportName' | 'tls'>;
}

export class Link implements ReplySink<Job> {
  readonly #events: LinkEvents;
  readonly #clock: Clock;
  readonly #wire: Wire;
  readonly #security: Security | undefined;
  readonly #slots: LinkSlot<Job>[] = [];
  readonly #free: LinkSlot<Job>[] = [];
  #handshake: ClientHandshake | null;
  #handshakeTimer: Timer | null;
  #reader: ReplyReader<Job> | null = null;
  #encode = encodeRequest;
  #headerBytes: number = SIZE.REQUEST;
  /** Extended headers: a write says that its length is that of a payload. */
  #writeFlags = 0;
  #reason: string | null = null;
  #closed = false;
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #slabStart = 0;
  #slabEnd = 0;
  #pending: Buffer[] = [];
  #flushScheduled = false;
  readonly #flushSoon = (): void => this.#flush();
  inFlight = 0;
  /** How many requests were answered here. */
  answers = 0;
  /** Number of the last write answered here, as the unflushed list counts; -1: none. Kept by the upstream. */
  lastWrite = -1;
  /** When the node last sent anything here. */
  #heardMs: number;

  constructor(options: LinkOptions, events: LinkEvents) {
    this.#events = events;
    this.#clock = options.clock;
    this.#heardMs = options.clock.nowMs();
    this.#security = options.address.security;
    this.#handshake = new ClientHandshake({ exportName: options.exportName, ...options.wishes, tls: this.#security !== undefined });
    this.#handshakeTimer = options.clock.after(options.handshakeMs, () => {
      this.close(`no answer to the handshake within ${options.handshakeMs} ms`);
    });
    this.#wire = options.dialer.dial(options.address, {
      data: (chunk) => this.#data(chunk),
      secured: () => this.#secured(),
      drain: () => {},
      close: (error) => this.#ended(error),
    });
  }

  /** The handshake is over and the connection stands. */
  get open(): boolean {
    return this.#reader !== null && !this.#closed && this.#reason === null;
  }

  /** It ended while the node was to say whether it has extended headers: some close on an option that they do not know. */
  get endedAskingExtended(): boolean {
    return this.#closed && this.#handshake?.asking === OPTION.EXTENDED_HEADERS;
  }

  /** Between `close` and `closed` a job is only kept, to be handed back: answers that came before may still bring new ones. */
  send(job: Job): void {
    assert(this.#reader !== null && !this.#closed, 'a link that is not open sends nothing');
    const slot = this.#free.pop() ?? this.#newSlot();
    slot.job = job;
    slot.op = job.op;
    slot.offset = job.offset;
    slot.length = job.length;
    slot.fast = job.fast;
    slot.one = job.one;
    this.inFlight += 1;
    const copied = job.op === OP.WRITE && job.length <= COPY_BYTES_MAX;
    const header = this.#headerBytes;
    const bytes = header + (copied ? job.length : 0);
    if (this.#slabEnd + bytes > SLAB_BYTES) this.#newSlab();
    const at = this.#slabEnd;
    const flags = job.op === OP.WRITE ? flagsOf(job) | this.#writeFlags : flagsOf(job);
    this.#encode(this.#slab, at, flags, WIRE_COMMAND[job.op], slot.generation, slot.index, job.offset, job.length);
    if (copied) job.data!.copy(this.#slab, at + header, 0, job.length);
    this.#slabEnd = at + bytes;
    if (job.op === OP.WRITE && !copied) {
      this.#seal();
      this.#pending.push(job.data!);
    }
    if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      queueMicrotask(this.#flushSoon);
    }
  }

  /** Jobs sent and not answered, oldest answer first in no particular order. */
  unanswered(): Job[] {
    const jobs: Job[] = [];
    for (const slot of this.#slots) if (slot.job !== null) jobs.push(slot.job);
    return jobs;
  }

  /** Has something that was sent before `beforeMs` not been answered, and nothing at all come from the node since it was sent? */
  silentSince(beforeMs: number): boolean {
    for (const { job } of this.#slots) if (job !== null && job.sentMs < beforeMs && this.#heardMs <= job.sentMs) return true;
    return false;
  }

  /** Ends the connection at once, for `reason`; `closed` follows. */
  close(reason: string): void {
    if (this.#closed || this.#reason !== null) return;
    this.#reason = reason;
    this.#wire.destroy();
  }

  /** Says good-bye and ends, when nothing is in flight any more. */
  disconnect(): void {
    if (!this.open) {
      this.close('not needed any more');
      return;
    }
    assert(this.inFlight === 0, 'a link that says goodbye has nothing under way');
    this.#flush();
    const farewell = Buffer.alloc(this.#headerBytes);
    this.#encode(farewell, 0, 0, COMMAND.DISC, 0, 0, 0, 0);
    this.#reason = 'disconnected';
    this.#wire.write(farewell);
    this.#wire.end();
  }

  find(cookieHigh: number, cookieLow: number): LinkSlot<Job> | null {
    if (cookieLow >= this.#slots.length) return null;
    const slot = this.#slots[cookieLow];
    return slot.job !== null && slot.generation === cookieHigh ? slot : null;
  }

  misplaced(reason: string): void {
    this.#events.violated?.(this, { kind: 'errno', reason });
  }

  answered(slot: LinkSlot<Job>): void {
    const job = slot.job!;
    const errno = slot.errno;
    if (errno === 0) {
      if (job.op === OP.READ) job.data = slot.data;
      else if (job.op === OP.STATUS) job.extents = slot.extents;
    }
    this.answers += 1;
    this.#release(slot);
    this.#events.answered(this, job, errno);
  }

  #newSlot(): LinkSlot<Job> {
    const slot = new LinkSlot<Job>(this.#slots.length);
    this.#slots.push(slot);
    return slot;
  }

  #release(slot: LinkSlot<Job>): void {
    slot.job = null;
    slot.generation = (slot.generation + 1) >>> 0;
    slot.data = null;
    slot.covered = 0;
    slot.pieces = null;
    slot.extents = null;
    slot.errno = 0;
    this.inFlight -= 1;
    this.#free.push(slot);
  }

  #data(chunk: Buffer): void {
    if (this.#reason !== null) return;
    this.#heardMs = this.#clock.nowMs();
    if (this.#reader !== null) {
      this.#feed(chunk);
      return;
    }
    this.#negotiate(this.#handshake!.receive(chunk));
  }

  #secured(): void {
    if (this.#reason === null) this.#negotiate(this.#handshake!.secured());
  }

  #negotiate(step: ClientStep): void {
    for (const bytes of step.send) this.#wire.write(bytes);
    if (step.starttls) this.#wire.secure!(Buffer.alloc(0), this.#security!);
    if (step.outcome === null) return;
    this.#handshakeTimer?.cancel();
    this.#handshakeTimer = null;
    this.#handshake = null;
    if (!step.outcome.ok) {
      const { code, message } = step.outcome;
      if (code === 'not-nbd' || code === 'protocol-error') this.#violated({ kind: 'handshake', reason: message });
      else this.close(message);
      return;
    }
    const negotiated = step.outcome.value;
    this.#reader = new ReplyReader<Job>(this, negotiated);
    if (negotiated.extended) {
      this.#encode = encodeExtendedRequest;
      this.#headerBytes = SIZE.EXTENDED_REQUEST;
      this.#writeFlags = COMMAND_FLAG.PAYLOAD_LEN;
    }
    if (negotiated.leftover.length > 0) {
      this.#violated({ kind: 'handshake', reason: 'the node sent bytes nobody asked for after the handshake' });
      return;
    }
    this.#events.ready(this, negotiated);
  }

  #feed(chunk: Buffer): void {
    const reader = this.#reader!;
    const reason = reader.feed(chunk);
    if (reason !== null) this.#violated({ kind: reader.kind, reason });
  }

  #violated(violation: Violation): void {
    if (this.#closed || this.#reason !== null) return;
    this.#events.violated?.(this, violation);
    this.close(`protocol error: ${violation.reason}`);
  }

  #ended(error: Error | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handshakeTimer?.cancel();
    const missing = this.#reason === null ? (this.#reader?.missing ?? null) : null;
    let reason = this.#reason ?? error?.message ?? this.#closedByNode();
    if (missing !== null) {
      reason += ` in the middle of a reply: ${missing}`;
      this.#events.violated?.(this, { kind: 'truncated', reason });
    }
    this.#reason = reason;
    const unanswered = this.unanswered();
    this.#events.closed(this, unanswered, reason);
  }

  #closedByNode(): string {
    const unwanted = this.#security !== undefined && this.#reader === null;
    return unwanted
      ? 'the node closed the connection at once: it may not take our certificate, its own log says more'
      : 'the node closed the connection';
  }

  #newSlab(): void {
    this.#seal();
    this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    this.#slabStart = 0;
    this.#slabEnd = 0;
  }

  #seal(): void {
    if (this.#slabEnd === this.#slabStart) return;
    this.#pending.push(this.#slab.subarray(this.#slabStart, this.#slabEnd));
    this.#slabStart = this.#slabEnd;
  }

  #flush(): void {
    this.#flushScheduled = false;
    if (this.#reason !== null) return;
    this.#seal();
    if (this.#pending.length === 1) this.#wire.write(this.#pending[0]);
    else if (this.#pending.length > 1) {
      this.#wire.cork();
      for (const bytes of this.#pending) this.#wire.write(bytes);
      this.#wire.uncork();
    }
    this.#pending.length = 0;
  }
}

function flagsOf(job: Job): number {
  let flags = 0;
  if (job.fua) flags |= COMMAND_FLAG.FUA;
  if (job.op === OP.ZEROES) {
    if (!job.punch) flags |= COMMAND_FLAG.NO_HOLE;
    if (job.fast) flags |= COMMAND_FLAG.FAST_ZERO;
  } else if (job.op === OP.STATUS && job.one) flags |= COMMAND_FLAG.REQ_ONE;
  return flags;
}
