// A storage-node agent against the clients it will meet: libnbd's tools, QEMU's and fio, and what they leave on its disk.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import type { RunningAgent } from '../../gateway/agent/agent.js';
import { AgentClient } from '../../gateway/agent/client.js';
import { loadLibc } from '../../gateway/agent/libc.js';
import { havePeer, skipped } from '../support/peers.js';
import { Rig } from '../unit/agent-rig.js';

const MIB = 1024 * 1024;
const SIZE_BYTES = 64 * MIB;
const run = promisify(execFile);
const libc = await loadLibc();

interface Served {
  rig: Rig;
  agent: RunningAgent;
  uri: string;
  image: string;
}

const interop = suite<Served>('agent interop');
interop.before.each(async (context) => {
  context.rig = new Rig();
  context.agent = await context.rig.agent();
  const client = new AgentClient(`http://127.0.0.1:${context.agent.apiPort}`);
  const made = await client.createExport({ name: 'vol', sizeBytes: SIZE_BYTES, volume: 'v', epoch: 1 });
  assert(made.ok);
  await client.close();
  context.uri = `nbd://127.0.0.1:${context.agent.nbdPort}/vol`;
  context.image = join(context.rig.dir, 'vol.img');
});
interop.after.each((context) => context.rig.remove());

/** Defines a test that needs these programs, or says that it does not run. */
function needing(programs: string[], packages: string, name: string, test: (context: Served) => Promise<void>): void {
  if (programs.every(havePeer)) interop(name, test);
  else skipped(`agent: ${name}`, packages);
}

needing(['nbdinfo'], 'libnbd-bin', 'nbdinfo sees the export with all it offers', async ({ uri }) => {
  const { stdout } = await run('nbdinfo', ['--json', uri]);
  const [shown] = (JSON.parse(stdout) as { exports: Record<string, unknown>[] }).exports;
  assert.equal(shown['export-size'], SIZE_BYTES);
  for (const flag of ['can_flush', 'can_fua', 'can_multi_conn', 'can_zero', 'can_cache', 'can_df']) assert.equal(shown[flag], true, flag);
  assert.equal(shown.can_trim, libc !== null);
  const { stdout: list } = await run('nbdinfo', ['--list', '--json', uri.replace('/vol', '')]);
  assert.match(list, /"export-name": "vol"/);
});

needing(['nbdcopy'], 'libnbd-bin', 'nbdcopy brings an image in and out unchanged, holes included', async ({ rig, uri, image }) => {
  const source = join(rig.dir, 'source.raw');
  const copy = join(rig.dir, 'copy.raw');
  const fd = openSync(source, 'w');
  for (let at = 0; at < SIZE_BYTES; at += 8 * MIB) writeSync(fd, Buffer.alloc(MIB + 777, 1 + at / (8 * MIB)), 0, MIB + 777, at);
  writeSync(fd, Buffer.alloc(1), 0, 1, SIZE_BYTES - 1);
  closeSync(fd);
  await run('nbdcopy', ['--flush', source, uri]);
  assert(statSync(image).blocks * 512 <= 24 * MIB, 'holes stay holes');
  await run('nbdcopy', [uri, copy]);
  assert(readFileSync(copy).equals(readFileSync(source)));
});

needing(
  ['qemu-io', 'nbdinfo'],
  'qemu-utils libnbd-bin',
  'a discarded range is a hole on disk and for nbdinfo --map',
  async ({ uri, image }) => {
    await run('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 16M', '-c', 'flush', uri]);
    const fullBlocks = statSync(image).blocks;
    assert(fullBlocks * 512 >= 16 * MIB);
    const { stdout } = await run('qemu-io', [
      '-f',
      'raw',
      '-c',
      'discard 4M 8M',
      '-c',
      'read -P 0 4M 8M',
      '-c',
      'read -P 7 0 4M',
      '-c',
      'flush',
      uri,
    ]);
    assert(!/failed|error/i.test(stdout), stdout);
    if (libc === null) return;
    assert(statSync(image).blocks <= fullBlocks - (8 * MIB) / 512);
    const { stdout: map } = await run('nbdinfo', ['--map', '--json', uri]);
    const extents = (JSON.parse(map) as { offset: number; length: number; type: number }[]).map(({ offset, length, type }) => [
      offset / MIB,
      length / MIB,
      type,
    ]);
    assert.deepEqual(extents, [
      [0, 4, 0],
      [4, 8, 3],
      [12, 4, 0],
      [16, 48, 3],
    ]);
  },
);

needing(['qemu-io'], 'qemu-utils', 'zeroes are zeroes, whether they may unmap or not', async ({ uri, image }) => {
  const commands = [
    'write -P 9 0 8M',
    'write -z 1M 1M',
    'write -zu 3M 1M',
    'write -z -f 5000000 777216',
    'read -P 0 1M 1M',
    'read -P 0 3M 1M',
    'read -P 0 5000000 777216',
    'read -P 9 2M 1M',
  ];
  const { stdout } = await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]);
  assert(!/failed|error/i.test(stdout), stdout);
  assert(statSync(image).blocks * 512 >= 7 * MIB, 'what may not unmap stays allocated');
});

needing(['fio'], 'fio', 'fio writes and verifies over four connections', async ({ rig, uri }) => {
  const args = [
    '--name=verify',
    '--ioengine=nbd',
    `--uri=${uri}`,
    '--rw=randwrite',
    '--bssplit=512/20:4k/50:64k/30',
    '--iodepth=8',
    '--verify=crc32c',
    '--verify_state_save=0',
  ];
  const limits = [
    '--verify_fatal=1',
    '--fsync=64',
    '--size=12M',
    '--offset_increment=16M',
    '--numjobs=4',
    '--randseed=7',
    '--output-format=json',
  ];
  const { stdout } = await run('fio', [...args, ...limits], { maxBuffer: 16 * MIB, cwd: rig.dir });
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as { jobs: { error: number; total_err?: number }[] };
  assert.equal(jobs.length, 4);
  for (const job of jobs) assert.equal(job.error, 0);
});

needing(['nbdsh'], 'python3-libnbd', 'libnbd gets clear errors and many extents in pieces', async ({ uri }) => {
  const script = `
import nbd, sys
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
h.set_strict_mode(0)
for i in range(0, 5000, 2):
    h.aio_pwrite(b"x" * 4096, i * 4096)
    if i % 100 == 0:
        while h.aio_in_flight() > 0: h.poll(-1)
while h.aio_in_flight() > 0: h.poll(-1)
h.flush()
at = 0
found = []
def extent(context, offset, entries, error):
    for i in range(0, len(entries), 2):
        found.append((offset, entries[i], entries[i + 1]))
while at < 5000 * 4096:
    found = []
    h.block_status(5000 * 4096 - at, at, extent)
    at += sum(e[1] for e in found)
for call in (lambda: h.pread(512, h.get_size()), lambda: h.pwrite(b"y" * 512, h.get_size() - 1), lambda: h.zero(1 << 20, h.get_size())):
    try:
        call()
        sys.exit("no error past the end")
    except nbd.Error as error:
        print(error.errno)
assert h.pread(4096, 0) == b"x" * 4096
h.shutdown()
`;
  const { stdout } = await run('/usr/bin/python3', ['-c', script, uri]);
  assert.deepEqual(stdout.trim().split('\n'), ['EINVAL', 'ENOSPC', 'ENOSPC']);
});

const BLOCK = 'a block device in the directory is served at its size, claimed, and let go of unharmed';
// Loop devices are root's, and a container often has none: no package would bring them, so this is no skip.
const loopDevices = spawnSync('losetup', ['-f'], { stdio: 'ignore' }).status === 0 && process.getuid?.() === 0;
if (!loopDevices) process.stdout.write(`not run: agent: ${BLOCK} (needs root and a loop device)\n`);
const onLoopDevices = loopDevices ? needing : () => {};

onLoopDevices(['qemu-io'], 'qemu-utils', BLOCK, async ({ rig, agent }) => {
  const backing = join(rig.dir, 'backing.raw');
  writeFileSync(backing, Buffer.alloc(8 * MIB, 5));
  const loop = await run('losetup', ['--show', '-f', backing]);
  const device = loop.stdout.trim();
  try {
    symlinkSync(device, join(rig.dir, 'disk0'));
    await rig.stop(agent);
    const again = await rig.agent();
    const client = new AgentClient(`http://127.0.0.1:${again.apiPort}`);
    const found = await client.getExport('disk0');
    assert(found.ok);
    assert.deepEqual([found.value.kind, found.value.sizeBytes, found.value.origin, found.value.blank], ['block', 8 * MIB, 'found', false]);
    assert((await client.setEpoch('disk0', { volume: 'v', epoch: 1 })).ok);
    const grown = await client.resize('disk0', { sizeBytes: 16 * MIB, epoch: 1, volume: 'v' });
    assert.equal(grown.ok ? '' : grown.code, 'size-fixed');
    // Its owner makes the device larger: then it is only looked at.
    truncateSync(backing, 16 * MIB);
    await run('losetup', ['-c', device]);
    const larger = await client.resize('disk0', { sizeBytes: 12 * MIB, epoch: 1, volume: 'v' });
    assert.equal(larger.ok ? larger.value.sizeBytes : larger.message, 12 * MIB);
    const beyond = await client.resize('disk0', { sizeBytes: 17 * MIB, epoch: 1, volume: 'v' });
    assert.equal(beyond.ok ? '' : beyond.code, 'size-fixed');
    const uri = `nbd://127.0.0.1:${again.nbdPort}/disk0`;
    const commands = [
      'write -P 6 1000 3000',
      'discard 1M 1M',
      'read -P 0 1M 1M',
      'write -z 2097000 70000',
      'read -P 0 2097000 70000',
      'read -P 5 4M 4M',
      'flush',
    ];
    const { stdout } = await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]);
    assert(!/failed|error/i.test(stdout), stdout);
    const deleted = await client.deleteExport('disk0', { epoch: 1, volume: 'v' });
    assert.deepEqual(deleted.ok && deleted.value.removed, false);
    await client.close();
    await rig.stop(again);
    assert.equal(readFileSync(device)[1000], 6);
  } finally {
    rmSync(join(rig.dir, 'disk0'), { force: true });
    await run('losetup', ['-d', device]);
  }
});

interop.run();
