// `npm run torture [-- --faults N] [--seed S]`: faults on real processes (nbdkit, agents, the gateway) under load. Prints how
// often each struck and how long hosts were held up at most; exit code 1 when anything was not as promised.
import { parseArgs } from 'node:util';
import { torture } from './torture.js';

const { values } = parseArgs({ options: { faults: { type: 'string', default: '200' }, seed: { type: 'string' } } });
const seed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
const faults = Number(values.faults);
if (!Number.isInteger(seed) || !Number.isInteger(faults) || faults < 1) {
  process.stderr.write('torture: --faults and --seed are whole numbers\n');
  process.exit(2);
}

const startedMs = performance.now();
try {
  const toll = await torture({ seed, faults, say: (line) => process.stdout.write(`${line}\n`) });
  process.stdout.write(`\n${'fault'.padEnd(46)}${'times'.padStart(6)}${'longest stall'.padStart(16)}\n`);
  for (const [name, { count, stallMs }] of [...toll.strikes].sort(([one], [other]) => one.localeCompare(other)))
    process.stdout.write(`${name.padEnd(46)}${String(count).padStart(6)}${`${Math.round(stallMs)} ms`.padStart(16)}\n`);
  const counts = Object.entries(toll.counts).map(([what, count]) => `${what}: ${count}`);
  const minutes = ((performance.now() - startedMs) / 60_000).toFixed(1);
  process.stdout.write(`\nseed ${seed}, ${counts.join(', ')}; ${toll.writes} writes in ${minutes} min; nothing lost, no errors\n`);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
