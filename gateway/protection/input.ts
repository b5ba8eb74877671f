// What goes into the protection machine and what comes out of it. Facts happened and are taken in every state;
// wishes come from an operator and may be refused; effects are orders to the shell, whose outcome is again a fact.
import type { FlipCertificate, MirrorState, MirrorView, NewEvent, Outcome, ProtectionState, ScrubReport, TargetRef } from '../control.js';
import type { Origin, Suspicion } from './situation.js';
import type { Move } from './transitions.js';

export type Fact =
  /** A verdict over any node fires, or fires again with another probability. */
  | { type: 'verdict-fired'; node: string; suspicion: Suspicion }
  | { type: 'verdict-cleared'; node: string }
  /** The planner lets this volume make the copy it wants. */
  | { type: 'turn' }
  | { type: 'target-chosen'; ticket: number; target: TargetRef; origin: Origin }
  | { type: 'no-placement'; ticket: number; reason: string; details?: Record<string, unknown> }
  | { type: 'mirror-started'; ticket: number; target: TargetRef }
  | { type: 'mirror-refused'; ticket: number; target: TargetRef; code: string; reason: string }
  | { type: 'mirror-state'; target: TargetRef; to: MirrorState; reason: string | null }
  | { type: 'mirror-dropped'; target: TargetRef }
  | { type: 'drop-refused'; target: TargetRef; reason: string }
  /** All mirrors the volume has: what it does not name is gone. */
  | { type: 'mirrors-seen'; mirrors: Pick<MirrorView, 'node' | 'export' | 'state' | 'reason'>[] }
  /** Flip, failover or rollback: the certificate's `kind` says which. */
  | { type: 'flip-done'; certificate: FlipCertificate }
  | { type: 'flip-refused'; ticket: number; code: string; reason: string; details?: Record<string, unknown> }
  | { type: 'scrub-finished'; report: ScrubReport }
  | { type: 'scrub-refused'; reason: string }
  | { type: 'target-lost'; target: TargetRef; reason: string }
  | { type: 'target-back'; target: TargetRef }
  | { type: 'target-blocked'; target: TargetRef; reason: string }
  | { type: 'damage'; offset: number; lengthBytes: number; reason: string }
  /** Time passed, or the policy changed. */
  | { type: 'tick' };

export type Wish =
  | { type: 'operator-mirror'; node: string | null }
  | { type: 'operator-drop'; node: string }
  | { type: 'operator-flip'; node: string | null }
  | { type: 'operator-rollback' };

/** What an operator's wish came to: the target of a mirror made or dropped, the flip's certificate, what was freed. */
export interface Answer {
  target: TargetRef | null;
  certificate: FlipCertificate | null;
  dropped: TargetRef[];
}

export type Effect =
  /** Find and make a target; `node`: there or nowhere. Answered by target-chosen or no-placement. */
  | { type: 'choose-target'; ticket: number; origin: Origin; node: string | null }
  /** Answered by mirror-started or mirror-refused. */
  | { type: 'start-mirror'; ticket: number; target: TargetRef; origin: Origin; cause: string }
  /** Answered by mirror-dropped or drop-refused. */
  | { type: 'drop-mirror'; target: TargetRef; cause: string }
  /** The volume no longer names it: give its space back. Not answered. */
  | { type: 'free-target'; target: TargetRef }
  /** Answered by flip-done or flip-refused. */
  | { type: 'flip'; ticket: number; to: TargetRef; kind: 'flip' | 'rollback'; reason: string; verdict: string | null }
  /** `after`: because of a flip. Answered by scrub-finished or scrub-refused. */
  | { type: 'scrub'; after: boolean; cause: string }
  /** For the predictor to learn from. */
  | { type: 'node-failed'; node: string }
  | { type: 'false-alarm'; node: string; reason: string }
  | { type: 'tell'; event: Pick<NewEvent, 'type' | 'level' | 'message' | 'node' | 'details'> }
  /** What became of the wish that got this ticket. */
  | { type: 'answer'; ticket: number; outcome: Outcome<Answer> };

export interface Transition {
  from: ProtectionState;
  to: ProtectionState;
  move: Move;
  cause: string;
  atMs: number;
}
