// What becomes of a host's read once it is sent: the active target's bytes are held against what is known of them (rule 16), what
// it refuses or has wrong a mirror answers (rule 17), and what it takes long for a mirror is asked, too.
import type { Hasher } from '../../replication/hasher.js';
import type { Mirror } from '../../replication/mirror.js';
import type { RangeLock } from '../../replication/range-lock.js';
import type { RegionSums } from '../../replication/region-sums.js';
import type { Clock } from '../../replication/world.js';
import { ERRNO } from '../../replication/device.js';
import type { LatencyHistogram } from '../metrics/histogram.js';
import { Hedging } from './hedging.js';
import { MirrorReads } from './mirror-reads.js';
import { ReadCheck } from './read-check.js';
import type { VolumeOp } from './volume-op.js';

export interface ReadEvents {
  /** Is a range one whose bytes are known to be wrong on the active target, or that no copy (`everywhere`) is known to have right? */
  fenced(offset: number, length: number, everywhere: boolean): boolean;
  /** The bytes of the region at this offset are not those of its checksum, with the range locked: on the active copy, or on every one that was read. */
  wrong(offset: number, where: 'active' | 'every'): void;
  /** A read failed on the active target and was answered by a mirror. */
  readRepaired(offset: number, length: number, errno: number): void;
}

export interface ReadPathOptions {
  clock: Clock;
  lock: RangeLock;
  sums: RegionSums;
  sum: Hasher['sum'];
  events: ReadEvents;
  mirrors(): readonly Mirror[];
  /** How long a read waits before a mirror is asked, too (milliseconds); null: none is. */
  hedgeAfterMs(): number | null;
  /** How long a mirror's node takes for a request, lately; null: nobody knows. */
  latencyOf(mirror: Mirror): LatencyHistogram | null;
  /** To the active target, which may be another now. */
  send(op: VolumeOp): void;
  finish(op: VolumeOp, errno: number): void;
  /** The host gets what is in it; the active target has not answered yet. */
  overtaken(op: VolumeOp): void;
}

export class ReadPath {
  readonly #options: ReadPathOptions;
  readonly #fromMirrors: MirrorReads;
  readonly #check: ReadCheck;
  readonly #hedging: Hedging;

  constructor(options: ReadPathOptions) {
    const { events, finish } = options;
    this.#options = options;
    this.#check = new ReadCheck({ ...options, right: (op) => this.#right(op), wrong: (op, offset) => this.#wrong(op, offset) });
    this.#hedging = new Hedging({ ...options, answered: (op, data) => this.#overtaken(op, data) });
    this.#fromMirrors = new MirrorReads({
      ...options,
      done: (op, refusedErrno) => {
        events.readRepaired(op.offset, op.length, refusedErrno);
        finish(op, 0);
      },
      failed: (op, errno) => finish(op, errno),
    });
  }

  /** It was sent to the active target. */
  sent(op: VolumeOp): void {
    if (this.#hedging.on) this.#hedging.sent(op);
  }

  /** The active target was given up before it answered. */
  takenBack(op: VolumeOp): void {
    this.#hedging.over(op);
  }

  /** The active target is done with what a mirror was quicker to answer. */
  settled(): void {
    this.#hedging.settled();
  }

  /** Its range is held. */
  locked(op: VolumeOp): void {
    if (op.fallback) this.#fromMirrors.locked(op);
    else this.#options.send(op);
  }

  /** A target answered. */
  answered(op: VolumeOp, errno: number): void {
    const { events, sums, mirrors } = this.#options;
    if (!op.fallback) this.#hedging.over(op);
    if (errno !== 0) this.#refused(op, errno);
    else if (events.fenced(op.offset, op.length, op.fallback)) this.#refused(op, ERRNO.EIO);
    // Without a mirror nobody keeps checksums true.
    else if (op.length >= sums.regionBytes && mirrors().length > 0) this.#check.check(op);
    else this.#right(op);
  }

  /** A few times a second. */
  tick(): void {
    this.#hedging.tick();
  }

  close(): void {
    this.#hedging.close();
  }

  #refused(op: VolumeOp, errno: number): void {
    if (op.fallback) this.#options.finish(op, op.pendingErrno);
    else if (!this.#fromMirrors.take(op, errno)) this.#options.finish(op, errno);
  }

  #right(op: VolumeOp): void {
    if (op.fallback) this.#fromMirrors.answered(op);
    else this.#options.finish(op, 0);
  }

  /** It is read again with its range locked; when that gives no other bytes, the copy is wrong and another one is asked. */
  #wrong(op: VolumeOp, offset: number): void {
    const { lock, send, events } = this.#options;
    op.data = null;
    if (op.locked) {
      events.wrong(offset, op.fallback ? 'every' : 'active');
      this.#refused(op, ERRNO.EIO);
    } else if (op.fallback) this.#fromMirrors.again(op);
    else if (lock.acquire(op, op.offset, op.length)) send(op);
  }

  #overtaken(op: VolumeOp, data: Buffer): boolean {
    const { events, overtaken } = this.#options;
    if (events.fenced(op.offset, op.length, true) || this.#check.wrongAt(op.offset, data) >= 0) return false;
    op.data = data;
    overtaken(op);
    return true;
  }
}
