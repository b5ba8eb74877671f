// The journal by its rules: what a sync waits for, what takes room and gives it back, what a failing disk, a flip and a
// restart do. Crashes and damage: replication-journal-crash.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ERRNO, OP } from '../../replication/device.js';
import { Journal } from '../../replication/journal.js';
import { type BatchHeader, BLOCK_BYTES, decodeHeader, encodeHeader, HEADER_BYTES, RING_START } from '../../replication/journal-format.js';
import type { JournalOptions } from '../../replication/journal-options.js';
import { ManualClock } from '../support/manual-clock.js';
import { CrashDisk, newImage, sum, turn } from './replication-journal-disk.js';

const test = suite('replication/journal');
const RING = 64 * BLOCK_BYTES;
const BATCH = 4 * BLOCK_BYTES;

interface Rig {
  journal: Journal;
  disk: CrashDisk;
  clock: ManualClock;
  rooms: number;
  failures: string[];
}

async function open(disk = new CrashDisk(newImage(RING)), more: Partial<JournalOptions> = {}): Promise<Rig> {
  const clock = new ManualClock();
  const rig = { disk, clock, rooms: 0, failures: [] as string[] };
  disk.automatic = true;
  const opening = await Journal.open({
    file: disk,
    sum,
    clock,
    volume: 'v',
    epoch: 1,
    firstSequence: 1,
    batchBytesMax: BATCH,
    room: () => {
      rig.rooms += 1;
    },
    failed: (reason) => rig.failures.push(reason),
    ...more,
  });
  assert(opening.ok, opening.ok ? '' : opening.reason);
  return Object.assign(rig, { journal: opening.journal });
}

/** With one mirror, 1, that has everything so far. */
async function covered(disk?: CrashDisk, more?: Partial<JournalOptions>): Promise<Rig> {
  const rig = await open(disk, more);
  rig.journal.join(1);
  rig.journal.durable(1, rig.journal.lastSequence);
  return rig;
}

function write(journal: Journal, length: number, data = Buffer.alloc(length, 0x5a)): number {
  assert(journal.reserve(OP.WRITE, length));
  return journal.append({ op: OP.WRITE, offset: 0, length, punch: false, data });
}

function synced(journal: Journal): Promise<number> {
  return new Promise((resolve) => journal.sync({ journaled: resolve }));
}

async function quiet(): Promise<void> {
  for (let i = 0; i < 10; i += 1) await turn();
}

const u64 = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const plain = { noNullPrototype: true };
const place = fc.record({ address: u64, number: u64, sequence: u64, chain: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }, plain);
const header: fc.Arbitrary<BatchHeader> = fc
  .record({
    place,
    tail: place,
    recordCount: fc.integer({ min: 0, max: 3 }),
    id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    volumeSum: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    bytes: fc.integer({ min: 1, max: 300 }).map((blocks) => blocks * BLOCK_BYTES),
    epoch: u64,
    synced: u64,
    destinations: fc.array(fc.record({ id: u64, joined: u64, durable: u64 }, plain), { maxLength: 8 }),
  })
  .map(({ place, ...rest }) => ({ ...place, ...rest }));

test('a header is decoded as it was encoded, and not at all when a bit of it is another', () => {
  fc.assert(
    fc.property(header, fc.nat(HEADER_BYTES * 8 - 1), (each, bit) => {
      const bytes = Buffer.alloc(BLOCK_BYTES);
      const own = encodeHeader(bytes, each, sum);
      const { recordsSum, sum: found, ...decoded } = decodeHeader(bytes, 0, sum)!;
      assert.deepEqual(decoded, each);
      assert.equal(found, own);
      assert.equal(recordsSum, sum(bytes.subarray(HEADER_BYTES, HEADER_BYTES + each.recordCount * 32)));
      bytes[bit >> 3] ^= 1 << (bit & 7);
      assert.equal(decodeHeader(bytes, 0, sum), null);
    }),
    { numRuns: 2000 },
  );
});

test('the fields of a batch stand where the format says', async () => {
  const { journal, disk } = await covered();
  write(journal, 3, Buffer.from('abc'));
  assert.equal(await synced(journal), 0);
  const ring = disk.image.subarray(RING_START);
  assert.equal(ring.toString('latin1', 0, 8), 'FSTLJRNB');
  assert.deepEqual([ring.readUInt32LE(8), ring.readUInt32LE(12), ring.readUInt32LE(48), ring.readUInt32LE(52)], [1, 1, 4096, 1]);
  assert.deepEqual([ring.readBigUInt64LE(16), ring.readBigUInt64LE(24)], [77n, sum(Buffer.from('v'))]);
  assert.deepEqual([ring.readBigUInt64LE(32), ring.readBigUInt64LE(64), ring.readBigUInt64LE(72)], [1n, 1n, 77n]);
  assert.deepEqual([ring.readBigUInt64LE(128), ring.readBigUInt64LE(136), ring.readBigUInt64LE(144)], [1n, 1n, 0n]);
  assert.deepEqual([ring.readBigUInt64LE(512), ring.readUInt32LE(528), ring[532]], [1n, 3, 1]);
  assert.equal(ring.readBigUInt64LE(536), sum(Buffer.from('abc')));
  assert.equal(ring.toString('latin1', 544, 547), 'abc');
});

test('a sync is answered only when the disk has synced all that was appended before, many by one', async () => {
  const { journal, disk } = await covered();
  disk.automatic = false;
  const answers: number[] = [];
  write(journal, 100);
  journal.sync({ journaled: () => answers.push(0) });
  for (let i = 1; i <= 20; i += 1) {
    write(journal, 100);
    journal.sync({ journaled: () => answers.push(i) });
  }
  const kinds: string[] = [];
  while (disk.calls.length > 0) {
    const [{ kind }] = disk.calls;
    if (kind === 'sync') assert.equal(answers.length, kinds.includes('sync') ? 1 : 0);
    kinds.push(kind);
    disk.step();
    await turn();
  }
  assert.deepEqual(kinds, ['write', 'sync', 'write', 'sync'], 'the others wait for the second sync together');
  assert.deepEqual(answers, [...answers.keys()]);
  assert.equal(answers.length, 21);
  journal.sync({ journaled: () => answers.push(99) });
  assert.equal(answers.at(-1), 99, 'nothing is left to sync');
});

test('payloads are kept by reference, counted by the memory they keep alive, and bounded', async () => {
  const { journal, disk } = await covered(undefined, { memoryBytesMax: 10_000 });
  const handed: Buffer[] = [];
  const whole = disk.write.bind(disk);
  disk.write = (offset, buffers) => {
    handed.push(...buffers);
    return whole(offset, buffers);
  };
  const slab = Buffer.allocUnsafeSlow(8000);
  write(journal, 100, slab.subarray(0, 100));
  write(journal, 200, slab.subarray(100, 300));
  assert.equal(journal.retainedBytes, 8000);
  assert(journal.reserve(OP.WRITE, 2000));
  assert.equal(journal.reserve(OP.WRITE, 1), false, 'there is no memory left');
  await quiet();
  assert(handed.some((buffer) => buffer.buffer === slab.buffer && buffer.byteOffset === 100 && buffer.length === 200));
  assert.equal(journal.retainedBytes, 0);
});

test('a full ring makes writes wait until the mirrors have what is in it', async () => {
  const rig = await covered();
  const { journal } = rig;
  while (journal.reserve(OP.WRITE, 4000)) {
    journal.append({ op: OP.WRITE, offset: 0, length: 4000, punch: false, data: Buffer.alloc(4000) });
    assert.equal(await synced(journal), 0);
  }
  await quiet();
  assert.equal(rig.rooms, 0);
  assert.equal(await synced(journal), 0, 'a flush does not wait for room');
  const { usedBytes } = journal;
  rig.disk.automatic = false;
  journal.durable(1, 2);
  for (const kind of ['write', 'sync']) {
    assert.deepEqual([rig.disk.calls[0].kind, journal.usedBytes - usedBytes, rig.rooms], [kind, kind === 'sync' ? BLOCK_BYTES : 0, 0]);
    rig.disk.step();
    await quiet();
  }
  assert.equal(rig.rooms, 1, 'its space is used again when it is durable that nobody needs it');
  rig.disk.automatic = true;
  assert(journal.reserve(OP.WRITE, 4000), 'there is room');
  assert(journal.usedBytes <= journal.ringBytes);
  journal.cancel(OP.WRITE, 4000);
  assert.equal(journal.reserve(OP.WRITE, 30 * BLOCK_BYTES), false);
  journal.leave(1);
  await quiet();
  assert.equal(rig.rooms, 2);
  assert(journal.reserve(OP.WRITE, 30 * BLOCK_BYTES), 'what a mirror that left needed is needed no more');
});

test('whoever was refused room gets it, whatever was before, once mirrors have everything', async () => {
  const step = fc.record({ length: fc.integer({ min: 1, max: 40_000 }), sync: fc.boolean(), lag: fc.integer({ min: 0, max: 6 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 60, size: 'max' }), async (steps) => {
      const rig = await covered(undefined, { memoryBytesMax: 50_000 });
      const { journal } = rig;
      for (const { length, sync, lag } of steps) {
        if (!journal.reserve(OP.WRITE, length)) {
          const before = rig.rooms;
          journal.durable(1, journal.lastSequence);
          await quiet();
          assert(rig.rooms > before, 'it was told');
          for (let i = 0; !journal.reserve(OP.WRITE, length); i += 1) {
            assert(i < 20, 'and there is room');
            await quiet();
          }
        }
        journal.append({ op: OP.WRITE, offset: 0, length, punch: false, data: Buffer.alloc(length) });
        if (sync) assert.equal(await synced(journal), 0);
        journal.durable(1, Math.max(0, journal.lastSequence - lag));
      }
      await journal.close();
      const again = await open(new CrashDisk(rig.disk.image));
      assert.equal(again.journal.lastSequence, journal.lastSequence);
    }),
    { numRuns: 100, includeErrorInReport: true },
  );
});

test('a long write becomes records in sequence that together are the write', async () => {
  const rig = await covered();
  const data = Buffer.from(Array.from({ length: 50_000 }, (_, i) => i % 251));
  const last = write(rig.journal, data.length, data);
  assert.equal(last, Math.ceil(50_000 / (BATCH - BLOCK_BYTES)));
  await rig.journal.close();
  const again = await open(new CrashDisk(rig.disk.image));
  const pieces: Buffer[] = [];
  let at = 0;
  for await (const record of again.journal.replay(1)) {
    assert.equal(record.offset, at);
    at += record.length;
    pieces.push(record.data!);
  }
  assert(Buffer.concat(pieces).equals(data));
});

test('a disk that refuses fails every sync from then on, and takes nothing that would never be written', async () => {
  for (const kind of ['write', 'sync']) {
    const rig = await covered();
    const { journal, disk } = rig;
    disk.automatic = false;
    write(journal, 100);
    const answer = synced(journal);
    if (kind === 'sync') disk.step();
    await quiet();
    disk.refusing = new Error('no space left on device');
    disk.step();
    assert.equal(await answer, ERRNO.EIO);
    assert.match(rig.failures[0], /no space left/);
    assert.equal(rig.failures.length, 1);
    assert(!journal.covers(1));
    const { lastSequence } = journal;
    assert.equal(write(journal, 100), lastSequence);
    disk.refusing = null;
    assert.equal(await synced(journal), ERRNO.EIO, 'also when the disk answers again');
    assert.equal(rig.clock.pending, 0);
    await journal.close();
  }
});

test('when it is quiet, what was synced last is said to be, once; then nothing is written any more', async () => {
  const { journal, disk, clock } = await covered();
  write(journal, 100);
  assert.equal(await synced(journal), 0);
  const before = { writes: disk.writes, syncs: disk.syncs };
  for (let i = 0; i < 20; i += 1) {
    clock.advance(100);
    await quiet();
  }
  assert.deepEqual({ writes: disk.writes, syncs: disk.syncs }, { writes: before.writes + 1, syncs: before.syncs + 1 });
  assert.equal(clock.pending, 0);
  const image = disk.image;
  image.fill(0xff, RING_START, RING_START + 512);
  const damaged = await open(new CrashDisk(image));
  assert.equal(damaged.journal.incomplete?.fromSequence, 1);
  assert.match(damaged.journal.shortfall(1)!, /damaged: batch 1 was on stable storage and is not there: it has no valid header/);
});

test('what nobody syncs is on stable storage soon all the same', async () => {
  const { journal, clock } = await covered();
  write(journal, 100);
  clock.advance(100);
  await quiet();
  assert.equal(journal.syncedSequence, 1);
});

test('a mirror is covered only when it has all from before it joined', async () => {
  const { journal, disk } = await covered();
  write(journal, 100);
  journal.join(2);
  write(journal, 100);
  assert(!journal.covers(2));
  await journal.close();
  const again = await open(new CrashDisk(disk.image));
  assert.equal(again.journal.shortfall(1), null);
  assert.equal(again.journal.shortfall(2), 'the mirror was not in step with the journal');
  journal.durable(2, 1);
  assert(journal.covers(2));
  await journal.close();
  const third = await open(new CrashDisk(disk.image));
  assert.equal(third.journal.shortfall(2), null);
  for await (const { sequence } of third.journal.replay(2)) assert.equal(sequence, 2);
});

test('a flip keeps what the other mirrors lack, and nothing of a mirror that became the active target', async () => {
  const { journal, disk } = await covered();
  journal.join(2);
  journal.durable(2, 0);
  for (let i = 0; i < 4; i += 1) write(journal, 100);
  assert.equal(await synced(journal), 0);
  journal.durable(1, 4);
  journal.durable(2, 2);
  await journal.close();
  const record = { epoch: 2, firstSequence: journal.epochStart(1) };
  assert(record.firstSequence <= 3, 'mirror 2 lacks record 3');
  journal.beginEpoch(2);
  journal.leave(1);
  write(journal, 100);
  await journal.close();
  const again = await open(new CrashDisk(disk.image), record);
  assert.equal(again.journal.shortfall(2), null);
  const sequences: number[] = [];
  for await (const { sequence } of again.journal.replay(2)) sequences.push(sequence);
  assert.deepEqual(sequences, [3, 4, 5]);
  assert.notEqual(again.journal.shortfall(1), null);
  const older = await open(new CrashDisk(disk.image), { epoch: 1 });
  assert.match(older.journal.incomplete!.reason, /epoch 2, but the volume's is 1/);
  const later = await open(new CrashDisk(disk.image), { epoch: 3, firstSequence: 6 });
  assert.match(later.journal.shortfall(2)!, /earlier epoch/);
});

test('a block that cannot be read makes the journal incomplete from where it may matter', async () => {
  const { journal, disk } = await covered();
  for (let i = 0; i < 3; i += 1) {
    write(journal, 5000);
    assert.equal(await synced(journal), 0);
  }
  await journal.close();
  for (const [block, fromSequence] of [
    [2, 2],
    [20, 4],
  ]) {
    const bad = new CrashDisk(disk.image);
    bad.unreadable.add(RING_START + block * BLOCK_BYTES);
    const again = await open(bad);
    assert.equal(again.journal.incomplete?.fromSequence, fromSequence);
  }
});

test('a batch that follows another history is not taken for the next', async () => {
  const first = await covered();
  write(first.journal, 100);
  assert.equal(await synced(first.journal), 0);
  const fork = first.disk.image;
  for (const byte of [2, 3]) {
    write(first.journal, 100, Buffer.alloc(100, byte));
    assert.equal(await synced(first.journal), 0);
  }
  const second = await open(new CrashDisk(fork));
  write(second.journal, 100, Buffer.alloc(100, 22));
  assert.equal(await synced(second.journal), 0);
  // The third batch of the first history lands after all.
  const image = second.disk.image;
  const third = RING_START + 2 * BLOCK_BYTES;
  first.disk.image.copy(image, third, third, third + BLOCK_BYTES);
  const { journal } = await open(new CrashDisk(image));
  assert.equal(journal.lastSequence, 2);
  const found: number[] = [];
  for await (const { data } of journal.replay(1)) found.push(data![0]);
  assert.deepEqual(found, [0x5a, 22]);
});

test('what only a torn batch says of the mirrors is said again before a sync is answered: the next batches overwrite it', async () => {
  const before = await covered();
  for (let i = 0; i < 2; i += 1) {
    write(before.journal, 100);
    before.journal.sync({ journaled: () => {} });
    await turn();
  }
  const image = before.disk.image;
  image.fill(0, RING_START, RING_START + BLOCK_BYTES);
  const header = decodeHeader(image, RING_START + BLOCK_BYTES, sum);
  assert(header !== null && header.destinations.length === 1, 'the second batch names the mirror');
  // As if nothing had been synced.
  encodeHeader(image.subarray(RING_START + BLOCK_BYTES), { ...header, synced: 0 }, sum);
  const { journal, disk } = await open(new CrashDisk(image));
  assert.equal(journal.incomplete, null);
  assert.equal(journal.shortfall(1), null);
  const answers: number[] = [];
  journal.sync({ journaled: (errno) => answers.push(errno) });
  while (answers.length === 0) await turn();
  assert.equal(disk.writes, 1);
  const again = decodeHeader(disk.image, RING_START, sum);
  assert.deepEqual(again?.destinations, [{ id: 1, joined: 1, durable: 0 }]);
});

test.run();
