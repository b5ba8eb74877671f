// The room in the records' file is enough for every commit: LMDB never has to make the file longer itself.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import { FileRoom } from '../../gateway/store/file-room.js';
import { LmdbRecords } from '../../gateway/store/lmdb-records.js';
import type { Change } from '../../replication/world.js';
import { Random } from '../sim/random.js';
import { usedEnd } from '../support/records-end.js';

const test = suite<{ directory: string; path: string }>('store/file-room');

test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'forestall-room-'));
  context.path = join(context.directory, 'records.mdb');
});

test.after.each(({ directory }) => rmSync(directory, { recursive: true }));

async function opened(directory: string): Promise<LmdbRecords> {
  const outcome = await LmdbRecords.open(directory);
  assert.ok(outcome.ok, outcome.ok ? '' : outcome.message);
  return outcome.value;
}

/** Few keys, so that values are replaced and pages freed, and many; small values and ones of many pages. */
function draw(random: Random): { changes: Change[]; lengths: (number | null)[] } {
  const keys = random.pick([10, 300, 100_000]);
  const bytesMax = random.pick([10, 200, 3000, 60_000]);
  const changes: Change[] = [];
  const lengths: (number | null)[] = [];
  for (let left = random.pick([1, 3, 30, 300]); left > 0; left -= 1) {
    const key = `k/${random.int(keys)}`.padEnd(random.between(8, 200), 'x');
    if (random.chance(0.3)) {
      changes.push({ remove: key });
      lengths.push(null);
    } else {
      const value = new Uint8Array(random.int(bytesMax));
      changes.push({ put: key, value });
      lengths.push(value.length);
    }
  }
  return { changes, lengths };
}

test('no commit adds more to the file than room is set aside for', async ({ directory, path }) => {
  const records = await opened(directory);
  const room = await FileRoom.open(path);
  const random = new Random(7, 'commits');
  for (let commit = 0; commit < 300; commit += 1) {
    const { changes, lengths } = draw(random);
    const cost = room.cost(lengths);
    const before = usedEnd(path);
    await records.commit(changes);
    const grown = usedEnd(path) - before;
    assert.ok(grown <= cost, `commit ${commit} of ${changes.length} changes added ${grown} bytes, room for ${cost} was set aside`);
    assert.ok(usedEnd(path) <= statSync(path).size);
  }
  await room.close();
  await records.close();
});

test('commits at once have room together, and are carried out in the order of the calls', async ({ directory, path }) => {
  const records = await opened(directory);
  const random = new Random(8, 'commits');
  const commits: Promise<void>[] = [];
  for (let number = 0; number < 60; number += 1) {
    const { changes } = draw(random);
    commits.push(
      records.commit([...changes, { put: 'last', value: number }]).then(() => assert.ok((records.get('last') as number) >= number)),
    );
    assert.ok(usedEnd(path) <= statSync(path).size);
  }
  await Promise.all(commits);
  assert.equal(records.get('last'), 59);
  await records.close();
});

test('there is room for what comes next, whatever was used', async ({ directory, path }) => {
  const records = await opened(directory);
  for (let number = 0; number < 40; number += 1) await records.commit([{ put: `k/${number}`, value: new Uint8Array(100_000) }]);
  await records.close();
  assert.ok(statSync(path).size - usedEnd(path) >= 200_000, `${statSync(path).size - usedEnd(path)} bytes are left`);
});

test.run();
