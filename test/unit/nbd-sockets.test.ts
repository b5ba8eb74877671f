// Server and test client over real sockets, without any other program: the whole path from socket to device and back, with
// pipelining, large payloads, attacks on the handshake and shut-down under load.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { suite } from 'uvu';
import type { NbdServerOptions } from '../../gateway/nbd/server.js';
import { ByteStream } from '../support/byte-stream.js';
import { MemoryDevice } from '../support/memory-device.js';
import { memoryExport } from '../support/memory-exports.js';
import { hex, optionBytes } from '../support/nbd-bytes.js';
import { NbdClient, type NbdError } from '../support/nbd-client.js';
import { NbdTestbed } from '../support/nbd-testbed.js';

const test = suite('nbd over sockets');

const MIB = 1024 * 1024;

async function onServer(
  body: (bed: NbdTestbed, device: MemoryDevice) => Promise<void>,
  options: Partial<NbdServerOptions> & { sizeBytes?: number } = {},
): Promise<void> {
  const device = new MemoryDevice(options.sizeBytes ?? MIB);
  const bed = await NbdTestbed.start([memoryExport('disk', device)], options);
  try {
    await body(bed, device);
  } finally {
    await bed.stop();
  }
}

function errnoOf(promise: Promise<unknown>): Promise<number | null> {
  return promise.then(
    () => 0,
    (error: NbdError) => error.errno,
  );
}

/** Every command but BLOCK_STATUS, on a device of 1 MiB: what is written is read. */
async function useOnce(client: NbdClient): Promise<void> {
  const bytes = randomFillSync(Buffer.alloc(300_000));
  await client.write(1000, bytes, { fua: true });
  await client.flush();
  assert((await client.read(1000, 300_000)).equals(bytes));
  await client.zeroes(1000, 1000, { noHole: true, fast: true });
  await client.trim(2000, 1000);
  await client.cache(0, 4096);
  assert((await client.read(1000, 2000)).equals(Buffer.alloc(2000)));
  assert.equal(await errnoOf(client.read(MIB, 1)), 22);
}

for (const over of ['tcp', 'unix'] as const) {
  for (const structured of [true, false]) {
    for (const exportNameOption of [true, false]) {
      const how = `${over}, ${structured ? 'structured' : 'simple'} replies, ${exportNameOption ? 'EXPORT_NAME' : 'GO'}`;
      test(`${how}: what is written is read`, () =>
        onServer(async (bed) => {
          const client = await NbdClient.connect(bed.uri('disk', over), { structured, exportNameOption });
          assert.equal(client.sizeBytes, MIB);
          await useOnce(client);
          assert.equal(client.sawStructured, structured);
          await client.disconnect();
        }));
    }
  }
}

for (const over of ['tcp', 'unix'] as const) {
  test(`${over}, extended headers: what is written is read`, () =>
    onServer(async (bed) => {
      const client = await NbdClient.connect(bed.uri('disk', over), { extended: true });
      await useOnce(client);
      await client.cache(0, MIB);
      assert.deepEqual(await client.status(0, MIB), [{ lengthBytes: MIB, hole: false, zero: false }]);
      assert.equal(await errnoOf(client.zeroes(0, 2 ** 40)), 28);
      await client.disconnect();
    }));
}

test('requests of many clients in flight together each get their own answer', () =>
  onServer(async (bed, device) => {
    device.completion = 'later';
    const clients = await Promise.all([0, 1, 2, 3].map(() => NbdClient.connect(bed.uri('disk'))));
    assert.equal(bed.server.clients().length, 4);
    const writes = clients.flatMap((client, c) =>
      Array.from({ length: 50 }, (_, i) => client.write((c * 50 + i) * 4096, Buffer.alloc(4096, c * 50 + i))),
    );
    await Promise.all(writes);
    const reads = await Promise.all(clients.flatMap((client) => Array.from({ length: 200 }, (_, i) => client.read(i * 4096, 4096))));
    for (const [i, bytes] of reads.entries()) assert(bytes.equals(Buffer.alloc(4096, i % 200)));
    await Promise.all(clients.map((client) => client.disconnect()));
  }));

test('completions in another order reach the right requests', () =>
  onServer(async (bed, device) => {
    const client = await NbdClient.connect(bed.uri('disk'));
    await client.write(0, Buffer.from('abcdef'));
    device.completion = 'held';
    const reads = [0, 1, 2, 3].map((at) => client.read(at, 1));
    await device.submitted(5);
    for (const index of [3, 1, 1, 0]) device.release(index);
    assert.deepEqual((await Promise.all(reads)).map(String), ['a', 'b', 'c', 'd']);
    await client.disconnect();
  }));

test('payloads of 32 MiB work both ways', () =>
  onServer(
    async (bed) => {
      const client = await NbdClient.connect(bed.uri('disk'));
      const bytes = randomFillSync(Buffer.alloc(32 * MIB));
      await client.write(MIB, bytes);
      assert((await client.read(MIB, 32 * MIB)).equals(bytes));
      await client.disconnect();
    },
    { sizeBytes: 40 * MIB },
  ));

test('block status is what the device says', () =>
  onServer(async (bed, device) => {
    device.extents = () => [
      { lengthBytes: 4096, hole: false, zero: false },
      { lengthBytes: MIB, hole: true, zero: true },
    ];
    const client = await NbdClient.connect(bed.uri('disk'));
    assert.deepEqual(await client.status(0, 8192), [
      { lengthBytes: 4096, hole: false, zero: false },
      { lengthBytes: 4096, hole: true, zero: true },
    ]);
    assert.equal((await client.status(0, 8192, { one: true })).length, 1);
    await client.disconnect();
  }));

test('an unknown export is refused with its name, and the server lives on', () =>
  onServer(async (bed) => {
    await assert.rejects(NbdClient.connect(bed.uri('nope')), /no export is named "nope"/);
    const client = await NbdClient.connect(bed.uri('disk'));
    await client.disconnect();
  }));

test('DISC right behind pipelined requests: all of them are answered first', () =>
  onServer(async (bed, device) => {
    device.completion = 'later';
    const client = await NbdClient.connect(bed.uri('disk'));
    const reads = Array.from({ length: 100 }, (_, i) => client.read(i, 1000));
    await client.disconnect();
    assert.equal((await Promise.all(reads)).length, 100);
  }));

test('a client that only closes its sending side still gets its answers', () =>
  onServer(async (bed, device) => {
    device.completion = 'held';
    const client = await NbdClient.connect(bed.uri('disk'));
    const read = client.read(0, 100);
    await device.submitted(1);
    client.stream.socket.end();
    await new Promise((resolve) => setImmediate(resolve));
    device.release();
    assert.equal((await read).length, 100);
    await client.closed;
  }));

test('a slow reader is waited for: nothing is lost and memory stays bounded', () =>
  onServer(
    async (bed, device) => {
      const client = await NbdClient.connect(bed.uri('disk'));
      device.bytes.fill(5);
      client.stream.socket.pause();
      const reads = Array.from({ length: 40 }, () => client.read(0, 4 * MIB));
      await device.submitted(1);
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
      assert(device.asked.length < 40, `${device.asked.length} reads were carried out although nobody takes them`);
      client.stream.socket.resume();
      for (const bytes of await Promise.all(reads)) assert.equal(bytes.length, 4 * MIB);
      await client.disconnect();
    },
    { sizeBytes: 4 * MIB },
  ));

test('an option that claims 4 GiB is refused at once, and others are served meanwhile', () =>
  onServer(async (bed) => {
    const stream = await ByteStream.open(bed.tcp);
    await stream.read(18);
    stream.write(Buffer.concat([hex('00000003'), optionBytes(99, Buffer.alloc(100), 0xffffffff)]));
    assert.equal((await stream.read(20)).readUInt32BE(12), 0x80000009);
    const client = await NbdClient.connect(bed.uri('disk'));
    await client.disconnect();
    stream.socket.destroy();
    await stream.closed;
  }));

test('a client that says nothing is cut off at the deadline', () =>
  onServer(
    async (bed) => {
      const stream = await ByteStream.open(bed.tcp);
      await stream.read(18);
      await stream.closed;
    },
    { handshakeMs: 50 },
  ));

test('shutting down under load: every request is answered or refused, none is lost', () =>
  onServer(async (bed, device) => {
    device.completion = 'later';
    const client = await NbdClient.connect(bed.uri('disk'));
    const answers = Array.from({ length: 300 }, (_, i) => errnoOf(client.write(i * 512, Buffer.alloc(512, 1))));
    await device.submitted(10);
    assert.equal(await bed.server.close({ graceMs: 5000 }), 0);
    const errnos = await Promise.all(answers);
    const written = errnos.filter((errno) => errno === 0).length;
    assert.equal(written, device.asked.length, 'what the device did was answered');
    assert(errnos.every((errno) => errno === 0 || errno === 108 || errno === null));
  }));

test.run();
