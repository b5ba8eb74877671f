// The latch's real file: what was set is found set by the next process, whatever else is in the file counts as set, it takes no space to
// set it, and where it cannot be made there is none.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import { LatchDirectory } from '../../gateway/store/latch-file.js';
import type { Latch } from '../../replication/latch.js';
import { QuietLog } from '../support/quiet-log.js';

const test = suite<{ directory: string; path: string }>('store/latch');

test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'forestall-latch-'));
  context.path = join(context.directory, 'latches', 'v');
});

test.after.each((context) => {
  rmSync(context.directory, { recursive: true, force: true });
});

async function opened(directory: string): Promise<Latch> {
  const latch = await new LatchDirectory(directory, new QuietLog()).open('v');
  assert(latch !== null);
  return latch;
}

test('it is made at its full size, and what was set or cleared is found so', async ({ directory, path }) => {
  const fresh = await opened(directory);
  assert.deepEqual([fresh.wasSet, statSync(path).size], [false, 4096]);
  await fresh.set();
  const { blocks } = statSync(path);
  const set = await opened(directory);
  assert.equal(set.wasSet, true);
  await set.clear();
  const cleared = await opened(directory);
  assert.equal(cleared.wasSet, false);
  assert.equal(statSync(path).blocks, blocks, 'setting it takes no space');
  for (const latch of [fresh, set, cleared]) await latch.close();
});

test('a file that is damaged, cut off or of a later version counts as set', async ({ directory, path }) => {
  const latch = await opened(directory);
  await latch.close();
  const whole = readFileSync(path);
  for (const spoil of [
    () => truncateSync(path, 100),
    () => truncateSync(path, 0),
    () => writeFileSync(path, Buffer.concat([whole.subarray(0, 8), Buffer.from([2]), whole.subarray(9)])),
    () => writeFileSync(path, Buffer.alloc(4096)),
  ]) {
    writeFileSync(path, whole);
    spoil();
    const spoilt = await opened(directory);
    assert.equal(spoilt.wasSet, true);
    await spoilt.clear();
    await spoilt.close();
    const mended = await opened(directory);
    assert.equal(mended.wasSet, false);
    await mended.close();
  }
});

test('where it cannot be made there is none, and the log says what that means', async ({ directory }) => {
  writeFileSync(join(directory, 'latches'), 'in the way');
  const log = new QuietLog();
  assert.equal(await new LatchDirectory(directory, log).open('v'), null);
  assert(log.lines.some((line) => line.includes('there is no latch')));
});

test.run();
