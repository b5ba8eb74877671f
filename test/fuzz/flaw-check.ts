// Shows that the fuzzer finds flaws: plants each in a copy of the sources and hunts there, with no corpus, until a target that
// must find it has.
import { runCampaign } from './campaign.js';
import { FLAWS, type Flaw } from './flaws.js';
import type { Finding } from './fuzz-task.js';

const SECONDS_MAX = 60;

export interface FlawVerdict {
  flaw: string;
  target: string;
  /** Null: it was not found. */
  finding: Finding | null;
}

export async function huntFlaw({ edits, name }: Flaw, target: string, seed: number, seconds = SECONDS_MAX): Promise<FlawVerdict> {
  const report = await runCampaign(
    { targets: [target], seed, seconds, inputs: Number.MAX_SAFE_INTEGER, workers: 1, stopAtFinding: true, corpus: false, edits },
    false,
  );
  return { flaw: name, target, finding: report.findings[0] ?? null };
}

/** `which`: `all`, or names with commas between. Prints a line each; true when all were found. */
export async function checkFlaws(which: string, workers: number, seed: number): Promise<boolean> {
  const names = which.split(',');
  const chosen = FLAWS.filter(({ name }) => which === 'all' || names.includes(name));
  if (chosen.length === 0) throw new Error(`no flaw ${which}: there are all, ${FLAWS.map(({ name }) => name).join(', ')}`);
  const waiting = chosen.flatMap((flaw) => flaw.targets.map((target) => ({ flaw, target })));
  const hunts = waiting.length;
  let found = 0;
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { flaw, target, finding } = await huntFlaw(next.flaw, next.target, seed);
      const who = `${flaw.padEnd(28)}${target.padEnd(18)}`;
      if (finding === null) process.stdout.write(`MISSED  ${who} in ${SECONDS_MAX} s: ${next.flaw.breaks}\n`);
      else {
        found += 1;
        const { inputs, seconds, message } = finding;
        process.stdout.write(
          `found   ${who}${String(inputs).padStart(8)} inputs ${seconds.toFixed(1).padStart(6)} s: ${message.split('\n')[0]}\n`,
        );
      }
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  process.stdout.write(`\n${found} of ${hunts} found\n`);
  return found === hunts;
}
