// Our server with real clients, over TCP and Unix sockets: what they see of an export, copies there and back, random I/O with
// verification. Everything is served from memory inside the test.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import { MemoryDevice } from '../support/memory-device.js';
import { memoryExport } from '../support/memory-exports.js';
import { NbdTestbed, runPeer } from '../support/nbd-testbed.js';
import { havePeer, skipped } from '../support/peers.js';

const test = suite('nbd server interop');

const MIB = 1024 * 1024;
const HALF = 4 * MIB;
const SOCKETS = ['tcp', 'unix'] as const;

/** Runs `body` on a server with one export of 8 MiB named disk, and stops it. */
async function onServer(body: (bed: NbdTestbed, device: MemoryDevice) => Promise<void>): Promise<void> {
  const device = new MemoryDevice(2 * HALF, { completion: 'later' });
  const tiny = memoryExport('tiny', new MemoryDevice(512), { features: { readOnly: true }, block: { minimum: 512 } });
  const bed = await NbdTestbed.start([memoryExport('disk', device, { description: 'a disk for tests' }), tiny]);
  try {
    await body(bed, device);
  } finally {
    await bed.stop();
  }
  assert.equal(bed.server.connections, 0);
}

/** Runs a program that must succeed; gives what it printed. */
async function succeed(program: string, args: string[], timeoutMs = 60_000): Promise<string> {
  const { status, stdout, stderr } = await runPeer(program, args, { timeoutMs });
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

/** A test that needs a program; says that it was skipped where there is none. */
function peerTest(program: string, packages: string, name: string, body: (bed: NbdTestbed, device: MemoryDevice) => Promise<void>): void {
  if (havePeer(program)) test(name, () => onServer(body));
  else skipped(`nbd server: ${name}`, packages);
}

for (const socket of SOCKETS) {
  peerTest('nbdinfo', 'libnbd-bin', `nbdinfo over ${socket} sees the export as it is`, async (bed, device) => {
    device.extents = (request) => [
      { lengthBytes: HALF, hole: false, zero: false },
      { lengthBytes: request.length - HALF, hole: true, zero: true },
    ];
    const info = JSON.parse(await succeed('nbdinfo', ['--json', bed.uri('disk', socket)]));
    assert.equal(info.protocol, 'newstyle-fixed');
    assert.equal(info.structured, true);
    const [disk] = info.exports;
    assert.equal(disk['export-name'], 'disk');
    assert.equal(disk.description, 'a disk for tests');
    assert.equal(disk['export-size'], 2 * HALF);
    assert.deepEqual(disk.contexts, ['base:allocation']);
    for (const feature of ['can_cache', 'can_df', 'can_fast_zero', 'can_flush', 'can_fua', 'can_multi_conn', 'can_trim', 'can_zero']) {
      assert.equal(disk[feature], true, feature);
    }
    assert.equal(disk.is_read_only, false);
    assert.equal(disk.block_size_minimum, 1);
    assert.equal(disk.block_size_preferred, 4096);
    assert.equal(disk.block_size_maximum, 32 * MIB);
    const map = JSON.parse(await succeed('nbdinfo', ['--map', '--json', bed.uri('disk', socket)]));
    assert.deepEqual(
      map.map(({ offset, length, type }: { offset: number; length: number; type: number }) => [offset, length, type]),
      [
        [0, HALF, 0],
        [HALF, HALF, 3],
      ],
    );
  });

  peerTest('nbd-client', 'nbd-client', `nbd-client over ${socket} lists the exports`, async (bed) => {
    const where = 'path' in bed.unix && socket === 'unix' ? ['-u', bed.unix.path] : ['127.0.0.1', String(bed.port)];
    const listed = await succeed('nbd-client', ['-l', ...where]);
    assert.deepEqual(listed.trim().split('\n').slice(-2), ['disk', 'tiny']);
  });

  peerTest('nbdcopy', 'libnbd-bin', `nbdcopy over ${socket} copies there and back`, async (bed, device) => {
    const source = join(bed.directory, 'source');
    const back = join(bed.directory, 'back');
    const bytes = randomFillSync(Buffer.alloc(2 * HALF));
    bytes.fill(0, MIB, 2 * MIB);
    await writeFile(source, bytes);
    await succeed('nbdcopy', ['--flush', source, bed.uri('disk', socket)]);
    assert(device.bytes.equals(bytes), 'everything arrived');
    await succeed('nbdcopy', [bed.uri('disk', socket), back]);
    assert((await readFile(back)).equals(bytes), 'everything came back');
  });

  peerTest('qemu-io', 'qemu-utils', `qemu-io over ${socket} writes, zeroes, discards, flushes and reads back`, async (bed, device) => {
    const commands = [
      'write -P 0xa5 1000 300k',
      'write -f -P 0x5a 4M 64k',
      'write -z 2M 1M',
      'write -z -u 3M 64k',
      'discard 5M 64k',
      'flush',
      'aio_write -P 0x11 6M 64k',
      'aio_write -P 0x12 6208k 64k',
      'aio_flush',
      'read -P 0xa5 1000 300k',
      'read -P 0x5a 4M 64k',
      'read -P 0 2M 1M',
      'read -P 0x12 6208k 64k',
    ];
    const out = await succeed('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), bed.uri('disk', socket)]);
    assert.doesNotMatch(out, /failed|verification/i);
    assert.equal(device.bytes[1000], 0xa5);
  });
}

peerTest('nbdinfo', 'libnbd-bin', 'nbdinfo lists every export with its own limits', async (bed) => {
  const { exports } = JSON.parse(await succeed('nbdinfo', ['--list', '--json', bed.uri('')]));
  assert.deepEqual(
    exports.map((one: Record<string, unknown>) => [one['export-name'], one['export-size'], one.is_read_only, one.block_size_minimum]),
    [
      ['disk', 2 * HALF, false, 1],
      ['tiny', 512, true, 512],
    ],
  );
});

peerTest('nbdinfo', 'libnbd-bin', 'nbdinfo is told that an export does not exist, and by what name', async (bed) => {
  const { status, stderr } = await runPeer('nbdinfo', [bed.uri('nope')]);
  assert.equal(status, 1);
  assert.match(stderr, /no export is named "nope"|UNKNOWN|No such file/);
});

peerTest('qemu-img', 'qemu-utils', 'qemu-img converts onto the export and finds it equal', async (bed, device) => {
  const source = join(bed.directory, 'source');
  await writeFile(source, randomFillSync(Buffer.alloc(2 * HALF)));
  await succeed('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, bed.uri('disk')]);
  await succeed('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', source, bed.uri('disk', 'tcp')]);
  device.bytes[HALF] ^= 1;
  const { status } = await runPeer('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', source, bed.uri('disk')]);
  assert.equal(status, 1, 'a changed byte is found');
});

peerTest('fio', 'fio', 'fio writes at random with verification, from two connections', async (bed) => {
  const out = await succeed('fio', [
    '--name=verify',
    '--ioengine=nbd',
    `--uri=${bed.uri('disk')}`,
    '--rw=randrw',
    '--bsrange=512-65536',
    '--iodepth=16',
    '--numjobs=2',
    '--offset_increment=4M',
    '--size=4M',
    '--loops=2',
    '--verify=crc32c',
    '--verify_state_save=0',
    '--verify_fatal=1',
    '--output-format=json',
  ]);
  const report = JSON.parse(out.slice(out.indexOf('{')));
  for (const job of report.jobs) {
    assert.equal(job.error, 0);
    assert(job.write.total_ios > 100 && job.read.total_ios > 100);
  }
});

test.run();
