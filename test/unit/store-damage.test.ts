// Records that are damaged at random: whatever was damaged, opening them ends in words or in exactly the records that were
// put there, and never in a signal. Each seed is one damage; a failure names it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { LmdbRecords } from '../../gateway/store/lmdb-records.js';
import { RecordsFile } from '../../gateway/store/records-file.js';

const SEEDS = Number(process.env.STORE_DAMAGE_SEEDS ?? 150);
const FIRST_SEED = Number(process.env.STORE_DAMAGE_SEED ?? 1);

interface Line {
  seed: number;
  kind?: string;
  code?: string;
  message?: string;
  read?: unknown[];
  again?: string;
}

const test = suite<{ directory: string; path: string }>('store/damage');

function plain(value: unknown): unknown {
  return value instanceof Uint8Array ? value.length : value;
}

/** Several levels of pages, values beside the tree, and free pages. */
test.before(async (context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'forestall-damage-'));
  const original = join(context.directory, 'original');
  mkdirSync(original);
  context.path = join(original, 'records.mdb');
  const opened = await LmdbRecords.open(original);
  assert.ok(opened.ok);
  const records = opened.value;
  const name = (i: number) => `event/${String(i).padStart(8, '0')}`;
  await records.commit(Array.from({ length: 1000 }, (_, i) => ({ put: name(i), value: { i, text: 'x'.repeat(i % 200) } })));
  await records.commit(Array.from({ length: 300 }, (_, i) => ({ remove: name(i * 2) })));
  for (let i = 0; i < 12; i++) await records.commit([{ put: `k/${i}`, value: new Uint8Array(i % 5 === 0 ? 9000 : 100).fill(i) }]);
  await records.close();
});

test.after((context) => {
  rmSync(context.directory, { recursive: true, force: true });
});

async function allRecords({ path }: { path: string }): Promise<unknown[]> {
  const opened = await LmdbRecords.open(join(path, '..'));
  assert.ok(opened.ok);
  const all = [...opened.value.list('')].map(([key, value]) => [key, plain(value)]);
  await opened.value.close();
  return all;
}

test('what is read without LMDB is what LMDB reads, and a sound file has no fault', async ({ path }) => {
  const file = RecordsFile.open(path);
  assert.ok(typeof file !== 'string');
  const faults: string[] = [];
  const keys = [...file.records((reason) => faults.push(reason))].map(({ key }) => key);
  file.close();
  assert.deepEqual(faults, []);
  assert.deepEqual(
    keys,
    (await allRecords({ path })).map((entry) => (entry as [string])[0]),
  );
  assert.ok(file.meta.records.depth > 1 && file.meta.records.overflowPages > 0 && file.meta.free.entries > 0);
});

test('whatever is damaged, it is refused in words or read as it was', async ({ directory, path }) => {
  const child = fileURLToPath(new URL('./store-damage-child.ts', import.meta.url));
  const args = ['--import', 'tsx', child, join(directory, 'damaged'), path, String(FIRST_SEED), String(SEEDS)];
  const running = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let errors = '';
  running.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  running.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const [code, signal] = await once(running, 'close');
  const lines = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, `at ${JSON.stringify(lines.at(-1))}: ${errors.slice(-2000)}`);
  const whole = await allRecords({ path });
  let refused = 0;
  for (const line of lines.filter(({ kind }) => kind === undefined)) {
    const told = `seed ${line.seed}: ${JSON.stringify(lines.find(({ seed }) => seed === line.seed))}`;
    if (line.read !== undefined) {
      assert.deepEqual(line.read, whole, told);
      assert.equal(line.again, 'ok', told);
    } else {
      refused += 1;
      assert.equal(line.code, 'store-damaged', `${told}: ${line.message}`);
    }
  }
  assert.ok(refused > SEEDS / 4 && refused < SEEDS, `${refused} of ${SEEDS} were refused`);
});

test('damage that every page looks sound under is found: a wrong count, a used page among the free, an older first page', async ({
  directory,
  path,
}) => {
  const file = RecordsFile.open(path);
  assert.ok(typeof file !== 'string');
  const { free, records, transaction } = file.meta;
  file.close();
  assert.ok(free.root !== null && free.depth === 1 && records.root !== null);
  const meta = (transaction % 2) * 4096;
  const freePage = free.root * 4096;
  const node = freePage + 24;
  const cases: [RegExp, (bytes: Buffer) => void][] = [
    [/entries, but says that they are/, (bytes) => bytes.writeBigUInt64LE(BigInt(records.entries + 1), meta + 96 + 32)],
    [/do not follow on one another/, (bytes) => bytes.writeBigUInt64LE(BigInt(transaction - 4), meta + 152)],
    [
      /is used, but stands among the free ones/,
      (bytes) => {
        // The first list: behind the node's head and its key of 8 bytes stand its length and its first entry.
        const list = node + bytes.readUInt16LE(node) + 16;
        bytes.writeBigUInt64LE(1n, list);
        bytes.writeBigUInt64LE(BigInt(records.root!), list + 8);
      },
    ],
  ];
  const spoilt = join(directory, 'spoilt');
  for (const [right, spoil] of cases) {
    mkdirSync(spoilt, { recursive: true });
    const bytes = readFileSync(path);
    spoil(bytes);
    writeFileSync(join(spoilt, 'records.mdb'), bytes);
    const opened = await LmdbRecords.open(spoilt);
    if (opened.ok) await opened.value.close();
    assert.ok(!opened.ok, `it was opened: ${right}`);
    assert.match(opened.message, right);
  }
});

test.run();
