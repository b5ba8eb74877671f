// How a target that broke the protocol is dealt with from then on: it is tried again after longer and longer pauses, and what it got
// wrong is not asked of it again where that can be done without: extended headers, block status. Pure: times are told.
import type { ClientWishes, Negotiated } from '../nbd/client-handshake.js';
import type { Violation } from './violation.js';

const PAUSE_MS = [100, 500, 1000, 2000, 5000, 10_000, 30_000] as const;
/** After so long without another one a node begins with the shortest pause again. */
const FORGET_MS = 10 * 60_000;

export class Wariness {
  #extended = true;
  #status = true;
  #violations = 0;
  #lastMs = Number.NEGATIVE_INFINITY;
  /** The pause that the latest violation calls for has not been made yet. */
  #owesPause = false;

  /** What is to be left out of the next handshake. */
  get wishes(): Pick<ClientWishes, 'extended' | 'status'> {
    return { ...(this.#extended ? {} : { extended: false }), ...(this.#status ? {} : { status: false }) };
  }

  /** `negotiated`: what had been agreed on; null: it happened in the handshake. */
  violated({ kind }: Violation, negotiated: Negotiated | null, nowMs: number): void {
    // Small, or what a node does that is killed.
    if (kind === 'errno' || kind === 'truncated') return;
    if (nowMs - this.#lastMs > FORGET_MS) this.#violations = 0;
    this.#violations += 1;
    this.#lastMs = nowMs;
    this.#owesPause = true;
    if (kind === 'status') this.#status = false;
    else if (negotiated?.extended ?? true) this.#extended = false;
  }

  /** It ended the connection over being asked for extended headers. */
  avoidExtended(): void {
    this.#extended = false;
  }

  /** How long to wait before the next try; 0: the usual time. */
  takePause(): number {
    if (!this.#owesPause) return 0;
    this.#owesPause = false;
    return PAUSE_MS[Math.min(this.#violations, PAUSE_MS.length) - 1];
  }
}
