// One request on its way to a node: a host's, or one of the upstream's own (a replay, a guard's last write, a flush, a
// part of a split request). Pooled by the upstream; refers to the device request it serves, if there is one.
import { type DeviceRequest, type Extent, OP, type Op } from '../../replication/device.js';

export class Job {
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
  /** The device request that waits for this job; null for the upstream's own. */
  request: DeviceRequest | null = null;
  /** Called instead of completing a request: the upstream's own jobs. */
  settled: ((errno: number, job: Job) => void) | null = null;
  /** The request this is a part of: a split one, a flush over several connections, or the write a flush must follow. */
  whole: Job | null = null;
  /** A write that the unflushed list has already: a replay. */
  replay = false;
  /** Answered with EIO for its age while the node has it still; when its range can be hit no more is kept here. */
  orphan: { expiresMs: number } | null = null;
  /** A FUA write that a node without FUA took: a flush must follow before it is answered. */
  flushAfter = false;
  /** FLUSH over several connections: answers that are still to come, and the first error among those that came. */
  flushesLeft = 0;
  flushErrno = 0;
  /** FLUSH: the incarnation it was sent to. */
  incarnation = 0;
  /** Order of first submission, so that what is sent again goes in that order. */
  sequence = 0;
  /** Monotonic milliseconds from which its deadline counts. */
  askedMs = 0;
  /** Monotonic milliseconds at which it was given to the upstream, and last sent. */
  submittedMs = 0;
  sentMs = 0;
  /** FLUSH: which writes it proves when it succeeds (Unflushed.next when it was sent). */
  covers = 0;

  load(request: DeviceRequest): void {
    this.op = request.op;
    this.offset = request.offset;
    this.length = request.length;
    this.fua = request.fua;
    this.punch = request.punch;
    this.fast = request.fast;
    this.one = request.one;
    this.lane = request.lane;
    this.data = request.data;
    this.request = request;
  }

  clear(): void {
    this.data = null;
    this.extents = null;
    this.request = null;
    this.settled = null;
    this.whole = null;
    this.replay = false;
    this.orphan = null;
    this.flushAfter = false;
    this.flushErrno = 0;
    this.fua = false;
    this.punch = false;
    this.fast = false;
    this.one = false;
  }

  get writes(): boolean {
    return this.op === OP.WRITE || this.op === OP.ZEROES;
  }
}
