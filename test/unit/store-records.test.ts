// Records: what is acknowledged survives a SIGKILL, commits are whole or absent, damage and misuse are said in words.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { LmdbRecords, RecordsError } from '../../gateway/store/lmdb-records.js';
import { FORMAT_VERSION } from '../../gateway/store/store-format.js';
import { usedEnd } from '../support/records-end.js';

const test = suite<{ directory: string }>('store/records');

test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'forestall-records-'));
});

test.after.each((context) => {
  rmSync(context.directory, { recursive: true, force: true });
});

async function opened(directory: string): Promise<LmdbRecords> {
  const outcome = await LmdbRecords.open(directory);
  assert.ok(outcome.ok, outcome.ok ? '' : outcome.message);
  return outcome.value;
}

async function refusal(directory: string): Promise<{ code: string; message: string }> {
  const outcome = await LmdbRecords.open(directory);
  if (outcome.ok) {
    await outcome.value.close();
  }
  assert.ok(!outcome.ok, 'it was opened');
  return outcome;
}

test('what was committed is there after closing and opening again', async ({ directory }) => {
  const first = await opened(directory);
  await first.commit([
    { put: 'volume/a', value: { epoch: 3, labels: { program: 'db' }, digest: new Uint8Array([1, 2, 255]) } },
    { put: 'volume/b', value: [1, null, true, 'é'] },
  ]);
  assert.deepEqual(first.get('volume/a'), { epoch: 3, labels: { program: 'db' }, digest: new Uint8Array([1, 2, 255]) });
  await first.commit([{ remove: 'volume/b' }, { put: 'volume/c', value: 0 }]);
  await first.close();
  const second = await opened(directory);
  assert.deepEqual(
    [...second.list('volume/')].map(([key]) => key),
    ['volume/a', 'volume/c'],
  );
  assert.equal(second.get('volume/b'), undefined);
  await second.close();
});

test('a list holds exactly the keys with its prefix, by key', async ({ directory }) => {
  const records = await opened(directory);
  await records.commit(['a/2', 'a/10', 'a', 'a0', 'b/1', 'a/\u{1f600}', 'a/é'].map((put, value) => ({ put, value })));
  assert.deepEqual(
    [...records.list('a/')].map(([key]) => key),
    ['a/10', 'a/2', 'a/é', 'a/\u{1f600}'],
  );
  assert.deepEqual([...records.list('zzz')], []);
  assert.equal([...records.list('')].length, 8, 'the format record is one of them');
  for (const _ of records.list('a/')) {
    break;
  }
  await records.close();
});

test('a bad key or value leaves the whole commit undone and the records usable', async ({ directory }) => {
  const records = await opened(directory);
  const bad = [
    { put: 'x'.repeat(513), value: 1 },
    { put: '', value: 1 },
    { put: 'k', value: () => 1 },
    { put: 'k', value: Number.NaN },
  ];
  for (const change of bad) {
    await assert.rejects(records.commit([{ put: 'good', value: 1 }, change]), assert.AssertionError);
  }
  assert.equal(records.get('good'), undefined);
  await records.commit([{ put: 'x'.repeat(512), value: 1 }]);
  assert.equal(records.get('x'.repeat(512)), 1);
  await records.close();
  await assert.rejects(records.commit([{ put: 'late', value: 1 }]), RecordsError);
});

test('every pair acknowledged before a SIGKILL is there, and no half of a pair', async ({ directory }) => {
  for (const acknowledgedMin of [20, 200]) {
    const writer = fileURLToPath(new URL('./store-records-writer.ts', import.meta.url));
    const child = spawn(process.execPath, ['--import', 'tsx', writer, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (chunk: string) => {
      text += chunk;
      if (text.split('\n').length > acknowledgedMin) {
        child.kill('SIGKILL');
      }
    });
    await once(child, 'close');
    const acknowledged = text.split('\n').slice(0, -1).map(Number);
    assert.ok(acknowledged.length >= acknowledgedMin);
    const records = await opened(directory);
    for (const i of acknowledged) {
      const name = String(i).padStart(8, '0');
      assert.deepEqual(records.get(`left/${name}`), { i, bytes: new Uint8Array(200).fill(i) });
    }
    const names = (prefix: string) => [...records.list(prefix)].map(([key]) => key.slice(prefix.length));
    assert.deepEqual(names('left/'), names('right/'));
    await records.close();
  }
});

test('records of a newer format are refused with both versions named', async ({ directory }) => {
  const records = await opened(directory);
  await records.commit([{ put: 'meta/format', value: { product: 'forestall', version: FORMAT_VERSION + 1 } }]);
  await records.close();
  const { code, message } = await refusal(directory);
  assert.equal(code, 'store-newer');
  assert.match(message, new RegExp(`format ${FORMAT_VERSION + 1}.*up to ${FORMAT_VERSION}`));
});

test('a file that is empty, cut off or something else is refused, not followed', async ({ directory }) => {
  const records = await opened(directory);
  for (let i = 0; i < 100; i++) {
    await records.commit([{ put: `k/${i}`, value: new Uint8Array(3000) }]);
  }
  await records.close();
  const path = join(directory, 'records.mdb');
  const whole = readFileSync(path);
  const spoils: [string, () => void][] = [
    ['empty', () => truncateSync(path, 0)],
    ['a text', () => writeFileSync(path, 'hello world\n')],
    ['cut off', () => truncateSync(path, 16 * 4096)],
    ['overwritten at its start', () => writeFileSync(path, Buffer.concat([Buffer.alloc(8192, 0x77), whole.subarray(8192)]))],
    [
      'overwritten behind its start',
      () => writeFileSync(path, Buffer.concat([whole.subarray(0, 8192), Buffer.alloc(whole.length - 8192, 0x66)])),
    ],
  ];
  for (const [what, spoil] of spoils) {
    spoil();
    const { code, message } = await refusal(directory);
    assert.equal(code, 'store-damaged', what);
    assert.match(message, /records\.mdb are damaged: .*backup/, what);
    writeFileSync(path, whole);
  }
  await (await opened(directory)).close();
});

test('a file that lost its end is refused even when everything needed to open it is there', async ({ directory }) => {
  const records = await opened(directory);
  for (let i = 0; i < 40; i++) {
    await records.commit([{ put: `k/${i}`, value: new Uint8Array(20_000).fill(7) }]);
  }
  // Frees pages at the front of the file; the tree's own pages move there.
  await records.commit(Array.from({ length: 20 }, (_, i) => ({ remove: `k/${i}` })));
  for (let i = 0; i < 5; i++) {
    await records.commit([{ put: 'small', value: i }]);
  }
  await records.close();
  const path = join(directory, 'records.mdb');
  truncateSync(path, usedEnd(path) - 10 * 4096);
  const { code, message } = await refusal(directory);
  assert.equal(code, 'store-damaged');
  assert.match(message, /record "k\/\d+": the file is cut off/);
});

test('a flipped bit in a record is refused with that record named, never another value', async ({ directory }) => {
  const records = await opened(directory);
  await records.commit([{ put: 'k/a', value: 'a-value-to-be-found' }]);
  await records.close();
  const path = join(directory, 'records.mdb');
  const bytes = readFileSync(path);
  for (let at = bytes.indexOf('to-be-found'); at !== -1; at = bytes.indexOf('to-be-found', at + 1)) {
    bytes[at] ^= 1;
  }
  writeFileSync(path, bytes);
  const { code, message } = await refusal(directory);
  assert.equal(code, 'store-damaged');
  assert.match(message, /record "k\/a": its checksum is wrong/);
});

test('records of a format before the first that is read are refused', async ({ directory }) => {
  const records = await opened(directory);
  await records.commit([{ put: 'meta/format', value: { product: 'forestall', version: 0 } }]);
  await records.close();
  const { code, message } = await refusal(directory);
  assert.equal(code, 'store-older');
  assert.match(message, /format 0.*from 1 on/);
});

test('records that were made and are gone are missing, not new, as long as anything says that they were made', async ({ directory }) => {
  for (const evidence of ['FORMAT', 'records.mdb-lock', 'journal']) {
    rmSync(directory, { recursive: true });
    mkdirSync(directory);
    await (await opened(directory)).close();
    rmSync(join(directory, 'records.mdb'));
    writeFileSync(join(directory, 'journal'), '');
    for (const name of ['FORMAT', 'records.mdb-lock', 'journal']) if (name !== evidence) rmSync(join(directory, name));
    const { code, message } = await refusal(directory);
    assert.equal(code, 'store-missing');
    assert.match(message, new RegExp(`does not exist, but ${evidence} beside it`));
    assert.deepEqual(readdirSync(directory), [evidence], 'nothing was made');
  }
});

test('a directory that cannot hold records is refused with the reason', async ({ directory }) => {
  const { code, message } = await refusal(join(directory, 'absent'));
  assert.equal(code, 'store-unusable');
  assert.match(message, /absent/);
});

test('a crash while the records were made is repaired by making them again', async ({ directory }) => {
  writeFileSync(join(directory, 'records-new.mdb'), 'half');
  await (await opened(directory)).close();
  assert.ok(!existsSync(join(directory, 'records-new.mdb')));
  assert.deepEqual(readdirSync(directory).sort(), ['FORMAT', 'records.mdb', 'records.mdb-lock']);
  assert.ok(statSync(join(directory, 'records.mdb')).size > 0);
});

test.run();
