// The deliberate breaks of the shipped code, at least one for each data rule of ARCHITECTURE.md that the simulation covers. The code has no
// hooks for them: a copy of the sources is changed, and the simulation of that copy must find a violation within its seeds.
// `find` must occur exactly once in the file, so that a mutation never silently misses.

export interface Mutation {
  /** Number of the rule and what is broken: `9-no-replay`. */
  name: string;
  system: string;
  file: string;
  find: string;
  replace: string;
  /** It must be caught by a seed below this. */
  seeds: number;
}

const REFERENCE_TARGET = 'test/sim/reference-target.ts';

export const MUTATIONS: readonly Mutation[] = [
  {
    name: '0-reference-no-replay',
    system: 'reference',
    file: REFERENCE_TARGET,
    find: 'for (const write of again) {',
    replace: 'for (const write of again.slice(1)) {',
    seeds: 300,
  },
  {
    name: '0-reference-flush-covers-later-writes',
    system: 'reference',
    file: REFERENCE_TARGET,
    find: 'this.#forget(sent.covers);',
    replace: 'this.#forget([...this.#unflushed]);',
    seeds: 2000,
  },
];
