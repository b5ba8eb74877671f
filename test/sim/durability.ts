// What is promised about acknowledged writes that no flush has covered yet, as a rule the checker asks: may this write be
// gone after that fault? What a flush or FUA has covered is never gone, under any of these.
import type { Mark } from './history.js';

export interface DurabilityPromise {
  readonly name: string;
  /**
   * May a write of `volume` be gone because of `marks[index]`? If a later one may, so may an earlier. `completed` is Infinity
   * for one that was answered with an error or not at all.
   */
  mayLose(volume: string, write: { invoked: number; completed: number }, marks: readonly Mark[], index: number): boolean;
}

/**
 * A write is lost only when the gateway AND the active node failed before it was flushed: the gateway's memory makes up
 * for a node's lost cache, a node's cache for a gateway's lost memory. With a journal the node need not have lost anything:
 * when it does not answer after the gateway's restart, a mirror takes over with what was flushed.
 */
export const asyncPromise: DurabilityPromise = {
  name: 'async',
  mayLose(volume, { invoked, completed }, marks, index) {
    const mark = marks[index];
    const isActive = mark.activeFor.includes(volume);
    // It was seen, but never acknowledged: nobody would write it again, and what is acknowledged below it may be.
    if (completed === Number.POSITIVE_INFINITY && isActive) return true;
    if (mark.kind === 'failover' || mark.kind === 'return') return false;
    if (mark.kind !== 'gateway-crash') {
      if (!isActive) return false;
      // Nobody is left who would write it again.
      return marks.some((other, at) => at < index && other.kind === 'gateway-crash' && other.at > invoked);
    }
    // The node had lost it, and the gateway may not have written it again yet.
    for (let at = index - 1; at >= 0 && marks[at].kind !== 'gateway-crash'; at -= 1) {
      if (marks[at].kind === 'power-loss' && marks[at].at > invoked && marks[at].activeFor.includes(volume)) return true;
    }
    return false;
  },
};
