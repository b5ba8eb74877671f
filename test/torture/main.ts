// `npm run torture [-- --faults N] [--disasters N] [--seed S]`: faults on real processes (nbdkit, agents, the gateway) under load.
// Prints how often each struck and how long hosts were held up at most; exit code 1 when anything was not as promised.
import { parseArgs } from 'node:util';
import { Site } from '../support/site.js';
import { disaster } from './disaster.js';
import { torture } from './torture.js';

const MIB = 1024 * 1024;

const { values } = parseArgs({
  options: { faults: { type: 'string' }, disasters: { type: 'string', default: '0' }, seed: { type: 'string' } },
});
const seed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
const disasters = Number(values.disasters);
// Whoever asks for disasters alone gets no others.
const faults = Number(values.faults ?? (disasters > 0 ? 0 : 200));
if (![seed, faults, disasters].every((each) => Number.isInteger(each) && each >= 0)) {
  process.stderr.write('torture: --faults, --disasters and --seed are whole numbers\n');
  process.exit(2);
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const startedMs = performance.now();
const minutes = (): string => ((performance.now() - startedMs) / 60_000).toFixed(1);

async function sufferDisasters(): Promise<void> {
  let replayed = 0;
  let writes = 0;
  for (let number = 0; number < disasters; number += 1) {
    const site = await Site.open();
    try {
      const survived = await disaster(site, { seed: seed + number, sizeBytes: 16 * MIB, writes: 500 });
      replayed += survived.records;
      writes += survived.writes;
      say(`  disaster ${number + 1} (seed ${seed + number}): ${survived.records} records replayed, ${survived.writes} writes`);
    } catch (error) {
      throw new Error(`disaster, seed ${seed + number}: ${(error as Error).message}`, { cause: error });
    } finally {
      await site.close();
    }
  }
  say(`\nseed ${seed}, ${disasters} disasters: ${replayed} records replayed, ${writes} writes in ${minutes()} min; nothing durable lost`);
}

async function sufferFaults(): Promise<void> {
  const toll = await torture({ seed, faults, say });
  say(`\n${'fault'.padEnd(50)}${'times'.padStart(6)}${'longest stall'.padStart(16)}`);
  for (const [name, { count, stallMs }] of [...toll.strikes].sort(([one], [other]) => one.localeCompare(other)))
    say(`${name.padEnd(50)}${String(count).padStart(6)}${`${Math.round(stallMs)} ms`.padStart(16)}`);
  const counts = Object.entries(toll.counts).map(([what, count]) => `${what}: ${count}`);
  say(
    `\nseed ${seed}, ${counts.join(', ')}; ${toll.writes} writes, fio checked ${toll.fioBlocks} blocks in ${minutes()} min; nothing lost, no errors`,
  );
}

try {
  if (faults > 0) await sufferFaults();
  if (disasters > 0) await sufferDisasters();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
