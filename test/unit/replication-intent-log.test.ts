// The intent log: a write is admitted only when all its extents are durably marked (rule 1), marks leave only where
// nothing was written since, a failed commit makes writes wait and never lets one through, and a restart finds at least
// what was admitted.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { IntentLog, type MarkWaiter } from '../../replication/intent-log.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryRecords } from '../support/memory-records.js';
import { QuietLog } from '../support/quiet-log.js';
import { turns } from '../support/scripted-node.js';

const test = suite('replication/intent-log');
const EXTENT = 1000;
const EXTENTS = 6;

class Rig {
  readonly clock = new ManualClock();
  readonly log: IntentLog;

  constructor(readonly records = new MemoryRecords()) {
    this.log = new IntentLog({
      records,
      clock: this.clock,
      log: new QuietLog(),
      volume: 'v',
      sizeBytes: EXTENTS * EXTENT - 300,
      extentBytes: EXTENT,
      onMark: (extent) => [{ put: `with/${extent}`, value: true }],
      unmarked: () => {},
    });
  }

  durable(extent: number): boolean {
    return this.records.get(`mark/v/${extent.toString(16).padStart(8, '0')}`) !== undefined;
  }

  /** What a write does: asks, waits, asks again; `sent` is set when it may go. */
  write(offset: number, length: number, sent: () => void): void {
    const waiter: MarkWaiter = {
      markOffset: offset,
      markLength: length,
      marked: () => {
        if (this.log.admit(offset, length)) sent();
        else this.log.mark(waiter);
      },
    };
    waiter.marked();
  }
}

test('a write is admitted only after its marks are durable, together with what belongs to them', async () => {
  const rig = new Rig();
  rig.records.held = true;
  let sent = false;
  rig.write(900, 200, () => {
    sent = true;
  });
  await turns(5);
  assert(!sent);
  assert.equal(rig.records.waiting, 1);
  rig.records.release();
  await turns(5);
  assert(sent);
  assert(rig.durable(0) && rig.durable(1) && !rig.durable(2));
  assert.equal(rig.records.get('with/1'), true);
  assert.equal(rig.log.markedExtents, 2);
  assert(rig.log.admit(0, 2000), 'hot extents cost nothing');
  assert.equal(rig.records.tried.length, 1);
});

test('all writes of a turn share one transaction, and those that come meanwhile the next', async () => {
  const rig = new Rig();
  rig.records.held = true;
  let sent = 0;
  for (let extent = 0; extent < 3; extent += 1) rig.write(extent * EXTENT, 10, () => (sent += 1));
  await turns(3);
  for (let extent = 3; extent < 6; extent += 1) rig.write(extent * EXTENT, 10, () => (sent += 1));
  await turns(3);
  assert.equal(rig.records.tried.length, 1);
  rig.records.release();
  await turns(3);
  assert.equal(sent, 3);
  rig.records.release();
  await turns(3);
  assert.equal(sent, 6);
  assert.equal(rig.records.tried.length, 2);
});

for (const failing of ['before', 'after'] as const) {
  test(`while marks cannot be written (failing ${failing} the store did it) writes wait, and go once they can`, async () => {
    const rig = new Rig();
    rig.records.failing = failing;
    let sent = 0;
    rig.write(0, 10, () => (sent += 1));
    await turns(3);
    rig.write(2 * EXTENT, 10, () => (sent += 1));
    for (let round = 0; round < 3; round += 1) {
      rig.clock.advance(250);
      await turns(3);
    }
    assert.equal(sent, 0);
    rig.records.failing = null;
    rig.clock.advance(250);
    await turns(5);
    assert.equal(sent, 2);
    assert(rig.durable(0) && rig.durable(2));
  });
}

test('a write that comes while its mark is being taken away waits, and finds it marked anew', async () => {
  const rig = new Rig();
  rig.write(0, 10, () => {});
  await turns(3);
  rig.records.held = true;
  const clearing = rig.log.clear([0], rig.log.now, () => []);
  let sent = false;
  rig.write(0, 10, () => {
    sent = true;
  });
  await turns(3);
  assert(!sent);
  rig.records.release();
  assert.deepEqual(await clearing, [0]);
  await turns(3);
  assert(!sent, 'the new mark is not durable yet');
  rig.records.release();
  await turns(3);
  assert(sent && rig.durable(0));
});

test('an extent written after the given moment keeps its mark', async () => {
  const rig = new Rig();
  rig.write(0, 2 * EXTENT, () => {});
  await turns(3);
  const moment = rig.log.now;
  assert(rig.log.admit(0, 10));
  assert.deepEqual(rig.log.coldExtents(moment, 10), [1]);
  assert.deepEqual(await rig.log.clear([0, 1, 2], moment, (extent) => [{ put: `cleared/${extent}`, value: 1 }]), [1]);
  assert(rig.durable(0) && !rig.durable(1));
  assert.equal(rig.records.get('cleared/0'), undefined);
  assert.equal(rig.records.get('cleared/1'), 1);
});

for (const failing of ['before', 'after'] as const) {
  test(`a clear of unknown outcome (failing ${failing} the store did it) is said not to have happened, and a write marks anew`, async () => {
    const rig = new Rig();
    rig.write(0, 10, () => {});
    await turns(3);
    rig.records.failing = failing;
    assert.deepEqual(await rig.log.clear([0], rig.log.now, () => []), []);
    rig.records.failing = null;
    let sent = false;
    rig.write(0, 10, () => {
      sent = true;
    });
    assert(!sent);
    await turns(3);
    assert(sent && rig.durable(0));
  });
}

test('a restart finds what was marked', async () => {
  const rig = new Rig();
  rig.write(1500, 10, () => {});
  rig.write(5600, 10, () => {});
  await turns(3);
  const again = new Rig(rig.records.crashed());
  assert.equal(again.log.markedExtents, 2);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].filter((extent) => again.log.isMarked(extent)),
    [1, 5],
  );
  assert(again.log.admit(1000, 1000) && !again.log.admit(0, 10));
});

test('waiters that are dropped are not told', async () => {
  const rig = new Rig();
  rig.write(0, 10, () => assert.fail('it was given up'));
  rig.log.dropWaiters();
  await turns(3);
});

const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      offset: fc.nat(EXTENTS * EXTENT - 301),
      length: fc.integer({ min: 1, max: 2500 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('clear' as const),
      extents: fc.uniqueArray(fc.nat(EXTENTS - 1), { maxLength: 4 }),
      back: fc.nat(3),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('release' as const),
      failing: fc.constantFrom(null, null, null, 'before' as const, 'after' as const),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'time' as const }) },
);

test('whatever comes in whatever order: no write goes without its marks on stable storage, and every write goes in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 50 }), async (actions) => {
      const rig = new Rig();
      rig.records.held = true;
      let asked = 0;
      let sent = 0;
      /** Number of the last write sent, for each extent. */
      const lastWrite = new Array<number>(EXTENTS).fill(0);
      for (const each of actions) {
        if (each.kind === 'write') {
          const length = Math.min(each.length, EXTENTS * EXTENT - 300 - each.offset);
          asked += 1;
          rig.write(each.offset, length, () => {
            sent += 1;
            for (let extent = Math.floor(each.offset / EXTENT); extent * EXTENT < each.offset + length; extent += 1) {
              assert(rig.durable(extent), `extent ${extent} is marked on stable storage`);
              lastWrite[extent] = rig.log.now;
            }
          });
        } else if (each.kind === 'clear') {
          const moment = Math.max(0, rig.log.now - each.back);
          void rig.log.clear(each.extents, moment, () => []);
        } else if (each.kind === 'release') {
          rig.records.failing = each.failing;
          rig.records.release(1);
          await turns(2);
          rig.records.failing = null;
        } else rig.clock.advance(250);
        await turns(1);
        for (let extent = 0; extent < EXTENTS; extent += 1) if (rig.log.isMarked(extent)) assert(rig.durable(extent));
      }
      rig.records.held = false;
      for (let round = 0; round < 6; round += 1) {
        rig.records.release();
        await turns(3);
        rig.clock.advance(250);
      }
      assert.equal(sent, asked);
    }),
    { numRuns: 200 },
  );
});

test.run();
