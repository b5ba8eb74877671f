// Scrubbing over devices in memory while hosts write (rules 16 and 17): planted wrong bytes are found and mended from the
// right side, what nobody can decide is reported and left alone, and concurrent writes never look like damage.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ERRNO, OP } from '../../replication/device.js';
import type { Mirror } from '../../replication/mirror.js';
import { Comparer, type Mismatch } from '../../replication/comparer.js';
import { fits, newPass, Scrub, type ScrubProgress } from '../../replication/scrub.js';
import type { MemoryDevice } from '../support/memory-device.js';
import { PathRig } from '../support/path-rig.js';
import { turns } from '../support/scripted-node.js';
import { filled, type WatchedRequest } from '../support/upstream-rig.js';

const test = suite('replication/scrub');
const CHUNK = 4096;

class Rig extends PathRig {
  readonly found: Mismatch[] = [];
  readonly devices: MemoryDevice[] = [];
  /** Regions that were looked at on every copy: the first, the end, and from when on. */
  readonly compared: [number, number, number][] = [];

  static async mirrored(mirrors = 1): Promise<Rig> {
    const rig = new Rig();
    rig.source.bytes.fill('contents of a volume ');
    for (let count = 0; count < mirrors; count += 1) rig.devices.push((await rig.synced()).device);
    return rig;
  }

  scrub(options: { mirrors?: () => Mirror[]; progress?: ScrubProgress } = {}): Scrub {
    const comparer = new Comparer({
      copies: () => [
        { name: 'a', device: this.source, mirror: null },
        ...(options.mirrors?.() ?? this.mirrors).map((mirror, at) => ({ name: `b${at}`, device: this.devices[at], mirror })),
      ],
      lock: this.path.lock,
      sums: this.sums,
      hasher: this.hasher,
      throttle: this.throttle,
      clock: this.clock,
      isLost: (offset, length) => this.lost.overlaps(offset, length),
      found: (mismatch) => this.found.push(mismatch),
      compared: (first, end, begunMs) => this.compared.push([first, end, begunMs]),
    });
    return new Scrub({
      comparer,
      sizeBytes: this.sizeBytes,
      chunkBytes: CHUNK,
      progress: options.progress ?? newPass(Math.ceil(this.sizeBytes / CHUNK), 0n),
      saved: () => this.sums.save(),
    });
  }

  /** Runs a pass while time passes. */
  async run(scrub: Scrub): Promise<boolean> {
    let whole: boolean | null = null;
    void scrub.run().then((outcome) => {
      whole = outcome;
    });
    for (let round = 0; round < 400 && whole === null; round += 1) {
      await turns(5);
      this.clock.advance(50);
    }
    assert.notEqual(whole, null, 'a pass ends');
    return whole!;
  }
}

test('equal copies are found equal and verified', async () => {
  const rig = await Rig.mirrored();
  const scrub = rig.scrub();
  assert(await rig.run(scrub));
  assert.deepEqual(rig.found, []);
  assert.equal(scrub.progress.comparedBytes, rig.sizeBytes);
  assert.equal(rig.sums.verified.count, 64);
  assert.notEqual(rig.sums.root, null);
});

test('what was looked at on every copy is told with when that began; what a copy that does not answer was left out of is not', async () => {
  const rig = await Rig.mirrored();
  assert(await rig.run(rig.scrub()));
  const regions = rig.compared.flatMap(([first, end]) => Array.from({ length: end - first }, (_, at) => first + at));
  assert.deepEqual(
    regions.sort((one, other) => one - other),
    [...Array(64).keys()],
  );
  const times = rig.compared.map(([, , begunMs]) => begunMs);
  assert.deepEqual(
    times,
    [...times].sort((one, other) => one - other),
  );
  assert(times.at(-1)! <= rig.clock.nowMs());

  const pair = await Rig.mirrored(2);
  pair.mirrors[0].lost('its node is gone');
  await pair.run(pair.scrub());
  assert.deepEqual(pair.compared, []);
});

test('a pass looks at every chunk once, in an order of its seed, and goes on where another stopped', async () => {
  const rig = await Rig.mirrored();
  const orders = new Set<string>();
  for (const seed of [0n, 7n, 0x1234_5678_9abc_def0n]) {
    const progress = newPass(16, seed);
    const order: number[] = [];
    const scrubs = [rig.scrub({ progress }), rig.scrub({ progress })];
    rig.source.asked.length = 0;
    const run = rig.run(scrubs[0]);
    for (let round = 0; round < 100 && progress.done < 5; round += 1) await turns(1);
    scrubs[0].stop();
    assert.equal(await run, false);
    assert(progress.done >= 5 && progress.done < 16, `stopped after ${progress.done}`);
    assert(fits(progress, 16) && !fits(progress, 4));
    assert.equal(await rig.run(scrubs[1]), true);
    for (const { op, offset } of rig.source.asked) if (op === OP.READ) order.push(offset / CHUNK);
    assert.deepEqual(
      [...new Set(order)].sort((one, other) => one - other),
      [...Array(16).keys()],
    );
    assert(order.length <= 17, 'only what was under way when it stopped is looked at again');
    assert.equal(progress.comparedBytes, rig.sizeBytes);
    orders.add(order.join());
  }
  assert.equal(orders.size, 3);
});

test('a wrong byte on the mirror is mended from the source, one on the source from the mirror', async () => {
  const rig = await Rig.mirrored();
  const right = Buffer.from(rig.source.bytes);
  rig.devices[0].bytes[5000] ^= 1;
  rig.source.bytes[40_000] ^= 1;
  assert(await rig.run(rig.scrub()));
  assert.deepEqual(
    rig.found.map(({ offset, lengthBytes, wrong, repaired }) => ({ offset, lengthBytes, wrong, repaired })),
    [
      { offset: 4096, lengthBytes: 1024, wrong: 'b0', repaired: true },
      { offset: 39 * 1024, lengthBytes: 1024, wrong: 'a', repaired: true },
    ],
  );
  assert.deepEqual(rig.source.bytes, right);
  assert.deepEqual(rig.devices[0].bytes, right);
  rig.found.length = 0;
  assert(await rig.run(rig.scrub()));
  assert.deepEqual(rig.found, []);
  assert.equal(rig.sums.verified.count, 64);
});

test('where no checksum is known and two copies differ nothing is overwritten and it is reported', async () => {
  const rig = await Rig.mirrored();
  const write = rig.write(2048, filled(1, 1024));
  await turns(20);
  assert.equal(write.errno, 0);
  assert.equal(rig.sums.get(2), null);
  rig.devices[0].bytes[2100] ^= 1;
  const before = [Buffer.from(rig.source.bytes), Buffer.from(rig.devices[0].bytes)];
  assert(await rig.run(rig.scrub()));
  assert.equal(rig.found.length, 1);
  assert.equal(rig.found[0].repaired, false);
  assert.equal(rig.found[0].wrong, '');
  assert.deepEqual([rig.source.bytes, rig.devices[0].bytes], before);
  assert(!rig.sums.verified.has(2));
});

test('a mirror whose target comes back blank while it is compared is no damage', async () => {
  const rig = await Rig.mirrored();
  rig.write(2048, filled(1, 1024));
  await turns(20);
  assert.equal(rig.sums.get(2), null);
  const [mirror] = rig.mirrors;
  mirror.lost('for the test');
  rig.devices[0].bytes.fill(0);
  mirror.connected();
  const [device] = rig.devices;
  const submit = device.submit.bind(device);
  // Its region is read under the lock, and before that is answered it is known what has come back.
  device.submit = (request) => {
    if (request.op === OP.READ && request.length === 1024) queueMicrotask(() => mirror.startOver('it came back blank'));
    submit(request);
  };
  assert(await rig.run(rig.scrub()));
  assert.deepEqual(rig.found, []);
  assert(!rig.sums.verified.has(2));
});

test('with three copies the majority decides where no checksum is known', async () => {
  const rig = await Rig.mirrored(2);
  rig.write(2048, filled(1, 1024));
  await turns(20);
  rig.source.bytes[2100] ^= 1;
  assert(await rig.run(rig.scrub()));
  assert.deepEqual(
    rig.found.map(({ wrong, repaired }) => ({ wrong, repaired })),
    [{ wrong: 'a', repaired: true }],
  );
  assert.deepEqual(rig.source.bytes.subarray(2048, 3072), filled(1, 1024));
});

test('when no copy has the stored checksum nothing is overwritten', async () => {
  const rig = await Rig.mirrored();
  rig.source.bytes[100] ^= 1;
  rig.devices[0].bytes[101] ^= 1;
  const before = [Buffer.from(rig.source.bytes), Buffer.from(rig.devices[0].bytes)];
  assert(await rig.run(rig.scrub()));
  assert.equal(rig.found.length, 1);
  assert(!rig.found[0].repaired);
  assert.deepEqual([rig.source.bytes, rig.devices[0].bytes], before);
});

test('a region that cannot be read is written again from the other side', async () => {
  const rig = await Rig.mirrored();
  let broken = true;
  rig.source.fail = ({ op, offset, length }) => {
    const hit = offset < 10_240 && offset + length > 9216;
    if (op === OP.WRITE && hit) broken = false;
    return op === OP.READ && hit && broken ? ERRNO.EIO : 0;
  };
  assert(await rig.run(rig.scrub()));
  assert.deepEqual(
    rig.found.map(({ offset, wrong, repaired }) => ({ offset, wrong, repaired })),
    [{ offset: 9216, wrong: 'a', repaired: true }],
  );
});

test('a repair that does not stick is said to have failed', async () => {
  const rig = await Rig.mirrored();
  rig.devices[0].bytes[5000] ^= 1;
  rig.devices[0].fail = ({ op }) => (op === OP.WRITE ? ERRNO.EIO : 0);
  assert(await rig.run(rig.scrub()));
  assert.equal(rig.found.length, 1);
  assert(!rig.found[0].repaired);
  await turns(300);
  assert.equal(rig.mirrors[0].condition, 'failed', 'what was refused is copied, and refused again');
  assert(rig.mirrors[0].dirty.has(4));
});

test('a mirror that hangs under a repair holds the region for a bounded time, and newer bytes win', async () => {
  const rig = await Rig.mirrored();
  rig.devices[0].bytes[5000] ^= 1;
  const device = rig.devices[0];
  const scrub = rig.scrub();
  let whole: boolean | null = null;
  void scrub.run().then((outcome) => {
    whole = outcome;
  });
  for (let round = 0; round < 100 && !device.held.some(({ op }) => op === OP.WRITE); round += 1) {
    await turns(1);
    if (device.asked.length > 0 && device.completion === 'later' && rig.path.lock.entries > 0) device.completion = 'held';
    while (device.held.length > 0 && device.held[0].op === OP.READ) device.release();
  }
  assert(
    device.held.some(({ op }) => op === OP.WRITE),
    'the repair hangs',
  );
  const write = rig.write(4096, filled(7, 1024));
  for (let round = 0; round < 400 && write.errno === null; round += 1) {
    rig.clock.advance(50);
    await turns(3);
  }
  assert.equal(write.errno, 0);
  device.completion = 'later';
  device.releaseAll();
  for (let round = 0; round < 400 && whole === null; round += 1) {
    await turns(5);
    rig.clock.advance(50);
  }
  assert.deepEqual(rig.source.bytes.subarray(4096, 5120), filled(7, 1024));
  assert.deepEqual(device.bytes, rig.source.bytes);
});

test('a mirror that is away is not compared, and nothing is reported for it', async () => {
  const rig = await Rig.mirrored();
  rig.mirrors[0].lost('gone');
  rig.devices[0].bytes.fill(0);
  assert.equal(await rig.run(rig.scrub()), false, 'no whole pass');
  assert.deepEqual(rig.found, []);
  assert.equal(rig.sums.verified.count, 0);
});

test('a scrub whose last mirror is removed stops, and leaves no checksum behind', async () => {
  const rig = await Rig.mirrored();
  let mirrors = rig.mirrors;
  rig.source.completion = 'held';
  const scrub = rig.scrub({ mirrors: () => mirrors });
  const running = rig.run(scrub);
  await turns();
  mirrors = [];
  rig.path.setMirrors([], 'async');
  await rig.records.commit(rig.sums.dropAll());
  rig.source.completion = 'later';
  rig.source.releaseAll();
  assert.equal(await running, false);
  for (let region = 0; region < 64; region += 1) assert.equal(rig.sums.get(region), null);
  assert.deepEqual(rig.records.list('sum/'), []);
});

test('stop ends a pass early and says so', async () => {
  const rig = await Rig.mirrored();
  const scrub = rig.scrub();
  const running = rig.run(scrub);
  scrub.stop();
  assert.equal(await running, false);
});

test('checksums that cannot be computed end a pass early: nothing counts as compared, nothing is rejected', async () => {
  const rig = await Rig.mirrored();
  const { hasher } = rig;
  const batches: Promise<bigint[]>[] = [];
  hasher.sums = () => {
    const batch = Promise.reject(new Error('Terminating worker thread'));
    batches.push(batch);
    return batch;
  };
  const scrub = rig.scrub();
  assert.equal(await rig.run(scrub), false);
  assert.equal(batches.length, 2, 'both copies were to be hashed');
  assert.equal(scrub.progress.comparedBytes, 0);
  assert.deepEqual(rig.found, []);
});

test('under concurrent writes there is never a false mismatch, planted bytes are mended, and every copy ends equal', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ offset: fc.nat(127), length: fc.integer({ min: 1, max: 6 }), pause: fc.nat(4) }), {
        minLength: 5,
        maxLength: 60,
      }),
      fc.array(fc.record({ region: fc.nat(63), onSource: fc.boolean() }), { maxLength: 2 }),
      async (writes, planted) => {
        const rig = await Rig.mirrored();
        const touched = new Set<number>();
        for (const { offset, length } of writes) for (let at = offset; at < Math.min(128, offset + length); at += 1) touched.add(at >> 1);
        const bad = new Set<number>();
        for (const { region, onSource } of planted) {
          if (touched.has(region) || bad.has(region)) continue;
          bad.add(region);
          (onSource ? rig.source : rig.devices[0]).bytes[region * 1024 + 77] ^= 0x40;
        }
        const running = rig.run(rig.scrub());
        const all: WatchedRequest[] = [];
        for (const [at, { offset, length, pause }] of writes.entries()) {
          const bytes = Math.min(length * 512, rig.sizeBytes - offset * 512);
          all.push(rig.write(offset * 512, filled((at % 250) + 1, bytes)));
          await turns(pause);
        }
        assert(await running);
        await turns(60);
        assert(all.every((request) => request.errno === 0));
        assert.deepEqual(new Set(rig.found.map(({ offset }) => offset / 1024)), bad);
        assert(rig.found.every(({ repaired }) => repaired));
        assert.deepEqual(rig.devices[0].bytes, rig.source.bytes);
        for (let region = 0; region < 64; region += 1) {
          const known = rig.sums.get(region);
          const now = rig.hasher.sum(rig.source.bytes.subarray(region * 1024, region * 1024 + 1024));
          if (known !== null) assert.equal(known, now, `region ${region}`);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test.run();
