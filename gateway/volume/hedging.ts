// Reads that the active target takes long to answer are asked of a mirror, too, when the policy says so: the host gets what
// comes first. A mirror is asked, and believed, only where it lacks nothing (rule 17), looked at before and after. What it
// was slower than stays with the active target until that answers. Off, it costs a read one comparison.
import { type DeviceRequest, type Extent, OP } from '../../replication/device.js';
import type { Mirror } from '../../replication/mirror.js';
import type { RangeLock } from '../../replication/range-lock.js';
import type { Clock, Timer } from '../../replication/world.js';
import type { LatencyHistogram } from '../metrics/histogram.js';
import type { VolumeOp } from './volume-op.js';

/** Larger ones are not asked twice. */
const READ_BYTES_MAX = 1024 * 1024;
/** Asked of mirrors at a time, and answered by them while the active target still owes its answer. */
const ASKED_BYTES_MAX = 16 * 1024 * 1024;
const OWED_MAX = 256;
/** So many answers of a mirror make a 99th percentile; with fewer the last one stands. */
const ANSWERS_MIN = 100;
/** A read that no mirror could be asked for is looked at again after this. */
const AGAIN_MS = 1;

export interface HedgingOptions {
  clock: Clock;
  lock: RangeLock;
  mirrors(): readonly Mirror[];
  /** Null: never. */
  hedgeAfterMs(): number | null;
  /** How long a mirror's node takes for a request, lately (microseconds). */
  latencyOf(mirror: Mirror): LatencyHistogram | null;
  /** A mirror has answered first. False: its bytes are not wanted, the active target's are waited for. */
  answered(op: VolumeOp, data: Buffer): boolean;
}

/** A read of a mirror on behalf of a host's. */
class HedgedRead implements DeviceRequest {
  readonly op = OP.READ;
  readonly fua = false;
  readonly punch = false;
  readonly fast = false;
  readonly one = false;
  readonly extents: Extent[] | null = null;
  readonly offset: number;
  readonly length: number;
  readonly lane: number;
  readonly sequence: number;
  data: Buffer | null = null;

  constructor(
    readonly hedging: Hedging,
    readonly host: VolumeOp,
    readonly mirror: Mirror,
  ) {
    this.offset = host.offset;
    this.length = host.length;
    this.lane = host.lane;
    this.sequence = host.sequence;
  }

  complete(errno: number): void {
    this.hedging.came(this, errno);
  }
}

export class Hedging {
  readonly #options: HedgingOptions;
  /** Milliseconds after which a mirror is asked; Infinity: never. */
  #afterMs = Number.POSITIVE_INFINITY;
  readonly #p99Ms = new WeakMap<Mirror, number>();
  /** Reads on the active target, the oldest first. */
  readonly #waiting = new Set<VolumeOp>();
  /** Those of them that a mirror was asked for. */
  readonly #asked = new Set<VolumeOp>();
  #askedBytes = 0;
  /** Answered by a mirror, and by the active target not yet. */
  #owed = 0;
  #timer: Timer | null = null;

  constructor(options: HedgingOptions) {
    this.#options = options;
  }

  get on(): boolean {
    return this.#afterMs !== Number.POSITIVE_INFINITY;
  }

  /** A few times a second: what the policy says and how fast the quickest mirror is. */
  tick(): void {
    const { mirrors, hedgeAfterMs, latencyOf } = this.#options;
    const least = hedgeAfterMs();
    let quickest = Number.POSITIVE_INFINITY;
    for (const mirror of least === null ? [] : mirrors()) {
      const latency = latencyOf(mirror);
      if (latency !== null && latency.count >= ANSWERS_MIN) this.#p99Ms.set(mirror, latency.quantile(0.99)! / 1000);
      if (mirror.usable) quickest = Math.min(quickest, Math.max(least!, this.#p99Ms.get(mirror) ?? 0));
    }
    this.#afterMs = quickest;
    if (!this.on) this.close();
  }

  /** A host's read was sent to the active target. */
  sent(op: VolumeOp): void {
    if (op.length > READ_BYTES_MAX || op.locked) return;
    this.#waiting.add(op);
    this.#timer ??= this.#options.clock.after(this.#afterMs, () => this.#look());
  }

  /** The active target answered it, or was given up. */
  over(op: VolumeOp): void {
    this.#waiting.delete(op);
    this.#asked.delete(op);
  }

  /** The active target answered a read that a mirror had answered before. */
  settled(): void {
    this.#owed -= 1;
  }

  /** No mirror is asked any more. */
  close(): void {
    this.#waiting.clear();
    this.#asked.clear();
    this.#timer?.cancel();
    this.#timer = null;
  }

  came(read: HedgedRead, errno: number): void {
    const { host, mirror, sequence, data } = read;
    const { mirrors, answered } = this.#options;
    this.#askedBytes -= read.length;
    if (!this.#asked.has(host) || host.sequence !== sequence) return;
    this.#asked.delete(host);
    if (errno !== 0 || !mirrors().includes(mirror) || !this.#mayAsk(mirror, host)) return;
    // Its place in the set must be gone before the host is told: its next read may be the same object.
    this.#waiting.delete(host);
    this.#owed += 1;
    if (!answered(host, data!)) this.#owed -= 1;
  }

  #look(): void {
    this.#timer = null;
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const op of this.#waiting) {
      const leftMs = op.startedMs + this.#afterMs - nowMs;
      if (leftMs > 0) {
        nextMs = Math.min(nextMs, leftMs);
        break;
      }
      if (!this.#asked.has(op) && !this.#ask(op)) nextMs = AGAIN_MS;
    }
    if (this.#waiting.size > 0) this.#timer = clock.after(Math.max(AGAIN_MS, Math.min(nextMs, this.#afterMs)), () => this.#look());
  }

  #ask(op: VolumeOp): boolean {
    if (this.#owed >= OWED_MAX || this.#askedBytes + op.length > ASKED_BYTES_MAX) return false;
    const mirror = this.#options.mirrors().find((each) => this.#mayAsk(each, op));
    if (mirror === undefined) return false;
    this.#asked.add(op);
    this.#askedBytes += op.length;
    mirror.read(new HedgedRead(this, op, mirror));
    return true;
  }

  /** Does the mirror lack nothing there, and is nothing being written there? */
  #mayAsk(mirror: Mirror, op: VolumeOp): boolean {
    return mirror.mayRead(op.offset, op.length) && !this.#options.lock.overlaps(op.offset, op.length);
  }
}
