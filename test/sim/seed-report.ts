// One seed's outcome as it is sent between processes and printed.
import { type Coverage, recorder } from './coverage-recorder.js';
import { describeViolation } from './report.js';
import { runScenario, type ScenarioOptions } from './scenario.js';
import type { SystemUnderTest } from './system.js';

export interface SeedReport {
  seed: number;
  /** In words, with the histories of the blocks they are about; none: the seed passed. */
  violations: string[];
  counts: [string, number][];
  events: number;
  /** Everything that happened, when it was asked for. */
  lines: string[];
  /** Of instrumented sources. */
  coverage?: Coverage;
}

export interface SeedsTask {
  system: string;
  from: number;
  count: number;
  options: Omit<ScenarioOptions, 'seed'>;
  /** Not undefined: the sources are instrumented, and the gateway is to crash at this await; null: at none. */
  crashAt?: number | null;
}

/** One of instrumented sources; `crashAt`: the await at which the gateway is to crash. */
export async function coverSeed(system: SystemUnderTest, options: ScenarioOptions, crashAt: number | null): Promise<SeedReport> {
  recorder.begin(crashAt);
  const report = await runSeed(system, { ...options, recorder });
  return { ...report, coverage: recorder.coverage };
}

export async function runSeed(system: SystemUnderTest, options: ScenarioOptions): Promise<SeedReport> {
  const { seed } = options;
  try {
    const { violations, world } = await runScenario(system, options);
    return {
      seed,
      violations: violations.map((violation) => describeViolation(violation, world.history)),
      counts: [...world.counts],
      events: world.scheduler.events,
      lines: world.lines ?? [],
    };
  } catch (error) {
    // Of the simulation itself: the other seeds go on.
    return { seed, violations: [`simulator: ${(error as Error).stack}`], counts: [], events: 0, lines: [] };
  }
}
