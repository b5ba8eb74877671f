// Mutations of how a volume is made larger: what is done to every copy before, and what of the short last region is known after.
import type { Mutation } from './mutations.js';

const GROWTH = 'gateway/volume/growth.ts';

export const GROWTH_MUTATIONS: readonly Mutation[] = [
  {
    name: '16-checksum-of-a-short-region-kept',
    breaks:
      'after a growth the last region of before, which has more bytes now, is held against the checksum of fewer: what is right is taken for wrong',
    edits: [{ file: GROWTH, find: '[...sums.retract(last), { remove: scrubKey(volume) }]', replace: '[{ remove: scrubKey(volume) }]' }],
    caughtBy: { growth: true, weights: { 'add-mirror': 2, scrub: 3, flip: 1 } },
  },
  {
    name: '20-grown-before-the-copies',
    breaks: 'a volume is larger than its copies, which refuse what hosts ask for there',
    edits: [{ file: GROWTH, find: '(await this.#see(kept, sizeBytes)) ??', replace: '' }],
    caughtBy: { growth: true, weights: { 'add-mirror': 2, flip: 1, reconnect: 1 } },
  },
  {
    name: '20-grown-part-not-zeroed',
    breaks: "hosts read in the new part of a volume what somebody else left in the nodes' exports",
    edits: [{ file: GROWTH, find: '(await this.#zero(list, kept, sizeBytes)) ??', replace: '' }],
    caughtBy: { growth: true, weights: { 'add-mirror': 2, flip: 1 } },
  },
  {
    name: '20-grown-part-taken-to-be-equal',
    breaks: 'a mirror has in the new part of a volume what somebody else left there, and nobody copies it',
    edits: [{ file: GROWTH, find: 'this.#zero(list, kept, sizeBytes)', replace: 'this.#zero(list, kept.slice(0, 1), sizeBytes)' }],
    caughtBy: { growth: true, weights: { 'add-mirror': 2, flip: 1 } },
  },
  {
    name: '20-zeroes-of-a-growth-not-flushed',
    breaks: 'after a loss of power the new part of a volume holds again what somebody else left there',
    edits: [
      {
        file: GROWTH,
        find: 'for (const { target, upstream } of kept) {',
        replace: 'for (const { target, upstream } of kept.slice(kept.length)) {',
      },
    ],
    caughtBy: { growth: true, weights: { 'power-loss': 3, 'gateway-crash': 3, 'add-mirror': 1 } },
  },
  {
    name: '20-growth-while-old-zeroes-may-land',
    breaks: 'zeroes of a gateway that was killed in a growth undo what hosts have written there since',
    edits: [{ file: GROWTH, find: '(await landed(list).then(() => this.#moved(list))) ??', replace: 'this.#moved(list) ??' }],
    caughtBy: { test: 'test/unit/volume-growth.test.ts' },
  },
];
