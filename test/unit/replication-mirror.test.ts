// Copying and mirroring over devices in memory while hosts write through the real I/O path: the mirror converges, is equal
// to the source when it says that it is in step, skips zeroes only where they are proven, and none of its troubles ever
// reaches or stops a host (rules 2, 5, 6, 7).
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { type DeviceRequest, ERRNO, OP } from '../../replication/device.js';
import { MemoryDevice } from '../support/memory-device.js';
import { PathRig } from '../support/path-rig.js';
import { turns } from '../support/scripted-node.js';
import { filled, type WatchedRequest } from '../support/upstream-rig.js';

const test = suite('replication/mirror');

async function until(what: () => boolean, why: string): Promise<void> {
  for (let round = 0; round < 400 && !what(); round += 1) await turns(3);
  assert(what(), why);
}

test('a first copy makes the mirror equal and knows every checksum', async () => {
  const rig = new PathRig({ sizeBytes: 64 * 1024 - 700 });
  rig.source.bytes.fill('forestall');
  const { device } = await rig.synced();
  assert.deepEqual(rig.conditions, ['copying>synced']);
  assert.deepEqual(device.bytes, rig.source.bytes);
  for (let region = 0; region < 64; region += 1) {
    const bytes = rig.source.bytes.subarray(region * 1024, (region + 1) * 1024);
    assert.equal(rig.sums.get(region), rig.hasher.sum(bytes), `region ${region}`);
  }
});

test('zeroes are skipped only onto what is proven blank', async () => {
  for (const blank of [true, false]) {
    const rig = new PathRig();
    rig.source.bytes.fill(7, 8192, 10_000);
    const device = new MemoryDevice(rig.sizeBytes, { completion: 'later' });
    if (!blank) device.bytes.fill(9);
    const mirror = rig.mirror(device, { blank });
    mirror.markDirty(0, rig.sizeBytes);
    rig.path.setMirrors([mirror], 'async');
    mirror.connected();
    await until(() => mirror.usable, 'synced');
    assert.deepEqual(device.bytes, rig.source.bytes);
    const zeroes = device.asked.filter(({ op }) => op === OP.ZEROES).length;
    if (blank) assert.equal(zeroes, 0);
    else assert(zeroes > 0);
  }
});

test('a blank range that a host wrote and zeroed again is not taken for blank', async () => {
  const rig = new PathRig();
  const device = new MemoryDevice(rig.sizeBytes, { completion: 'later' });
  const mirror = rig.mirror(device, { blank: true });
  // Only part of it is dirty, so that the host's write goes to the mirror by the queue.
  mirror.markDirty(0, 4096);
  rig.path.setMirrors([mirror], 'async');
  rig.write(8192, filled(5, 1024));
  await turns();
  mirror.connected();
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes.subarray(8192, 9216), filled(5, 1024));
  rig.submit(OP.ZEROES, 8192, 1024);
  await turns();
  mirror.fallBack('the test says so');
  mirror.markDirty(8192, 1024);
  mirror.poke();
  await until(() => mirror.usable, 'synced again');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('a hole the source told of is read again when a host has written there', async () => {
  const rig = new PathRig();
  rig.source.extents = (request) => [{ lengthBytes: request.length, hole: true, zero: true }];
  rig.source.completion = 'held';
  const device = new MemoryDevice(rig.sizeBytes, { completion: 'later' });
  const mirror = rig.mirror(device, { blank: true });
  mirror.markDirty(0, rig.sizeBytes);
  rig.path.setMirrors([mirror], 'async');
  mirror.connected();
  await turns();
  assert.deepEqual(
    rig.source.held.map(({ op }) => op),
    [OP.STATUS],
  );
  // In flight when the question is answered.
  const during = rig.write(20 * 1024, filled(3, 1024));
  const before = rig.write(40 * 1024, filled(4, 1024));
  await turns();
  rig.source.release(rig.source.held.findIndex(({ offset }) => offset === 40 * 1024));
  await turns();
  assert.equal(before.errno, 0);
  rig.source.release(0);
  rig.source.completion = 'later';
  await turns();
  rig.source.releaseAll();
  await until(() => mirror.usable, 'synced');
  assert.equal(during.errno, 0);
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('a source that refuses a read is asked again later, and the mirror is not in step before', async () => {
  const rig = new PathRig();
  rig.source.bytes.fill(6);
  rig.source.fail = ({ op, offset }) => (op === OP.READ && offset === 0 ? ERRNO.EIO : 0);
  const device = new MemoryDevice(rig.sizeBytes, { completion: 'later' });
  const mirror = rig.mirror(device);
  mirror.markDirty(0, rig.sizeBytes);
  rig.path.setMirrors([mirror], 'async');
  mirror.connected();
  await turns(200);
  assert(!mirror.usable);
  assert.match(mirror.reason!, /refused to read/);
  rig.source.fail = () => 0;
  rig.clock.advance(500);
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('a mirror that refuses at once keeps what it lacks dirty', async () => {
  const rig = new PathRig();
  rig.source.bytes.fill(6);
  const device = new MemoryDevice(rig.sizeBytes, { completion: 'sync' });
  device.fail = ({ op, offset }) => (op === OP.WRITE && offset < 1024 ? ERRNO.EIO : 0);
  const mirror = rig.mirror(device);
  mirror.markDirty(0, 1024);
  rig.path.setMirrors([mirror], 'async');
  mirror.connected();
  await turns(20);
  assert(!mirror.complete, 'it refused everything');
  for (let round = 0; round < 20; round += 1) await turns();
  assert.equal(mirror.condition, 'failed');
  assert(mirror.dirty.has(0));
});

test('a mirror that answers nothing stops no host, and gets everything when it is back', async () => {
  const rig = new PathRig({ sizeBytes: 256 * 1024 });
  const { device, mirror } = await rig.synced({ queueBytesMax: 64 * 1024 });
  device.completion = 'held';
  const writes: WatchedRequest[] = [];
  for (let at = 0; at < 40; at += 1) writes.push(rig.write(at * 4096, filled(at + 1, 4096)));
  await turns();
  assert(
    writes.some((write) => write.errno === null),
    'hosts are slowed while the queue is full',
  );
  rig.clock.advance(2500);
  mirror.tick();
  await until(() => writes.every((write) => write.errno === 0), 'hosts go on without it');
  assert.equal(mirror.condition, 'catching-up');
  const more = rig.write(0, filled(99, 8192));
  await until(() => more.errno === 0, 'and at once from then on');
  device.completion = 'later';
  device.releaseAll();
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('with sync a mirror that answers nothing holds a write for a stall only, and the next ones not at all', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced({ sync: true });
  device.completion = 'held';
  const first = rig.write(0, filled(1, 1024));
  await turns();
  assert.equal(first.errno, null, 'it waits for the mirror');
  rig.clock.advance(2500);
  mirror.tick();
  await turns();
  assert.equal(first.errno, 0);
  const second = rig.write(4096, filled(2, 1024));
  await turns();
  assert.equal(second.errno, 0);
  device.completion = 'later';
  device.releaseAll();
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('with sync one request that hangs in the mirror while others go through does not hold its host for ever', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced({ sync: true });
  device.completion = 'held';
  const hangs = rig.write(0, filled(1, 1024));
  for (let round = 0; round < 12; round += 1) {
    await turns();
    const other = rig.write(8192, filled(round + 2, 1024));
    await turns();
    device.release(device.held.length - 1);
    await turns();
    assert.equal(other.errno, 0);
    rig.clock.advance(1000);
    mirror.tick();
  }
  assert.equal(hangs.errno, 0);
  assert(!mirror.usable);
});

test('a lost mirror keeps its queue for a while and goes on from there', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced();
  device.completion = 'held';
  mirror.lost('the test says so');
  for (let at = 0; at < 10; at += 1) rig.write(at * 1024, filled(at + 1, 1024));
  await turns();
  assert.equal(mirror.condition, 'lost');
  assert(mirror.complete && !mirror.usable);
  mirror.connected();
  device.completion = 'later';
  device.releaseAll();
  await until(() => mirror.usable && mirror.queue.empty, 'synced');
  assert.equal(mirror.dirty.count, 0);
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('a reverse mirror never slows a host: it falls back as soon as it is lost or full', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced({ reverse: true, queueBytesMax: 8192 });
  device.completion = 'held';
  const writes: WatchedRequest[] = [];
  for (let at = 0; at < 40; at += 1) writes.push(rig.write(at * 1024, filled(at + 1, 1024)));
  await turns();
  assert(writes.every((write) => write.errno === 0));
  assert(mirror.queue.hostBytes <= 8192 + 2048);
  device.completion = 'later';
  device.releaseAll();
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
  mirror.lost('gone');
  rig.write(0, filled(77, 1024));
  await turns();
  assert(mirror.dirty.has(0));
  mirror.connected();
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('writes that were let in while a mirror was away do not overfill its queue when it is back', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced({ queueBytesMax: 8192 });
  mirror.lost('gone');
  mirror.fallBack('gone for long');
  rig.source.completion = 'held';
  const writes = Array.from({ length: 16 }, (_, at) => rig.write(at * 1024, filled(at + 1, 1024)));
  await turns();
  assert.equal(rig.source.held.length, 16, 'nothing waits for a mirror that is away');
  device.completion = 'held';
  mirror.connected();
  rig.source.releaseAll();
  await turns();
  assert(writes.every(({ errno }) => errno === 0));
  assert(mirror.queue.hostBytes > 0 && mirror.queue.hostBytes <= 8192, `${mirror.queue.hostBytes} bytes`);
  rig.source.completion = 'later';
  rig.source.releaseAll();
  device.completion = 'later';
  device.releaseAll();
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('where the policy says fall back, no mirror slows a host, unless it is to take over', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced({ whenFull: 'fall-back', queueBytesMax: 8192 });
  device.completion = 'held';
  const writes = Array.from({ length: 40 }, (_, at) => rig.write(at * 1024, filled(at + 1, 1024)));
  await turns();
  assert(writes.every((write) => write.errno === 0));
  assert(mirror.queue.hostBytes <= 8192 + 2048);
  assert.equal(mirror.condition, 'catching-up');
  assert.equal(mirror.reason, 'it is slower than the hosts write');
  device.completion = 'later';
  device.releaseAll();
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
  device.completion = 'held';
  mirror.limitQueue(2048);
  const slowed = Array.from({ length: 4 }, (_, at) => rig.write(at * 1024, filled(at + 101, 1024)));
  await turns();
  assert.deepEqual(
    slowed.map(({ errno }) => errno),
    [0, null, null, null],
  );
  assert(mirror.usable);
  mirror.limitQueue(Number.POSITIVE_INFINITY);
  device.completion = 'later';
  device.releaseAll();
  await until(() => slowed.every(({ errno }) => errno === 0) && mirror.usable, 'answered');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('sixteen refusals latch a mirror: nothing is sent to it any more', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced();
  device.fail = ({ op }) => (op === OP.WRITE ? ERRNO.EIO : 0);
  for (let at = 0; at < 20; at += 1) {
    const write = rig.write(at * 1024, filled(1, 1024));
    await turns(20);
    assert.equal(write.errno, 0);
  }
  await turns(100);
  assert.equal(mirror.condition, 'failed');
  const asked = device.asked.length;
  rig.write(0, filled(2, 1024));
  mirror.connected();
  await turns(50);
  assert.equal(device.asked.length, asked);
  assert(mirror.dirty.has(0) && !mirror.complete);
});

test('a write of unknown outcome is copied again from the source', async () => {
  const rig = new PathRig();
  const { device, mirror } = await rig.synced();
  rig.source.fail = ({ op }) => {
    if (op !== OP.WRITE) return 0;
    // It did part of it.
    rig.source.bytes.fill(8, 1024, 1200);
    return ERRNO.EIO;
  };
  const write = rig.write(1024, filled(8, 512));
  await turns();
  assert.equal(write.errno, ERRNO.EIO);
  await until(() => mirror.usable, 'synced');
  assert.deepEqual(device.bytes, rig.source.bytes);
});

/** Completes what devices hold in an order the test chooses. */
function releaseSome(devices: MemoryDevice[], choose: () => number): void {
  for (const device of devices) {
    const most = device.held.length === 0 ? 0 : (choose() % device.held.length) + 1;
    for (let count = 0; count < most; count += 1) device.release(choose() % device.held.length);
  }
}

const hostAction = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('write' as const), offset: fc.nat(31), length: fc.integer({ min: 1, max: 12 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('zeroes' as const), offset: fc.nat(31), length: fc.integer({ min: 1, max: 12 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('hole' as const), offset: fc.nat(31), length: fc.integer({ min: 4, max: 12 }) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'lost' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'back' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'fallBack' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'refuse' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'sourceRefuses' as const }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(100, 600, 2500) }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'pass' as const }) },
);

test('under concurrent writes, refusals, losses and stalls the mirror converges, is equal whenever it says so, and sums are right', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(hostAction, { minLength: 5, maxLength: 60 }),
      fc.boolean(),
      fc.boolean(),
      fc.boolean(),
      fc.integer({ min: 1, max: 2 ** 30 }),
      async (actions, blank, reverse, sync, seed) => {
        let state = seed;
        const choose = (): number => {
          state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
          return state >>> 8;
        };
        const rig = new PathRig({ sizeBytes: 32 * 512, regionBytes: 1024, extentBytes: 4096 });
        rig.source.completion = 'held';
        rig.source.extents = (request) => {
          // Tells the truth at the moment of its answer.
          const zero = rig.source.bytes.subarray(request.offset, request.offset + 512).every((byte) => byte === 0);
          return [{ lengthBytes: 512, hole: zero, zero }];
        };
        const device = new MemoryDevice(rig.sizeBytes, { completion: 'held' });
        if (!blank) device.bytes.fill(0xee);
        const mirror = rig.mirror(device, { blank, reverse, queueBytesMax: 8192 });
        mirror.markDirty(0, rig.sizeBytes);
        rig.path.setMirrors([mirror], sync ? 'sync' : 'async');
        mirror.connected();
        const all: WatchedRequest[] = [];
        let value = 0;
        const check = (): void => {
          if (!mirror.usable || !mirror.queue.empty || rig.path.inFlight > 0) return;
          assert.deepEqual(device.bytes, rig.source.bytes, 'in step means equal');
        };
        for (const action of actions) {
          if (action.kind === 'write' || action.kind === 'zeroes' || action.kind === 'hole') {
            const offset = action.offset * 512;
            const length = Math.min(action.length * 512, rig.sizeBytes - offset);
            value = (value % 200) + 1;
            all.push(action.kind === 'write' ? rig.write(offset, filled(value, length)) : rig.submit(OP.ZEROES, offset, length));
          } else if (action.kind === 'lost') mirror.lost('lost');
          else if (action.kind === 'back') mirror.connected();
          else if (action.kind === 'fallBack') mirror.fallBack('test');
          else if (action.kind === 'refuse') {
            const at = device.held.findIndex(({ op }: DeviceRequest) => op !== OP.FLUSH);
            if (at >= 0) device.release(at, ERRNO.EIO);
          } else if (action.kind === 'sourceRefuses') {
            const at = rig.source.held.findIndex(({ op }: DeviceRequest) => op === OP.READ);
            if (at >= 0) rig.source.release(at, ERRNO.EIO);
          } else if (action.kind === 'time') {
            rig.clock.advance(action.ms);
            mirror.tick();
          } else releaseSome([rig.source, device], choose);
          await turns(2);
          check();
        }
        mirror.connected();
        for (let round = 0; round < 300 && (!mirror.usable || !mirror.queue.empty || rig.path.inFlight > 0); round += 1) {
          releaseSome([rig.source, device], choose);
          rig.clock.advance(50);
          await turns(2);
          check();
        }
        assert(
          all.every((request) => request.errno === 0),
          'every host is answered, without an error',
        );
        if (mirror.condition === 'failed') return;
        assert(mirror.usable, `it converges; it is ${mirror.condition}: ${mirror.reason}`);
        assert.deepEqual(device.bytes, rig.source.bytes);
        for (let region = 0; region < 16; region += 1) {
          const known = rig.sums.get(region);
          if (known !== null) assert.equal(known, rig.hasher.sum(rig.source.bytes.subarray(region * 1024, (region + 1) * 1024)));
        }
        assert.equal(rig.path.lock.entries, 0);
      },
    ),
    { numRuns: 150 },
  );
});

test.run();
