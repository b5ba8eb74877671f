// The journal's real file: what a killed process said to be synced is found, and a file that is not what it should be is
// refused with a reason and left as it is.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { createHash64 } from '../../gateway/hashing/xxh64.js';
import { DiskJournalFile } from '../../gateway/store/journal-file.js';
import { OP } from '../../replication/device.js';
import { Journal } from '../../replication/journal.js';
import type { JournalRecord } from '../../replication/journal-options.js';
import { ManualClock } from '../support/manual-clock.js';

const test = suite<{ directory: string; path: string }>('store/journal');
const RING = 1 << 20;
const sum = await createHash64();

test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'forestall-journal-'));
  context.path = join(context.directory, 'v.journal');
});

test.after.each((context) => {
  rmSync(context.directory, { recursive: true, force: true });
});

async function create(path: string): Promise<DiskJournalFile> {
  const made = await DiskJournalFile.create({ path, volume: 'v', sum }, RING, 1);
  assert(made.ok, made.ok ? '' : made.message);
  return made.value;
}

async function openJournal(file: DiskJournalFile): Promise<Journal> {
  const opening = await Journal.open({
    file,
    sum,
    clock: new ManualClock(),
    volume: 'v',
    epoch: 1,
    firstSequence: 1,
    batchBytesMax: 64 * 1024,
    room: () => {},
    failed: (reason) => assert.fail(reason),
  });
  assert(opening.ok, opening.ok ? '' : opening.reason);
  return opening.journal;
}

async function reopen(path: string): Promise<{ file: DiskJournalFile; journal: Journal }> {
  const file = await DiskJournalFile.open({ path, volume: 'v', sum });
  assert(file.ok, file.ok ? '' : file.message);
  return { file: file.value, journal: await openJournal(file.value) };
}

async function refusal(path: string, volume = 'v'): Promise<{ code: string; message: string }> {
  const opened = await DiskJournalFile.open({ path, volume, sum });
  if (opened.ok) await opened.value.close();
  assert(!opened.ok, 'it was opened');
  return opened;
}

test('a journal has its full size from the start, and keeps what was written over closing and opening', async ({ path }) => {
  const file = await create(path);
  const { size, blocks } = statSync(path);
  assert.equal(size, RING + 8192);
  assert(blocks * 512 >= size, `${blocks} sectors are allocated`);
  const journal = await openJournal(file);
  journal.join(1);
  journal.durable(1, 0);
  // Over the end of the ring, in batches of many buffers.
  for (let round = 1; round <= 300; round += 1) {
    const data = Buffer.alloc(9000, round);
    assert(journal.reserve(OP.WRITE, data.length));
    const last = journal.append({ op: OP.WRITE, offset: round, length: data.length, punch: false, data });
    assert.equal(last, round);
    if (round % 20 === 0) {
      await new Promise<void>((resolve) => journal.sync({ journaled: () => resolve() }));
      journal.durable(1, round - 15);
    }
  }
  await journal.close();
  await file.close();
  const again = await reopen(path);
  assert.equal(again.journal.lastSequence, 300);
  assert.equal(again.journal.shortfall(1), null);
  const found: JournalRecord[] = [];
  for await (const record of again.journal.replay(1)) found.push(record);
  assert.deepEqual(
    found.map((record) => record.sequence),
    Array.from({ length: 15 }, (_, i) => 286 + i),
  );
  for (const { sequence, offset, data } of found) {
    assert.equal(offset, sequence);
    assert(data!.equals(Buffer.alloc(9000, sequence)));
  }
  await again.journal.close();
  await again.file.close();
});

test('everything a process said to be synced is found after it was killed, again and again', async ({ path }) => {
  await (await create(path)).close();
  const writer = fileURLToPath(new URL('./store-journal-writer.ts', import.meta.url));
  let synced = 0;
  let durable = 0;
  for (let round = 1; round <= 8; round += 1) {
    const child = spawn(process.execPath, ['--import', 'tsx', writer, path, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (chunk: string) => {
      text += chunk;
      if (text.split('\n').length > 40 * round) child.kill('SIGKILL');
    });
    const [, signal] = await once(child, 'close');
    assert.equal(signal, 'SIGKILL', 'the child ended by itself');
    const lines = text.split('\n').slice(0, -1);
    assert(lines.length >= 40 * round);
    for (const line of lines) {
      const [word, number] = line.split(' ');
      if (word === 'synced') synced = Number(number);
      else durable = Math.max(durable, Number(number));
    }
    const { file, journal } = await reopen(path);
    assert.equal(journal.incomplete, null);
    assert.equal(journal.shortfall(1), null);
    assert(journal.lastSequence >= synced, `synced ${synced}, found up to ${journal.lastSequence}`);
    let expected = 0;
    for await (const { sequence, offset, length, data } of journal.replay(1)) {
      if (expected === 0) assert(sequence <= durable + 1, `record ${durable + 1} is missing, the first is ${sequence}`);
      else assert.equal(sequence, expected);
      assert.equal(offset, sequence * 4096);
      assert(data!.equals(Buffer.alloc(length, sequence % 251)));
      expected = sequence + 1;
    }
    assert.equal(expected, journal.lastSequence + 1);
    await file.close();
  }
});

test('a file that is missing, something else, cut off, of another volume or of a later version is refused', async ({ path }) => {
  assert.equal((await refusal(path)).code, 'journal-missing');
  await (await create(path)).close();
  const whole = readFileSync(path);
  const other = await refusal(path, 'w');
  assert.equal(other.code, 'journal-foreign');
  assert.match(other.message, /the journal of volume "v"/);
  const newer = Buffer.from(whole);
  for (const at of [8, 4096 + 8]) newer.writeUInt32LE(2, at);
  const spoils: [string, string, RegExp][] = [];
  const check = async (bytes: Buffer, code: string, text: RegExp): Promise<void> => {
    writeFileSync(path, bytes);
    const { code: found, message } = await refusal(path);
    spoils.push([found, message, text]);
    assert.equal(found, code);
    assert.match(message, text);
    assert(readFileSync(path).equals(bytes), 'it is left as it was');
  };
  await check(newer, 'journal-newer', /format 2, known are formats up to 1/);
  await check(Buffer.from('hello world\n'.repeat(1000)), 'journal-foreign', /does not begin as a journal/);
  await check(Buffer.alloc(RING), 'journal-damaged', /only zeroes/);
  await check(Buffer.alloc(0), 'journal-damaged', /shorter/);
  await check(whole.subarray(0, 5000), 'journal-damaged', /has 5000 bytes and should have/);
  await check(whole.subarray(0, whole.length - 4096), 'journal-damaged', /should have/);
  const spoiled = Buffer.from(whole);
  for (const at of [100, 4096 + 100]) spoiled[at] ^= 1;
  await check(spoiled, 'journal-damaged', /both its superblocks/);
  writeFileSync(path, whole);
  truncateSync(path, whole.length);
  const one = Buffer.from(whole);
  one[100] ^= 1;
  writeFileSync(path, one);
  const { file, journal } = await reopen(path);
  assert.equal(journal.lastSequence, 0, 'one superblock is enough');
  await file.close();
});

test('a journal for which there is no space leaves nothing behind', async ({ path, directory }) => {
  // /dev/full refuses every write; a link to it stands where the new file is made.
  const made = await DiskJournalFile.create({ path: join(directory, 'absent', 'v.journal'), volume: 'v', sum }, RING, 1);
  assert(!made.ok);
  assert.equal(made.code, 'journal-unusable');
  const { symlinkSync } = await import('node:fs');
  symlinkSync('/dev/full', `${path}-new`);
  const full = await DiskJournalFile.create({ path, volume: 'v', sum }, RING, 1);
  assert(!full.ok);
  assert.equal(full.code, 'journal-no-space');
  assert.match(full.message, /takes 1056768 bytes/);
  assert(!existsSync(path) && !existsSync(`${path}-new`));
});

test.run();
