// Where a copy goes and why: every case with the sentence people are told.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import type { NodeFacts, VolumeNeeds } from '../../gateway/placement/node-facts.js';
import { choose } from '../../gateway/placement/placement.js';

const test = suite('placement');

const GIB = 2 ** 30;

function node(id: string, change: Partial<NodeFacts> = {}): NodeFacts {
  return {
    id,
    zone: `rack-${id}`,
    site: 'dc-1',
    kind: 'agent',
    state: 'up',
    reason: null,
    verdict: { probability: 0.01, firing: false },
    capacityBytes: 100 * GIB,
    freeBytes: 50 * GIB,
    spares: [],
    latency: { p50Us: 200, p99Us: 1000 },
    load: { iops: 100, bytesPerSecond: 1e6 },
    utilisation: 0.2,
    copies: 1,
    ...change,
  };
}

const VOLUME: VolumeNeeds = {
  name: 'vol0',
  sizeBytes: 10 * GIB,
  active: 'a',
  copies: [],
  profile: { readShare: 0.5, iops: 100, bytesPerSecond: 1e6, blockBytes: 4096 },
  latency: { p50Us: 200, p99Us: 1000 },
};

interface Case {
  name: string;
  volume?: Partial<VolumeNeeds>;
  nodes: NodeFacts[];
  only?: string;
  chosen: string | null;
  spare?: string | null;
  /** A piece of the explanation. */
  says: string;
}

const CASES: Case[] = [
  { name: 'never the node that serves the volume', nodes: [node('a')], chosen: null, says: 'a serves vol0 itself' },
  {
    name: 'never a node that holds a copy',
    volume: { copies: ['b'] },
    nodes: [node('a'), node('b')],
    chosen: null,
    says: 'b holds a copy of vol0 already',
  },
  {
    name: 'never a node that does not answer',
    nodes: [node('a'), node('b', { state: 'down', reason: 'connection refused' })],
    chosen: null,
    says: 'b does not answer: connection refused',
  },
  {
    name: 'never a node that is predicted to fail',
    nodes: [node('a'), node('b', { verdict: { probability: 0.87, firing: true } })],
    chosen: null,
    says: 'b is itself predicted to fail with 87 %',
  },
  {
    name: 'an operator may insist on a node that is predicted to fail',
    nodes: [node('a'), node('b', { verdict: { probability: 0.87, firing: true } })],
    only: 'b',
    chosen: 'b',
    says: '87.0 % likely to fail',
  },
  { name: 'no other node', nodes: [], chosen: null, says: 'there is no other node' },
  { name: 'a node that does not exist', nodes: [node('a')], only: 'z', chosen: null, says: 'there is no node z' },
  {
    name: 'not without room for the reserve',
    nodes: [node('a'), node('b', { freeBytes: 14 * GIB })],
    chosen: null,
    says: 'b has 14GiB free, of which 5GiB stay in reserve; the copy needs 10GiB',
  },
  {
    name: 'a node just large enough',
    nodes: [node('a'), node('b', { freeBytes: 15 * GIB })],
    chosen: 'b',
    says: 'the only node that can take it',
  },
  {
    name: 'an agent whose space is not known',
    nodes: [node('a'), node('b', { freeBytes: null })],
    chosen: null,
    says: 'b has not said how much space is free',
  },
  {
    name: 'another zone before the same one, even if it is slower and fuller',
    nodes: [node('a'), node('b', { zone: 'rack-a' }), node('c', { latency: { p50Us: 400, p99Us: 2000 }, freeBytes: 20 * GIB })],
    chosen: 'c',
    says: 'in a zone of its own (rack-c)',
  },
  {
    name: 'not beside the volume`s other mirror',
    volume: { copies: ['m'] },
    nodes: [node('a'), node('m', { zone: 'rack-m' }), node('b', { zone: 'rack-m' }), node('c', { copies: 2 })],
    chosen: 'c',
    says: 'ahead of b',
  },
  {
    name: 'the same site, although another one is better in everything else',
    nodes: [
      node('a'),
      node('b', { zone: 'rack-a', latency: { p50Us: 1600, p99Us: 8000 }, copies: 9 }),
      node('c', { site: 'dc-2', copies: 0, utilisation: 0 }),
    ],
    chosen: 'b',
    says: 'at the same site dc-1',
  },
  {
    name: 'another site when this one has no node left',
    nodes: [node('a'), node('b', { state: 'down' }), node('c', { site: 'dc-2' })],
    chosen: 'c',
    says: 'at another site (dc-2)',
  },
  {
    name: 'the less likely to fail',
    nodes: [node('a'), node('b', { verdict: { probability: 0.4, firing: false } }), node('c')],
    chosen: 'c',
    says: '1.0 % likely to fail',
  },
  {
    name: 'a node with a signal before one without',
    nodes: [node('a'), node('b', { verdict: null }), node('c')],
    chosen: 'c',
    says: 'ahead of b',
  },
  {
    name: 'a node that is connected before one that is not yet',
    nodes: [node('a'), node('b', { state: 'unknown' }), node('c')],
    chosen: 'c',
    says: 'ahead of b',
  },
  {
    name: 'the node whose p99 is nearer to what hosts see now',
    nodes: [node('a'), node('b', { latency: { p50Us: 200, p99Us: 4000 } }), node('c')],
    chosen: 'c',
    says: 'p99 1.00 ms, 1.0 times what its hosts see now',
  },
  {
    name: 'a volume that only reads goes by the median',
    volume: { profile: { readShare: 1, iops: 100, bytesPerSecond: 1e6, blockBytes: 4096 } },
    nodes: [node('a'), node('b', { latency: { p50Us: 100, p99Us: 9000 } }), node('c', { latency: { p50Us: 800, p99Us: 900 } })],
    chosen: 'b',
    says: '0.5 times what its hosts see now',
  },
  {
    name: 'the node with headroom',
    nodes: [node('a'), node('b', { utilisation: 0.9 }), node('c', { utilisation: 0.1 })],
    chosen: 'c',
    says: '20 % busy with it',
  },
  {
    name: 'the node that carries less, where nobody knows how busy it is',
    nodes: [node('a'), node('b', { utilisation: null, load: { iops: 5000, bytesPerSecond: 2e8 } }), node('c', { utilisation: null })],
    chosen: 'c',
    says: '/s with it',
  },
  {
    name: 'the node that holds fewer copies',
    nodes: [node('a'), node('b', { copies: 4 }), node('c', { copies: 0 })],
    chosen: 'c',
    says: 'holds nothing else',
  },
  {
    name: 'the same facts give the same choice: names decide what nothing else does',
    nodes: [node('a'), node('c', { zone: 'x' }), node('b', { zone: 'y' })],
    chosen: 'b',
    says: 'ahead of c',
  },
  {
    name: 'the smallest spare that is large enough',
    nodes: [
      node('a'),
      node('p', {
        kind: 'plain',
        spares: [
          { export: 'huge', sizeBytes: 99 * GIB },
          { export: 'fits', sizeBytes: 12 * GIB },
          { export: 'tiny', sizeBytes: GIB },
        ],
      }),
    ],
    chosen: 'p',
    spare: 'fits',
    says: 'a spare of sufficient size',
  },
  {
    name: 'a spare whose size nobody knows yet',
    nodes: [node('a'), node('p', { kind: 'plain', spares: [{ export: '', sizeBytes: null }] })],
    chosen: 'p',
    spare: '',
    says: 'a spare of unknown size',
  },
  {
    name: 'not a spare that is too small',
    nodes: [node('a'), node('p', { kind: 'plain', spares: [{ export: 'tiny', sizeBytes: GIB }] })],
    chosen: null,
    says: 'p has only spares that are too small ("tiny" with 1GiB); the copy needs 10GiB',
  },
  {
    name: 'not a plain node without spares',
    nodes: [node('a'), node('p', { kind: 'plain' })],
    chosen: null,
    says: 'p has no spare export that is free',
  },
];

for (const { name, volume, nodes, only, chosen, spare, says } of CASES) {
  test(name, () => {
    const placement = choose({ volume: { ...VOLUME, ...volume }, nodes, only });
    assert.equal(placement.chosen?.node ?? null, chosen, placement.explanation);
    if (spare !== undefined) assert.equal(placement.chosen?.export, spare);
    assert(placement.explanation.includes(says), placement.explanation);
  });
}

test('every node is either ranked with reasons or refused with one, and the points add up', () => {
  const anyNode = fc.record({
    zone: fc.constantFrom('z1', 'z2'),
    site: fc.constantFrom('s1', 's2'),
    state: fc.constantFrom('up' as const, 'down' as const, 'unknown' as const),
    freeBytes: fc.option(
      fc.integer({ min: 0, max: 60 }).map((gib) => gib * GIB),
      { nil: null },
    ),
    utilisation: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: null }),
    latency: fc.option(fc.constant({ p50Us: 0, p99Us: 0 }), { nil: null }),
    load: fc.constantFrom({ iops: 0, bytesPerSecond: 0 }, { iops: 1e6, bytesPerSecond: 1e9 }),
    copies: fc.integer({ min: 0, max: 5 }),
  });
  fc.assert(
    fc.property(fc.array(anyNode, { maxLength: 6 }), (raw) => {
      const nodes = raw.map((change, at) => node(`n${at}`, change));
      const { ranking, refused, chosen } = choose({ volume: { ...VOLUME, active: 'n0' }, nodes });
      assert.deepEqual([...ranking, ...refused].map((one) => one.node).sort(), nodes.map(({ id }) => id).sort());
      assert.equal(chosen, ranking[0] ?? null);
      for (const { score, reasons } of ranking) {
        const sum = reasons.reduce((total, reason) => total + Number.parseFloat(reason), 0);
        assert(Math.abs(sum - score) < 0.5, `${score} is not the sum of ${reasons.join(', ')}`);
      }
    }),
    { numRuns: 300, seed: 3 },
  );
});

test.run();
