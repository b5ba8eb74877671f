// An upstream's connections to its target: dials, tries again, looks whether the node can be a copy, and keeps all of one
// incarnation. When one is lost all are, because each may have reached another incarnation, and none stands again before
// every one of them has handed back what it carried. Knows nothing of what is sent over them.
import type { Clock, Timer } from '../../replication/world.js';
import type { Negotiated } from '../nbd/client-handshake.js';
import type { Dialer, WireAddress } from '../wire.js';
import { type Features, featuresOf, findDifference, findMismatch, type Requirements } from './features.js';
import type { Job } from './job.js';
import { Link } from './link.js';
import type { Violation } from './violation.js';
import { Wariness } from './wariness.js';

const RETRY_MS = [10, 20, 50, 100, 200, 500, 1000] as const;
/** A mismatch may be mended by an operator; looking again costs little. */
const BLOCKED_RETRY_MS = 5000;
const HANDSHAKE_MS = 10_000;
/** A connection that was lost sooner, without having answered anything, is no reason to try again at once. */
const STOOD_MS = 10_000;

export interface ConnectionsOptions {
  /** Asked at each attempt, because an agent may have moved; a string says why there is no address now. */
  address(): WireAddress | string;
  exportName: string;
  /** Connections at most; more than one only where the node says that a flush covers them all. */
  connections: number;
  /** How long a request of a lost connection may still land in the node. */
  zombieMs: number;
  needs: Requirements;
  dialer: Dialer;
  clock: Clock;
}

export interface ConnectionsEvents {
  /** The first connection of a new incarnation stands. */
  stands(): void;
  answered(link: Link, job: Job, errno: number): void;
  /** None stands any more; what they carried comes by `handedBack`. */
  lost(reason: string): void;
  /** The outcome of these jobs is unknown: their connection has ended. */
  handedBack(jobs: Job[]): void;
  /** The node answers and cannot be used; it is looked at again later. */
  blocked(reason: string): void;
  /** It was tried and does not answer; it is tried again. */
  failed(reason: string): void;
  /** The node broke the protocol; where that ended a connection, `lost` or `failed` follows. */
  violated(violation: Violation): void;
  /** A new incarnation can other things than the one before. */
  changed(what: string): void;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #events: ConnectionsEvents;
  readonly #clock: Clock;
  #standing: Link[] = [];
  /** They have not shaken hands yet. */
  readonly #others = new Set<Link>();
  /** They stood and are being torn down: what they carried is handed back when they have closed. */
  readonly #torn = new Set<Link>();
  #features: Features | null = null;
  /** What the first connection that stands agreed on. */
  #negotiated: Negotiated | null = null;
  readonly #wariness = new Wariness();
  #incarnation = 0;
  #attempts = 0;
  #stoodMs = 0;
  #blocked = false;
  #timer: Timer | null = null;
  /** Why no connection is wanted any more; null: one is. */
  #ended: string | null = null;
  /** After `abandon`: who is told when nothing old can land any more, and before when that cannot be. */
  #settled: (() => void) | null = null;
  #orphansUntilMs = 0;

  constructor(options: ConnectionsOptions, events: ConnectionsEvents) {
    this.#options = options;
    this.#events = events;
    this.#clock = options.clock;
  }

  get standing(): readonly Link[] {
    return this.#standing;
  }

  /** What the node said it can, at the latest handshake; null before the first. */
  get features(): Features | null {
    return this.#features;
  }

  /** Grows by one each time that the first connection stands. */
  get incarnation(): number {
    return this.#incarnation;
  }

  /** The connection for a lane; only while one stands. */
  pick(lane: number): Link {
    return this.#standing[lane % this.#standing.length];
  }

  /** Jobs that were sent and not answered, those of connections being torn down too. */
  *unanswered(): Iterable<Job> {
    for (const link of this.#standing) yield* link.unanswered();
    for (const link of this.#torn) yield* link.unanswered();
  }

  /** Are writes on their way that touch the range? */
  writesInFlight(offset: number, end: number): boolean {
    for (const link of this.#standing) {
      for (const job of link.unanswered()) {
        // Of a request in parts some may not have been sent yet: as long as one is on its way, all are.
        for (let each: Job | null = job; each !== null; each = each.whole) {
          if (each.writes && each.offset < end && each.offset + each.length > offset) return true;
        }
      }
    }
    return false;
  }

  dial(): void {
    this.#timer = null;
    const address = this.#options.address();
    if (typeof address === 'string') {
      this.#retry(address);
      return;
    }
    const { dialer, exportName } = this.#options;
    const link = new Link(
      { dialer, clock: this.#clock, address, exportName, handshakeMs: HANDSHAKE_MS, wishes: this.#wariness.wishes },
      {
        ready: (ready, negotiated) => this.#shookHands(ready, negotiated),
        answered: this.#events.answered,
        violated: (violating, violation) => {
          this.#wariness.violated(violation, violating.open ? this.#negotiated : null, this.#clock.nowMs());
          this.#events.violated(violation);
        },
        closed: (closed, unanswered, reason) => this.#closed(closed, unanswered, reason),
      },
    );
    this.#others.add(link);
  }

  /** Ends those that stand; they are dialled again. */
  drop(reason: string): void {
    for (const link of [...this.#standing]) link.close(reason);
  }

  /** Ends those that stand, which carry nothing, and dials at once: what the node has become is seen by a new handshake. */
  renew(reason: string): void {
    this.#tearDown(reason, () => {});
  }

  /** The node stands and must not be used: it is looked at again later. */
  turnAway(reason: string): void {
    this.#tearDown(reason, () => this.#block(reason));
  }

  /**
   * Dials no more. Connections that carry something are kept until it is answered; `settled` is called once nothing old can
   * land in the target any more, which is not before `untilMs`.
   */
  abandon(reason: string, untilMs: number, settled: () => void): void {
    this.#end(reason);
    this.#orphansUntilMs = Math.max(this.#orphansUntilMs, untilMs);
    this.#settled = settled;
    for (const link of this.#others) link.close(reason);
    this.settle();
  }

  /** After `abandon`: closes what is idle, and tells when nothing old can land any more. */
  settle(): void {
    if (this.#settled === null) return;
    for (const link of this.#standing) if (link.inFlight > 0) return;
    for (const link of [...this.#standing]) link.disconnect();
    if (this.#standing.length > 0 || this.#torn.size > 0) return;
    const leftMs = this.#orphansUntilMs - this.#clock.nowMs();
    if (leftMs > 0) {
      this.#timer ??= this.#clock.after(leftMs, () => {
        this.#timer = null;
        this.settle();
      });
      return;
    }
    const settled = this.#settled;
    this.#settled = null;
    settled();
  }

  close(reason: string): void {
    this.#end(reason);
    this.#settled = null;
    for (const link of this.#others) link.close(reason);
    for (const link of this.#standing) {
      if (link.inFlight === 0) link.disconnect();
      else link.close(reason);
    }
  }

  #end(reason: string): void {
    this.#ended = reason;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #shookHands(link: Link, negotiated: Negotiated): void {
    if (this.#ended !== null) {
      link.close(this.#ended);
      return;
    }
    const mismatch = findMismatch(negotiated, this.#options.needs);
    if (mismatch !== null) {
      if (this.#standing.length === 0) this.#block(mismatch);
      link.close(mismatch);
      return;
    }
    const features = featuresOf(negotiated);
    const difference = this.#features === null ? null : findDifference(this.#features, features);
    if (this.#standing.length > 0 && difference !== null) {
      const reason = `another connection to the same export is not like the first: ${difference}`;
      this.#events.violated({ kind: 'handshake', reason });
      link.close(reason);
      return;
    }
    this.#others.delete(link);
    this.#standing.push(link);
    if (this.#standing.length > 1) return;
    this.#features = features;
    this.#negotiated = negotiated;
    this.#incarnation += 1;
    this.#stoodMs = this.#clock.nowMs();
    this.#blocked = false;
    if (difference !== null) this.#events.changed(difference);
    this.#events.stands();
    if (this.#features.multiConn) for (let more = 1; more < this.#options.connections; more += 1) this.dial();
  }

  #closed(link: Link, unanswered: Job[], reason: string): void {
    this.#others.delete(link);
    if (link.endedAskingExtended) this.#wariness.avoidExtended();
    if (link.answers > 0 || (this.#standing.includes(link) && this.#clock.nowMs() - this.#stoodMs >= STOOD_MS)) this.#attempts = 0;
    // The first of them is gone: all share its fate.
    if (this.#ended === null && this.#standing.includes(link))
      this.#tearDown(`another connection to the node was lost: ${reason}`, () => this.#events.lost(reason));
    if (this.#ended !== null) {
      this.#standing = this.#standing.filter((each) => each !== link);
      this.#torn.delete(link);
      if (unanswered.some((job) => job.writes))
        this.#orphansUntilMs = Math.max(this.#orphansUntilMs, this.#clock.nowMs() + this.#options.zombieMs);
      this.settle();
      return;
    }
    const stood = this.#torn.delete(link);
    if (stood) this.#events.handedBack(unanswered);
    // An extra connection that never stood and fails leaves fewer lanes; the first one is tried again.
    if (this.#standing.length === 0 && this.#torn.size === 0) this.#retry(reason);
  }

  /** None may stand before all that stood have handed back what they carried. `tell` is called before anything closes. */
  #tearDown(reason: string, tell: () => void): void {
    const links = this.#standing;
    this.#standing = [];
    for (const link of links) this.#torn.add(link);
    tell();
    for (const link of links) link.close(reason);
    for (const link of this.#others) link.close(reason);
  }

  #block(reason: string): void {
    this.#blocked = true;
    this.#events.blocked(reason);
  }

  #retry(reason: string): void {
    if (this.#ended !== null || this.#timer !== null || this.#others.size > 0) return;
    this.#events.failed(reason);
    const usualMs = this.#blocked ? BLOCKED_RETRY_MS : RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)];
    const delayMs = Math.max(usualMs, this.#wariness.takePause());
    this.#attempts += 1;
    this.#timer = this.#clock.after(delayMs, () => this.dial());
  }
}
