// Says in the log what is wrong with a target: one clear line with its node and the reason, and no more than one a minute for
// each way in which the node breaks the protocol, however often it does it again; the next line says how often that was.
import type { Clock, Log } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { Violation, ViolationKind } from './violation.js';

const QUIET_MS = 60_000;

export class TroubleLog {
  readonly #target: TargetRef;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #told = new Map<ViolationKind, { atMs: number; unsaid: number }>();
  /** Why it could not be reached, as it was told last. */
  #failure: string | null = null;
  #failureMs = Number.NEGATIVE_INFINITY;

  constructor({ target, clock, log }: { target: TargetRef; clock: Clock; log: Log }) {
    this.#target = target;
    this.#clock = clock;
    this.#log = log;
  }

  tell({ kind, reason }: Violation): void {
    const nowMs = this.#clock.nowMs();
    const last = this.#told.get(kind);
    if (last !== undefined && nowMs - last.atMs < QUIET_MS) {
      last.unsaid += 1;
      return;
    }
    this.#told.set(kind, { atMs: nowMs, unsaid: 0 });
    const fields = { ...this.#where, kind, reason, unsaid: last?.unsaid ?? 0 };
    if (kind === 'truncated') this.#log.warn(fields, 'a node ended a connection in the middle of a reply');
    else this.#log.error(fields, 'a node broke the protocol');
  }

  /** It was tried and cannot be used now. A new reason is told at once, at most one in a minute after that. */
  failed(reason: string): void {
    const nowMs = this.#clock.nowMs();
    if (reason === this.#failure || (this.#failure !== null && nowMs - this.#failureMs < QUIET_MS)) return;
    this.#failure = reason;
    this.#failureMs = nowMs;
    this.#log.warn({ ...this.#where, reason }, 'a target cannot be used: requests wait, it is tried again');
  }

  /** It answers, and is not what the volume needs. */
  blocked(reason: string): void {
    this.#log.error({ ...this.#where, reason }, 'a target answers and is not what the volume needs: requests wait');
  }

  changed(what: string): void {
    this.#log.warn({ ...this.#where, what }, 'an export is not what it was before');
  }

  /** It is used again: the next failure is news. */
  answers(): void {
    this.#failure = null;
  }

  get #where(): { node: string; target: TargetRef } {
    return { node: this.#target.node, target: this.#target };
  }
}
