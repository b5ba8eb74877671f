// A data directory on a file system that is full or read-only, for real: small file systems in memory, mounted here. Commits
// fail in words and without loss, go on once there is room, and a gateway can still open what is there.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import { DataDirectory } from '../../gateway/store/data-directory.js';
import { LmdbRecords, RecordsError } from '../../gateway/store/lmdb-records.js';
import { checkStore } from '../../gateway/store/store-check.js';
import { importStore } from '../../gateway/store/store-import.js';
import { exportStore } from '../../gateway/store/store-export.js';

const SMALL = 'size=4m';
/** More than is kept as room. */
const LARGE_BYTES = 1_600_000;

function mount(...args: string[]): boolean {
  return spawnSync('mount', args, { stdio: 'ignore' }).status === 0;
}

const probe = mkdtempSync(join(tmpdir(), 'forestall-mount-'));
const mountable = mount('-t', 'tmpfs', '-o', SMALL, 'tmpfs', probe);
if (mountable) spawnSync('umount', [probe]);
else console.log('skipped: full and read-only file systems (this user may not mount any; root may)');
rmSync(probe, { recursive: true });

const test = suite<{ disk: string }>('store/full-disk');

test.before.each((context) => {
  context.disk = mkdtempSync(join(tmpdir(), 'forestall-disk-'));
  assert.ok(mount('-t', 'tmpfs', '-o', SMALL, 'tmpfs', context.disk));
});

test.after.each(({ disk }) => {
  spawnSync('umount', [disk]);
  rmSync(disk, { recursive: true });
});

function fill(disk: string): string {
  const path = join(disk, 'filling');
  const fd = openSync(path, 'w');
  for (const bytes of [65536, 4096]) {
    try {
      for (;;) writeSync(fd, Buffer.alloc(bytes));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    }
  }
  closeSync(fd);
  return path;
}

async function opened(directory: string): Promise<LmdbRecords> {
  const outcome = await LmdbRecords.open(directory);
  assert.ok(outcome.ok, outcome.ok ? '' : outcome.message);
  return outcome.value;
}

async function full({ disk }: { disk: string }): Promise<void> {
  const held = await DataDirectory.open(join(disk, 'data'));
  assert.ok(held.ok);
  const { path } = held.value;
  const records = await opened(path);
  await records.commit([{ put: 'k/before', value: 1 }]);
  const filling = fill(disk);
  for (let turn = 0; turn < 3; turn++) {
    await assert.rejects(
      records.commit([
        { put: 'k/before', value: 2 },
        { put: 'k/large', value: new Uint8Array(LARGE_BYTES) },
      ]),
      (error: Error) => error instanceof RecordsError && /could not be written: .*The file system is full/.test(error.message),
    );
    assert.equal(records.get('k/before'), 1, 'no part of a commit that failed is there');
  }
  for (let turn = 0; turn < 200; turn++) await records.commit([{ put: 'k/small', value: turn }]);
  await records.close();
  held.value.release();
  // A gateway that is started now takes its lock, opens and serves.
  const again = await DataDirectory.open(path);
  assert.ok(again.ok, again.ok ? '' : again.message);
  const later = await opened(path);
  assert.equal(later.get('k/before'), 1);
  await later.commit([{ put: 'k/small', value: 200 }]);
  rmSync(filling);
  await later.commit([{ put: 'k/large', value: new Uint8Array(LARGE_BYTES) }]);
  await later.close();
  const checked = checkStore(path);
  assert.ok(checked.ok && checked.value.findings.every(({ key }) => key?.startsWith('k/')), 'only these keys are strange to it');
  again.value.release();
}

async function fullFromTheStart({ disk }: { disk: string }): Promise<void> {
  const filling = fill(disk);
  const refused = await LmdbRecords.open(disk);
  assert.ok(!refused.ok && refused.code === 'store-unusable', JSON.stringify(refused));
  assert.match(refused.message, /The file system is full/);
  assert.deepEqual(readdirSync(disk), ['filling'], 'nothing half made is left');
  rmSync(filling);
  await (await opened(disk)).close();
}

async function fullInAnImport({ disk }: { disk: string }): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'forestall-import-'));
  const large = await opened(root);
  await large.commit(Array.from({ length: 60 }, (_, i) => ({ put: `k/${i}`, value: new Uint8Array(100_000) })));
  await large.close();
  const file = join(root, 'store.jsonl');
  assert.ok(exportStore(root, file, { salvage: false, by: 'test', at: '' }).ok);
  const old = await opened(disk);
  await old.commit([{ put: 'k/old', value: 1 }]);
  await old.close();
  const before = readdirSync(disk);
  await assert.rejects(importStore(file, disk, { replace: true, outdated: false, at: new Date(0) }), /The file system is full/);
  assert.deepEqual(readdirSync(disk), before);
  const same = await opened(disk);
  assert.equal(same.get('k/old'), 1);
  await same.close();
  rmSync(root, { recursive: true });
}

async function readOnly({ disk }: { disk: string }): Promise<void> {
  await (await opened(disk)).close();
  assert.ok(mount('-o', 'remount,ro', disk));
  const locked = await DataDirectory.open(disk);
  assert.ok(!locked.ok && /read-only file system/.test(locked.message));
  const records = await LmdbRecords.open(disk);
  assert.ok(!records.ok && records.code === 'store-unusable' && /read-only file system/i.test(records.message), JSON.stringify(records));
  const reading = await DataDirectory.openToRead(disk);
  assert.ok(reading.ok);
  const checked = checkStore(disk);
  assert.ok(checked.ok && checked.value.sound);
}

if (mountable) {
  test(
    'small commits go on without room on the disk, one that needs more fails whole, and what is there can be opened and goes on once there is room',
    full,
  );
  test('a new store that finds no room is refused and leaves nothing behind', fullFromTheStart);
  test('an import that finds no room leaves the old records as they were', fullInAnImport);
  test('a read-only file system is said in words, and can still be checked', readOnly);
}

test.run();
