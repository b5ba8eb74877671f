// The benchmark's processes: readiness is told or asked for, a failure is reported with what the part said, and
// nothing is left running.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { Parts, type PartSpec } from '../../native-free-bench/part.js';

const test = suite('bench part');

function nodeProgram(code: string, isReady: () => Promise<boolean>): PartSpec {
  return { name: 'sample', run: { program: process.execPath }, args: ['-e', code], isReady };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('a part that ends before it is ready is reported with its exit code and what it said', async () => {
  const outcome = await new Parts().start(nodeProgram("console.error('no such port'); process.exit(3)", async () => false));
  assert.equal(outcome.ok, false);
  assert.match(outcome.ok ? '' : outcome.message, /^sample exited with code 3; it said:\n {4}no such port$/);
});

test('a program that does not exist is reported', async () => {
  const outcome = await new Parts().start({ name: 'ghost', run: { program: '/nonexistent/ghost' }, args: [], isReady: async () => false });
  assert.match(outcome.ok ? '' : outcome.message, /^ghost could not be started: .*ENOENT/);
});

test('a part is asked until it is ready, and stopped together with all others', async () => {
  const parts = new Parts();
  let asked = 0;
  const started = await Promise.all(
    ['setInterval(() => {}, 1000)', "process.on('SIGHUP', () => {}); setInterval(() => {}, 1000)"].map((code) =>
      parts.start(nodeProgram(code, async () => ++asked > 3)),
    ),
  );
  const running = started.map((outcome) => {
    assert.ok(outcome.ok);
    return outcome.value.part;
  });
  assert.ok(asked > 3);
  const pids = running.map(({ child }) => child.pid!);
  assert.deepEqual(pids.map(isAlive), [true, true]);
  await parts.stopAll();
  assert.deepEqual(pids.map(isAlive), [false, false]);
  assert.deepEqual(
    running.map(({ ending }) => ending),
    ['was ended by SIGTERM', 'was ended by SIGTERM'],
  );
});

test('once the parts are stopped none is started any more', async () => {
  const parts = new Parts();
  await parts.stopAll();
  const outcome = await parts.start(nodeProgram('', async () => true));
  assert.equal(outcome.ok ? '' : outcome.code, 'stopped');
});

test.run();
