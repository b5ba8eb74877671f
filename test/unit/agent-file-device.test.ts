// The file device against a plain buffer: whatever the order of writes, zeroes and punched holes, and whatever the file
// system can do, reads give what the buffer has and block status never calls data a zero.
import assert from 'node:assert/strict';
import { mkdtempSync, openSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import { FileDevice, type FileDeviceOptions } from '../../gateway/agent/file-device.js';
import { FileFlusher } from '../../gateway/agent/file-flusher.js';
import { IoCounters } from '../../gateway/agent/io-counters.js';
import { type Libc, loadLibc, SYSTEM_ERRNO } from '../../gateway/agent/libc.js';
import { type DeviceRequest, ERRNO, OP, PromisedRequest, perform } from '../../replication/device.js';
import { skipped } from '../support/peers.js';

const dir = mkdtempSync(join(tmpdir(), 'forestall-file-device-'));
let files = 0;

function openDevice(sizeBytes: number, options: Partial<FileDeviceOptions> = {}): { device: FileDevice; path: string; failures: string[] } {
  files += 1;
  const path = join(dir, `${files}.img`);
  const fd = options.fd ?? openSync(path, 'w+');
  if (options.fd === undefined) truncateSync(path, sizeBytes);
  const failures: string[] = [];
  const failed = (call: string, error: NodeJS.ErrnoException): void => {
    failures.push(`${call} ${error.code}`);
  };
  const device = new FileDevice({ sizeBytes, libc: null, kind: 'file', blockBytes: 1, counters: new IoCounters(), failed, ...options, fd });
  return { device, path, failures };
}

function zeroes(offset: number, length: number, flags: { punch?: boolean; fast?: boolean; fua?: boolean } = {}): PromisedRequest {
  return Object.assign(new PromisedRequest(OP.ZEROES, offset, length), flags);
}

async function readAll(device: FileDevice): Promise<Buffer> {
  const request = new PromisedRequest(OP.READ, 0, device.sizeBytes);
  assert.equal(await perform(device, request), ERRNO.OK);
  return request.data!;
}

/** A system that has the calls but whose file system refuses each fallocate. */
const refusing: Libc = {
  fallocate: (_fd, _mode, _offset, _length, done) => setImmediate(done, SYSTEM_ERRNO.EOPNOTSUPP),
  seek: (_fd, offset, _whence, done) => setImmediate(done, SYSTEM_ERRNO.EINVAL, offset),
};

const SIZE_BYTES = 256 * 1024 + 700;
const range = fc
  .tuple(fc.nat(SIZE_BYTES - 1), fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: SIZE_BYTES })))
  .map(([offset, length]) => ({ offset, length: Math.min(length, SIZE_BYTES - offset) }));
const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), range, byte: fc.integer({ min: 1, max: 255 }), fua: fc.boolean() }),
  fc.record({ kind: fc.constant('zeroes' as const), range, punch: fc.boolean(), fast: fc.boolean(), fua: fc.boolean() }),
  fc.record({ kind: fc.constant('read' as const), range }),
  fc.record({ kind: fc.constant('status' as const), range, one: fc.boolean() }),
  fc.record({ kind: fc.constant('flush' as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function take(device: FileDevice, model: Buffer, done: Step): Promise<void> {
  if (done.kind === 'flush') {
    assert.equal(await perform(device, new PromisedRequest(OP.FLUSH, 0, 0)), ERRNO.OK);
    return;
  }
  const { offset, length } = done.range;
  if (done.kind === 'write') {
    const request = new PromisedRequest(OP.WRITE, offset, length, Buffer.alloc(length, done.byte));
    request.fua = done.fua;
    assert.equal(await perform(device, request), ERRNO.OK);
    model.fill(done.byte, offset, offset + length);
  } else if (done.kind === 'zeroes') {
    const errno = await perform(device, zeroes(offset, length, done));
    if (errno === ERRNO.ENOTSUP) assert(done.fast);
    else assert.equal(errno, ERRNO.OK);
    if (errno === ERRNO.OK) model.fill(0, offset, offset + length);
  } else if (done.kind === 'read') {
    const request = new PromisedRequest(OP.READ, offset, length);
    assert.equal(await perform(device, request), ERRNO.OK);
    assert(request.data!.equals(model.subarray(offset, offset + length)));
  } else {
    const request = new PromisedRequest(OP.STATUS, offset, length);
    request.one = done.one;
    assert.equal(await perform(device, request), ERRNO.OK);
    checkExtents(request, model);
  }
}

function checkExtents(request: DeviceRequest, model: Buffer): void {
  const extents = request.extents!;
  assert(extents.length >= 1);
  if (request.one) assert.equal(extents.length, 1);
  let at = request.offset;
  for (const extent of extents) {
    assert(extent.lengthBytes > 0);
    const bytes = model.subarray(at, at + extent.lengthBytes);
    if (extent.zero)
      assert(
        bytes.every((byte) => byte === 0),
        `bytes from ${at} are no zeroes`,
      );
    at += extent.lengthBytes;
  }
  assert(at <= request.offset + request.length);
}

const libc = await loadLibc();
const device = suite('agent file device');

device.after(() => rmSync(dir, { recursive: true, force: true }));

const systems: [string, Partial<FileDeviceOptions>][] = [
  ['without libc', { libc: null }],
  ['on a file system that refuses fallocate', { libc: refusing }],
];
if (libc !== null) {
  systems.push(['with holes', { libc }]);
  systems.push(['with holes in whole blocks, as on a block device', { libc, kind: 'block', blockBytes: 4096 }]);
}
for (const [name, options] of systems) {
  device(`equals a buffer after random requests ${name}`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
        const { device, path } = openDevice(SIZE_BYTES, options);
        const model = Buffer.alloc(SIZE_BYTES);
        for (const done of steps) await take(device, model, done);
        assert((await readAll(device)).equals(model));
        assert.equal(await device.close(), ERRNO.OK);
        rmSync(path);
      }),
      { numRuns: 40 },
    );
  });
}

device('answers each of many concurrent requests once, over its bound on calls', async () => {
  const { device } = openDevice(512 * 4096, { operationsMax: 4, libc });
  const writes = Array.from({ length: 512 }, (_, block) => {
    const request = new PromisedRequest(OP.WRITE, block * 4096, 4096, Buffer.alloc(4096, block % 251));
    request.fua = block % 7 === 0;
    return perform(device, request);
  });
  assert.equal(device.inFlight, 512);
  assert((await Promise.all(writes)).every((errno) => errno === ERRNO.OK));
  assert.equal(device.inFlight, 0);
  const bytes = await readAll(device);
  for (let block = 0; block < 512; block += 1) assert.equal(bytes[block * 4096 + 17], block % 251);
  await device.close();
});

if (libc === null) skipped("holes in the agent's files: the optional package koffi is not there", 'koffi, by npm ci');

const withHoles = libc === null ? device.skip : device;

withHoles('gives back the space of a punched range', async () => {
  const { device, path } = openDevice(8 * 1024 * 1024, { libc });
  await perform(device, new PromisedRequest(OP.WRITE, 0, 8 * 1024 * 1024, Buffer.alloc(8 * 1024 * 1024, 1)));
  await perform(device, new PromisedRequest(OP.FLUSH, 0, 0));
  const before = statSync(path).blocks;
  assert.equal(await perform(device, zeroes(1024 * 1024, 6 * 1024 * 1024, { punch: true, fua: true })), ERRNO.OK);
  assert(statSync(path).blocks <= before - (6 * 1024 * 1024) / 512);
  assert.equal(statSync(path).size, 8 * 1024 * 1024);
  const status = new PromisedRequest(OP.STATUS, 0, 8 * 1024 * 1024);
  await perform(device, status);
  assert.deepEqual(
    status.extents!.map((extent) => [extent.lengthBytes / (1024 * 1024), extent.hole, extent.zero]),
    [
      [1, false, false],
      [6, true, true],
      [1, false, false],
    ],
  );
  await device.close();
});

withHoles('keeps the space of a range zeroed without punching', async () => {
  const { device, path } = openDevice(4 * 1024 * 1024, { libc });
  assert.equal(await perform(device, zeroes(0, 4 * 1024 * 1024)), ERRNO.OK);
  assert(statSync(path).blocks * 512 >= 4 * 1024 * 1024);
  await device.close();
});

device('refuses to zero fast what it can only zero slowly', async () => {
  const { device } = openDevice(65536, { libc: refusing });
  assert.equal(await perform(device, zeroes(0, 65536, { punch: true, fast: true })), ERRNO.ENOTSUP);
  assert.equal(await perform(device, zeroes(0, 65536, { fast: true })), ERRNO.ENOTSUP);
  assert.equal(device.punches, false);
  assert.equal(device.fastZeroes, false);
  await device.close();
});

device('says EIO, not zeroes, where the file was truncated behind its back', async () => {
  const { device, path, failures } = openDevice(65536);
  truncateSync(path, 1000);
  assert.equal(await perform(device, new PromisedRequest(OP.READ, 512, 4096)), ERRNO.EIO);
  assert.deepEqual(failures, ['read TRUNCATED']);
  await device.close();
});

device('calls a full disk ENOSPC and anything else EIO', async () => {
  const full = openDevice(65536, { fd: openSync('/dev/full', 'r+') });
  assert.equal(await perform(full.device, new PromisedRequest(OP.WRITE, 0, 4096, Buffer.alloc(4096))), ERRNO.ENOSPC);
  assert.equal(await perform(full.device, zeroes(0, 4096, { punch: true })), ERRNO.ENOSPC);
  await full.device.close();
  const { device: closed, path } = openDevice(65536);
  const readOnly = openDevice(65536, { fd: openSync(path, 'r') }).device;
  assert.equal(await perform(readOnly, new PromisedRequest(OP.WRITE, 0, 4096, Buffer.alloc(4096))), ERRNO.EIO);
  await Promise.all([closed.close(), readOnly.close()]);
});

device('answers requests in flight before it closes, and refuses later ones', async () => {
  const { device } = openDevice(65536);
  const before = perform(device, new PromisedRequest(OP.WRITE, 0, 4096, Buffer.alloc(4096, 9)));
  const closed = device.close();
  const after = perform(device, new PromisedRequest(OP.READ, 0, 512));
  assert.deepEqual(await Promise.all([before, after, closed]), [ERRNO.OK, ERRNO.ESHUTDOWN, ERRNO.OK]);
});

device('counts operations, bytes and errors', async () => {
  const counters = new IoCounters();
  const { device, path } = openDevice(65536, { counters });
  await perform(device, new PromisedRequest(OP.WRITE, 0, 4096, Buffer.alloc(4096)));
  truncateSync(path, 0);
  await perform(device, new PromisedRequest(OP.READ, 0, 512));
  const [read, write] = counters.list();
  assert.deepEqual(read, { operation: 'read', completed: 1, errors: 1, bytes: 0 });
  assert.deepEqual(write, { operation: 'write', completed: 1, errors: 0, bytes: 4096 });
  assert.equal(counters.inFlight, 0);
  await device.close();
});

device('latches a real failure of fdatasync', async () => {
  const failures: string[] = [];
  const fd = openSync('/dev/full', 'r+');
  const { device } = openDevice(4096, { fd, failed: (call, error) => failures.push(`${call} ${error.code}`) });
  assert.equal(await perform(device, new PromisedRequest(OP.FLUSH, 0, 0)), ERRNO.EIO);
  assert.equal(await perform(device, new PromisedRequest(OP.FLUSH, 0, 0)), ERRNO.EIO);
  assert.deepEqual(failures, ['fdatasync EINVAL']);
  assert.equal(await device.close(), ERRNO.EIO);
});

device.run();

const flusher = suite('agent file flusher');

/** A flusher whose fdatasync ends when the test says so. */
function manualFlusher(): { flusher: FileFlusher; ends: ((error: NodeJS.ErrnoException | null) => void)[]; failures: string[] } {
  const ends: ((error: NodeJS.ErrnoException | null) => void)[] = [];
  const failures: string[] = [];
  const flusher = new FileFlusher(
    (done) => ends.push(done),
    (error) => failures.push(error.code!),
  );
  return { flusher, ends, failures };
}

flusher('answers a flush only by a sync that began after it asked, and many by one', () => {
  const { flusher, ends } = manualFlusher();
  const answers: string[] = [];
  const ask = (name: string): void => flusher.join({ flushed: (errno) => answers.push(`${name} ${errno}`) });
  ask('first');
  ask('second');
  ask('third');
  assert.equal(ends.length, 1);
  ends[0](null);
  assert.deepEqual(answers, ['first 0']);
  assert.equal(ends.length, 2);
  ends[1](null);
  assert.deepEqual(answers, ['first 0', 'second 0', 'third 0']);
  assert.equal(ends.length, 2);
});

flusher('never answers a success after a sync has failed', () => {
  const { flusher, ends, failures } = manualFlusher();
  const answers: number[] = [];
  const ask = (): void => flusher.join({ flushed: (errno) => answers.push(errno) });
  ask();
  ends[0](Object.assign(new Error('disk'), { code: 'EIO' }));
  ask();
  ends[1](null);
  assert.deepEqual(answers, [ERRNO.EIO, ERRNO.EIO]);
  assert.deepEqual(failures, ['EIO']);
});

flusher('makes a flush asked for from inside an answer wait for a later sync', () => {
  const { flusher, ends } = manualFlusher();
  let nested = -1;
  flusher.join({ flushed: () => flusher.join({ flushed: (errno) => (nested = errno) }) });
  flusher.join({ flushed: () => undefined });
  ends[0](null);
  ends[1](null);
  assert.equal(nested, -1);
  assert.equal(ends.length, 3);
  ends[2](null);
  assert.equal(nested, 0);
});

flusher.run();
