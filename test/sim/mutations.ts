// The deliberate breaks of the shipped code, at least one for each data rule of ARCHITECTURE.md that it keeps. The code has no hooks
// for them: a copy of the sources is changed, and the simulation of that copy must find a violation within its seeds, or a
// unit test of it must fail where the simulation cannot reach. Each is what a careless change might do.
import { COPY_MUTATIONS } from './mutations-copies.js';
import { DURABILITY_MUTATIONS } from './mutations-durability.js';
import { FLIP_MUTATIONS } from './mutations-flip.js';
import { GROWTH_MUTATIONS } from './mutations-growth.js';
import { INTEGRITY_MUTATIONS } from './mutations-integrity.js';
import { JOURNAL_MUTATIONS } from './mutations-journal.js';
import { PROTECTION_MUTATIONS } from './mutations-protection.js';
import { REFERENCE_MUTATIONS } from './mutations-reference.js';
import type { Fault } from './faults.js';
import type { ScenarioOptions } from './scenario.js';

/** `find` must occur exactly once in the file, so that a mutation never silently misses. */
export interface Edit {
  file: string;
  find: string;
  replace: string;
}

export interface Mutation {
  /** Number of the rule and what is broken: `9-no-replay`. */
  name: string;
  /** What hosts or operators would lose, for docs/reliability.md. */
  breaks: string;
  edits: readonly Edit[];
  caughtBy: Hunt | UnitTest;
}

/** Seeds of the simulation find it. */
export interface Hunt {
  system?: string;
  /** It must be caught by a seed below this; SEEDS_MAX unless told. */
  seeds?: number;
  /** Instead of the faults that each seed would draw: what makes the hunt short. */
  weights?: Partial<Record<Fault, number>>;
  /** How often nobody asks for anything for some seconds. */
  lulls?: number;
  /** The policy of the volumes; `async` unless told. */
  durability?: ScenarioOptions['durability'];
  /** Do verdicts move the volumes? */
  protection?: boolean;
  /** Is a volume made larger? */
  growth?: boolean;
  /** Faults of a run; as many as usual unless told. */
  faults?: number;
}

/** A test file that must fail: for what the simulation cannot see. */
export interface UnitTest {
  test: string;
}

export const SEEDS_MAX = 600;

/** By rule. */
export const MUTATIONS: readonly Mutation[] = [
  ...REFERENCE_MUTATIONS,
  ...COPY_MUTATIONS,
  ...DURABILITY_MUTATIONS,
  ...FLIP_MUTATIONS,
  ...JOURNAL_MUTATIONS,
  ...INTEGRITY_MUTATIONS,
  ...GROWTH_MUTATIONS,
  ...PROTECTION_MUTATIONS,
].sort((one, other) => Number.parseInt(one.name, 10) - Number.parseInt(other.name, 10));
