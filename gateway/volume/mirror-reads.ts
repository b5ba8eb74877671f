// Reads that the active target refused, and a mirror answers (rule 17): at once where nothing of the range is on its way to the
// mirror, else when what is on its way has arrived, with the range locked meanwhile, for as long as the mirror is in step.
import type { Mirror } from '../../replication/mirror.js';
import type { RangeLock } from '../../replication/range-lock.js';
import type { Clock } from '../../replication/world.js';
import type { VolumeOp } from './volume-op.js';
import { whileUsable } from './while-usable.js';

/** A mirror that does not take what is queued for it in this time is not in step. */
const WAIT_MS = 3000;

export interface MirrorReadsOptions {
  clock: Clock;
  lock: RangeLock;
  mirrors(): readonly Mirror[];
  /** To the active target, which is another now. */
  send(op: VolumeOp): void;
  /** A mirror's bytes are in it. */
  done(op: VolumeOp, refusedErrno: number): void;
  /** It ends with this error. */
  failed(op: VolumeOp, errno: number): void;
}

export class MirrorReads {
  readonly #options: MirrorReadsOptions;

  constructor(options: MirrorReadsOptions) {
    this.#options = options;
  }

  /** The active target refused it. True: a mirror is asked, now or in a moment. */
  take(op: VolumeOp, errno: number): boolean {
    const { lock, mirrors } = this.#options;
    const mirror = mirrors().find((each) => each.mayRead(op.offset, op.length));
    const atOnce = mirror !== undefined && !lock.overlaps(op.offset, op.length);
    if (!atOnce && !this.#anyUsable) return false;
    op.fallback = true;
    op.pendingErrno = errno;
    if (atOnce) mirror.read(op);
    else this.#waitFor(op);
    return true;
  }

  /** What a mirror answered is not to be believed yet: it is asked again with the range locked. */
  again(op: VolumeOp): void {
    this.#waitFor(op);
  }

  /** Its range is locked: nothing new is written there. */
  locked(op: VolumeOp): void {
    const { clock, mirrors, send, failed } = this.#options;
    const mirror = mirrors().find(({ usable }) => usable);
    if (mirror === undefined) {
      failed(op, op.pendingErrno);
      return;
    }
    const untilMs = clock.nowMs() + WAIT_MS;
    void whileUsable(clock, mirror, () => untilMs, mirror.queue.passed()).then(() => {
      if (!mirrors().includes(mirror)) {
        // It was dropped, or is what hosts read from now.
        op.fallback = false;
        op.pendingErrno = 0;
        send(op);
      } else if (mirror.mayRead(op.offset, op.length)) mirror.read(op);
      else failed(op, op.pendingErrno);
    });
  }

  /** A mirror answered. Looked at again: when a write came meanwhile its bytes count for nothing. */
  answered(op: VolumeOp): void {
    const { lock, mirrors, done, failed } = this.#options;
    const errno = op.pendingErrno;
    if (mirrors().some((each) => each.mayRead(op.offset, op.length)) && (op.locked || !lock.overlaps(op.offset, op.length))) {
      done(op, errno);
      return;
    }
    op.data = null;
    if (!op.locked && this.#anyUsable) this.#waitFor(op);
    else failed(op, errno);
  }

  get #anyUsable(): boolean {
    return this.#options.mirrors().some(({ usable }) => usable);
  }

  #waitFor(op: VolumeOp): void {
    if (op.locked || this.#options.lock.acquire(op, op.offset, op.length)) this.locked(op);
  }
}
