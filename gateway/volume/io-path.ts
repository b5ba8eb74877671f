// The way of a host's request through a volume. A write waits for room in the mirrors' queues, then for its range
// (rule 4), then for its marks (rule 1), then goes to the active target; when that has answered, the mirrors get it from
// memory (rule 5) and the host its answer. Reads and flushes go straight. Flips stand at two gates: `hold` keeps new
// requests outside while those inside finish; `suspend` keeps even those inside from being sent.
// On the fast path: no promise, no closure, no object that is not pooled.
import assert from 'node:assert';
import { type Device, type DeviceRequest, ERRNO, type Extent, OP } from '../../replication/device.js';
import type { IntentLog } from '../../replication/intent-log.js';
import type { Mirror } from '../../replication/mirror.js';
import { RangeLock } from '../../replication/range-lock.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { ReplicationQueue } from '../../replication/replication-queue.js';
import type { Clock } from '../../replication/world.js';
import { Allocation } from './allocation.js';
import { Durability } from './durability.js';
import { HostCounters } from './host-counters.js';
import { type ReadEvents, ReadPath, type ReadPathOptions } from './read-path.js';
import { VolumeOp } from './volume-op.js';
import type { VolumeSettings } from './volume-settings.js';

export interface PathEvents extends ReadEvents {
  /** Is some of it wrong on every copy? Then the write of a part must not make the rest look right: first `givesUp` must resolve. */
  rotten(offset: number, length: number): boolean;
  givesUp(offset: number, length: number): Promise<void>;
  /** Is some of it what no copy can give? */
  lost(offset: number, length: number): boolean;
  /** It was written, and is on the active target's stable storage. Resolves when a restart knows it, too; false: the volume closes before. */
  filled(offset: number, length: number): Promise<boolean>;
  /** The active target answered a write or a flush with an error while a mirror could take over: true: it will be tried, the request waits. */
  activeFailed(op: VolumeOp, errno: number): boolean;
}

export interface IoPathOptions extends Pick<ReadPathOptions, 'clock' | 'sums' | 'sum' | 'hedgeAfterMs' | 'latencyOf'> {
  log: IntentLog;
  active: Device;
  /** Can the active target say where it has holes? */
  activeTells(): boolean;
  events: PathEvents;
}

export class IoPath implements Device {
  readonly lock = new RangeLock();
  readonly counters = new HostCounters();
  readonly durability: Durability;
  readonly #clock: Clock;
  readonly #log: IntentLog;
  readonly #sums: RegionSums;
  readonly #events: PathEvents;
  readonly #reads: ReadPath;
  readonly #allocation: Allocation;
  readonly #pool: VolumeOp[] = [];
  #active: Device;
  #mirrors: Mirror[] = [];
  #held = false;
  #suspended = false;
  #sequence = 0;
  #inside = 0;
  /** Requests on the active target. */
  #unanswered = 0;
  #admittedBytes = 0;
  /** Writes sent before any mirror was there, without marks (rule 2). */
  #unmarked = 0;
  /** Writes that were sent to an earlier active target and go to another: reads of their range wait for them. */
  #resent = 0;
  #outside: VolumeOp[] = [];
  #roomWaiters: VolumeOp[] = [];
  #suspendedOps: VolumeOp[] = [];
  #drainWaiters: (() => void)[] = [];
  #unmarkedWaiters: (() => void)[] = [];

  constructor(options: IoPathOptions) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#sums = options.sums;
    this.#active = options.active;
    this.#events = options.events;
    const { clock } = options;
    this.#allocation = new Allocation({
      ...options,
      learns: () => this.#mirrors.length > 0,
      targetTells: () => options.activeTells(),
    });
    this.#reads = new ReadPath({
      ...options,
      lock: this.lock,
      mirrors: () => this.#mirrors,
      send: (op) => this.#send(op),
      finish: (op, errno) => this.#finish(op, errno),
      overtaken: (op) => this.#overtaken(op),
    });
    this.durability = new Durability({ clock, done: (op) => this.#secured(op) });
  }

  /** Of the volume. */
  get sizeBytes(): number {
    return this.#sums.sizeBytes;
  }

  /** Requests past the gate. */
  get inFlight(): number {
    return this.#inside;
  }

  /** Those of them that the active target has not answered. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** Requests that wait outside the gate. */
  get heldRequests(): number {
    return this.#outside.length;
  }

  get isHeld(): boolean {
    return this.#held;
  }

  get isSuspended(): boolean {
    return this.#suspended;
  }

  /** Replaces the mirrors that get every write; what hosts wait for besides is the policy's. */
  setMirrors(mirrors: Mirror[], policy: VolumeSettings['durability']): void {
    // Writes without a mirror leave checksums alone: only those that were learnt from now on are true.
    if (this.#mirrors.length === 0 && mirrors.length > 0) this.#sums.learn();
    this.#mirrors = mirrors;
    this.durability.setMirrors(mirrors, policy);
    this.#letIn();
  }

  /** Resolves when every write that was sent without a mark has been answered (rule 2). */
  unmarkedWritesDone(): Promise<void> {
    if (this.#unmarked === 0) return Promise.resolve();
    return new Promise((resolve) => this.#unmarkedWaiters.push(resolve));
  }

  submit(request: DeviceRequest): void {
    const op = this.#pool.pop() ?? new VolumeOp(this);
    op.load(request);
    op.startedMs = this.#clock.nowMs();
    this.#sequence += 1;
    op.sequence = this.#sequence;
    if (this.#held) this.#outside.push(op);
    else this.#enter(op);
  }

  /** Keeps new requests outside. */
  hold(): void {
    this.#held = true;
  }

  /** Resolves when nothing is inside the gate. */
  drained(): Promise<void> {
    if (this.#inside === 0) return Promise.resolve();
    return new Promise((resolve) => this.#drainWaiters.push(resolve));
  }

  /** Sends nothing to the active target any more; what would be sent is kept. */
  suspend(): void {
    this.#suspended = true;
  }

  /** Requests an abandoned upstream gave back: hosts' are kept to be sent again, others end with EIO. */
  takeBack(requests: DeviceRequest[]): void {
    for (const request of requests) {
      if (!(request instanceof VolumeOp)) request.complete(ERRNO.EIO);
      else if (request.host === null) this.#retire(request);
      else if (request.fallback) this.#finish(request, request.pendingErrno);
      else {
        this.#unanswered -= 1;
        this.#reads.takenBack(request);
        this.#suspendedOps.push(request);
      }
    }
  }

  /** From now on requests go to another target. Only while nothing is sent. */
  swap(active: Device): void {
    assert(this.#suspended || this.#inside === 0, 'targets are exchanged while no request is at one');
    this.#active = active;
    for (const op of this.#suspendedOps) op.pendingErrno = 0;
  }

  /**
   * Opens both gates: what was kept is sent, writes first and in order, then what waited outside enters. A request that
   * the active target refused, when no other took over, now ends with that error.
   */
  release(): void {
    this.#suspended = false;
    const kept = this.#suspendedOps.sort((one, other) => one.sequence - other.sequence);
    this.#suspendedOps = [];
    const others = kept.filter((op) => !op.writes && op.pendingErrno === 0);
    for (const op of kept) {
      if (op.pendingErrno !== 0) this.#failed(op, op.pendingErrno);
      else if (op.writes) {
        if (op.sent && !op.resent) {
          // Zeroes that were begun may have been seen: not being fast is no way out any more.
          op.fast = false;
          op.resent = true;
          this.#resent += 1;
        }
        this.#send(op);
      }
    }
    for (const op of others) this.#sendInOrder(op);
    this.#held = false;
    const outside = this.#outside;
    this.#outside = [];
    for (const op of outside) {
      if (this.#held) this.#outside.push(op);
      else this.#enter(op);
    }
  }

  /** A mirror's queue has room again, or a mirror is gone. */
  roomCame(): void {
    if (this.#roomWaiters.length > 0) this.#letIn();
  }

  /** Its range is held, or its marks are durable: go on. */
  locked(op: VolumeOp): void {
    if (op.op === OP.READ) {
      this.#reads.locked(op);
      return;
    }
    if (op.writes && this.#events.rotten(op.offset, op.length)) {
      void this.#events.givesUp(op.offset, op.length).then(() => this.#mark(op));
      return;
    }
    this.#mark(op);
  }

  #mark(op: VolumeOp): void {
    // Half of it on the disk would be read as all of it.
    if (op.writes && this.#events.lost(op.offset, op.length)) op.fua = true;
    if (op.writes && this.#mirrors.length > 0) {
      if (!this.#log.admit(op.offset, op.length)) {
        op.markOffset = op.offset;
        op.markLength = op.length;
        this.#log.mark(op);
        return;
      }
      this.#sums.forget(op.offset, op.length);
    }
    this.#send(op);
  }

  /** A target answered. */
  answered(op: VolumeOp, errno: number): void {
    if (op.host === null) {
      this.#retire(op);
      return;
    }
    if (!op.fallback) this.#unanswered -= 1;
    if (op.op === OP.READ) this.#reads.answered(op, errno);
    else if (op.op === OP.STATUS) this.#told(op, errno === 0 ? op.extents : null);
    else if (errno !== 0) this.#refused(op, errno);
    else if (op.writes) this.#written(op);
    else if (op.op === OP.FLUSH) this.durability.flushed(op);
    else this.#finish(op, 0);
  }

  /** A few times a second. */
  tick(): void {
    this.#reads.tick();
  }

  close(): void {
    this.#reads.close();
  }

  /** A mirror was quicker: the host has its answer, the request stays with the active target until that answers. */
  #overtaken(op: VolumeOp): void {
    this.#unanswered -= 1;
    this.counters.hedgedReads += 1;
    this.#tell(this.#detach(op, 0), 0);
  }

  /** The active target is done with what a mirror had answered. */
  #retire(op: VolumeOp): void {
    this.#reads.settled();
    op.clear();
    this.#pool.push(op);
  }

  #enter(op: VolumeOp): void {
    this.#inside += 1;
    if (op.writes) {
      if (this.#roomWaiters.length > 0 || !this.#hasRoom(op)) this.#roomWaiters.push(op);
      else this.#admit(op);
    } else this.#sendInOrder(op);
  }

  /** The active target said where it has holes, or refused to (null): that all may be data is always true. */
  #told(op: VolumeOp, extents: Extent[] | null): void {
    op.extents = this.#allocation.answer(op, extents);
    this.#finish(op, 0);
  }

  /** A read waits for a write that may have been seen on an earlier active target and is not yet on this one. */
  #sendInOrder(op: VolumeOp): void {
    // It would say what is there without that write.
    if (this.#resent > 0 && op.op === OP.STATUS) {
      this.#told(op, null);
      return;
    }
    if (this.#resent > 0 && op.op === OP.READ && !op.locked && this.lock.overlaps(op.offset, op.length)) {
      if (this.lock.acquire(op, op.offset, op.length)) this.#send(op);
    } else this.#send(op);
  }

  /** In the mirrors' queues and, taken by this, in the journal. */
  #hasRoom(op: VolumeOp): boolean {
    for (const mirror of this.#mirrors) {
      if (mirror.mustWait(ReplicationQueue.cost(op.length, op.op), this.#admittedBytes)) return false;
    }
    return this.durability.admit(op);
  }

  #admit(op: VolumeOp): void {
    op.cost = ReplicationQueue.cost(op.length, op.op);
    this.#admittedBytes += op.cost;
    if (this.lock.acquire(op, op.offset, op.length)) this.locked(op);
  }

  #letIn(): void {
    const waiters = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const op of waiters) {
      if (this.#roomWaiters.length > 0 || !this.#hasRoom(op)) this.#roomWaiters.push(op);
      else this.#admit(op);
    }
  }

  #send(op: VolumeOp): void {
    if (this.#suspended) {
      this.#suspendedOps.push(op);
      return;
    }
    if (op.writes && !op.sent && this.#mirrors.length === 0) {
      this.#unmarked += 1;
      op.unmarked = true;
    }
    op.sent = true;
    this.#unanswered += 1;
    if (op.op === OP.READ) this.#reads.sent(op);
    this.#active.submit(op);
  }

  #written(op: VolumeOp): void {
    if (op.unmarked) this.#markless(op);
    this.durability.written(op);
  }

  /** Nothing more is waited for, but what no copy could give counts as lost until it is written down that it does not any more. */
  #secured(op: VolumeOp): void {
    if (!op.writes || !this.#events.lost(op.offset, op.length)) {
      this.#finish(op, 0);
      return;
    }
    void this.#events.filled(op.offset, op.length).then((durable) => this.#finish(op, durable ? 0 : ERRNO.ESHUTDOWN));
  }

  #refused(op: VolumeOp, errno: number): void {
    // A fast zero that cannot be fast is an answer, not a failure.
    const failure = errno !== ERRNO.ENOTSUP;
    if (failure && this.#events.activeFailed(op, errno)) {
      op.pendingErrno = errno;
      this.#suspendedOps.push(op);
      return;
    }
    this.#failed(op, errno);
  }

  #failed(op: VolumeOp, errno: number): void {
    if (op.unmarked) this.#markless(op);
    if (op.writes && errno !== ERRNO.ENOTSUP) {
      for (const mirror of this.#mirrors) mirror.doubt(op.offset, op.length);
      this.#sums.forget(op.offset, op.length);
    }
    this.#finish(op, errno);
  }

  #markless(op: VolumeOp): void {
    op.unmarked = false;
    this.#unmarked -= 1;
    if (this.#unmarked > 0) return;
    const waiters = this.#unmarkedWaiters;
    this.#unmarkedWaiters = [];
    for (const resolve of waiters) resolve();
  }

  #finish(op: VolumeOp, errno: number): void {
    if (op.resent) this.#resent -= 1;
    if (op.locked) this.lock.release(op);
    if (op.cost > 0) {
      this.#admittedBytes -= op.cost;
      this.durability.ended(op);
    }
    const host = this.#detach(op, errno);
    op.clear();
    this.#pool.push(op);
    this.#tell(host, errno);
  }

  #detach(op: VolumeOp, errno: number): DeviceRequest {
    this.counters.answered(op, errno, this.#clock.nowMs());
    const host = op.host!;
    if (errno === 0) {
      if (op.op === OP.READ) host.data = op.data;
      else if (op.op === OP.STATUS) host.extents = op.extents;
    }
    op.host = null;
    return host;
  }

  #tell(host: DeviceRequest, errno: number): void {
    this.#inside -= 1;
    host.complete(errno);
    if (this.#inside === 0 && this.#drainWaiters.length > 0) {
      const waiters = this.#drainWaiters;
      this.#drainWaiters = [];
      for (const resolve of waiters) resolve();
    }
    if (this.#roomWaiters.length > 0) this.#letIn();
  }
}
