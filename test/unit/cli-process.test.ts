// The command as a process of its own: it ends by itself with its code, follows events across restarts, and what
// serves obeys its signals.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { lineForPeople } from '../../gateway/cli/process-log.js';
import { SseReader } from '../../gateway/cli/sse-reader.js';
import { startFakeApi } from './api-fake-backend.js';

const test = suite<{ children: ChildProcess[]; directory: string }>('cli/process');
const MAIN = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url));
const SERVING = fileURLToPath(new URL('./cli-serving-child.ts', import.meta.url));

test.before.each((context) => {
  context.children = [];
  context.directory = mkdtempSync(join(tmpdir(), 'forestall-cli-'));
});

test.after.each(({ children, directory }) => {
  for (const child of children) {
    child.kill('SIGKILL');
  }
  rmSync(directory, { recursive: true, force: true });
});

class Running {
  out = '';
  err = '';
  readonly ended: Promise<number | null>;
  #over = false;

  constructor(
    children: ChildProcess[],
    program: string,
    args: string[],
    readonly child = spawn(process.execPath, ['--import', 'tsx', program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] }),
  ) {
    children.push(child);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.err += text;
    });
    this.ended = once(child, 'close').then(([code]) => {
      this.#over = true;
      return code as number | null;
    });
  }

  /** Resolves once what was printed satisfies `done`; fails if the process ends before. */
  async until(done: (running: this) => boolean): Promise<void> {
    while (!done(this)) {
      assert.ok(!this.#over, `it ended: ${this.out}${this.err}`);
      await Promise.race([once(this.child.stdout!, 'data'), once(this.child.stderr!, 'data'), this.ended]);
    }
  }
}

test('a command ends by itself with its code and prints to the right place', async ({ children }) => {
  const api = await startFakeApi();
  const shown = new Running(children, MAIN, ['volumes', '--api', api.url]);
  const missing = new Running(children, MAIN, ['flip', 'nope', '--api', api.url]);
  assert.equal(await shown.ended, 0);
  assert.match(shown.out, /^NAME .*\nvol0 /);
  assert.equal(shown.err, '');
  assert.equal(await missing.ended, 4);
  assert.equal(missing.out, '');
  assert.match(missing.err, /^forestall: There is no volume "nope"/);
  await api.close();
});

test('following shows what was and what comes, and goes on when the gateway comes back', async ({ children }) => {
  const api = await startFakeApi();
  const publish = (message: string) => api.backend.events.publish({ type: 'test', level: 'info', message });
  publish('before');
  const follow = new Running(children, MAIN, ['events', '--follow', '--json', '--api', api.url]);
  await follow.until(({ out }) => out.includes('before'));
  publish('live');
  await follow.until(({ out }) => out.includes('live'));
  await api.close();
  await follow.until(({ err }) => err.includes('Trying again'));
  assert.equal(follow.child.exitCode, null);
  const ids = follow.out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).id);
  assert.deepEqual(ids, [1, 2]);
});

test('check-config prints every problem with its place and ends with 1, or sums up what is right', async ({ children, directory }) => {
  const file = join(directory, 'gateway.yaml');
  writeFileSync(file, 'nodes:\n  - id: a\n    nbd: nbd://127.0.0.1:1\nvolumes:\n  - { name: v, size: 1GB!, node: zz }\nextra: 1\n');
  const wrong = new Running(children, MAIN, ['check-config', file]);
  const right = new Running(children, MAIN, ['check-config', fileURLToPath(new URL('../../config/gateway.yaml', import.meta.url))]);
  assert.equal(await wrong.ended, 1);
  assert.equal(wrong.out, '');
  const problems = wrong.err.trimEnd().split('\n');
  assert.ok(problems.length >= 2, wrong.err);
  for (const problem of problems) {
    assert.match(problem, /gateway\.yaml:\d+:\d+ \S+: .+/);
  }
  assert.equal(await right.ended, 0);
  assert.match(right.out, /is right: 3 nodes, 1 volume, 1 policy\.$/m);
});

test('serve says where to attach, takes up its configuration at SIGHUP and closes at SIGTERM', async ({ children }) => {
  const serving = new Running(children, SERVING, ['serve', '--config', 'x.yaml']);
  await serving.until(({ out }) => out.includes('metrics'));
  assert.match(serving.out, /^Forestall serves 2 volumes\.$/m);
  assert.match(serving.out, /nbd:\/\/127\.0\.0\.1:10809\/vol0\n.*nbd:\/\/127\.0\.0\.1:10809\/a%20volume\n/);
  assert.match(serving.out, /http:\/\/\[::1\]:8081\/openapi\.json/);
  serving.child.kill('SIGHUP');
  await serving.until(({ err }) => err.includes('Configuration taken up.'));
  serving.child.kill('SIGHUP');
  await serving.until(({ err }) => err.includes('It is wrong.'));
  serving.child.kill('SIGTERM');
  assert.equal(await serving.ended, 0);
  assert.match(serving.out, /closed\n$/);
  for (const line of serving.err.trimEnd().split('\n')) {
    assert.ok(JSON.parse(line).msg, 'the log is JSON when it is no terminal');
  }
});

test('what keeps the gateway from starting is said without a stack trace', async ({ children }) => {
  const serving = new Running(children, SERVING, ['serve', '--config', 'x.bad.yaml']);
  assert.equal(await serving.ended, 1);
  assert.equal(serving.err, 'forestall: x.bad.yaml:3:1 nodes: is wrong\n');
});

test('node serves an agent until SIGTERM, and a second one on its directory is refused', async ({ children, directory }) => {
  const args = ['node', '--dir', join(directory, 'node'), '--port', '0', '--api-port', '0', '--json'];
  const first = new Running(children, MAIN, args);
  await first.until(({ out }) => out.trimEnd().endsWith('}'));
  const { nbd, api } = JSON.parse(first.out);
  assert.ok(nbd.port > 0 && api.port > 0);
  const second = new Running(children, MAIN, args);
  assert.equal(await second.ended, 1);
  assert.match(second.err, /^forestall: .+/m);
  assert.doesNotMatch(second.err, /^\s+at /m);
  first.child.kill('SIGTERM');
  assert.equal(await first.ended, 0);
});

test('server-sent events are read across any cut', () => {
  const text = 'retry: 1\n: hello\n\nid: 7\ndata: {"a":1}\n\n: heartbeat\n\nid: 8\r\ndata: one\r\ndata:two\r\n\r\n';
  const expected = [
    { id: '7', data: '{"a":1}' },
    { id: '8', data: 'one\ntwo' },
  ];
  for (let cut = 0; cut <= text.length; cut++) {
    const reader = new SseReader();
    assert.deepEqual([...reader.push(text.slice(0, cut)), ...reader.push(text.slice(cut))], expected, `cut at ${cut}`);
  }
});

test('a line of the log for people names time, level, message and fields', () => {
  const line = lineForPeople(JSON.stringify({ level: 40, time: Date.UTC(2026, 0, 1, 12, 0, 1, 234), msg: 'slow', node: 'a', ms: 5 }));
  assert.equal(line, '12:00:01.234 warn  slow node=a ms=5\n');
});

test.run();
