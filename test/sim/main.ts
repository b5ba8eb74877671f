// `npm run sim`: runs seeds of the simulation over several processes and prints how many, how fast, what they reached and
// every violation with its seed. Ends with exit code 1 when there was one, and 2 when it was called wrongly.
//
//   npm run sim -- [--seeds 200] [--seed 1] [--ops 200] [--sessions 3] [--faults 5] [--workers 2] [--seconds S]
//                  [--system gateway|reference[:BUG,...]] [--verbose] [--mutate all|RULE|NAME[,...]] [--failures 3]
//                  [--protection drawn|always|never] [--growth drawn|always|never] [--coverage] [--shrink SECONDS] [--without FAULT[,...]] [--idle SESSION[,...]] [--load OPERATIONS] [--variant N]
//
// --seed: the first one; `random` draws it. --seconds: stop after so long, however many seeds were run.
// --protection: whether volumes are under protection, with verdicts as faults; `drawn`: in a third of the seeds. --growth: whether a
// volume that is not under protection is made larger; `drawn`: in a quarter of them.
// --coverage: which awaits and changes of state the seeds reach, and at which awaits the gateway crashed (coverage.ts).
// --shrink: how long the first failing seed may be tried with less, until it is printed as a short scenario with its trace; 0: not at all.
// --without, --idle, --load, --variant: such a scenario (fault-plan.ts).
// --verbose: with --seeds 1, everything that happened. --mutate: breaks a rule on purpose and expects to be told (mutations.ts).
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { describeCommit } from './commit.js';
import { measureCoverage } from './coverage.js';
import type { Reduction } from './fault-plan.js';
import { FAULTS } from './faults.js';
import { checkMutations } from './mutate.js';
import { runSeed, type SeedReport, type SeedsTask } from './seed-report.js';
import { reductionWords } from './shrink.js';
import { shrinkSeed } from './shrunk-seed.js';
import { employ, root } from './seeds-pool.js';
import { findSystem } from './systems.js';

const CHUNK = 10;
const SEED_MAX = 2 ** 40;

interface Options {
  seeds: number;
  seed: number;
  operations: number;
  sessions: number;
  faults: number;
  workers: number;
  seconds: number;
  failures: number;
  system: string;
  /** Undefined: drawn from the seed. */
  protection: boolean | undefined;
  growth: boolean | undefined;
  verbose: boolean;
  mutate: string | null;
  coverage: boolean;
  shrinkSeconds: number;
  reduction: Reduction;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '200' },
      seed: { type: 'string', default: '1' },
      ops: { type: 'string', default: '200' },
      sessions: { type: 'string', default: '3' },
      faults: { type: 'string', default: '5' },
      workers: { type: 'string', default: '2' },
      seconds: { type: 'string' },
      failures: { type: 'string', default: '3' },
      system: { type: 'string', default: 'gateway' },
      protection: { type: 'string', default: 'drawn' },
      growth: { type: 'string', default: 'drawn' },
      verbose: { type: 'boolean', default: false },
      mutate: { type: 'string' },
      coverage: { type: 'boolean', default: false },
      shrink: { type: 'string', default: '30' },
      without: { type: 'string', default: '' },
      idle: { type: 'string', default: '' },
      load: { type: 'string' },
      variant: { type: 'string', default: '0' },
    },
  });
  const number = (name: string, text: string, least: number): number => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least) throw new Error(`--${name} ${text}: a whole number of at least ${least} is wanted`);
    return value;
  };
  const numbers = (name: string, text: string): number[] => (text === '' ? [] : text.split(',').map((each) => number(name, each, 0)));
  findSystem(values.system);
  const { protection, growth } = values;
  if (!['drawn', 'always', 'never'].includes(growth)) throw new Error(`--growth ${growth}: drawn, always or never is wanted`);
  if (!['drawn', 'always', 'never'].includes(protection)) throw new Error(`--protection ${protection}: drawn, always or never is wanted`);
  return {
    seeds: number('seeds', values.seeds, 1),
    seed: values.seed === 'random' ? randomInt(SEED_MAX) : number('seed', values.seed, 0),
    operations: number('ops', values.ops, 1),
    sessions: number('sessions', values.sessions, 1),
    faults: number('faults', values.faults, 0),
    workers: number('workers', values.workers, 1),
    seconds: values.seconds === undefined ? Number.POSITIVE_INFINITY : number('seconds', values.seconds, 1),
    failures: number('failures', values.failures, 1),
    system: values.system,
    protection: protection === 'drawn' ? undefined : protection === 'always',
    growth: growth === 'drawn' ? undefined : growth === 'always',
    verbose: values.verbose,
    mutate: values.mutate ?? null,
    coverage: values.coverage,
    shrinkSeconds: number('shrink', values.shrink, 0),
    reduction: {
      without: numbers('without', values.without),
      idle: numbers('idle', values.idle),
      load: values.load === undefined ? null : number('load', values.load, 1),
      variant: number('variant', values.variant, 0),
    },
  };
}

/** What all seeds together reached. */
class Tally {
  seeds = 0;
  events = 0;
  readonly failed: SeedReport[] = [];
  readonly counts = new Map<string, number>();
  readonly #startedMs = performance.now();

  add(report: SeedReport): void {
    this.seeds += 1;
    this.events += report.events;
    for (const [name, count] of report.counts) this.counts.set(name, (this.counts.get(name) ?? 0) + count);
    if (report.violations.length > 0) this.failed.push(report);
  }

  get seconds(): number {
    return (performance.now() - this.#startedMs) / 1000;
  }

  print(options: Options): void {
    const { seeds, failed, counts, events, seconds } = this;
    const names = [...counts.keys()].sort();
    const out = [`\nreached over ${seeds} seeds:`];
    for (const name of names) out.push(`  ${name.padEnd(40)} ${String(counts.get(name)).padStart(10)}`);
    const missed = FAULTS.filter((fault) => !counts.has(`fault ${fault}`));
    if (missed.length > 0) out.push(`  never: ${missed.join(', ')}`);
    const rate = `${(seeds / seconds).toFixed(1)} seeds/s, ${Math.round(events / seeds)} events a seed`;
    const range = `seeds ${options.seed} to ${options.seed + seeds - 1}`;
    out.push(`\n${options.system}: ${range} in ${seconds.toFixed(1)} s (${rate}): ${failed.length} of ${seeds} failed`);
    process.stdout.write(`${out.join('\n')}\n`);
  }
}

/** The command that plays one seed again. */
function again({ operations, sessions, faults, system, protection, growth }: Options, seed: number, reduction: Reduction): string {
  const under = protection === undefined ? '' : ` --protection ${protection ? 'always' : 'never'}`;
  const grown = growth === undefined ? '' : ` --growth ${growth ? 'always' : 'never'}`;
  const size = `--ops ${operations} --sessions ${sessions} --faults ${faults} --system ${system}${under}${grown}`;
  return `npm run sim -- --seed ${seed} --seeds 1 ${size} ${reductionWords(reduction)} --verbose`.replaceAll('  ', ' ');
}

function printFailure({ seed, violations, lines }: SeedReport, options: Options): void {
  process.stdout.write(`\nseed ${seed} FAILED (${describeCommit()})\n${violations.join('\n')}\n`);
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
  else process.stdout.write(`all that happened: ${again(options, seed, options.reduction)}\n`);
}

/** The first failing seed again and again, with ever less. */
async function printShort({ seed }: SeedReport, options: Options): Promise<void> {
  const { operations, sessions, faults, system, protection, growth, reduction, shrinkSeconds } = options;
  const endMs = performance.now() + shrinkSeconds * 1000;
  const scenario = { seed, operations, sessions, faults, protection, growth, verbose: false, reduction };
  const { lines, reduction: found } = await shrinkSeed(findSystem(system), scenario, () => performance.now() > endMs);
  process.stdout.write(`\n${lines.join('\n')}\nagain: ${again(options, seed, found)}\n`);
}

async function runSeeds(options: Options): Promise<Tally> {
  const tally = new Tally();
  const { operations, sessions, faults, protection, growth, verbose, reduction } = options;
  const scenario = { operations, sessions, faults, protection, growth, verbose: verbose && options.seeds === 1, reduction };
  const take = (report: SeedReport): void => {
    tally.add(report);
    if (report.violations.length > 0 && tally.failed.length <= options.failures) printFailure(report, options);
    else if (scenario.verbose) process.stdout.write(`${report.lines.join('\n')}\n`);
  };
  if (options.seeds <= CHUNK) {
    const system = findSystem(options.system);
    for (let seed = options.seed; seed < options.seed + options.seeds; seed += 1) take(await runSeed(system, { ...scenario, seed }));
    return tally;
  }
  let next = options.seed;
  const end = options.seed + options.seeds;
  const draw = (): SeedsTask | null => {
    if (next >= end || tally.seconds > options.seconds) return null;
    const task = { system: options.system, from: next, count: Math.min(CHUNK, end - next), options: scenario };
    next += task.count;
    return task;
  };
  await Promise.all(Array.from({ length: options.workers }, () => employ(root, draw, take)));
  return tally;
}

let options: Options;
try {
  options = readOptions();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(2);
}
if (options.mutate !== null) process.exitCode = (await checkMutations(options.mutate, options.workers)) ? 0 : 1;
else if (options.coverage) process.exitCode = (await measureCoverage(options)) ? 0 : 1;
else {
  const tally = await runSeeds(options);
  tally.print(options);
  process.exitCode = tally.failed.length > 0 ? 1 : 0;
  if (tally.failed.length > 0 && options.shrinkSeconds > 0 && !options.verbose) await printShort(tally.failed[0], options);
}
