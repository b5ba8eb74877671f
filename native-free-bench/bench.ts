// One run of the benchmark: starts node, load generator and paths, measures every workload on every path in rounds,
// checks at the end that the node holds what was written, and gives the report. A path that fails is reported and left
// out from then on; without a node or a load generator there is no run.
import { type Outcome, refuse } from '../gateway/control.js';
import { cpuTimeUs } from './cpu-time.js';
import { LoadClient } from './load-client.js';
import { describeMachine, type Machine } from './machine.js';
import type { Reading } from './meter.js';
import { type BenchNode, startNode } from './node.js';
import type { BenchOptions } from './options.js';
import type { Parts } from './part.js';
import { type OpenPath, PATHS, type Path, type PathId } from './path.js';
import { findProgram, versionOf } from './program.js';
import { type Sample, summarise, type WorkloadSummary } from './summary.js';
import { CHECK, PREPARE, type Workload } from './workload.js';

export const REPORT_FORMAT = 1;

export interface BenchReport {
  format: typeof REPORT_FORMAT;
  at: string;
  machine: Machine;
  node: string;
  sizeBytes: number;
  rounds: number;
  measureMs: number;
  /** Paths that were measured, with the version of what they run. */
  paths: { id: PathId; title: string }[];
  /** Paths that could not be measured because a program is missing. */
  missing: { id: PathId; program: string; packages: string }[];
  /** What went wrong, for people. */
  failures: string[];
  /** Whether every block held what was written to it; null when it was not looked at. */
  contentsCorrect: boolean | null;
  workloads: (WorkloadSummary & { samples: Sample[] })[];
}

export interface BenchSetting {
  parts: Parts;
  /** An existing directory for temporary files. */
  directory: string;
  /** Told what is being done. */
  progress(text: string): void;
}

/** Paths in the order of one round: each round begins with the next one, so that none always follows the same state. */
export function rotated<T>(paths: readonly T[], round: number): T[] {
  const start = round % Math.max(1, paths.length);
  return [...paths.slice(start), ...paths.slice(0, start)];
}

/** Of the paths asked for: those whose program is missing. */
export function missingPaths(ids: readonly PathId[]): BenchReport['missing'] {
  return PATHS.flatMap(({ id, needs }) => {
    if (needs === null || !ids.includes(id) || findProgram(needs.program) !== null) return [];
    return [{ id, program: needs.program, packages: needs.packages }];
  });
}

export async function runBench(options: BenchOptions, setting: BenchSetting): Promise<Outcome<BenchReport>> {
  const load = await LoadClient.start(setting.parts);
  if (!load.ok) return load;
  const node = await startNode(setting.parts, options.node, options.sizeBytes);
  if (!node.ok) return node;
  return new Run(options, setting, load.value, node.value).run();
}

interface LivePath {
  path: Path;
  open: OpenPath;
}

class Run {
  readonly #options: BenchOptions;
  readonly #setting: BenchSetting;
  readonly #load: LoadClient;
  readonly #node: BenchNode;
  readonly #failures: string[] = [];
  #live: LivePath[] = [];
  #seed = 0;

  constructor(options: BenchOptions, setting: BenchSetting, load: LoadClient, node: BenchNode) {
    this.#options = options;
    this.#setting = setting;
    this.#load = load;
    this.#node = node;
  }

  async run(): Promise<Outcome<BenchReport>> {
    const at = new Date().toISOString();
    const options = this.#options;
    this.#setting.progress('filling the node');
    const filled = await this.#pass(PREPARE);
    if (!filled.ok) return filled;
    if (filled.value.errors > 0) return refuse('not-filled', `the node answered ${filled.value.errors} writes with an error`);
    const missing = missingPaths(options.paths);
    await this.#openPaths(missing.map(({ id }) => id));
    const opened = this.#live.map(({ path }) => path);
    const samples = await this.#measureRounds();
    const contentsCorrect = await this.#checkContents();
    const ids = opened.map(({ id }) => id);
    const proxies = opened.filter(({ proxy }) => proxy).map(({ id }) => id);
    return {
      ok: true,
      value: {
        format: REPORT_FORMAT,
        at,
        machine: describeMachine(),
        node: this.#node.title,
        sizeBytes: options.sizeBytes,
        rounds: options.rounds,
        measureMs: options.measureMs,
        paths: opened.map((path) => ({ id: path.id, title: titleOf(path) })),
        missing,
        failures: this.#failures,
        contentsCorrect,
        workloads: options.workloads.map((workload) => {
          const own = samples.get(workload)!;
          return { ...summarise(workload, own, ids, proxies), samples: own };
        }),
      },
    };
  }

  async #openPaths(missing: PathId[]): Promise<void> {
    const { parts, directory, progress } = this.#setting;
    const wanted = PATHS.filter(({ id }) => this.#options.paths.includes(id) && !missing.includes(id));
    for (const path of wanted) {
      progress(`starting ${path.id}`);
      const open = await path.open({ parts, directory, node: this.#node.endpoint, sizeBytes: this.#options.sizeBytes });
      if (open.ok) this.#live.push({ path, open: open.value });
      else this.#failures.push(`${path.id}: ${open.message}`);
    }
  }

  async #measureRounds(): Promise<Map<Workload, Sample[]>> {
    const { rounds, workloads } = this.#options;
    const samples = new Map<Workload, Sample[]>(workloads.map((workload) => [workload, []]));
    for (let round = 0; round < rounds; round++) {
      for (const workload of workloads) {
        this.#setting.progress(`round ${round + 1} of ${rounds}: ${workload.title}`);
        for (const live of rotated(this.#live, round)) {
          const sample = await this.#measure(live, workload, round);
          if (sample !== null) samples.get(workload)!.push(sample);
        }
      }
    }
    return samples;
  }

  /** Null: it failed, and the path is left out from now on. */
  async #measure(live: LivePath, workload: Workload, round: number): Promise<Sample | null> {
    const { warmupMs, measureMs } = this.#options;
    const { part, endpoint, singleProcess } = live.open;
    const pid = singleProcess ? part?.child.pid : undefined;
    const cpuBeforeUs = pid === undefined ? null : cpuTimeUs(pid);
    const extent = { kind: 'window', warmupMs, measureMs } as const;
    const outcome = await this.#load.run({ endpoint, workload, extent, seed: ++this.#seed });
    const cpuAfterUs = pid === undefined ? null : cpuTimeUs(pid);
    const flaw = outcome.ok ? findFlaw(outcome.value) : outcome.message;
    if (flaw !== null) {
      const why = part === null ? flaw : part.explain(`${part.ending ?? 'still runs'} (${flaw})`);
      this.#failures.push(`${live.path.id}: ${workload.title}, round ${round + 1}: ${why}`);
    }
    if (!outcome.ok) {
      this.#live = this.#live.filter((other) => other !== live);
      return null;
    }
    const cpuUs = cpuBeforeUs === null || cpuAfterUs === null ? null : cpuAfterUs - cpuBeforeUs;
    return { round, path: live.path.id, reading: outcome.value, cpuUs };
  }

  /** Reads the whole node directly, whatever paths the writes took. */
  async #checkContents(): Promise<boolean | null> {
    this.#setting.progress('checking what the node holds');
    const checked = await this.#pass(CHECK);
    if (!checked.ok) {
      this.#failures.push(`the contents could not be checked: ${checked.message}`);
      return null;
    }
    const { errors, mismatches } = checked.value;
    if (errors + mismatches > 0) this.#failures.push(`contents: ${mismatches} reads of 256 KiB brought wrong bytes, ${errors} failed`);
    return errors + mismatches === 0;
  }

  #pass(workload: Workload): Promise<Outcome<Reading>> {
    return this.#load.run({ endpoint: this.#node.endpoint, workload, extent: { kind: 'pass' }, seed: 0 });
  }
}

function findFlaw({ errors, mismatches }: Reading): string | null {
  if (errors > 0) return `${errors} requests were answered with an error`;
  return mismatches > 0 ? `${mismatches} reads brought other bytes than were written` : null;
}

function titleOf({ title, needs }: Path): string {
  const program = needs === null ? null : findProgram(needs.program);
  return needs === null || program === null ? title : title.replace(needs.program, versionOf(needs.program, program, needs.versionFlag));
}
