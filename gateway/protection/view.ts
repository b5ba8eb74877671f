// Protection of one volume as people and the API see it. Values only.
import { copyOf, describeTarget, type Situation, type Suspicion, threat } from './situation.js';

export interface ProtectionView {
  volume: string;
  state: Situation['state'];
  since: string;
  cause: string;
  verdict: Suspicion | null;
  copies: { node: string; export: string; origin: string; state: string; dropping: boolean }[];
  /** Where the last flip came from, while it is watched, and until when. */
  home: { node: string; export: string; observedUntil: string | null; failed: boolean } | null;
  /** When the next flip is due, and why what is wanted cannot be done now. */
  flipAt: string | null;
  waitsFor: string | null;
}

export function viewOf(s: Situation): ProtectionView {
  const iso = (ms: number) => new Date(ms).toISOString();
  const isLost = s.home !== null && copyOf(s, s.home.target)?.state === 'lost';
  const back = s.home !== null && isLost && !s.home.failed ? `${s.home.target.node} to answer again` : null;
  const until = s.home?.observeUntilMs ?? null;
  return {
    volume: s.volume,
    state: s.state,
    since: iso(s.sinceMs),
    cause: s.cause,
    verdict: threat(s),
    copies: s.copies.map(({ target, origin, state, drop }) => ({ ...target, origin, state, dropping: drop !== null })),
    home: s.home && { ...s.home.target, observedUntil: until === null ? null : iso(until), failed: s.home.failed },
    flipAt: s.flipAtMs === null ? null : iso(s.flipAtMs),
    waitsFor: (s.flip ? `the flip to ${describeTarget(s.flip.to)}` : null) ?? back ?? s.flipRetry?.reason ?? s.choiceRetry?.reason ?? null,
  };
}
