// deadline: 200s
// Gateway and active node killed together (test/torture/disaster.ts; `npm run torture -- --disasters 100` does it again and again).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { siteTest } from '../support/site.js';
import { disaster } from '../torture/disaster.js';

const test = suite('e2e: disaster');
const SEED = Number(process.env.FORESTALL_SEED ?? Date.now() % 1_000_000);

siteTest(test, ['nbdkit'], 'a gateway and the active node killed together lose nothing that was answered as durable', async (site) => {
  process.stdout.write(`seed ${SEED}\n`);
  const { records, writes } = await disaster(site, { seed: SEED, sizeBytes: 32 * 1024 * 1024, writes: 2000 });
  assert(records > 0, 'the mirror lacked records');
  process.stdout.write(`  ${records} records were replayed; ${writes} writes\n`);
});

test.run();
