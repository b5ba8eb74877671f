// A failing seed becomes a short scenario that still fails in the same way, and its trace has what concerns the block.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { planFaults, type Reduction, WHOLE } from '../sim/fault-plan.js';
import { Random } from '../sim/random.js';
import { runScenario } from '../sim/scenario.js';
import { reductionWords, shrink } from '../sim/shrink.js';
import { shrinkSeed } from '../sim/shrunk-seed.js';
import { findSystem } from '../sim/systems.js';
import { traceOf } from '../sim/trace.js';

const test = suite('sim/shrink');
const never = (): boolean => false;
const SIZE = { operations: 200, sessions: 3, faults: 5 };

async function firstFailing(system: string): Promise<number> {
  for (let seed = 1; seed <= 50; seed += 1) {
    const { violations } = await runScenario(findSystem(system), { ...SIZE, seed, verbose: false });
    if (violations.length > 0) return seed;
  }
  throw new Error(`${system} passes`);
}

test('what is needed stays, all else goes', async () => {
  const needs = ({ without, idle, load }: Reduction): boolean =>
    ![1, 4].some((fault) => without.includes(fault)) && !idle.includes(2) && (load ?? 200) >= 37;
  const found = await shrink(WHOLE, { faults: [0, 1, 2, 3, 4, 5], sessions: 3, operations: 200 }, async (less) => needs(less), never);
  assert.deepEqual(found, { without: [0, 2, 3, 5], idle: [0, 1], load: 37, variant: 0 });
  assert.equal(reductionWords(found), '--without 0,2,3,5 --idle 0,1 --load 37');
});

test('a failure that needs luck is looked for in other courses of chance', async () => {
  const lucky = ({ without, variant }: Reduction): boolean => without.length === 0 || variant === 5;
  const found = await shrink(WHOLE, { faults: [0, 1, 2], sessions: 1, operations: 1 }, async (less) => lucky(less), never);
  assert.deepEqual(found, { ...WHOLE, without: [0, 1, 2], variant: 5 });
});

test('a bug of the reference system becomes a much shorter scenario, the same each time, with a trace', async () => {
  const system = findSystem('reference:no-overlap-order');
  const seed = await firstFailing('reference:no-overlap-order');
  const options = { ...SIZE, seed, verbose: false };
  const { reduction, faults, lines } = await shrinkSeed(system, options, never);
  assert(reduction.load !== null && reduction.load <= 100, `${reduction.load} operations are left`);
  assert(faults.length <= 2, `${faults.length} faults are left`);
  const again = await runScenario(system, { ...options, reduction, verbose: true });
  assert(again.violations.length > 0);
  const trace = traceOf(again.violations[0], again.world.lines!);
  assert.deepEqual(lines.slice(-trace.length), trace);
  assert(trace.some((line) => line.includes('session')) && trace.some((line) => / (takes|does) WRITE/.test(line)));
  assert(trace.length < again.world.lines!.length);
});

test('a fault that is left out changes nothing of the others, and fewer operations bring them sooner', () => {
  const plan = (reduction: Reduction): object[] =>
    planFaults(new Random(7, 'scenario'), { ...SIZE, seed: 7, weights: undefined, withJournal: true, withProtection: true, reduction }).map(
      ({ number, fault, afterOperations, random }) => ({ number, fault, afterOperations, drawn: random.uint32() }),
    );
  const whole = plan(WHOLE);
  assert(whole.length >= 6);
  assert.deepEqual(
    plan({ ...WHOLE, without: [1, 3] }),
    whole.filter((_, index) => index !== 1 && index !== 3),
  );
  const sooner = plan({ ...WHOLE, load: 20 }) as { afterOperations: number }[];
  assert(sooner.every(({ afterOperations }) => afterOperations < 20));
});

test.run();
