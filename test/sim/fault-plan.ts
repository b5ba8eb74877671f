// Which faults a run meets and after how many operations, drawn from the seed. Each draws what it needs from a stream of its
// own, so that one that is left out does not change what the others do.
import { ALARM_WEIGHTS } from './alarms.js';
import { drawWeights, type Fault, JOURNAL_WEIGHTS } from './faults.js';
import { Random } from './random.js';

/** A part of a seed's scenario: what is left when a failing one is made shorter. */
export interface Reduction {
  /** Faults that are left out, by number. */
  without: readonly number[];
  /** Sessions that ask for nothing. */
  idle: readonly number[];
  /** So many operations, and faults that much sooner; null: all. */
  load: number | null;
  /** Not 0: another course of chance (network, nodes, disks, the order of what happens at once) for the same scenario. */
  variant: number;
}

export const WHOLE: Reduction = { without: [], idle: [], load: null, variant: 0 };

export interface PlannedFault {
  /** Its place among all that the seed draws. */
  number: number;
  fault: Fault;
  afterOperations: number;
  random: Random;
}

export interface FaultWishes {
  seed: number;
  /** Of the whole run. */
  operations: number;
  /** Besides a first mirror and a first verdict. */
  faults: number;
  /** Instead of those the seed would draw. */
  weights: Partial<Record<Fault, number>> | undefined;
  withJournal: boolean;
  withProtection: boolean;
  reduction: Reduction;
}

/** In the order in which they strike. */
export function planFaults(random: Random, wishes: FaultWishes): PlannedFault[] {
  const { seed, operations, faults, weights: given, withJournal, withProtection, reduction } = wishes;
  const weights = {
    ...(given ?? drawWeights(random)),
    ...(withJournal && JOURNAL_WEIGHTS),
    ...(withProtection && given === undefined && ALARM_WEIGHTS),
  };
  const drawn: Fault[] = random.chance(withProtection ? 0.25 : 0.75) ? ['add-mirror'] : [];
  if (withProtection) drawn.push('verdict');
  for (let count = 0; count < faults; count += 1) drawn.push(random.weighted<Fault>(weights));
  const placed = drawn.map((fault, index) => {
    const first = index === 0 && fault === 'add-mirror';
    return { fault, afterOperations: first ? random.int(10) : random.int(operations) };
  });
  placed.sort((one, other) => one.afterOperations - other.afterOperations);
  return placed
    .map(({ fault, afterOperations }, number) => ({
      number,
      fault,
      afterOperations: Math.floor((afterOperations * (reduction.load ?? operations)) / operations),
      random: new Random(seed, `fault ${number}`),
    }))
    .filter(({ number }) => !reduction.without.includes(number));
}
