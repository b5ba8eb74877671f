// Export and import: what comes out goes in again exactly, whatever the records hold; a file that is damaged, cut off or
// newer is refused by line; nothing that fails changes what was there.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import { DirtyRecord } from '../../replication/dirty-record.js';
import { LmdbRecords } from '../../gateway/store/lmdb-records.js';
import { exportStore } from '../../gateway/store/store-export.js';
import { importStore } from '../../gateway/store/store-import.js';
import { usedEnd } from '../support/records-end.js';

const test = suite<{ root: string; file: string }>('store/export');
const WRITTEN = { salvage: false, by: 'test', at: '2026-01-01T00:00:00.000Z' };
const TAKEN = { replace: false, outdated: false, at: new Date(0) };
const MIB = 1024 * 1024;

test.before.each((context) => {
  context.root = mkdtempSync(join(tmpdir(), 'forestall-export-'));
  context.file = join(context.root, 'store.jsonl');
});

test.after.each(({ root }) => {
  rmSync(root, { recursive: true, force: true });
});

async function withRecords<T>(directory: string, use: (records: LmdbRecords) => T | Promise<T>): Promise<T> {
  const opened = await LmdbRecords.open(directory);
  assert.ok(opened.ok, opened.ok ? '' : opened.message);
  try {
    return await use(opened.value);
  } finally {
    await opened.value.close();
  }
}

async function made(directory: string, entries: Iterable<[string, unknown]>): Promise<void> {
  mkdirSync(directory, { recursive: true });
  await withRecords(directory, (records) => records.commit([...entries].map(([put, value]) => ({ put, value }))));
}

function all(directory: string): Promise<[string, unknown][]> {
  return withRecords(directory, (records) => [...records.list('')]);
}

const volume = (mirrors: object[]) => ({
  format: 1,
  name: 'vol0',
  sizeBytes: 20 * MIB,
  blockMinimum: 1,
  epoch: 3,
  active: { node: 'b', export: 'vol0' },
  mirrors,
  nextMirror: 9,
  lastFlip: null,
});
const MIRROR = { id: 'm8', target: { node: 'c', export: 'vol0' }, reverse: false, synced: true, cause: 'a test' };

/** Names begin as Forestall's keys do; what follows may be anything but a lone surrogate. */
const key = fc.string({ unit: 'binary', maxLength: 40 }).map((text) => `k/${text.replaceAll('\0', '')}`);
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => (Object.is(number, -0) ? 0 : number)),
    fc.string({ unit: 'binary' }),
    fc.uint8Array({ maxLength: 10_000 }),
    fc.array(tie('any'), { maxLength: 5 }),
    fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('$bytes', '__proto__', '7', '$$')), tie('any'), { maxKeys: 5 }),
  ),
})).any;

test('what was exported is imported exactly, whatever the records hold', async ({ root }) => {
  let turn = 0;
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.tuple(key, value), { selector: ([name]) => name, maxLength: 30 }), async (entries) => {
      turn += 1;
      const [from, to] = [join(root, `${turn}-from`), join(root, `${turn}-to`)];
      await made(from, entries as [string, unknown][]);
      const first = join(root, `${turn}.jsonl`);
      assert.ok(exportStore(from, first, WRITTEN).ok);
      mkdirSync(to);
      const imported = await importStore(first, to, TAKEN);
      assert.ok(imported.ok, imported.ok ? '' : imported.message);
      assert.deepEqual(await all(to), await all(from));
      const second = `${first}.again`;
      assert.ok(exportStore(to, second, WRITTEN).ok);
      assert.ok(readFileSync(second).equals(readFileSync(first)), 'the second export is the first, byte for byte');
    }),
    { numRuns: 25 },
  );
});

test('a damaged, cut off, extended or newer file is refused by line and leaves the directory as it was', async ({ root, file }) => {
  const from = join(root, 'from');
  await made(
    from,
    Array.from({ length: 20 }, (_, i) => [`k/${String(i).padStart(2, '0')}`, { i, bytes: new Uint8Array(i) }]),
  );
  assert.ok(exportStore(from, file, WRITTEN).ok);
  const whole = readFileSync(file, 'utf8');
  const lines = whole.trimEnd().split('\n');
  const to = join(root, 'to');
  mkdirSync(to);
  const cases: [string, string, RegExp][] = [
    ['a changed digit', whole.replace('"i":7', '"i":8'), /line 9: its checksum is wrong/],
    ['cut off within a line', whole.slice(0, whole.indexOf('"k/12"') + 3), /line 14: its checksum is wrong/],
    ['cut off between lines', `${lines.slice(0, 10).join('\n')}\n`, /line 11: the file is cut off/],
    ['a line left out', [...lines.slice(0, 4), ...lines.slice(5)].join('\n'), /line 22: 20 records came before it, but it says 21/],
    ['two lines changed round', [lines[0], lines[2], lines[1], ...lines.slice(3)].join('\n'), /line 23: the lines before it are not those/],
    ['more behind its end', `${whole}${lines[1]}\n`, /line 24: there is something behind the last line/],
    ['something else', 'volumes: []\n', /line 1: this is no export of a store/],
    ['empty', '', /line 1: the file is cut off/],
  ];
  for (const [what, text, message] of cases) {
    writeFileSync(file, text);
    const outcome = await importStore(file, to, TAKEN);
    assert.ok(!outcome.ok, what);
    assert.match(outcome.message, message, what);
    assert.deepEqual(readdirSync(to), [], what);
  }
});

test('an export of a newer version, or of newer records, is refused with both versions named', async ({ root, file }) => {
  const { crc32 } = await import('node:zlib');
  const to = join(root, 'to');
  mkdirSync(to);
  const rest = '"forestall":"store","version":2,"format":1,"by":"x","at":"y"}';
  writeFileSync(file, `{"crc":"${crc32(rest).toString(16).padStart(8, '0')}",${rest}\n`);
  const newer = await importStore(file, to, TAKEN);
  assert.ok(!newer.ok && /has version 2; this Forestall knows versions up to 1/.test(newer.message), JSON.stringify(newer));
  const from = join(root, 'from');
  await made(from, [['meta/format', { product: 'forestall', version: 7 }]]);
  const refused = exportStore(from, join(root, 'none.jsonl'), WRITTEN);
  assert.ok(!refused.ok && refused.code === 'store-newer');
  assert.ok(!existsSync(join(root, 'none.jsonl')) && !existsSync(join(root, 'none.jsonl.partial')));
});

test('only a new directory is filled; with replace the old records are kept beside', async ({ root, file }) => {
  const [from, to] = [join(root, 'from'), join(root, 'to')];
  await made(from, [['k/new', 1]]);
  await made(to, [['k/old', 2]]);
  assert.ok(exportStore(from, file, WRITTEN).ok);
  const again = exportStore(from, file, WRITTEN);
  assert.ok(!again.ok && again.code === 'export-exists');
  const refused = await importStore(file, to, TAKEN);
  assert.ok(!refused.ok && refused.code === 'import-not-empty');
  assert.equal((await all(to))[0][0], 'k/old');
  const taken = await importStore(file, to, { ...TAKEN, replace: true });
  assert.ok(taken.ok && taken.value.kept !== null);
  assert.equal((await all(to))[0][0], 'k/new');
  const kept = join(root, 'kept');
  mkdirSync(kept);
  writeFileSync(join(kept, 'records.mdb'), readFileSync(join(to, taken.value.kept)));
  assert.equal((await all(kept))[0][0], 'k/old');
});

test('an outdated export is believed only in where volumes are: mirrors are copied again, checksums and doubts forgotten', async ({
  root,
  file,
}) => {
  const [from, to] = [join(root, 'from'), join(root, 'to')];
  await made(from, [
    ['volume/vol0', volume([MIRROR])],
    ['sum/vol0/00000001', new Uint8Array(520)],
    ['mark/vol0/00000002', 1],
    ['doubt/vol0/b/vol0/00000000', { offset: 0, end: 4, segments: [] }],
    ['ours/b/vol0', { volume: 'vol0' }],
  ]);
  assert.ok(exportStore(from, file, WRITTEN).ok);
  mkdirSync(to);
  const taken = await importStore(file, to, { ...TAKEN, outdated: true });
  assert.ok(taken.ok, taken.ok ? '' : taken.message);
  assert.deepEqual(taken.value.volumes, [{ name: 'vol0', epoch: 3, active: { node: 'b', export: 'vol0' } }]);
  await withRecords(to, (records) => {
    assert.deepEqual(
      [...records.list('')].map(([name]) => name),
      ['dirty/vol0/m8/000000', 'mark/vol0/00000002', 'meta/format', 'ours/b/vol0', 'volume/vol0'],
    );
    assert.deepEqual(records.get('volume/vol0'), volume([{ ...MIRROR, synced: false }]));
    assert.deepEqual([...new DirtyRecord(records, 'vol0', 'm8', 5)], [0, 1, 2, 3, 4]);
  });
});

test('a salvage leaves out what is damaged, says so, and its import copies every mirror again', async ({ root, file }) => {
  const [from, to] = [join(root, 'from'), join(root, 'to')];
  await made(from, [
    ['volume/vol0', volume([MIRROR])],
    ['k/spoilt', 'a-value-to-be-found'],
    ['doubt/vol0/b/vol0/00000000', { offset: 0, end: 4, segments: [] }],
  ]);
  const path = join(from, 'records.mdb');
  const bytes = readFileSync(path);
  for (let at = bytes.indexOf('to-be-found'); at !== -1; at = bytes.indexOf('to-be-found', at + 1)) bytes[at] ^= 1;
  writeFileSync(path, bytes);
  const refused = exportStore(from, file, WRITTEN);
  assert.ok(!refused.ok && refused.code === 'store-damaged' && refused.message.includes('k/spoilt'));
  assert.ok(!existsSync(file));
  const salvaged = exportStore(from, file, { ...WRITTEN, salvage: true });
  assert.ok(salvaged.ok && salvaged.value.leftOut.length === 1 && salvaged.value.leftOut[0].includes('k/spoilt'));
  mkdirSync(to);
  const taken = await importStore(file, to, TAKEN);
  assert.ok(taken.ok && taken.value.leftOut === 1);
  await withRecords(to, (records) => {
    assert.equal(new DirtyRecord(records, 'vol0', 'm8', 5).count, 5);
    assert.notEqual(records.get('doubt/vol0/b/vol0/00000000'), undefined, 'what is in doubt still is');
  });
});

test('a salvage of a file that lost its end gives what is left, also when the format is lost', async ({ root, file }) => {
  const [from, to] = [join(root, 'from'), join(root, 'to')];
  await made(
    from,
    Array.from({ length: 500 }, (_, i) => [`k/${String(i).padStart(4, '0')}`, 'x'.repeat(100)]),
  );
  const path = join(from, 'records.mdb');
  const bytes = readFileSync(path).subarray(0, usedEnd(path));
  for (let at = bytes.indexOf('forestall'); at !== -1; at = bytes.indexOf('forestall', at + 1)) bytes[at] ^= 1;
  writeFileSync(path, bytes.subarray(0, bytes.length - 3 * 4096));
  assert.ok(!exportStore(from, file, WRITTEN).ok);
  const salvaged = exportStore(from, file, { ...WRITTEN, salvage: true });
  assert.ok(salvaged.ok && salvaged.value.records > 100 && salvaged.value.records < 500, JSON.stringify(salvaged));
  mkdirSync(to);
  const taken = await importStore(file, to, TAKEN);
  assert.ok(taken.ok, taken.ok ? '' : taken.message);
  assert.equal((await all(to)).length, salvaged.value.records + 1);
});

test.run();
