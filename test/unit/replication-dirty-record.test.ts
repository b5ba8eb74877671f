// A mirror's durable dirty set against a Set, over several segments, with commits that fail, and after a restart.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { DirtyRecord } from '../../replication/dirty-record.js';
import { MemoryRecords } from '../support/memory-records.js';

const test = suite('replication/dirty-record');
const EXTENTS = 4096 * 2 + 100;

const action = fc.record({
  kind: fc.constantFrom('add', 'remove', 'addAll', 'restart'),
  extents: fc.array(fc.nat(EXTENTS - 1), { maxLength: 20 }),
  lost: fc.boolean(),
});

test('memory agrees with a Set, and a restart finds what was committed', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 12 }), async (actions) => {
      const records = new MemoryRecords([['dirty/v/m10/000000', new Uint8Array(512).fill(255)]]);
      let record = new DirtyRecord(records, 'v', 'm1', EXTENTS);
      const model = new Set<number>();
      for (const { kind, extents } of actions) {
        if (kind === 'restart') record = new DirtyRecord(records.crashed(), 'v', 'm1', EXTENTS);
        else if (kind === 'add') {
          await records.commit(record.add(extents));
          for (const extent of extents) model.add(extent);
        } else if (kind === 'remove') {
          await records.commit(record.remove(extents));
          for (const extent of extents) model.delete(extent);
        } else {
          await records.commit(record.addAll());
          for (let extent = 0; extent < EXTENTS; extent += 1) model.add(extent);
        }
        assert.equal(record.count, model.size);
        assert.deepEqual(
          [...record],
          [...model].sort((one, other) => one - other),
        );
        assert(extents.every((extent) => record.has(extent) === model.has(extent)));
      }
      await records.commit(record.drop());
      assert.deepEqual(records.list('dirty/v/m1/'), []);
      assert.equal(records.list('dirty/').length, 1, "another mirror's stays");
    }),
    { numRuns: 60 },
  );
});

test('a volume that grows has clean extents more, but for what a growth without a known outcome has left there', async () => {
  const records = new MemoryRecords();
  const record = new DirtyRecord(records, 'v', 'm1', 100);
  await records.commit(record.add([7, 99]));
  record.grow(EXTENTS);
  record.grow(50);
  assert.deepEqual([record.extents, record.count, [...record]], [EXTENTS, 2, [7, 99]]);
  await records.commit(record.add([100, EXTENTS - 1]));
  assert.deepEqual([...new DirtyRecord(records.crashed(), 'v', 'm1', EXTENTS)], [7, 99, 100, EXTENTS - 1]);
  const small = new DirtyRecord(records.crashed(), 'v', 'm1', 100);
  assert.equal(small.count, 2);
  small.grow(200);
  assert.deepEqual([small.count, [...small]], [3, [7, 99, 100]]);
});

test('a change whose commit failed is given again with the next', async () => {
  const records = new MemoryRecords();
  const record = new DirtyRecord(records, 'v', 'm1', 100);
  records.failing = 'before';
  await assert.rejects(records.commit(record.add([7])));
  records.failing = null;
  await records.commit(record.add([7]));
  assert(new DirtyRecord(records.crashed(), 'v', 'm1', 100).has(7));
});

test('damage counts as dirty', () => {
  const records = new MemoryRecords([
    ['dirty/v/m1/000000', 'nonsense'],
    ['dirty/v/m1/000001', new Uint8Array(3)],
    ['dirty/v/m1/00ffff', new Uint8Array(512)],
  ]);
  const record = new DirtyRecord(records, 'v', 'm1', 4096 + 50);
  assert.equal(record.count, 4096 + 50);
});

test.run();
