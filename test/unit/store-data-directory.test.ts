// The data directory belongs to one gateway at a time, and to nobody once that gateway is gone, however it went.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { DataDirectory } from '../../gateway/store/data-directory.js';
import { loadFlock } from '../../gateway/store/file-lock.js';
import { ownIdentity } from '../../gateway/store/process-identity.js';

const test = suite<{ directory: string }>('store/data-directory');
const flock = await loadFlock();
if (flock === null) {
  console.log('skipped: locking by flock (koffi is not installed); locking by process number is tested');
}
const KINDS = flock === null ? ['no-flock'] : ['flock', 'no-flock'];
const lockOf = (kind: string) => Promise.resolve(kind === 'flock' ? flock : null);

test.before.each((context) => {
  context.directory = join(mkdtempSync(join(tmpdir(), 'forestall-data-')), 'gateway');
});

test.after.each((context) => {
  rmSync(join(context.directory, '..'), { recursive: true, force: true });
});

async function holder(directory: string, kind: string): Promise<ChildProcess> {
  const program = fileURLToPath(new URL('./store-lock-holder.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', program, directory, kind], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(child.stdout!.setEncoding('utf8'), 'data');
  assert.equal(line, 'locked\n');
  return child;
}

async function killed(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'close');
}

test('it is made for its owner alone', async ({ directory }) => {
  const outcome = await DataDirectory.open(directory);
  assert.ok(outcome.ok);
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  assert.equal(outcome.value.file('x'), join(directory, 'x'));
  outcome.value.release();
});

test('a second gateway is refused and told the process that holds it; a kill lets the next one in', async ({ directory }) => {
  for (const held of KINDS) {
    for (const asked of KINDS) {
      const child = await holder(directory, held);
      const refused = await DataDirectory.open(directory, lockOf(asked));
      assert.ok(!refused.ok, `${asked} beside ${held}`);
      assert.equal(refused.code, 'data-locked');
      assert.ok(refused.message.includes(`process ${child.pid}`), refused.message);
      await killed(child);
      const next = await DataDirectory.open(directory, lockOf(asked));
      assert.ok(next.ok, `${asked} after a killed ${held}`);
      next.value.release();
    }
  }
});

test('the same process cannot open it twice, and can again after letting go', async ({ directory }) => {
  for (const kind of KINDS) {
    const first = await DataDirectory.open(directory, lockOf(kind));
    assert.ok(first.ok);
    const second = await DataDirectory.open(directory, lockOf(kind));
    assert.ok(!second.ok && second.message.includes(`process ${process.pid}`));
    first.value.release();
    const third = await DataDirectory.open(directory, lockOf(kind));
    assert.ok(third.ok, kind);
    third.value.release();
  }
});

test('with flock the lock holds even when the file does not say by whom', async ({ directory }) => {
  if (flock === null) {
    return;
  }
  const first = await DataDirectory.open(directory);
  assert.ok(first.ok);
  writeFileSync(join(directory, 'lock'), '');
  const second = await DataDirectory.open(directory);
  assert.ok(!second.ok && second.message.includes('in use by another process'));
  first.value.release();
});

test('a process that got the number of a dead holder does not hold the lock', async ({ directory }) => {
  mkdirSync(directory, { recursive: true });
  const self = ownIdentity();
  for (const stale of [
    JSON.stringify({ ...self, startTicks: '1' }),
    JSON.stringify({ ...self, boot: 'another' }),
    'not a lock',
    '{"pid":-1}',
    '',
  ]) {
    for (const kind of KINDS) {
      writeFileSync(join(directory, 'lock'), stale);
      const outcome = await DataDirectory.open(directory, lockOf(kind));
      assert.ok(outcome.ok, `${kind}: ${stale}`);
      assert.deepEqual(JSON.parse(readFileSync(join(directory, 'lock'), 'utf8')), self);
      outcome.value.release();
    }
  }
});

test('without flock a claim left by a kill blocks for seconds, not for ever', async ({ directory }) => {
  mkdirSync(directory, { recursive: true });
  const claim = join(directory, 'lock.claim');
  writeFileSync(claim, '');
  assert.ok(!(await DataDirectory.open(directory, lockOf('no-flock'))).ok);
  const old = new Date(Date.now() - 60_000);
  utimesSync(claim, old, old);
  const outcome = await DataDirectory.open(directory, lockOf('no-flock'));
  assert.ok(outcome.ok);
  assert.ok(!existsSync(claim));
  outcome.value.release();
});

test('a path that cannot be a directory is refused with the reason', async ({ directory }) => {
  writeFileSync(directory, 'a file');
  for (const path of [directory, join(directory, 'below')]) {
    const outcome = await DataDirectory.open(path);
    assert.ok(!outcome.ok);
    assert.equal(outcome.code, 'data-unusable');
    assert.match(outcome.message, /a file, not a directory/);
  }
});

test.run();
