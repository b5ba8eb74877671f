// The deliberate breaks of the data rules fit the code as it is now, and docs/reliability.md tells of each. That they are caught is
// checked by `npm run sim -- --mutate all`, which takes minutes.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { edited } from '../sim/mutate.js';
import { MUTATIONS, SEEDS_MAX } from '../sim/mutations.js';

const test = suite('sim/mutations');
const root = fileURLToPath(new URL('../..', import.meta.url));
/** The data rules of ARCHITECTURE.md. */
const RULES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22];

test('every edit finds exactly one place', () => {
  for (const { name, edits } of MUTATIONS) {
    assert(edits.length > 0, name);
    const texts = new Map<string, string>();
    for (const edit of edits) {
      const text = texts.get(edit.file) ?? readFileSync(`${root}/${edit.file}`, 'utf8');
      const changed = edited(text, edit);
      assert.notEqual(changed, text, name);
      texts.set(edit.file, changed);
    }
  }
});

test('names are unique, every rule has a mutation, and what must catch it is there and bounded', () => {
  assert.equal(new Set(MUTATIONS.map(({ name }) => name)).size, MUTATIONS.length);
  for (const rule of RULES)
    assert(
      MUTATIONS.some(({ name }) => name.startsWith(`${rule}-`)),
      `rule ${rule}`,
    );
  for (const { name, caughtBy } of MUTATIONS) {
    if ('test' in caughtBy) assert(existsSync(`${root}/${caughtBy.test}`), `${name}: ${caughtBy.test}`);
    else assert((caughtBy.seeds ?? SEEDS_MAX) <= SEEDS_MAX, name);
  }
});

test('docs/reliability.md has a row for each mutation of the shipped code, and no other', () => {
  const rows = readFileSync(`${root}/docs/reliability.md`, 'utf8')
    .split('\n')
    .filter((line) => /^\| \d+ \| `/.test(line))
    .map((line) => line.split(' | ').slice(0, 4).join(' | '));
  const expected = MUTATIONS.filter(({ name }) => !name.startsWith('0-')).map(({ name, breaks, caughtBy }) => {
    const by = 'test' in caughtBy ? `\`${caughtBy.test.replace(/^.*\/(.*)\.test\.ts$/, '$1')}\`` : 'simulation';
    return `| ${name.split('-')[0]} | \`${name}\` | ${breaks} | ${by}`;
  });
  assert.deepEqual(rows, expected);
});

test.run();
