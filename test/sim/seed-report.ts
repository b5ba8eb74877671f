// One seed's outcome as it is sent between processes and printed.
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
}

export interface SeedsTask {
  system: string;
  from: number;
  count: number;
  options: Omit<ScenarioOptions, 'seed'>;
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
