// `npm run bench`: reads the command line, runs the benchmark, prints its tables. Whatever happens, Ctrl-C included, what
// was started is stopped and the temporary directory is removed.
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ATTACK_USAGE, type AttackOptions, parseAttackOptions, renderAttack, runAttack } from './attack.js';
import type { Outcome } from '../gateway/control.js';
import { type BenchReport, type BenchSetting, missingPaths, runBench } from './bench.js';
import { type BenchOptions, parseOptions, USAGE } from './options.js';
import { Parts } from './part.js';
import { renderTable } from './table.js';

const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** On a terminal one line that is written over, otherwise nothing: progress is not part of the result. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function print(report: BenchReport): void {
  const { machine, paths, missing, failures } = report;
  const lines = [
    `machine: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}`,
    `node:    ${report.node}, ${report.sizeBytes / 1024 ** 2} MiB; ${report.rounds} rounds of ${report.measureMs / 1000} s a path and workload`,
    ...missing.map(({ id, program, packages }) => `missing: ${id} was not measured, ${program} is not installed (Debian: ${packages})`),
  ];
  const titles = new Map(paths.map(({ id, title }) => [id, title]));
  const tables = report.workloads.filter((workload) => workload.paths.length > 0).map((workload) => renderTable(workload, titles));
  process.stdout.write(`${lines.join('\n')}\n\n${tables.join('\n')}\n`);
  if (report.contentsCorrect === true) process.stdout.write('contents: every block of the node holds what was last written to it\n');
  for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
}

/** Why results could not be written there, known before minutes were spent on them; null: they can. */
function whyNotWritable(file: string): string | null {
  try {
    appendFileSync(file, '');
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Runs `work` with what it needs; whatever happens, nothing of it is left. */
async function withParts<T>(work: (setting: BenchSetting) => Promise<Outcome<T>>): Promise<Outcome<T> | 'interrupted'> {
  const parts = new Parts();
  const directory = mkdtempSync(join(tmpdir(), 'forestall-bench-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  let interrupted = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interrupted = true;
      progress('stopping');
      // The run finds its parts gone and comes to its end.
      void parts.stopAll();
    });
  }
  const outcome = await work({ parts, directory, progress });
  await parts.stopAll();
  progress('');
  if (interrupted) return 'interrupted';
  if (!outcome.ok) process.stderr.write(`the benchmark could not run: ${outcome.message}\n`);
  return outcome;
}

async function attack(options: AttackOptions): Promise<number> {
  const outcome = await withParts((setting) => runAttack(options, setting));
  if (outcome === 'interrupted') return EXIT.interrupted;
  if (!outcome.ok) return EXIT.failed;
  process.stdout.write(renderAttack(outcome.value, options));
  return outcome.value.failures.length > 0 ? EXIT.failed : EXIT.ok;
}

async function run(options: BenchOptions): Promise<number> {
  const unwritable = options.jsonFile === null ? null : whyNotWritable(options.jsonFile);
  if (unwritable !== null) {
    process.stderr.write(`--json: ${unwritable}\n`);
    return EXIT.usage;
  }
  const missing = missingPaths(options.paths);
  if (options.peersRequired && missing.length > 0) {
    const needed = missing.map(({ program, packages }) => `${program} (Debian: ${packages})`);
    process.stderr.write(`peers that are not installed: ${needed.join(', ')}\n`);
    return EXIT.failed;
  }
  const outcome = await withParts((setting) => runBench(options, setting));
  if (outcome === 'interrupted') return EXIT.interrupted;
  if (!outcome.ok) return EXIT.failed;
  print(outcome.value);
  if (options.jsonFile !== null) writeFileSync(options.jsonFile, `${JSON.stringify(outcome.value, null, 2)}\n`);
  return outcome.value.failures.length > 0 ? EXIT.failed : EXIT.ok;
}

async function main(args: string[]): Promise<number> {
  const attacking = args[0] === 'attack';
  const usage = attacking ? ATTACK_USAGE : USAGE;
  const parsed = attacking ? parseAttackOptions(args.slice(1)) : parseOptions(args);
  if (parsed === 'help') {
    process.stdout.write(usage);
    return EXIT.ok;
  }
  if ('wrong' in parsed) {
    process.stderr.write(`${parsed.wrong}\n\n${usage}`);
    return EXIT.usage;
  }
  return 'options' in parsed ? run(parsed.options) : attack(parsed);
}

process.exitCode = await main(process.argv.slice(2));
