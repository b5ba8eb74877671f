// A host's request on its way through a volume: waits for room, for its range, for its marks, goes to the active target,
// and is answered. Pooled by the I/O path; implements what it is to the range lock, the intent log and the upstream.
import type { DeviceRequest, Extent, Op } from '../../replication/device.js';
import { OP } from '../../replication/device.js';
import type { MarkWaiter } from '../../replication/intent-log.js';
import type { Journal } from '../../replication/journal.js';
import type { SyncWaiter } from '../../replication/journal-waiters.js';
import { LockEntry } from '../../replication/range-lock.js';
import type { IoPath } from './io-path.js';

export class VolumeOp extends LockEntry implements DeviceRequest, MarkWaiter, SyncWaiter {
  op: Op = OP.READ;
  offset = 0;
  length = 0;
  fua = false;
  punch = false;
  fast = false;
  one = false;
  lane = 0;
  data: Buffer | null = null;
  extents: Extent[] | null = null;
  /** Null: the host has its answer, from a mirror that was quicker than the active target. */
  host: DeviceRequest | null = null;
  markOffset = 0;
  markLength = 0;
  /** Order of entering the path, to send again in that order. */
  sequence = 0;
  startedMs = 0;
  /** Bytes counted as admitted while it is a write past the memory gate; 0 otherwise. */
  cost = 0;
  /** Sent to the active target at least once: its bytes may be there. */
  sent = false;
  /** The active target's error, kept while a failover is tried. */
  pendingErrno = 0;
  /** Sent while no mirror was there, so without a mark (rule 2). */
  unmarked = false;
  /** Sent to an earlier active target before, and now to another. */
  resent = false;
  /** The journal in which room was set aside for it, and whether it still is. */
  journal: Journal | null = null;
  reserved = false;
  /** What it waits for besides the active target, plus one (`durability.ts`). */
  copiesLeft = 0;
  /** A read that went to a mirror because the active target refused it. */
  fallback = false;

  constructor(readonly path: IoPath) {
    super();
  }

  get writes(): boolean {
    return this.op === OP.WRITE || this.op === OP.ZEROES;
  }

  get askedMs(): number {
    return this.startedMs;
  }

  load(request: DeviceRequest): void {
    this.host = request;
    this.op = request.op;
    this.offset = request.offset;
    this.length = request.length;
    this.fua = request.fua;
    this.punch = request.punch;
    this.fast = request.fast;
    this.one = request.one;
    this.lane = request.lane;
    this.data = request.op === OP.WRITE ? request.data : null;
  }

  clear(): void {
    this.host = null;
    this.data = null;
    this.extents = null;
    this.cost = 0;
    this.sent = false;
    this.pendingErrno = 0;
    this.unmarked = false;
    this.resent = false;
    this.copiesLeft = 0;
    this.journal = null;
    this.reserved = false;
    this.fallback = false;
  }

  granted(): void {
    this.path.locked(this);
  }

  marked(): void {
    this.path.locked(this);
  }

  journaled(errno: number): void {
    this.path.durability.journaled(this, errno);
  }

  complete(errno: number): void {
    this.path.answered(this, errno);
  }
}
