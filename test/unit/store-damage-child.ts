// The child of store-damage.test.ts: damages records at random, `count` times from `seed` on, and opens, reads and writes
// them each time. Prints one JSON line for each; a signal that ends it is what the test looks for.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LmdbRecords } from '../../gateway/store/lmdb-records.js';
import { Random } from '../sim/random.js';
import { usedEnd } from '../support/records-end.js';

const [directory, original, seed, count] = [process.argv[2], process.argv[3], Number(process.argv[4]), Number(process.argv[5])];
const whole = readFileSync(original).subarray(0, usedEnd(original));
const pages = whole.length / 4096;

/** One of the ways in which files are damaged. */
function damage(random: Random): [string, Buffer] {
  const bytes = Buffer.from(whole);
  const page = random.int(pages) * 4096;
  const from = random.int(pages) * 4096;
  switch (random.int(6)) {
    case 0:
      bytes[random.int(bytes.length)] ^= 1 << random.int(8);
      return ['a bit', bytes];
    case 1:
      bytes[page + random.int(200)] = random.int(256);
      return ['a byte of a head', bytes];
    case 2:
      for (let at = page; at < page + 512; at += 1) bytes[at] = random.int(256);
      return ['a sector of noise', bytes];
    case 3:
      bytes.fill(0, page, page + 4096);
      return ['a page of zeroes', bytes];
    case 4:
      bytes.copy(bytes, page, from, from + 4096);
      return ['a page that went elsewhere', bytes];
    default:
      return ['an end cut off', bytes.subarray(0, random.int(bytes.length))];
  }
}

for (let at = seed; at < seed + count; at += 1) {
  const [kind, bytes] = damage(new Random(at));
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  writeFileSync(join(directory, 'records.mdb'), bytes);
  writeFileSync(join(directory, 'FORMAT'), 'forestall 1\n');
  process.stdout.write(`${JSON.stringify({ seed: at, kind })}\n`);
  const opened = await LmdbRecords.open(directory);
  let result: object = {};
  if (opened.ok) {
    const read = [...opened.value.list('')].map(([key, value]) => [key, value instanceof Uint8Array ? value.length : value]);
    await opened.value.commit([{ put: 'after', value: new Uint8Array(20_000) }, { remove: 'k/3' }]);
    await opened.value.close();
    const again = await LmdbRecords.open(directory);
    result = { read, again: again.ok ? 'ok' : again.message };
    if (again.ok) await again.value.close();
  } else result = { code: opened.code, message: opened.message };
  process.stdout.write(`${JSON.stringify({ seed: at, ...result })}\n`);
}
