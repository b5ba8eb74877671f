// What is known of regions' contents (rule 16): against a Map, through marks, clears, saves and restarts; a checksum that is
// not true any more is never believed, and the root depends on contents and places alone.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { IntentLog } from '../../replication/intent-log.js';
import { RegionSums } from '../../replication/region-sums.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryRecords } from '../support/memory-records.js';
import { QuietLog } from '../support/quiet-log.js';
import { turns } from '../support/scripted-node.js';

const test = suite('replication/region-sums');
const REGION = 100;
const EXTENT = 400;
const REGIONS = 10;
const SIZE = REGIONS * REGION - 30;

/** Sums and an intent log as a volume joins them. */
class Rig {
  readonly clock = new ManualClock();
  readonly intents: IntentLog;
  readonly sums: RegionSums;
  /** Offsets of regions where an old request may land. */
  readonly lost = new Set<number>();
  readonly doubtful = new Set<number>();

  constructor(readonly records = new MemoryRecords()) {
    this.intents = new IntentLog({
      records,
      clock: this.clock,
      log: new QuietLog(),
      volume: 'v',
      sizeBytes: SIZE,
      extentBytes: EXTENT,
      onMark: (extent) => [this.sums.onMark(extent)],
      unmarked: () => {},
    });
    this.sums = new RegionSums({
      records,
      volume: 'v',
      sizeBytes: SIZE,
      regionBytes: REGION,
      extentBytes: EXTENT,
      isMarked: (extent) => this.intents.isMarked(extent),
      isDoubtful: (offset) => this.doubtful.has(offset),
      isClean: (extent) => this.intents.isClean(extent),
      isLost: (offset) => this.lost.has(offset),
    });
  }

  /** As the path does: marks, then forgets, then calls back. */
  write(offset: number, length: number, sent: () => void): void {
    const waiter = {
      markOffset: offset,
      markLength: length,
      marked: (): void => {
        if (!this.intents.admit(offset, length)) {
          this.intents.mark(waiter);
          return;
        }
        this.sums.forget(offset, length);
        sent();
      },
    };
    waiter.marked();
  }

  async clear(extents: number[]): Promise<void> {
    const cleared = await this.intents.clear(extents, this.intents.now, (extent) => [this.sums.onClear(extent)]);
    for (const extent of cleared) this.sums.cleared(extent);
  }
}

const action = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('set' as const), region: fc.nat(REGIONS - 1), sum: fc.bigInt({ min: 0n, max: 5n }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('verify' as const), region: fc.nat(REGIONS - 1), sum: fc.bigInt({ min: 0n, max: 5n }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('write' as const), region: fc.nat(REGIONS - 1), length: fc.integer({ min: 1, max: 300 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('clear' as const), extents: fc.uniqueArray(fc.nat(2)) }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'save' as const }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('release' as const),
      failing: fc.constantFrom(null, null, null, 'before' as const, 'after' as const),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'time' as const }) },
);

test('whatever commits wait or fail, a known checksum is the newest one and nothing is known of what was written since', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      let rig = new Rig();
      rig.records.held = true;
      /** What each region holds; null: it was written. */
      const contents = new Array<bigint | null>(REGIONS).fill(null);
      /** Regions with a write between its asking and its sending: nobody sets their checksums, the range is locked. */
      const locked = new Set<number>();
      for (const each of actions) {
        if (each.kind === 'set' || each.kind === 'verify') {
          if (!locked.has(each.region)) {
            contents[each.region] ??= each.sum;
            if (each.kind === 'set') rig.sums.set(each.region, contents[each.region]!);
            else rig.sums.verify(each.region, contents[each.region]!);
          }
        } else if (each.kind === 'write') {
          const offset = each.region * REGION;
          const length = Math.min(each.length, SIZE - offset);
          const regions = Array.from({ length: Math.ceil(length / REGION) }, (_, at) => each.region + at);
          if (regions.some((region) => locked.has(region))) continue;
          for (const region of regions) locked.add(region);
          rig.write(offset, length, () => {
            for (const region of regions) {
              locked.delete(region);
              contents[region] = null;
            }
          });
        } else if (each.kind === 'clear') void rig.clear(each.extents);
        else if (each.kind === 'save') void rig.sums.save().catch(() => {});
        else if (each.kind === 'time') rig.clock.advance(250);
        else if (each.kind === 'restart') {
          const records = rig.records.crashed();
          rig = new Rig(records);
          records.held = true;
          locked.clear();
        } else {
          rig.records.failing = each.failing;
          rig.records.release(1);
          await turns(2);
          rig.records.failing = null;
        }
        await turns(1);
        for (let region = 0; region < REGIONS; region += 1) {
          const known = rig.sums.get(region);
          if (known !== null) assert.equal(known, contents[region], `region ${region}`);
          if (rig.sums.verified.has(region)) assert.notEqual(known, null, `region ${region} is verified, so its checksum is known`);
        }
        assert.equal(rig.sums.root === null, rig.sums.verified.count === 0);
      }
    }),
    { numRuns: 400 },
  );
});

test('of two saves at once the first takes nothing from memory that only the second has', async () => {
  const rig = new Rig();
  rig.records.held = true;
  rig.sums.verify(1, 5n);
  const first = rig.sums.save();
  rig.sums.verify(0, 6n);
  const second = rig.sums.save();
  rig.records.release(1);
  await first;
  assert.deepEqual([rig.sums.get(0), rig.sums.get(1)], [6n, 5n]);
  rig.records.release();
  await second;
  assert.deepEqual([rig.sums.get(0), rig.sums.get(1)], [6n, 5n]);
});

test('checksums of cold extents survive a restart, those of marked ones do not', async () => {
  const rig = new Rig();
  rig.sums.set(0, 11n);
  rig.sums.set(5, 22n);
  await rig.sums.save();
  rig.write(EXTENT, 10, () => {});
  await turns(3);
  rig.sums.set(5, 33n);
  const again = new Rig(rig.records.crashed());
  assert.equal(again.sums.get(0), 11n);
  assert.equal(again.sums.get(5), null);
  await rig.clear([1]);
  const cleared = new Rig(rig.records.crashed());
  assert.equal(cleared.sums.get(5), 33n);
  assert.equal(cleared.sums.get(4), null, 'written');
});

test('a mark that is being written while checksums are saved does not take away what is verified', async () => {
  const rig = new Rig();
  rig.records.held = true;
  rig.sums.verify(1, 7n);
  const saving = rig.sums.save();
  rig.write(100, 10, () => {});
  await turns(3);
  rig.records.release();
  await saving;
  await turns(3);
  rig.records.release();
  await turns(3);
  rig.sums.forget(100, 10);
  assert.equal(rig.sums.root, null);
});

test('what is learnt while a mark is being taken away is kept', async () => {
  const rig = new Rig();
  rig.write(0, 10, () => {});
  await turns(3);
  rig.records.held = true;
  const clearing = rig.clear([0]);
  rig.sums.verify(2, 9n);
  rig.records.release();
  await clearing;
  assert.equal(rig.sums.get(2), 9n);
  rig.records.held = false;
  rig.write(200, 10, () => {});
  await turns(3);
  assert.equal(rig.sums.get(2), null);
});

test('the root tells contents and places, whatever the order in which they were verified', () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: REGIONS, maxLength: REGIONS }),
      fc.shuffledSubarray([...Array(REGIONS).keys()], { minLength: 2 }),
      (values, order) => {
        const one = new Rig().sums;
        const other = new Rig().sums;
        const swapped = new Rig().sums;
        for (const region of order) one.verify(region, values[region]);
        for (const region of [...order].reverse()) {
          other.set(region, values[region] ^ 1n);
          other.verify(region, values[region]);
          other.verify(region, values[region]);
        }
        assert.equal(one.root, other.root);
        const [first, second] = order;
        if (values[first] === values[second]) return;
        for (const region of order) swapped.verify(region, values[region === first ? second : region === second ? first : region]);
        assert.notEqual(one.root, swapped.root);
      },
    ),
  );
});

test('a region that gets another checksum is not verified any more', () => {
  const { sums } = new Rig();
  sums.verify(3, 1n);
  sums.set(3, 2n);
  assert.equal(sums.root, null);
  assert.equal(sums.get(3), 2n);
});

test('a watch sees writes that touch its range and no others', () => {
  const { sums } = new Rig();
  const watch = { offset: 100, end: 200, touched: false };
  sums.watch(watch);
  sums.forget(0, 100);
  sums.forget(200, 10);
  assert(!watch.touched);
  sums.forget(199, 1);
  assert(watch.touched);
});

test('dropAll forgets memory and records', async () => {
  const rig = new Rig();
  rig.sums.verify(0, 1n);
  rig.sums.set(9, 2n);
  await rig.sums.save();
  await rig.records.commit(rig.sums.dropAll());
  assert.equal(rig.sums.get(0), null);
  assert.equal(rig.sums.get(9), null);
  assert.equal(rig.sums.root, null);
  assert.deepEqual(rig.records.list('sum/'), []);
});

test('the next region to read back is one that rests and is not verified', () => {
  const { sums } = new Rig();
  sums.verify(0, 1n);
  assert.equal(sums.nextUnverified(0, 10), 1);
  assert.equal(sums.nextUnverified(0, 1), -1, 'not further than it was told');
  sums.verify(1, 1n);
  assert.equal(sums.nextUnverified(0, 10), 2);
});

test('a mark that is made while everything is being dropped brings no checksum back', async () => {
  const rig = new Rig();
  rig.sums.set(1, 7n);
  await rig.sums.save();
  const changes = rig.sums.dropAll();
  rig.sums.onMark(0);
  await rig.records.commit(changes);
  assert.equal(rig.sums.get(1), null);
});

test('of a region that is about to be longer nothing is known any more, stored or not; the others of its extent stay', async () => {
  const rig = new Rig();
  for (let region = 0; region < REGIONS; region += 1) rig.sums.verify(region, BigInt(100 + region));
  await rig.sums.save();
  const root = rig.sums.root;
  await rig.records.commit(rig.sums.retract(REGIONS - 1));
  // As a gateway finds it that was killed now.
  assert.equal(new Rig(rig.records.crashed()).sums.get(REGIONS - 1), null);
  rig.sums.grow(SIZE + EXTENT);
  assert.equal(rig.sums.sizeBytes, SIZE + EXTENT);
  assert.equal(rig.sums.get(REGIONS - 1), null);
  assert.equal(rig.sums.get(REGIONS - 2), BigInt(100 + REGIONS - 2));
  assert.equal(rig.sums.verified.count, REGIONS - 1);
  assert.equal(rig.sums.nextUnverified(0, 100), REGIONS - 1);
  assert.notEqual(rig.sums.root, root);
  await rig.sums.save();
  const again = new Rig(rig.records.crashed());
  assert.equal(again.sums.get(REGIONS - 2), BigInt(100 + REGIONS - 2));
  assert.equal(again.sums.get(REGIONS - 1), null);
});

test('once everything was dropped nothing is learnt before writes are told of again', () => {
  const { sums } = new Rig();
  sums.dropAll();
  sums.set(1, 7n);
  sums.verify(2, 7n);
  assert.deepEqual([sums.get(1), sums.get(2), sums.verified.count], [null, null, 0]);
  sums.learn();
  sums.set(1, 7n);
  assert.equal(sums.get(1), 7n);
});

test('what is seen where an old request may land is not known', () => {
  const rig = new Rig();
  rig.doubtful.add(rig.sums.regionBytes);
  rig.sums.set(1, 7n);
  rig.sums.verify(1, 7n);
  assert.equal(rig.sums.get(1), null);
  assert.equal(rig.sums.verified.count, 0);
});

test('samples are known ranges, each once, spread over the volume', () => {
  const { sums } = new Rig();
  for (const region of [1, 4, 8]) sums.set(region, BigInt(region));
  const all = sums.samples(10, () => true).sort((one, other) => one.offset - other.offset);
  assert.deepEqual(
    all.map(({ offset, sum }) => [offset / sums.regionBytes, sum]),
    [
      [1, 1n],
      [4, 4n],
      [8, 8n],
    ],
  );
  assert.equal(sums.samples(2, () => true).length, 2);
  assert.deepEqual(
    sums.samples(10, (offset) => offset === 4 * sums.regionBytes).map(({ sum }) => sum),
    [4n],
  );
});

test('a record of another shape says nothing', () => {
  const rig = new Rig(
    new MemoryRecords([
      ['sum/v/00000000', new Uint8Array(5)],
      ['sum/v/00000001', 'x'],
    ]),
  );
  assert.equal(rig.sums.get(0), null);
  assert.equal(rig.sums.get(4), null);
});

test.run();
