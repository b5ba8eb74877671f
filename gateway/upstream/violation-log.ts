// Says in the log that a node broke the protocol: one clear line for each kind, and no more than one a minute however often the
// node does it again; the next line says how often that was.
import type { Clock, Log } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { Violation, ViolationKind } from './violation.js';

const QUIET_MS = 60_000;

export class ViolationLog {
  readonly #target: TargetRef;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #told = new Map<ViolationKind, { atMs: number; unsaid: number }>();

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
    const fields = { node: this.#target.node, target: this.#target, kind, reason, since: last?.unsaid ?? 0 };
    if (kind === 'truncated') this.#log.warn(fields, 'a node ended a connection in the middle of a reply');
    else this.#log.error(fields, 'a node broke the protocol');
  }
}
