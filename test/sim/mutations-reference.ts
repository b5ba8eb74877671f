// Mutations of the reference system: they check the simulation without any of the shipped code.
import type { Mutation } from './mutations.js';

const REFERENCE_TARGET = 'test/sim/reference-target.ts';

export const REFERENCE_MUTATIONS: readonly Mutation[] = [
  {
    name: '0-reference-no-replay',
    breaks: 'the oldest write since the last flush is gone after a power loss',
    edits: [{ file: REFERENCE_TARGET, find: 'for (const write of again) {', replace: 'for (const write of again.slice(1)) {' }],
    caughtBy: { system: 'reference' },
  },
  {
    name: '0-reference-flush-covers-later-writes',
    breaks: 'writes answered after a flush was sent are gone after a power loss',
    edits: [{ file: REFERENCE_TARGET, find: 'this.#forget(sent.covers);', replace: 'this.#forget([...this.#unflushed]);' }],
    caughtBy: { system: 'reference' },
  },
];
