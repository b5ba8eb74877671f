// The commands against a real API server over a fake gateway: what they print, and the codes they end with.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { Writable } from 'node:stream';
import { suite } from 'uvu';
import { runProgram } from '../../gateway/cli/program.js';
import { type RunningApi, startFakeApi } from './api-fake-backend.js';

const test = suite<{ api: RunningApi }>('cli/commands');

test.before.each(async (context) => {
  context.api = await startFakeApi();
});

test.after.each(async ({ api }) => {
  await api.close();
});

class Collected extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('utf8');
    done();
  }
}

interface Ran {
  code: number;
  out: string;
  err: string;
}

async function run(url: string, ...args: string[]): Promise<Ran> {
  const stdout = new Collected();
  const stderr = new Collected();
  const startGateway = () => Promise.reject(new Error('not in this test'));
  const code = await runProgram(args, { stdout, stderr, env: { FORESTALL_API: url }, startGateway });
  assert.doesNotMatch(stderr.text, /^\s+at /m, 'no stack trace');
  return { code, out: stdout.text, err: stderr.text };
}

/** The lines of a table as lists of cells. */
function cells(text: string): string[][] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => line.trim().split(/\s{2,}/));
}

test('volumes are a table for people, aligned, and JSON for programs', async ({ api }) => {
  const { code, out } = await run(api.url, 'volumes');
  assert.equal(code, 0);
  const rows = cells(out);
  assert.deepEqual(rows[0], ['NAME', 'SIZE', 'STATE', 'SERVICE', 'ACTIVE', 'EPOCH', 'MIRRORS', 'CLIENTS']);
  assert.deepEqual(rows[1], ['vol0', '1GiB', 'healthy', 'served', 'a', '0', '-', '1']);
  const starts = out.split('\n').map((line) => line.search(/(served|blocked|SERVICE)/));
  assert.equal(new Set(starts.filter((at) => at >= 0)).size, 1, 'the columns stand under one another');
  const json = JSON.parse((await run(api.url, 'volumes', '--json')).out);
  assert.equal(json.volumes[0].size, 2 ** 30);
});

test('one volume is shown with its reason, mirrors and flips', async ({ api }) => {
  await run(api.url, 'mirror', 'vol0');
  const { out } = await run(api.url, 'volumes', 'vol0');
  assert.match(out, /^size +1GiB \(1073741824 bytes\)$/m);
  assert.match(out, /^labels +program=billing-db$/m);
  assert.match(out, /^b\/vol0-b +copying +256MiB +768MiB +4KiB +100MiB\/s +7\.68s/m);
  const blocked = await run(api.url, 'volumes', 'spaced name/ü');
  assert.match(blocked.out, /^reason +node a has only 512 MiB$/m);
});

test('nodes are shown with their risk, and what is not known is not invented', async ({ api }) => {
  await run(api.url, 'verdict', 'a', '--probability', '0.99', '--reason', 'clicks');
  const rows = cells((await run(api.url, 'nodes')).out);
  assert.deepEqual(rows[1], ['a', 'agent', 'rack-1', 'dc-1', 'up', '1GiB', '2GiB', '99.0% FIRING', '2.4ms', '0', 'vol0']);
  assert.deepEqual(rows[3], ['c', 'plain', 'rack-1', 'dc-1', 'down', '-', '-', 'no signal', '-', '0', '-']);
  const one = await run(api.url, 'nodes', 'a');
  assert.match(one.out, /^latency +0\.18ms median, 2\.4ms p99$/m);
  assert.match(one.out, /outside +clicks/);
});

test('a mirror is started, waited for, and dropped', async ({ api }) => {
  const begun = await run(api.url, 'mirror', 'vol0', '--node', 'b');
  assert.equal(begun.code, 0);
  assert.match(begun.out, /vol0 is being copied to b\/vol0-b/);
  const mirror = api.backend.volume('vol0')!.mirrors[0];
  const dropped = await run(api.url, 'mirror', 'vol0', '--drop');
  assert.match(dropped.out, /mirror of vol0 on b\/vol0-b was dropped/);
  assert.deepEqual(api.backend.calls, ['mirror vol0 b', 'drop vol0 b']);
  const none = await run(api.url, 'mirror', 'vol0', '--drop');
  assert.equal(none.code, 4);
  api.backend.volume('vol0')!.mirrors = [mirror, { ...mirror, node: 'c' }];
  const which = await run(api.url, 'mirror', 'vol0', '--drop');
  assert.equal(which.code, 2);
  assert.match(which.err, /several, on b, c: choose with --node/);
});

test('waiting for a mirror ends when it is complete, fails or is gone', async ({ api }) => {
  const { backend } = api;
  for (const [change, code, text] of [
    [() => (backend.volume('vol0')!.mirrors[0].state = 'synced'), 0, /is complete/],
    [
      () => Object.assign(backend.volume('vol0')!.mirrors[0], { state: 'failed', reason: 'its disk is full' }),
      1,
      /failed: its disk is full/,
    ],
    [() => (backend.volume('vol0')!.mirrors = []), 1, /was dropped before/],
  ] as [() => unknown, number, RegExp][]) {
    const addMirror = backend.addMirror.bind(backend);
    backend.addMirror = async (...args) => {
      const begun = await addMirror(...args);
      change();
      return begun;
    };
    const ran = await run(api.url, 'mirror', 'vol0', '--wait');
    backend.addMirror = addMirror;
    assert.equal(ran.code, code, ran.err);
    assert.match(ran.out + ran.err, text);
  }
});

test('a flip prints its certificate; a refusal is a sentence on stderr and code 1', async ({ api }) => {
  const refused = await run(api.url, 'flip', 'vol0');
  assert.equal(refused.code, 1);
  assert.equal(refused.out, '');
  assert.equal(refused.err, 'forestall: Volume vol0 has no mirror to flip to. Start one first.\n');
  await run(api.url, 'mirror', 'vol0');
  api.backend.volume('vol0')!.mirrors[0].state = 'synced';
  const { code, out } = await run(api.url, 'flip', 'vol0', '--node', 'b');
  assert.equal(code, 0);
  assert.match(out, /^flip +vol0 from a to b\/vol0-b$/m);
  assert.match(out, /^pause +3\.25ms, 16 requests held$/m);
  assert.equal(JSON.parse((await run(api.url, 'flip', 'vol0', '--json')).out).epoch, 1);
});

test('a takeover is refused with what may be lost until that is accepted', async ({ api }) => {
  const refusal = await run(api.url, 'takeover', 'vol0');
  assert.deepEqual([refusal.code, refusal.err], [1, 'forestall: Up to 1 MiB may be older.\n']);
  const { code, out } = await run(api.url, 'takeover', 'vol0', '--node', 'b', '--accept-loss');
  assert.equal(code, 0);
  assert.match(out, /^failover +vol0 from a to b\/vol0-b$/m);
  assert.match(out, /16 dirty regions left/);
});

test('a volume is made larger; as large as it is is no error, smaller is a sentence and code 1, no size is code 2', async ({ api }) => {
  const grown = await run(api.url, 'grow', 'vol0', '20GiB');
  assert.equal(grown.code, 0, grown.err);
  assert.equal(grown.out, 'vol0 has grown from 1GiB to 20GiB (21474836480 bytes). Hosts see it when they attach again.\n');
  assert.equal((await run(api.url, 'grow', 'vol0', '21474836480')).out, 'vol0 has 20GiB (21474836480 bytes) already.\n');
  assert.equal(JSON.parse((await run(api.url, 'grow', 'vol0', '20GiB', '--json')).out).size, 21_474_836_480);
  const smaller = await run(api.url, 'grow', 'vol0', '1GiB');
  assert.deepEqual([smaller.code, smaller.err], [1, 'forestall: vol0 has 21474836480 bytes and only grows.\n']);
  const none = await run(api.url, 'grow', 'vol0', 'big');
  assert.deepEqual([none.code, none.out], [2, '']);
  assert.match(none.err, /"big" is no size/);
  assert.equal((await run(api.url, 'grow', 'nope', '1GiB')).code, 4);
});

test('a rollback says what it did', async ({ api }) => {
  await run(api.url, 'mirror', 'vol0');
  const { code, out } = await run(api.url, 'rollback', 'vol0');
  assert.equal(code, 0);
  assert.match(out, /vol0: the mirror on b\/vol0-b was dropped/);
});

test('a scrub is begun, or waited for with its findings; what stays unrepaired is code 1', async ({ api }) => {
  assert.match((await run(api.url, 'scrub', 'vol0')).out, /is under way/);
  const waited = await run(api.url, 'scrub', 'vol0', '--wait');
  assert.equal(waited.code, 0);
  assert.match(waited.out, /done, 1GiB of 1GiB compared, 1 mismatch, 1 repaired/);
  assert.match(waited.out, /1048576 +64KiB +b +yes +its checksum differs/);
  const scrub = api.backend.scrub.bind(api.backend);
  api.backend.scrub = async (name) => {
    const outcome = await scrub(name);
    assert.ok(outcome.ok);
    const finished = outcome.value.finished.then((end) => {
      assert.ok(end.ok);
      return { ok: true as const, value: { ...end.value, mismatches: end.value.mismatches.map((m) => ({ ...m, repaired: false })) } };
    });
    return { ok: true, value: { ...outcome.value, finished } };
  };
  assert.equal((await run(api.url, 'scrub', 'vol0', '--wait')).code, 1);
});

test('verdicts are listed and filtered', async ({ api }) => {
  await run(api.url, 'verdict', 'a', '--probability', '0.9', '--reason', 'clicks');
  await run(api.url, 'verdict', 'b', '--probability', '0', '--reason', 'new disk');
  assert.deepEqual(
    cells((await run(api.url, 'verdicts')).out).map((row) => row[2]),
    ['NODE', 'a', 'b'],
  );
  assert.equal(JSON.parse((await run(api.url, 'verdicts', '--firing', '--json')).out).verdicts.length, 1);
  assert.equal(JSON.parse((await run(api.url, 'verdicts', '--node', 'b', '--json')).out).verdicts[0].probability, 0);
});

test('events are lines by id; control characters in them do not reach the terminal', async ({ api }) => {
  api.backend.events.publish({ type: 'volume.flipped', level: 'info', message: 'flip \u001b[31mred\u0007', volume: 'vol0', node: 'b' });
  api.backend.events.publish({ type: 'node.down', level: 'alert', message: 'gone', node: 'b' });
  const { code, out } = await run(api.url, 'events');
  assert.equal(code, 0);
  const lines = out.trimEnd().split('\n');
  assert.match(lines[0], /^ +1 {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} {2}info +volume\.flipped +flip {1,2}\[31mred +\[vol0 b\]$/);
  assert.ok(!out.includes('\u001b') && !out.includes('\u0007'));
  assert.equal(JSON.parse((await run(api.url, 'events', '--type', 'node', '--json')).out).events.length, 1);
  assert.match((await run(api.url, 'events', '--since', '1')).out, /^ +2 /);
});

test('what does not exist ends with code 4, wrong usage with 2, no gateway with 3', async ({ api }) => {
  for (const args of [
    ['volumes', 'nope'],
    ['nodes', 'nope'],
    ['flip', 'nope'],
    ['scrub', 'nope', '--wait'],
    ['verdict', 'z', '--probability', '1', '--reason', 'x'],
  ]) {
    const { code, err } = await run(api.url, ...args);
    assert.equal(code, 4, args.join(' '));
    assert.match(err, /^forestall: There is no (volume|node) /);
  }
  for (const args of [
    ['unknown'],
    [],
    ['flip'],
    ['flip', 'vol0', '--nod', 'b'],
    ['volumes', 'a', 'b'],
    ['verdict', 'a', '--probability', '1.5', '--reason', 'x'],
    ['verdict', 'a', '--probability', '', '--reason', 'x'],
    ['verdict', 'a', '--probability', '1'],
    ['events', '--since', '-1'],
    ['mirror', 'vol0', '--wait', '--drop'],
    ['node', '--dir', 'x', '--port', '70000', '--api-port', '1'],
    ['volumes', '--api', 'ftp://x'],
  ]) {
    assert.equal((await run(api.url, ...args)).code, 2, args.join(' '));
  }
  // A port that was free a moment ago: nobody listens there.
  const nobody = createServer();
  await new Promise<void>((resolve) => nobody.listen(0, '127.0.0.1', resolve));
  const { port } = nobody.address() as { port: number };
  await new Promise((resolve) => nobody.close(resolve));
  const { code, err } = await run(`http://127.0.0.1:${port}`, 'volumes');
  assert.equal(code, 3);
  assert.match(err, /Cannot reach the API at http:\/\/127\.0\.0\.1:\d+: the connection was refused/);
});

test('another server than ours is named as such', async () => {
  const other = createServer((_request, response) => response.end('<html>hello</html>'));
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as { port: number };
  const { code, err } = await run(`http://127.0.0.1:${port}`, 'volumes');
  other.closeAllConnections();
  other.close();
  assert.equal(code, 1);
  assert.match(err, /is no Forestall API/);
});

test('help names every command and ends well', async ({ api }) => {
  const { code, out } = await run(api.url, '--help');
  assert.equal(code, 0);
  for (const name of [
    'serve',
    'node',
    'check-config',
    'volumes',
    'nodes',
    'mirror',
    'flip',
    'rollback',
    'scrub',
    'verdicts',
    'verdict',
    'events',
  ]) {
    assert.match(out, new RegExp(`^  ${name} `, 'm'));
    const help = await run(api.url, name, '--help');
    assert.equal(help.code, 0);
    assert.match(help.out, new RegExp(`Examples:\\n  \\$ forestall ${name}`));
  }
});

test.run();
