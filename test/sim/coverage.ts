// Which awaits and changes of state of the shipped code the seeds reach, and at which awaits somebody was suspended when the
// gateway crashed. First seeds are run as they are; then, for each await that no crash met, seeds that reached it, made to
// crash there. What is left over is a finding, unless it is a known exception.
import { rmSync } from 'node:fs';
import { MIRROR_STATES, PROTECTION_STATES } from '../../gateway/control.js';
import { TRANSITIONS } from '../../gateway/protection/transitions.js';
import { describeCommit } from './commit.js';
import { EXCEPTIONS, type Exception } from './coverage-exceptions.js';
import { type AwaitSite, instrumentedCopy } from './instrument.js';
import type { SeedReport, SeedsTask } from './seed-report.js';
import { employ } from './seeds-pool.js';

const CHUNK = 10;
/** Seeds that are made to crash at an await before it counts as one that no crash meets. */
const TRIES = 6;

export interface CoverageWishes {
  seed: number;
  seeds: number;
  operations: number;
  sessions: number;
  faults: number;
  workers: number;
}

interface Site extends AwaitSite {
  reached: number;
  crashed: number;
  /** Runs that were to crash here, and whether in one of them somebody was still suspended when another event came. */
  aimed: number;
  waited: boolean;
  /** Seeds that reached it. */
  seeds: number[];
}

/** Prints a table by file and the findings; true: there are none, and no seed failed. */
export async function measureCoverage(wishes: CoverageWishes): Promise<boolean> {
  const { directory, awaits } = instrumentedCopy();
  try {
    const sites = awaits.map((site): Site => ({ ...site, reached: 0, crashed: 0, aimed: 0, waited: false, seeds: [] }));
    const moves = new Map<string, number>();
    const failed: string[] = [];
    const { seed: first, seeds, workers, operations, sessions, faults } = wishes;
    const scenario = { system: 'gateway', options: { operations, sessions, faults, verbose: false } };
    const take = ({ seed, coverage, violations }: SeedReport, { crashAt }: SeedsTask): void => {
      if (violations.length > 0)
        failed.push(`seed ${seed}${crashAt === null ? '' : ` made to crash at ${placeOf(sites[crashAt!])}`}: ${violations[0]}`);
      if (crashAt != null) {
        sites[crashAt].aimed += 1;
        if (coverage?.waited) sites[crashAt].waited = true;
      }
      for (const [id, reached, crashed] of coverage?.awaits ?? []) {
        const site = sites[id];
        site.reached += reached;
        site.crashed += crashed;
        if (site.seeds.length < TRIES && crashAt === null) site.seeds.push(seed);
      }
      for (const [move, count] of coverage?.moves ?? []) moves.set(move, (moves.get(move) ?? 0) + count);
    };
    const run = async (tasks: Iterator<SeedsTask>): Promise<void> => {
      const draw = (): SeedsTask | null => tasks.next().value ?? null;
      await Promise.all(Array.from({ length: workers }, () => employ(directory, draw, take)));
    };
    await run(asDrawn());
    const probed = sites.filter((site) => site.crashed > 0).length;
    await run(directed());
    print({ sites, moves, failed, seeds, first, probed });
    return findingsOf(sites, moves).length === 0 && failed.length === 0;

    function* asDrawn(): Generator<SeedsTask, undefined> {
      for (let from = first; from < first + seeds; from += CHUNK)
        yield { ...scenario, from, count: Math.min(CHUNK, first + seeds - from), crashAt: null };
    }

    function* directed(): Generator<SeedsTask, undefined> {
      for (let attempt = 0; attempt < TRIES; attempt += 1)
        for (const { id, crashed, seeds } of sites)
          if (crashed === 0 && attempt < seeds.length) yield { ...scenario, from: seeds[attempt], count: 1, crashAt: id };
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

interface Measured {
  sites: readonly Site[];
  moves: ReadonlyMap<string, number>;
  failed: readonly string[];
  seeds: number;
  first: number;
  /** Awaits that were met by a crash in seeds as they are. */
  probed: number;
}

function print({ sites, moves, failed, seeds, first, probed }: Measured): void {
  const out = [
    `coverage of ${seeds} seeds from ${first}, ${describeCommit()}`,
    '',
    'awaits by file: in all, reached, met by a crash, over before anything else could happen',
  ];
  const share = (some: readonly Site[]): string =>
    [
      some.length,
      some.filter(({ reached }) => reached > 0).length,
      some.filter(({ crashed }) => crashed > 0).length,
      some.filter((site) => isInstant(site)).length,
    ]
      .map((count) => String(count).padStart(6))
      .join('');
  for (const file of new Set(sites.map((site) => site.file)))
    out.push(`  ${file.padEnd(44)}${share(sites.filter((site) => site.file === file))}`);
  out.push(`  ${'in all'.padEnd(44)}${share(sites)}   (${probed} met by the crashes that seeds drew)`, '', 'changes of state');
  for (const [move, count] of [...moves].sort()) out.push(`  ${move.padEnd(70)} ${String(count).padStart(8)}`);
  const findings = findingsOf(sites, moves);
  out.push('', `known exceptions: ${EXCEPTIONS.length}`, `findings: ${findings.length}`, ...findings.map((finding) => `  ${finding}`));
  if (failed.length > 0) out.push('', `failed: ${failed.length}`, ...failed.map((each) => `  ${each}`));
  process.stdout.write(`${out.join('\n')}\n`);
}

/** What no seed reached and is no known exception, and exceptions that are none. */
function findingsOf(sites: readonly Site[], moves: ReadonlyMap<string, number>): string[] {
  const used = new Set<Exception>();
  const isKnown = (file: string, what: string, kind: Exception['kind']): boolean => {
    const exception = EXCEPTIONS.find((each) => each.file === file && each.kind === kind && what.includes(each.what));
    if (exception !== undefined) used.add(exception);
    return exception !== undefined;
  };
  const findings: string[] = [];
  for (const site of sites) {
    const { file, text, reached, crashed } = site;
    if (reached === 0 && !isKnown(file, text, 'reach')) findings.push(`${placeOf(site)}  never reached`);
    if (reached > 0 && crashed === 0 && !isInstant(site) && !isKnown(file, text, 'crash'))
      findings.push(`${placeOf(site)}  reached ${reached} times, never crashed there`);
  }
  for (const { file, property, from, to } of possibleMoves()) {
    const name = `${from ?? 'any'} -> ${to}`;
    const seen = [...moves.keys()].some((move) => {
      const [seenFile, seenProperty, seenFrom, seenTo] = move.split(' ');
      return seenFile === file && seenProperty === property && (from === null || seenFrom === from) && seenTo === to;
    });
    if (!seen && !isKnown(file, name, 'reach')) findings.push(`${file}  ${property} ${name}  never happened`);
  }
  for (const exception of EXCEPTIONS)
    if (!used.has(exception)) findings.push(`${exception.file}  ${exception.what}: an exception that is none`);
  return findings;
}

interface PossibleMove {
  file: string;
  property: string;
  /** Null: from whichever; the code has no table. */
  from: string | null;
  to: string;
}

/** As the code declares them: protection by its table, mirrors and upstreams by the states there are. */
function possibleMoves(): PossibleMove[] {
  const moves: PossibleMove[] = [];
  for (const from of PROTECTION_STATES)
    for (const to of new Set(Object.values(TRANSITIONS[from])))
      if (to !== from) moves.push({ file: 'gateway/protection/machine.ts', property: 'state', from, to });
  for (const to of MIRROR_STATES)
    if (to !== 'copying') moves.push({ file: 'replication/mirror.ts', property: '#condition', from: null, to });
  const upstream = { file: 'gateway/upstream/upstream.ts', property: '#state', from: null };
  for (const to of ['connecting', 'replaying', 'resending', 'ready', 'blocked', 'abandoned', 'closed']) moves.push({ ...upstream, to });
  return moves;
}

/** A crash there is one before or behind it. */
function isInstant({ crashed, aimed, waited }: Site): boolean {
  return crashed === 0 && aimed > 0 && !waited;
}

function placeOf({ file, line, text }: AwaitSite): string {
  return `${file}:${line}  await ${text.length > 80 ? `${text.slice(0, 77)}...` : text}`;
}
