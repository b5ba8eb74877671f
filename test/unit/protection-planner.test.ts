// In which order volumes leave, how many at once, and who is told that there is no time left.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { copyMs, type Leaving, plan } from '../../gateway/protection/planner.js';

const test = suite('protection: planner');

const MIB = 2 ** 20;
const LIMITS = { perNode: 2, inAll: 4 };

function leaving(volume: string, change: Partial<Leaving> = {}): Leaving {
  const common = {
    node: 'a',
    purpose: 'prediction',
    priority: 100,
    remainingBytes: 100 * MIB,
    bytesPerSecond: 10 * MIB,
    failsAtMs: null,
  } as const;
  return { volume, ...common, ...change };
}

test('the higher priority leaves first, whatever its size', () => {
  const waiting = [leaving('low', { priority: 1, remainingBytes: MIB }), leaving('high', { priority: 9, remainingBytes: 1000 * MIB })];
  assert.deepEqual(plan(waiting, [], 0, LIMITS).order, ['high', 'low']);
});

test('among equals the shorter copy goes first, and what is too late anyway last', () => {
  const waiting = [
    leaving('too-late', { remainingBytes: 1000 * MIB, failsAtMs: 30_000 }),
    leaving('long', { remainingBytes: 200 * MIB, failsAtMs: 30_000 }),
    leaving('short', { remainingBytes: 100 * MIB, failsAtMs: 30_000 }),
  ];
  assert.deepEqual(plan(waiting, [], 0, LIMITS).order, ['short', 'long', 'too-late']);
});

test('the node that is expected to fail sooner is left sooner', () => {
  const waiting = [leaving('later', { node: 'b', failsAtMs: 90_000 }), leaving('sooner', { failsAtMs: 60_000 }), leaving('open')];
  assert.deepEqual(plan(waiting, [], 0, LIMITS).order, ['sooner', 'later', 'open']);
});

test('standing mirrors wait for evacuations, and never hold one up', () => {
  const standing = ['s1', 's2', 's3', 's4'].map((name, at) => leaving(name, { purpose: 'standing', node: `n${at}` }));
  const planned = plan([leaving('s5', { purpose: 'standing', node: 'z' }), leaving('v')], standing, 0, LIMITS);
  assert.deepEqual(planned.order, ['v', 's5']);
  assert.deepEqual(planned.start, ['v']);
});

test('at most so many copies from one node, and in all', () => {
  const many = ['a', 'b', 'c'].flatMap((node) => [1, 2, 3].map((at) => leaving(`${node}${at}`, { node })));
  assert.deepEqual(plan(many, [], 0, LIMITS).start, ['a1', 'a2', 'b1', 'b2']);
  assert.deepEqual(plan(many.slice(1), [many[0]], 0, LIMITS).start, ['a2', 'b1', 'b2']);
});

test('who waits for a place is late although its own copy would be short', () => {
  const waiting = ['v1', 'v2', 'v3'].map((name) => leaving(name, { failsAtMs: 15_000 }));
  const { late } = plan(waiting, [], 1000, LIMITS);
  assert.deepEqual(
    late.map(({ volume, completeAtMs }) => [volume, completeAtMs]),
    [['v3', 21_000]],
  );
});

test('a copy that runs already is late when it is', () => {
  const { late } = plan([], [leaving('v', { failsAtMs: 5000 })], 0, LIMITS);
  assert.deepEqual(late, [
    { volume: 'v', node: 'a', completeAtMs: 10_000, failsAtMs: 5000, remainingBytes: 100 * MIB, bytesPerSecond: 10 * MIB },
  ]);
});

const anyLeaving = fc.record({
  node: fc.constantFrom('a', 'b', 'c'),
  purpose: fc.constantFrom('prediction' as const, 'standing' as const),
  priority: fc.integer({ min: 0, max: 3 }),
  remainingBytes: fc.integer({ min: 0, max: 1000 * MIB }),
  bytesPerSecond: fc.constantFrom(MIB, 10 * MIB),
  failsAtMs: fc.option(fc.integer({ min: 0, max: 200_000 }), { nil: null }),
});

test('priority is respected, limits are kept, and a place is never left empty while somebody could use it', () => {
  fc.assert(
    fc.property(fc.array(anyLeaving, { maxLength: 12 }), fc.array(anyLeaving, { maxLength: 3 }), (waitingRaw, runningRaw) => {
      const waiting = waitingRaw.map((raw, at) => ({ volume: `v${at}`, ...raw }));
      const running = runningRaw.map((raw, at) => ({ volume: `r${at}`, ...raw }));
      const { start, order, late } = plan(waiting, running, 0, LIMITS);
      const of = (name: string) => waiting.find(({ volume }) => volume === name)!;
      assert.deepEqual([...order].sort(), waiting.map(({ volume }) => volume).sort());
      for (let at = 1; at < order.length; at++) {
        const [before, after] = [of(order[at - 1]), of(order[at])];
        const rank = (one: Leaving) => (one.purpose === 'prediction' ? 1000 : 0) + one.priority;
        assert(rank(before) >= rank(after), 'a lower priority goes first');
      }
      const urgent = [...running, ...start.map(of)].filter(({ purpose }) => purpose === 'prediction');
      const begun = start.map(of).filter(({ purpose }) => purpose === 'prediction');
      assert(begun.length === 0 || urgent.length <= LIMITS.inAll);
      for (const node of ['a', 'b', 'c']) {
        const there = urgent.filter((one) => one.node === node).length;
        assert(there <= LIMITS.perNode || !begun.some((one) => one.node === node));
        const idle = order.map(of).find((one) => one.purpose === 'prediction' && one.node === node && !start.includes(one.volume));
        if (idle) assert(urgent.length >= LIMITS.inAll || there >= LIMITS.perNode, 'a place is left empty');
      }
      for (const { completeAtMs, failsAtMs } of late) assert(completeAtMs > failsAtMs);
      for (const one of waiting) {
        if (one.failsAtMs !== null && copyMs(one) > one.failsAtMs)
          assert(
            late.some(({ volume }) => volume === one.volume),
            'a hopeless one is not named',
          );
      }
    }),
    { numRuns: 500, seed: 7 },
  );
});

test.run();
