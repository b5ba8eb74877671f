// The same workload with nobody to predict: the node is killed with the volume's only copy on it, and hosts wait until
// somebody starts it again. How long that takes is chosen; what it does to the host is measured.
import { formatDuration } from '../../config/units.js';
import type { Scene } from './evacuation.js';

const BACK_MS = 60_000;

export interface ReactionFacts {
  outageMs: number;
  /** Longest time without an answered write. */
  gapMs: number;
  /** Answered writes that no flush had covered when the node died. */
  atRisk: number;
  writesAfter: number;
}

export async function react({ stage, watch, host, narrator, pace, clock }: Scene): Promise<ReactionFacts> {
  await watch.pass(pace.calmMs);
  const node = stage.node('a');
  narrator.say(`kill -9 for node a (process ${node.program.pid}), which nobody saw coming`);
  host.ledger.begin(clock.nowMs());
  const killed = node.program.kill();
  const atRisk = host.ledger.unflushed;
  await killed;
  await watch.pass(pace.outageMs);
  narrator.say(`somebody has found out and starts node a again, ${formatDuration(pace.outageMs)} after it died`);
  const before = host.ledger.stretch(clock.nowMs()).writes;
  await stage.startNode('a');
  await watch.until(
    'the host gets answers again',
    BACK_MS,
    async () => host.ledger.stretch(clock.nowMs()).writes,
    (writes) => writes > before + 10 || host.ended !== null,
  );
  await watch.pass(pace.calmMs);
  const { longestGapMs, writes } = host.ledger.stretch(clock.nowMs());
  narrator.say(`the host writes again after ${formatDuration(longestGapMs)} without an answer`);
  return { outageMs: pace.outageMs, gapMs: longestGapMs, atRisk, writesAfter: writes - before };
}
