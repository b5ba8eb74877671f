// A failing seed as a short scenario: what it still takes to fail, the violation, and the trace of what concerns it.
import { type PlannedFault, type Reduction, WHOLE } from './fault-plan.js';
import { describeViolation } from './report.js';
import { runScenario, type ScenarioOptions, type ScenarioResult } from './scenario.js';
import { shrink } from './shrink.js';
import type { SystemUnderTest } from './system.js';
import { traceOf } from './trace.js';

export interface ShrunkSeed {
  reduction: Reduction;
  /** In the order in which they strike. */
  faults: readonly PlannedFault[];
  /** For people. */
  lines: string[];
}

/** `options` must fail; tries with less until `over`. */
export async function shrinkSeed(system: SystemUnderTest, options: ScenarioOptions, over: () => boolean): Promise<ShrunkSeed> {
  const whole = options.reduction ?? WHOLE;
  let runs = 0;
  const play = (reduction: Reduction, verbose: boolean): Promise<ScenarioResult> => {
    runs += 1;
    return runScenario(system, { ...options, reduction, verbose });
  };
  const first = await play(whole, false);
  const property = first.violations[0]?.property;
  if (property === undefined) return { reduction: whole, faults: first.faults, lines: [`seed ${options.seed} did not fail again`] };
  const size = { faults: first.faults.map(({ number }) => number), sessions: options.sessions, operations: options.operations };
  const fails = async (reduction: Reduction): Promise<boolean> => {
    const { violations } = await play(reduction, false);
    return violations.some((violation) => violation.property === property);
  };
  const reduction = await shrink(whole, size, fails, over);
  const { violations, world, faults } = await play(reduction, true);
  const violation = violations.find((each) => each.property === property)!;
  const { idle, load } = reduction;
  const lines = [
    `seed ${options.seed} in short, after ${runs} runs: ${faults.length} of ${size.faults.length} faults, ` +
      `${load ?? options.operations} of ${options.operations} operations, ${options.sessions - idle.length} of ${options.sessions} sessions`,
    ...faults.map(({ number, fault, afterOperations }) => `  after operation ${afterOperations}: ${fault} (fault ${number})`),
    describeViolation(violation, world.history),
    'what happened to it:',
    ...traceOf(violation, world.lines!),
  ];
  return { reduction, faults, lines };
}
