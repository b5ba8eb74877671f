// Writes while no mark can be written (rule 21): they go on only once the latch is durably set, whatever fails and in which order, and
// a restart that finds it set takes nothing for equal.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { IntentLog, type MarkWaiter } from '../../replication/intent-log.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryLatch } from '../support/memory-latch.js';
import { MemoryRecords } from '../support/memory-records.js';
import { QuietLog } from '../support/quiet-log.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { VolumeRig } from '../support/volume-rig.js';

const EXTENT = 1000;
const EXTENTS = 4;

class Rig {
  readonly clock = new ManualClock();
  readonly log: IntentLog;
  readonly told: (string | null)[] = [];
  /** Extents that were written since their mark was last taken away. */
  readonly written = new Set<number>();

  constructor(
    readonly records = new MemoryRecords(),
    readonly latch = new MemoryLatch(),
  ) {
    this.log = new IntentLog({
      records,
      clock: this.clock,
      log: new QuietLog(),
      volume: 'v',
      sizeBytes: EXTENTS * EXTENT,
      extentBytes: EXTENT,
      onMark: () => [],
      unmarked: (reason) => this.told.push(reason),
    });
    this.log.use(latch);
  }

  /** Would a restart now know that the extent may differ? */
  isSafe(extent: number): boolean {
    return this.latch.isSet || this.records.get(`mark/v/${extent.toString(16).padStart(8, '0')}`) !== undefined;
  }

  /** Gives whether it was sent, looked at later. */
  write(extent: number): { sent: boolean } {
    const outcome = { sent: false };
    const waiter: MarkWaiter = {
      markOffset: extent * EXTENT,
      markLength: EXTENT,
      marked: () => {
        if (!this.log.admit(waiter.markOffset, EXTENT)) this.log.mark(waiter);
        else {
          outcome.sent = true;
          this.written.add(extent);
          assert(this.isSafe(extent), `extent ${extent} is written, and a restart would not know`);
        }
      },
    };
    waiter.marked();
    return outcome;
  }

  async pass(delayMs = 200): Promise<void> {
    this.clock.advance(delayMs);
    await turns(8);
  }
}

const log = suite('replication/latch');

log('writes wait for the latch when no mark can be written, and need marks again when they can be', async () => {
  const rig = new Rig();
  rig.records.failing = 'before';
  const write = rig.write(2);
  assert(!write.sent);
  await turns(8);
  assert(write.sent && rig.latch.isSet);
  assert.deepEqual(rig.told, ['the store failed before it wrote']);
  assert(rig.write(3).sent, 'the next need not wait');
  assert(rig.log.isMarked(0) && !rig.log.isClean(0), 'nothing counts as equal meanwhile');
  rig.records.failing = null;
  await rig.pass();
  assert.deepEqual(rig.told.slice(1), [null]);
  assert(!rig.latch.isSet && rig.log.isMarked(2) && rig.log.isMarked(3) && rig.log.isClean(0));
  assert(!rig.write(0).sent, 'marks are needed again');
  await rig.pass();
});

log('without the latch, too, writes wait until one of both can be written', async () => {
  const rig = new Rig();
  rig.records.failing = 'before';
  rig.latch.failing = 'before';
  const write = rig.write(2);
  for (let tries = 0; tries < 5; tries += 1) await rig.pass();
  assert(!write.sent);
  rig.latch.failing = null;
  await rig.pass();
  assert(write.sent);
});

log('where a restart finds the latch set, every extent counts as marked until it is', async () => {
  const records = new MemoryRecords();
  records.failing = 'before';
  const rig = new Rig(records, new MemoryLatch(true));
  assert(Array.from({ length: EXTENTS }, (_, extent) => rig.log.isMarked(extent)).every(Boolean));
  await rig.pass();
  assert(rig.latch.isSet && rig.write(1).sent);
  records.failing = null;
  await rig.pass();
  await rig.pass();
  assert(!rig.latch.isSet);
  assert.equal(rig.log.markedExtents, EXTENTS);
  assert.equal(records.list('mark/v/').length, EXTENTS);
});

log('a write does not get past the clearing of its mark, latch or not', async () => {
  const rig = new Rig();
  rig.write(1);
  await rig.pass();
  rig.records.held = true;
  const clearing = rig.log.clear([1], rig.log.now, () => []);
  rig.written.delete(1);
  const write = rig.write(1);
  rig.records.failing = 'after';
  rig.records.release();
  rig.records.held = false;
  await clearing;
  await rig.pass();
  assert(write.sent && rig.isSafe(1));
  rig.records.failing = null;
  for (let tries = 0; tries < 3; tries += 1) await rig.pass();
  assert(rig.log.isMarked(1) && rig.isSafe(1) && !rig.latch.isSet);
});

log('what is written while a mark is being cleared, or while others are written, keeps the latch until it is marked', async () => {
  const rig = new Rig();
  rig.write(1);
  await rig.pass();
  rig.records.failing = 'before';
  rig.write(0);
  await rig.pass(0);
  assert(rig.latch.isSet);
  rig.records.failing = null;
  rig.records.held = true;
  const clearing = rig.log.clear([1], rig.log.now, () => []);
  const write = rig.write(1);
  assert(!write.sent, 'the mark that is being cleared could outlive the latch');
  rig.records.release();
  await clearing;
  await rig.pass();
  assert(write.sent);
  rig.write(2);
  // The marks of the first two are durable now, that of the third is on its way.
  rig.records.release();
  await rig.pass();
  assert(rig.isSafe(2) && rig.isSafe(1));
  rig.records.held = false;
  rig.records.release();
  await rig.pass();
  assert(!rig.latch.isSet && rig.isSafe(0) && rig.isSafe(1) && rig.isSafe(2));
});

const failures = fc.constantFrom('before' as const, 'after' as const, null);
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('write' as const), extent: fc.nat(EXTENTS - 1) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('clear' as const), extent: fc.nat(EXTENTS - 1) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('store' as const), failing: failures }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('latch' as const), failing: failures }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('pass' as const), rounds: fc.nat(6) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('slow' as const), held: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const) }) },
);

log('whatever fails and whenever the gateway is killed, a restart knows of every extent that was written', async () => {
  let latched = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 10, maxLength: 60 }), async (actions) => {
      let rig = new Rig();
      for (const each of actions) {
        if (each.kind === 'write') rig.write(each.extent);
        else if (each.kind === 'store') rig.records.failing = each.failing;
        else if (each.kind === 'latch') rig.latch.failing = each.failing;
        else if (each.kind === 'slow') {
          rig.records.held = each.held;
          rig.records.release(1);
        } else if (each.kind === 'pass') {
          rig.clock.advance(100);
          await turns(each.rounds);
        } else if (each.kind === 'clear') {
          // The caller has proven the copies alike as of now.
          const touch = rig.log.now;
          if (rig.log.coldExtents(touch, EXTENTS).includes(each.extent)) {
            rig.written.delete(each.extent);
            void rig.log.clear([each.extent], touch, () => []);
          }
        } else {
          const { written } = rig;
          rig = new Rig(rig.records.crashed(), rig.latch.crashed());
          for (const extent of written) {
            assert(rig.log.isMarked(extent), `a restart takes extent ${extent} for equal`);
            rig.written.add(extent);
          }
        }
        for (const extent of rig.written) assert(rig.isSafe(extent), `extent ${extent} after ${each.kind}`);
        if (rig.latch.isSet) latched += 1;
      }
      rig.records.failing = null;
      rig.records.held = false;
      rig.records.release();
      rig.latch.failing = null;
      for (let rounds = 0; rounds < 6; rounds += 1) await rig.pass();
      const last = rig.write(0);
      await rig.pass();
      assert(last.sent, 'nobody waits for ever');
    }),
    { numRuns: 1500 },
  );
  assert(latched > 100, `the latch was set ${latched} times`);
});

log.run();

const volume = suite('replication/latch: a volume');

volume('hosts go on while the store cannot be written, and a gateway that is killed then copies everything', async () => {
  const latches = new MemoryLatch();
  const rig = await VolumeRig.mirrored({ latches });
  await rig.until(() => rig.volume.markedExtents === 0, 'it rests');
  rig.records.failing = 'before';
  rig.nodes.b.hold = (request) => request.command === 1;
  const write = rig.write(8192, filled(5));
  await turns(12);
  assert.equal(write.errno, 0);
  assert(rig.facts.some((fact) => fact.type === 'unmarked' && fact.reason !== null));
  rig.records.failing = null;
  const before = rig.nodes.a.log.length;
  const again = await rig.restarted({ latches: latches.crashed() });
  again.nodes.b.hold = () => false;
  again.nodes.b.answerAll();
  await again.until(() => again.state('b') === 'synced', 'all is copied');
  assert.deepEqual(again.nodes.b.bytes, again.nodes.a.bytes);
  assert.equal(again.nodes.b.bytes[8192], 5);
  const copied = again.nodes.a.log.slice(before).filter((text) => text.startsWith('read'));
  const bytes = copied.reduce((sum, text) => sum + Number(text.split('+')[1]), 0);
  assert(bytes >= rig.sizeBytes, `${bytes} bytes were read to be copied`);
  await again.stop();
});

volume.run();
