// The hash pool with its real workers: checksums as computed on the spot, and an end in good order while batches are under way.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { suite } from 'uvu';
import { HashPool } from '../../gateway/hashing/hash-pool.js';
import { SystemClock } from '../../gateway/clock.js';
import { QuietLog } from '../support/quiet-log.js';

const test = suite('hashing/hash-pool');
const MIB = 1024 * 1024;
const REGION = 64 * 1024;

assert(existsSync(new URL('../../dist/gateway/hashing/hash-worker.js', import.meta.url)), 'workers run built files: npm run build');

function open(): Promise<HashPool> {
  return HashPool.create({ clock: new SystemClock(), log: new QuietLog() });
}

test('a batch gives the checksum of each region, the last short one included, of a slice as of a whole buffer', async () => {
  const pool = await open();
  const bytes = Buffer.alloc(2 * MIB, 'contents of a volume ');
  for (const range of [bytes, bytes.subarray(512, MIB + 1024)]) {
    const expected: bigint[] = [];
    for (let at = 0; at < range.length; at += REGION) expected.push(pool.sum(range.subarray(at, at + REGION)));
    const copy = Buffer.alloc(range.length);
    range.copy(copy);
    assert.deepEqual(await pool.sums(range === bytes ? copy : range, REGION), expected);
  }
  await pool.close();
});

test('close waits for batches under way, refuses new ones, and rejects none that it took', async () => {
  const pool = await open();
  const batches = Array.from({ length: 12 }, () => pool.sums(Buffer.alloc(4 * MIB, 7), REGION));
  let ended = 0;
  const all = Promise.all(
    batches.map(async (batch) => {
      assert.equal((await batch).length, 64);
      ended += 1;
    }),
  );
  const closed = pool.close();
  await assert.rejects(pool.sums(Buffer.alloc(REGION), REGION), /shutting down/);
  await closed;
  await all;
  assert.equal(ended, 12);
  await pool.close();
});

test.run();
