// deadline: 300s
// A short run of `npm run torture`: faults on real processes under load. FORESTALL_SEED plays another one.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { siteTest } from '../support/site.js';
import { torture } from '../torture/torture.js';

const test = suite('e2e: torture');
const SEED = Number(process.env.FORESTALL_SEED ?? 3);
const FAULTS = 16;

siteTest(test, ['nbdkit', 'fio'], `nothing is lost and hosts see no error over ${FAULTS} faults`, async () => {
  const toll = await torture({ seed: SEED, faults: FAULTS, say: (line) => process.stdout.write(`${line}\n`) });
  const struck = [...toll.strikes.values()].reduce((sum, { count }) => sum + count, 0);
  assert(struck > 0 && toll.writes > 0 && toll.fioBlocks > 0, 'faults struck, and hosts wrote');
});

test.run();
