// The conformance suite against our server, which passes every rule that applies, over TCP and a Unix socket and with exports of
// every kind; and against the servers of others, where it comes to its end and finds what these are known to do otherwise.
// deadline: 400s
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { RULES } from '../../gateway/conformance/rules.js';
import { combined, type Outcome } from '../../gateway/conformance/suite.js';
import { ERRNO } from '../../replication/device.js';
import { blankImage } from '../support/blank-image.js';
import { conformance, failures, idsOf } from '../support/conformance-run.js';
import { eventually } from '../support/eventually.js';
import { untilListening } from '../support/listening.js';
import { MemoryDevice } from '../support/memory-device.js';
import { type ExportWish, memoryExport } from '../support/memory-exports.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NbdTestbed, runPeer } from '../support/nbd-testbed.js';
import { freePort } from '../support/peers.js';
import { type Site, siteTest } from '../support/site.js';
import { StartedProgram } from '../support/started-program.js';

const test = suite('nbd conformance');

const MIB = 1024 * 1024;
/** Rules of servers with TLS, which have a test of their own, and of what our server is never like. */
const NEVER_OURS = [
  'handshake.unoffered-client-flag',
  'extended.declined',
  'extended.status-payload-not-offered',
  'read.any-byte-by-default',
];
const SECOND_CONTEXT = { name: 'x-forestall:second', runs: (_: number, lengthBytes: number) => [{ lengthBytes, status: 5 }] };

/** Exports that between them have every need of a rule. */
function exports() {
  const of = (name: string, bytes: number, wish: ExportWish = {}) =>
    memoryExport(name, new MemoryDevice(bytes, { completion: 'later' }), wish);
  const slow = new MemoryDevice(2 * MIB, { completion: 'later' });
  slow.fail = ({ fast }) => (fast ? ERRNO.ENOTSUP : 0);
  const huge = new MemoryDevice(6 * 1024 * MIB, { completion: 'later', keptBytes: MIB });
  return [
    of('disk', 64 * MIB, { description: 'a disk', contexts: [SECOND_CONTEXT] }),
    of('read-only', 2 * MIB, { features: { readOnly: true } }),
    of('aligned', 2 * MIB, { block: { minimum: 4096 } }),
    of('plain', 2 * MIB, { features: { fua: false, fastZero: false }, block: { maximumPayload: 2 ** 20 } }),
    memoryExport('slow', slow),
    memoryExport('huge', huge),
  ];
}

for (const over of ['tcp', 'unix'] as const) {
  test(`our server passes every rule over ${over}`, async () => {
    const served = exports();
    const bed = await NbdTestbed.start(served);
    try {
      const runs: Outcome[][] = [];
      for (const { name } of served) {
        // Of the huge one only a little is kept: what is written behind that does not read back.
        const rules = name === 'huge' ? RULES.filter(({ id }) => id.endsWith('-over-4gib') && id !== 'extended.zeroes-over-4gib') : RULES;
        runs.push(await conformance(bed.uri(name, over), {}, rules));
        assert.equal(failures(runs.at(-1)!), '', name);
      }
      const all = combined(RULES, runs);
      const without = idsOf(all, 'not-applicable').filter((id) => !id.startsWith('tls.'));
      assert.deepEqual(without, [...NEVER_OURS, 'extended.zeroes-over-4gib'].sort(byRule), 'every other rule was checked somewhere');
      assert.deepEqual(idsOf(all, 'not-run'), []);
    } finally {
      await bed.stop();
    }
  });
}

function byRule(a: string, b: string): number {
  return RULES.findIndex(({ id }) => id === a) - RULES.findIndex(({ id }) => id === b);
}

test('without --write nothing is written, and rules that would are said not to have run', async () => {
  const device = new MemoryDevice(2 * MIB, { completion: 'later' });
  const bed = await NbdTestbed.start([memoryExport('disk', device)]);
  try {
    const outcomes = await conformance(bed.uri('disk'), { write: false });
    assert.equal(failures(outcomes), '');
    assert(idsOf(outcomes, 'not-run').includes('write.reads-back'));
    assert.deepEqual(
      [...new Set(device.asked.map(({ op }) => op))].filter((op) => op === 1 || op === 3),
      [],
    );
    assert(device.bytes.every((byte) => byte === 0));
  } finally {
    await bed.stop();
  }
});

async function image(site: Site, name: string): Promise<string> {
  const path = site.path(`${name}.img`);
  await blankImage(path, 128 * MIB);
  return path;
}

/** All of these failed, and the suite came to its end. */
function expectFound(outcomes: Outcome[], wanted: readonly string[]): void {
  assert.equal(outcomes.length, RULES.length);
  assert.deepEqual(idsOf(outcomes, 'not-run'), []);
  const failed = idsOf(outcomes, 'failed');
  assert.deepEqual(
    wanted.filter((id) => !failed.includes(id)),
    [],
    failures(outcomes),
  );
}

siteTest(
  test,
  ['nbdkit'],
  'nbdkit: ENOMEM for long reads, and its process does not survive a FAST_ZERO that it does not offer',
  async (site) => {
    const node = await NbdkitNode.start(site, ['file', await image(site, 'nbdkit')]);
    const outcomes = await conformance(`${node.uri}/`, { timeoutMs: 10_000 });
    expectFound(outcomes, ['read.over-maximum', 'zeroes.fast-not-offered']);
    const killed = outcomes.find(({ rule }) => rule.id === 'zeroes.fast-not-offered')!;
    assert.match(killed.reason ?? '', /the server was gone/);
    assert.equal(outcomes.find(({ rule }) => rule.id === 'multi-conn.flush')!.status, 'passed', 'rules after it ran');
  },
);

siteTest(test, ['qemu-nbd'], 'qemu-nbd: EINVAL for writes past the end, and DISC drops what is outstanding', async (site) => {
  const port = await freePort();
  const args = ['-f', 'raw', '-x', 'disk', '-b', '127.0.0.1', '-p', `${port}`, '--persistent', '--shared=0'];
  await untilListening(StartedProgram.start(site, 'qemu-nbd', [...args, await image(site, 'qemu')]), port);
  const outcomes = await conformance(`nbd://127.0.0.1:${port}/disk`, { timeoutMs: 10_000 });
  expectFound(outcomes, ['write.past-end', 'write.crossing-end', 'zeroes.past-end', 'write.before-disc']);
});

siteTest(test, ['nbd-server'], 'nbd-server: unknown flags, ABORT, truncated options, claims of 4 GiB', async (site) => {
  const port = await freePort();
  const [file, pidFile] = [site.path('nbd-server.conf'), site.path('nbd-server.pid')];
  const export_ = ['[disk]', `exportname = ${await image(site, 'nbd-server')}`, 'flush = true', 'fua = true', 'trim = true'];
  await writeFile(file, `${['[generic]', `port = ${port}`, 'listenaddr = 127.0.0.1', ...export_].join('\n')}\n`);
  // It serves more than one client only as a daemon.
  site.onClose(async () => {
    if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8')));
  });
  const { status, stderr } = await runPeer('nbd-server', ['-C', file, '-p', pidFile]);
  assert.equal(status, 0, stderr);
  await eventually('nbd-server wrote its pid', async () => existsSync(pidFile) && Number(readFileSync(pidFile, 'utf8')) > 0, Boolean);
  const outcomes = await conformance(`nbd://127.0.0.1:${port}/disk`, { timeoutMs: 5_000 });
  expectFound(outcomes, [
    'handshake.unknown-client-flag',
    'abort.ack',
    'info.no-data',
    'info.name-overruns',
    'option.claimed-4gib',
    'write.claimed-4gib',
  ]);
});

test.run();
