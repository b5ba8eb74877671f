// Background work's budget and the guard that shrinks it: over any time no more passes than rate and burst allow, waiters
// are served, and only a latency that is high while work runs counts as suffering.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { LatencyGuard } from '../../replication/latency-guard.js';
import { Throttle } from '../../replication/throttle.js';
import { ManualClock } from '../support/manual-clock.js';
import { turns } from '../support/scripted-node.js';

const test = suite('replication/throttle');
const MIB = 1024 * 1024;

test('over any stretch of time no more is taken than the rate and one burst allow, and all is taken in the end', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 100 }),
      fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 4 * MIB }), waitMs: fc.nat(200) }), { minLength: 1, maxLength: 30 }),
      async (rateMib, asks) => {
        const clock = new ManualClock();
        const throttle = new Throttle(clock, rateMib * MIB, MIB);
        const burst = Math.max(MIB, rateMib * MIB * 0.1);
        let taken = 0;
        let most = 0;
        const order: number[] = [];
        for (const [at, { bytes, waitMs }] of asks.entries()) {
          most = Math.max(most, bytes);
          void throttle.take(bytes).then(() => {
            taken += bytes;
            order.push(at);
          });
          for (let passed = 0; passed < waitMs; passed += 20) {
            await Promise.resolve();
            clock.advance(Math.min(20, waitMs - passed));
            await Promise.resolve();
            const allowed = burst + (clock.nowMs() / 1000) * rateMib * MIB + most;
            assert(taken <= allowed + 1, `${taken} of ${allowed}`);
          }
        }
        const total = asks.reduce((sum, { bytes }) => sum + bytes, 0);
        clock.advance((total / (rateMib * MIB)) * 1000 + 1000);
        await turns(2);
        assert.equal(taken, total);
        assert.deepEqual(
          order,
          asks.map((_, at) => at),
          'in order of asking',
        );
        assert.equal(clock.pending, 0);
      },
    ),
    { numRuns: 100 },
  );
});

test('suffering halves the rate down to a floor, and quiet brings it back up to the most', () => {
  const throttle = new Throttle(new ManualClock(), 64 * MIB, 2 * MIB);
  throttle.adjust(true);
  assert.equal(throttle.bytesPerSecond, 32 * MIB);
  for (let round = 0; round < 20; round += 1) throttle.adjust(true);
  assert.equal(throttle.bytesPerSecond, 2 * MIB);
  for (let round = 0; round < 40; round += 1) throttle.adjust(false);
  assert.equal(throttle.bytesPerSecond, 64 * MIB);
  throttle.limit(16 * MIB, 4 * MIB);
  assert.equal(throttle.bytesPerSecond, 16 * MIB);
  throttle.adjust(false);
  assert.equal(throttle.bytesPerSecond, 16 * MIB);
  for (let round = 0; round < 20; round += 1) throttle.adjust(true);
  assert.equal(throttle.bytesPerSecond, 4 * MIB);
  throttle.limit(16 * MIB, 8 * MIB);
  assert.equal(throttle.bytesPerSecond, 8 * MIB, 'at once');
});

test('a policy below the floor is kept to', () => {
  const throttle = new Throttle(new ManualClock(), 1000, MIB);
  for (let round = 0; round < 5; round += 1) throttle.adjust(true);
  assert.equal(throttle.bytesPerSecond, 1000);
});

test('the guard learns only from quiet times and says "suffering" only while work runs', () => {
  const guard = new LatencyGuard();
  assert(!guard.observe(1_000_000, 100, true, 2), 'nothing is known yet');
  for (let round = 0; round < 50; round += 1) assert(!guard.observe(3000, 100, false, 2));
  assert(Math.abs(guard.baselineUs! - 3000) < 1);
  assert(guard.observe(6001, 100, true, 2));
  assert(!guard.observe(5999, 100, true, 2));
  assert(!guard.observe(60_000, 19, true, 2), 'too few requests say nothing');
  assert(!guard.observe(null, 0, true, 2));
  for (let round = 0; round < 50; round += 1) guard.observe(100_000, 100, true, 2);
  assert(Math.abs(guard.baselineUs! - 3000) < 1, 'a long copy is not taken for normal');
});

test('differences below the noise of any machine are no suffering', () => {
  const guard = new LatencyGuard();
  guard.observe(100, 100, false, 2);
  assert(!guard.observe(1999, 100, true, 2));
  assert(guard.observe(2001, 100, true, 2));
});

test.run();
