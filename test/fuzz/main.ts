// `npm run fuzz`: hunts for inputs that break the protocol machines, plays one again, or shows that planted flaws are found.
// Exit code 0: nothing was found (or every flaw was); 1: something was; 2: wrong arguments.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { type CampaignReport, runCampaign } from './campaign.js';
import { findingText, fromLine, parseFinding, readCorpus, toLine, writeCorpus } from './corpus.js';
import { checkFlaws } from './flaw-check.js';
import type { Finding } from './fuzz-task.js';
import { failureOf } from './shrink.js';
import { findTarget, TARGETS } from './targets.js';

const FINDINGS_DIRECTORY = 'fuzz-findings';
const USAGE = `usage: npm run fuzz -- [options]

  --seconds N        how long (default 60)
  --inputs N         of each target, at most
  --seed S           the same seed and corpus give the same inputs (default: random)
  --target NAME,...  of ${TARGETS.map(({ name }) => name).join(', ')}
  --workers N        processes (default 2)
  --save             keep the inputs that take new branches in the corpus
  --replay FILE      play one input again; with --save it is kept in the corpus
  --mutate NAME,...  plant flaws and see how soon each is found; all for all of them
  --missed           name the branches that nothing took
`;

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function whole(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least) throw new Error(`--${name} ${text}: a whole number of at least ${least} is wanted`);
  return value;
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      inputs: { type: 'string' },
      seed: { type: 'string' },
      target: { type: 'string' },
      workers: { type: 'string', default: '2' },
      save: { type: 'boolean', default: false },
      replay: { type: 'string' },
      mutate: { type: 'string' },
      missed: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const targets = values.target === undefined ? TARGETS.map(({ name }) => name) : values.target.split(',');
  targets.forEach(findTarget);
  return {
    ...values,
    targets,
    seconds: whole('seconds', values.seconds, 1),
    inputs: values.inputs === undefined ? Number.MAX_SAFE_INTEGER : whole('inputs', values.inputs, 1),
    seed: values.seed === undefined ? randomInt(2 ** 40) : whole('seed', values.seed, 0),
    workers: whole('workers', values.workers, 1),
  };
}

type Options = ReturnType<typeof readOptions>;

function printTable({ targets, seconds, branches, heap }: CampaignReport): void {
  let inputs = 0;
  const all = new Set<number>();
  print(`${'target'.padEnd(18)}${'inputs'.padStart(14)}${'branches'.padStart(10)}${'kept'.padStart(8)}`);
  for (const [name, totals] of targets) {
    inputs += totals.inputs;
    for (const branch of totals.branches) all.add(branch);
    print(
      `${name.padEnd(18)}${totals.inputs.toLocaleString('en').padStart(14)}${String(totals.branches.size).padStart(10)}${String(totals.lines.length).padStart(8)}`,
    );
  }
  const rate = Math.round(inputs / seconds).toLocaleString('en');
  print(
    `${'all'.padEnd(18)}${inputs.toLocaleString('en').padStart(14)}${String(all.size).padStart(10)}   of ${branches.length}; ${seconds.toFixed(0)} s, ${rate} inputs/s`,
  );
  const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
  for (const { first, last } of heap) print(`memory after collection: ${mib(first)} MiB at first, ${mib(last)} MiB at the end`);
}

function printMissed({ targets, branches }: CampaignReport): void {
  const taken = new Set([...targets.values()].flatMap((totals) => [...totals.branches]));
  const lines = new Set(branches.filter((_, id) => !taken.has(id)).map(({ file, line }) => `  ${file}:${line}`));
  print(`never taken:\n${[...lines].join('\n')}`);
}

function printFinding({ target, message, stack, line, inputs, seconds }: Finding): void {
  print(`\nFOUND in ${target} after ${inputs} inputs and ${seconds.toFixed(1)} s: ${message}`);
  if (line === '') return;
  const text = findingText(target, message, fromLine(line));
  mkdirSync(FINDINGS_DIRECTORY, { recursive: true });
  const digest = [...line].reduce((hash, letter) => (Math.imul(hash, 31) + letter.charCodeAt(0)) >>> 0, 7);
  const file = `${FINDINGS_DIRECTORY}/${target}-${digest.toString(16)}.hex`;
  writeFileSync(file, text);
  print(`${stack.split('\n').slice(1, 6).join('\n')}\n${text}again: npm run fuzz -- --replay ${file}`);
}

async function hunt(options: Options): Promise<number> {
  const { targets, seed, seconds, inputs, workers, save } = options;
  print(`seed ${seed}, ${workers} workers, ${seconds} s`);
  const progress = process.stderr.isTTY ? printTable : undefined;
  const report = await runCampaign({ targets, seed, seconds, inputs, workers, stopAtFinding: false, corpus: true, progress }, save);
  printTable(report);
  if (options.missed) printMissed(report);
  for (const finding of report.findings) printFinding(finding);
  if (save) for (const [name, { lines }] of report.targets) writeCorpus(name, lines);
  return report.findings.length > 0 ? 1 : 0;
}

async function replay(file: string, save: boolean): Promise<number> {
  const { target, steps } = parseFinding(readFileSync(file, 'utf8'));
  const failure = await failureOf(findTarget(target), steps);
  print(failure === null ? `${file}: nothing is wrong any more` : `${file}: ${failure.stack}`);
  if (save) writeCorpus(target, [...readCorpus(target).map(toLine), toLine(steps)]);
  return failure === null ? 0 : 1;
}

try {
  const options = readOptions();
  if (options.help) print(USAGE);
  else if (options.replay !== undefined) process.exitCode = await replay(options.replay, options.save);
  else if (options.mutate !== undefined) process.exitCode = (await checkFlaws(options.mutate, options.workers, options.seed)) ? 0 : 1;
  else process.exitCode = await hunt(options);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
  process.exitCode = 2;
}
