// Marks leave the intent log only when every copy has flushed what they stand for (rule 3); what a mirror lacks, or may have
// lost with its node's cache, is written down in the same transaction.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { Upstream } from '../../gateway/upstream/upstream.js';
import type { Copy } from '../../gateway/volume/copy.js';
import { Witnesses } from '../../gateway/upstream/witnesses.js';
import { MarkSweeper } from '../../gateway/volume/mark-sweeper.js';
import { ERRNO, OP } from '../../replication/device.js';
import { DirtyRecord } from '../../replication/dirty-record.js';
import type { MemoryDevice } from '../support/memory-device.js';
import { PathRig, TestHasher } from '../support/path-rig.js';
import { QuietLog } from '../support/quiet-log.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';

const test = suite('volume/mark-sweeper');
const EXTENTS = 16;

class Rig extends PathRig {
  copies: Copy[] = [];
  sweeper!: MarkSweeper;
  mirrorDevice!: MemoryDevice & { ready: boolean };
  /** Offsets of extents where an old request may land on the active target. */
  readonly doubtful = new Set<number>();

  static async start(): Promise<Rig> {
    const rig = new Rig();
    const { device, mirror } = await rig.synced();
    rig.mirrorDevice = Object.assign(device, { ready: true, inDoubt: () => false });
    const upstream = (of: MemoryDevice): Upstream => of as unknown as Upstream;
    rig.copies = [
      {
        target: { node: 'a', export: '' },
        upstream: upstream(Object.assign(rig.source, { ready: true, inDoubt: (offset: number) => rig.doubtful.has(offset) })),
        witnesses: new Witnesses(new TestHasher()),
        mirror: null,
        id: null,
        dirtyRecord: null,
        cause: '',
      },
      {
        target: { node: 'b', export: '' },
        upstream: upstream(device),
        witnesses: new Witnesses(new TestHasher()),
        mirror,
        id: 'm1',
        dirtyRecord: new DirtyRecord(rig.records, 'v', 'm1', EXTENTS),
        cause: '',
      },
    ];
    rig.sweeper = new MarkSweeper({
      intents: rig.intents,
      sums: rig.sums,
      records: rig.records,
      lock: rig.path.lock,
      clock: rig.clock,
      log: new QuietLog(),
      copies: () => rig.copies,
      unsure: () => false,
      journaled: () => Promise.resolve(true),
    });
    return rig;
  }

  marks(): number {
    return this.records.list('mark/').length;
  }

  /** Extents that a restart would find dirty on the mirror whatever the marks say. */
  dirtyAfterRestart(): number[] {
    return [...new DirtyRecord(this.records.crashed(), 'v', 'm1', EXTENTS)];
  }

  async written(...offsets: number[]): Promise<void> {
    for (const offset of offsets) {
      const write = this.write(offset, filled(offset / 1024 + 1, 1024));
      await turns(20);
      assert.equal(write.errno, 0);
    }
  }
}

test('cold marks go when both copies have flushed, and not before', async () => {
  const rig = await Rig.start();
  await rig.written(0, 8192);
  assert.equal(rig.marks(), 2);
  rig.source.completion = 'held';
  rig.mirrorDevice.completion = 'held';
  const sweep = rig.sweeper.sweep(rig.intents.now);
  await turns();
  assert(rig.source.held.some(({ op }) => op === OP.FLUSH) && rig.mirrorDevice.held.some(({ op }) => op === OP.FLUSH));
  rig.source.release();
  await turns();
  assert.equal(rig.marks(), 2);
  rig.mirrorDevice.release();
  await sweep;
  assert.equal(rig.marks(), 0);
  assert.equal(rig.intents.markedExtents, 0);
});

test('an extent where an old request may still land keeps its mark', async () => {
  const rig = await Rig.start();
  await rig.written(0, 8192);
  rig.doubtful.add(8192);
  await rig.sweeper.sweep(rig.intents.now);
  assert.equal(rig.marks(), 1);
  rig.doubtful.clear();
  await rig.sweeper.sweep(rig.intents.now);
  assert.equal(rig.marks(), 0);
});

test('an extent written while the copies flush keeps its mark', async () => {
  const rig = await Rig.start();
  await rig.written(0, 8192);
  const touch = rig.intents.now;
  rig.mirrorDevice.completion = 'held';
  const sweep = rig.sweeper.sweep(touch);
  const write = rig.write(8192, filled(9, 1024));
  await turns();
  assert.equal(write.errno, 0);
  rig.mirrorDevice.releaseAll();
  rig.mirrorDevice.completion = 'later';
  await sweep;
  assert.deepEqual(
    rig.records.list('mark/').map(([key]) => key),
    ['mark/v/00000002'],
  );
});

test('an extent with a write on its way, or in the queue, keeps its mark', async () => {
  const rig = await Rig.start();
  await rig.written(0, 8192);
  rig.mirrorDevice.completion = 'held';
  rig.write(0, filled(9, 1024));
  await turns();
  rig.mirrorDevice.completion = 'later';
  await rig.sweeper.sweep(rig.intents.now);
  assert.deepEqual(
    rig.records.list('mark/').map(([key]) => key),
    ['mark/v/00000000'],
  );
});

test('a refused flush leaves every mark', async () => {
  const rig = await Rig.start();
  await rig.written(0);
  rig.mirrorDevice.fail = ({ op }) => (op === OP.FLUSH ? ERRNO.EIO : 0);
  await rig.sweeper.sweep(rig.intents.now);
  assert.equal(rig.marks(), 1);
  rig.mirrorDevice.fail = () => 0;
  rig.source.fail = ({ op }) => (op === OP.FLUSH ? ERRNO.EIO : 0);
  await rig.sweeper.sweep(rig.intents.now);
  assert.equal(rig.marks(), 1);
});

test('a copy that never answers its flush does not stop sweeps for ever', async () => {
  const rig = await Rig.start();
  await rig.written(0);
  rig.mirrorDevice.completion = 'held';
  rig.clock.advance(2000);
  rig.sweeper.tick();
  await turns();
  rig.clock.advance(2000);
  rig.sweeper.tick();
  await turns();
  assert.equal(rig.mirrorDevice.held.length, 1, 'one flush is under way');
  rig.clock.advance(15_000);
  await turns();
  rig.mirrorDevice.completion = 'later';
  rig.sweeper.tick();
  await turns();
  assert.equal(rig.marks(), 0);
});

test('what a mirror lacks is written down with the removal of the mark', async () => {
  const rig = await Rig.start();
  rig.mirrorDevice.completion = 'held';
  await rig.written(0);
  const [, copy] = rig.copies;
  rig.mirrorDevice.ready = false;
  copy.mirror!.lost('gone');
  copy.mirror!.fallBack('gone');
  await rig.sweeper.sweep(rig.intents.now);
  assert.equal(rig.marks(), 0);
  assert.deepEqual(rig.dirtyAfterRestart(), [0]);
});

test('what a mirror answered and may not have flushed when it went away is written down too', async () => {
  const rig = await Rig.start();
  await rig.written(0, 8192);
  const [, copy] = rig.copies;
  rig.mirrorDevice.ready = false;
  copy.mirror!.lost('its node lost its power');
  await rig.sweeper.sweep(rig.intents.now);
  assert.equal(rig.marks(), 0);
  assert.deepEqual(rig.dirtyAfterRestart(), [0, 2]);
  // Back, and replayed by its connection: a flush proves it, and nothing is copied.
  rig.mirrorDevice.ready = true;
  copy.mirror!.connected();
  assert(copy.mirror!.usable);
  await rig.sweeper.sweep(rig.intents.now);
  assert.deepEqual(rig.dirtyAfterRestart(), []);
});

test('what is copied while the copies flush counts as lacking until the next sweep', async () => {
  const rig = await Rig.start();
  await rig.written(0);
  const [, copy] = rig.copies;
  rig.source.completion = 'held';
  copy.mirror!.copyAgain(0, 1024);
  await turns(5);
  const read = rig.source.held.findIndex(({ op }) => op === OP.READ);
  assert(read >= 0, 'the copier reads under its lock');
  rig.source.fail = ({ op }) => (op === OP.READ ? ERRNO.EIO : 0);
  rig.source.release(read);
  rig.source.fail = () => 0;
  await turns(5);
  assert(copy.mirror!.dirty.has(0), 'refused by the source, tried again later');
  const sweep = rig.sweeper.sweep(rig.intents.now);
  await turns();
  rig.mirrorDevice.completion = 'later';
  // The mirror has flushed; now the copy goes on, and only then the active target flushes.
  rig.clock.advance(500);
  await turns(5);
  const again = rig.source.held.findIndex(({ op }) => op === OP.READ);
  rig.source.release(again);
  await turns(20);
  assert.equal(copy.mirror!.dirty.count, 0);
  rig.source.completion = 'later';
  rig.source.releaseAll();
  await sweep;
  if (rig.marks() === 0) assert.deepEqual(rig.dirtyAfterRestart(), [0]);
  await rig.sweeper.sweep(rig.intents.now);
  assert.equal(rig.marks(), 0);
  await rig.sweeper.sweep(rig.intents.now);
  assert.deepEqual(rig.dirtyAfterRestart(), []);
});

for (const failing of ['before', 'after'] as const) {
  test(`a removal that fails (${failing} the store did it) is made up for: a mirror's dirty bit is never only in memory`, async () => {
    const rig = await Rig.start();
    await rig.written(0);
    const [, copy] = rig.copies;
    rig.mirrorDevice.ready = false;
    copy.mirror!.lost('gone');
    copy.mirror!.doubt(0, 1024);
    rig.records.failing = failing;
    await rig.sweeper.sweep(rig.intents.now);
    rig.records.failing = null;
    assert(rig.marks() === 1 || rig.dirtyAfterRestart().includes(0));
    await rig.written(0);
    await rig.sweeper.sweep(rig.intents.now);
    assert(rig.marks() === 1 || rig.dirtyAfterRestart().includes(0));
  });
}

test('the last sweeps before the end leave no mark where nothing is written any more', async () => {
  const rig = await Rig.start();
  await rig.written(0, 4096, 8192);
  await rig.sweeper.finish();
  assert.equal(rig.marks(), 0);
  assert.equal(rig.clock.pending, 0);
});

test.run();
