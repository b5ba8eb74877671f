// Making and freeing targets: nothing that was made is forgotten, nothing that is used is freed.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { type NewEvent, type Outcome, refuse, type TargetRef } from '../../gateway/control.js';
import { type ControlledNode, NodeControl } from '../../gateway/placement/node-control.js';
import { describeTarget } from '../../gateway/protection/situation.js';
import { QuietLog } from '../support/quiet-log.js';
import { MemoryRecords, SettlingClock, settle } from './protection-fakes.js';

const test = suite('placement: node control');

const GIB = 2 ** 30;
const WISH = { volume: 'vol0', epoch: 3, sizeBytes: GIB };

class Bench {
  clock = new SettlingClock();
  records = new MemoryRecords();
  events: NewEvent[] = [];
  exports = new Map<string, string>([['taken.3', 'somebody']]);
  used = new Set<string>();
  user = 'vol0';
  epoch = 0;
  spares = ['s1', 's2'];
  /** Why nobody can say what is used. */
  doubt: Outcome<never> | null = null;
  trims: string[] = [];
  deletes: string[] = [];
  refusal: Outcome<never> | null = null;
  creation: Outcome<never> | null = null;
  log = new QuietLog();
  control = this.open();

  open(): NodeControl {
    this.control = new NodeControl({
      clock: this.clock,
      log: this.log,
      records: this.records,
      events: { publish: (event) => this.events.push(event) },
      node: (id) => this.#node(id),
      usedBy: (target) => this.doubt ?? { ok: true, value: this.used.has(describeTarget(target)) ? this.user : null },
      epochOf: (volume) => (volume === 'vol0' ? this.epoch : null),
      trim: async (target) => {
        this.trims.push(describeTarget(target));
        return this.refusal ?? { ok: true, value: null };
      },
    });
    return this.control;
  }

  /** A copy is begun on a spare. */
  begin(name: string): void {
    this.records.map.set(`ours/plain/${name}`, '{"volume":"vol0"}');
  }

  #node(id: string): ControlledNode | undefined {
    if (id === 'plain') return { id, kind: 'plain', spares: this.spares };
    if (id !== 'agent') return undefined;
    return {
      id,
      kind: 'agent',
      agent: {
        createExport: async ({ name, volume }) => {
          if (this.exports.has(name)) return refuse('export-exists', `${name} exists`);
          this.exports.set(name, volume);
          return this.creation ?? { ok: true, value: null };
        },
        deleteExport: async (name, owner) => {
          this.deletes.push(`${name} ${owner.volume} ${owner.epoch}`);
          if (this.refusal) return this.refusal;
          return this.exports.delete(name) ? { ok: true, value: null } : refuse('export-unknown', `no ${name}`);
        },
      },
    };
  }
}

function made(outcome: Outcome<TargetRef>): TargetRef {
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  return outcome.value;
}

test('an export is named by volume and epoch, and written down before it is made', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  assert.deepEqual(target, { node: 'agent', export: 'vol0.3' });
  assert([...bench.records.map.keys()].includes('free/agent/vol0.3'));
  await bench.control.keep(target);
  assert.equal(bench.records.map.size, 0);
  await bench.control.stop();
});

test('an export of that name that is somebody else`s is left alone', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, { ...WISH, volume: 'taken' }));
  assert.equal(target.export, 'taken.3-2');
  await bench.clock.advance(600_000);
  assert.equal(bench.exports.get('taken.3'), 'somebody');
  await bench.control.stop();
});

test('a long volume`s name still makes a name that an agent takes', async () => {
  const bench = new Bench();
  const volume = 'v'.repeat(64);
  const first = made(await bench.control.make('agent', null, { ...WISH, volume, epoch: 123 }));
  assert.equal(first.export.length, 64);
  assert(first.export.endsWith('.123'));
  await bench.control.stop();
});

test('what cannot be written down is not made', async () => {
  const bench = new Bench();
  bench.records.failing = 'no space left on device';
  const refused = await bench.control.make('agent', null, WISH);
  assert(!refused.ok && refused.code === 'store-unwritable');
  assert(!bench.exports.has('vol0.3'));
  bench.records.failing = null;
  made(await bench.control.make('agent', null, WISH));
  await bench.control.stop();
});

test('a record that was written though that failed is removed again', async () => {
  const bench = new Bench();
  bench.records.failing = 'input/output error';
  bench.records.appliesWhatFails = true;
  const refused = await bench.control.make('agent', null, WISH);
  assert(!refused.ok && refused.code === 'store-unwritable');
  assert(bench.records.map.has('free/agent/vol0.3'));
  await bench.clock.advance(2_000);
  bench.records.failing = null;
  bench.records.appliesWhatFails = false;
  assert.equal(made(await bench.control.make('agent', null, WISH)).export, 'vol0.3-2', 'the first name is not settled yet');
  await bench.control.keep({ node: 'agent', export: 'vol0.3-2' });
  await bench.clock.advance(10_000);
  assert.deepEqual([bench.records.map.size, bench.deletes.length], [0, 0]);
  await bench.control.stop();
});

test('what is condemned again after it could not be written down is freed', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  await bench.control.keep(target);
  bench.records.failing = 'input/output error';
  assert(!(await bench.control.condemn(target, WISH)).ok);
  bench.records.failing = null;
  made(await bench.control.condemn(target, WISH));
  await bench.clock.advance(10_000);
  assert(bench.records.map.has('free/agent/vol0.3'));
  bench.control.free(target, 'vol0');
  await settle();
  assert.deepEqual([bench.records.map.size, bench.deletes.length], [0, 1]);
  await bench.control.stop();
});

test('a target that its volume is still forgetting is freed when it has', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  bench.used.add('agent/vol0.3');
  bench.control.free(target, 'vol0');
  await bench.clock.advance(2_000);
  assert.match(bench.events[0].message, /cannot be given back yet: vol0 has not forgotten it yet/);
  assert(bench.records.map.has('free/agent/vol0.3'));
  bench.used.clear();
  await bench.clock.advance(10_000);
  assert.deepEqual([bench.records.map.size, bench.deletes.length], [0, 1]);
  await bench.control.stop();
});

test('an export whose creation nobody answered for is deleted, if it was made', async () => {
  const bench = new Bench();
  bench.creation = refuse('agent-timeout', 'did not answer');
  const refused = await bench.control.make('agent', null, WISH);
  assert(!refused.ok && refused.code === 'agent-timeout');
  await settle();
  assert(!bench.exports.has('vol0.3'));
  assert.equal(bench.records.map.size, 0);
  await bench.control.stop();
});

test('a made target is freed after a crash, unless a volume`s record names it', async () => {
  const bench = new Bench();
  made(await bench.control.make('agent', null, WISH));
  made(await bench.control.make('agent', null, WISH));
  bench.used.add('agent/vol0.3');
  await bench.control.stop();
  bench.open().start();
  await settle();
  assert.deepEqual([...bench.exports.keys()], ['taken.3', 'vol0.3']);
  assert.equal(bench.records.map.size, 0);
  await bench.control.stop();
});

test('while nobody can say what is used, nothing is freed and no spare is lent; an agent`s export is not made', async () => {
  const bench = new Bench();
  const [spare, made1] = [await bench.control.make('plain', 's1', WISH), await bench.control.make('agent', null, WISH)].map(made);
  bench.begin('s1');
  bench.doubt = refuse('record-damaged', 'the record of vol7 cannot be read');
  assert.deepEqual(bench.control.freeSpares('plain'), []);
  assert.equal((await bench.control.make('plain', 's2', WISH)).ok, false);
  assert.equal((await bench.control.make('agent', null, { ...WISH, epoch: 4 })).ok, false);
  bench.control.free(spare, 'vol0');
  bench.control.free(made1, 'vol0');
  await bench.clock.advance(600_000);
  assert.deepEqual([bench.trims, bench.deletes], [[], []]);
  assert.equal(bench.records.map.size, 3, 'both are still to be freed');
  assert.match(bench.events[0].message, /cannot be given back yet: the record of vol7 cannot be read/);
  bench.doubt = null;
  await bench.clock.advance(600_000);
  assert.deepEqual([bench.trims, bench.deletes], [['plain/s1'], ['vol0.3 vol0 3']]);
  await bench.control.stop();
});

test('freeing waits for its word, is done as the owner, and is tried until it is done', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  await bench.control.keep(target);
  bench.used.add('agent/vol0.3');
  made(await bench.control.condemn(target, { volume: 'vol0', epoch: 5 }));
  await bench.clock.advance(600_000);
  assert.deepEqual(bench.deletes, [], 'its volume still has it');
  bench.used.clear();
  bench.refusal = refuse('export-in-use', '2 connections are open');
  bench.control.free(target, 'vol0');
  await bench.clock.advance(10_000);
  assert.equal(bench.deletes[0], 'vol0.3 vol0 5');
  assert.equal(bench.deletes.length, 4, 'after 0, 1, 3 and 7 seconds');
  assert(bench.records.map.has('free/agent/vol0.3'));
  assert.equal(bench.events.filter(({ type }) => type === 'target.free-delayed').length, 1);
  bench.refusal = null;
  await bench.clock.advance(300_000);
  assert.equal(bench.events.at(-1)?.type, 'target.freed');
  assert.equal(bench.records.map.size, 0);
  await bench.control.stop();
});

test('what is condemned while its old entry is being struck off is written down again', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  bench.used.add('agent/vol0.3');
  const kept = bench.control.keep(target);
  made(await bench.control.condemn(target, WISH));
  await kept;
  assert([...bench.records.map.keys()].includes('free/agent/vol0.3'), 'a crash now would leave it behind');
  bench.used.clear();
  bench.control.free(target, 'vol0');
  await settle();
  assert.deepEqual([bench.deletes.length, bench.records.map.size], [1, 0]);
  await bench.control.stop();
});

test('an entry that a restart found is not forgotten while its volume is about to drop the target', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  await bench.control.stop();
  bench.doubt = refuse('store-unreadable', 'the record of vol7 cannot be read');
  bench.open().start();
  await settle();
  bench.doubt = null;
  bench.used.add('agent/vol0.3');
  made(await bench.control.condemn(target, WISH));
  await bench.clock.advance(600_000);
  assert.equal(bench.records.map.size, 1);
  bench.used.clear();
  bench.control.free(target, 'vol0');
  await settle();
  assert.deepEqual([bench.deletes.length, bench.records.map.size], [1, 0]);
  await bench.control.stop();
});

test('what was lent again meanwhile is not freed for the volume that had it before', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('plain', 's1', { ...WISH, volume: 'vol1' }));
  made(await bench.control.condemn(target, WISH));
  bench.control.free(target, 'vol0');
  await bench.clock.advance(10_000);
  assert.deepEqual([bench.trims, bench.records.map.size], [[], 1]);
  bench.used.add('plain/s1');
  bench.user = 'vol1';
  await bench.control.keep(target);
  made(await bench.control.condemn(target, WISH));
  bench.control.free(target, 'vol0');
  await bench.clock.advance(10_000);
  assert.deepEqual([bench.trims, bench.records.map.size], [[], 0], 'another volume is there by now');
  await bench.control.stop();
});

test('an export that has seen a later epoch of its volume is freed with that', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  bench.epoch = 7;
  bench.control.free(target, 'vol0');
  await settle();
  assert.deepEqual(bench.deletes, ['vol0.3 vol0 7']);
  await bench.control.stop();
});

test('an export that is freed twice at once and made again is not mistaken for the old one', async () => {
  for (let steps = 0; steps < 12; steps += 1) {
    const bench = new Bench();
    const target = made(await bench.control.make('agent', null, WISH));
    bench.control.free(target, 'vol0');
    for (let step = 0; step < steps; step += 1) await Promise.resolve();
    bench.control.free(target, 'vol0');
    while (bench.events.length === 0) await Promise.resolve();
    assert.deepEqual(made(await bench.control.make('agent', null, WISH)), target);
    await settle();
    await bench.control.keep(target);
    assert.deepEqual([bench.deletes.length, bench.records.map.size], [1, 0], `freed again after ${steps} steps`);
    await bench.control.stop();
  }
});

test('an export that is somebody else`s by now is left, and said so', async () => {
  const bench = new Bench();
  const target = made(await bench.control.make('agent', null, WISH));
  bench.refusal = refuse('owner-mismatch', 'belongs to vol9');
  bench.control.free(target, 'vol0');
  await settle();
  assert.equal(bench.events[0].type, 'target.left');
  assert.equal(bench.records.map.size, 0);
  await bench.control.stop();
});

test('a spare is lent once, and comes back only after it was trimmed', async () => {
  const bench = new Bench();
  assert.deepEqual(bench.control.freeSpares('plain'), ['s1', 's2']);
  const [first, second, third] = await Promise.all([1, 2, 3].map(() => bench.control.make('plain', null, WISH)));
  assert.deepEqual([made(first).export, made(second).export], ['s1', 's2']);
  assert(!third.ok && third.code === 'no-spare');
  const again = await bench.control.make('plain', 's1', WISH);
  assert(!again.ok && again.code === 'no-spare');
  bench.refusal = refuse('timeout', 'the node is slow');
  bench.begin('s1');
  bench.control.free(made(first), 'vol0');
  await settle();
  assert.deepEqual(bench.control.freeSpares('plain'), []);
  bench.refusal = null;
  await bench.clock.advance(2000);
  assert.deepEqual(bench.control.freeSpares('plain'), ['s1']);
  assert.deepEqual(bench.trims, ['plain/s1', 'plain/s1']);
  await bench.control.stop();
});

test('a spare that turned out to hold somebody else`s data is given back as it is', async () => {
  const bench = new Bench();
  bench.control.free(made(await bench.control.make('plain', 's1', WISH)), 'vol0');
  await settle();
  assert.deepEqual(bench.trims, []);
  assert.deepEqual(bench.control.freeSpares('plain'), ['s1', 's2']);
  assert.equal(bench.records.map.size, 0);
  await bench.control.stop();
});

test('a plain node`s export that is no spare, or none any more, is left as it is, once and with the reason', async () => {
  const bench = new Bench();
  const home = { node: 'plain', export: 'disk' };
  made(await bench.control.condemn(home, { volume: 'vol0', epoch: 1 }));
  const spare = made(await bench.control.make('plain', 's2', WISH));
  bench.begin('s2');
  bench.refusal = refuse('node-down', 'does not answer');
  bench.control.free(home, 'vol0');
  bench.control.free(spare, 'vol0');
  await settle();
  bench.spares = ['s1'];
  await bench.clock.advance(3_600_000);
  assert.deepEqual(bench.trims, ['plain/s2'], 'once, while it was a spare');
  assert.deepEqual([...bench.records.map.keys()], ['ours/plain/s2']);
  assert.deepEqual(
    bench.events.map(({ type, message }) => `${type}: ${message}`),
    [
      'target.free-delayed: The space of plain/s2 cannot be given back yet: does not answer. It is tried until it is.',
      'target.left: plain/disk is left as it is: it is not one of the spares of plain, and keeps what it holds',
      'target.left: plain/s2 is left as it is: it is not one of the spares of plain, and keeps what it holds',
    ],
  );
  await bench.control.stop();
});

test('a node that left the configuration keeps its entry until it is back', async () => {
  const bench = new Bench();
  made(await bench.control.condemn({ node: 'gone', export: 'x' }, { volume: 'vol0', epoch: 1 }));
  bench.control.free({ node: 'gone', export: 'x' }, 'vol0');
  await bench.clock.advance(3_600_000);
  assert.equal(bench.records.map.size, 1);
  await bench.control.stop();
});

test('an export whose name is too long for a key is freed all the same', async () => {
  const bench = new Bench();
  const target = { node: 'plain', export: 'x'.repeat(400) };
  bench.spares.push(target.export);
  bench.begin(target.export);
  made(await bench.control.condemn(target, { volume: 'vol0', epoch: 1 }));
  for (const key of bench.records.map.keys()) assert(Buffer.byteLength(key) <= 512);
  await bench.control.stop();
  bench.open().start();
  await settle();
  assert.equal(bench.trims[0], describeTarget(target));
  await bench.control.stop();
});

test('an entry that cannot be read is left alone and named in the log', async () => {
  const bench = new Bench();
  bench.records.map.set('free/agent/odd', '{"version":7}');
  bench.open().start();
  await settle();
  assert.deepEqual(bench.deletes, []);
  assert(bench.log.lines.some((line) => line.startsWith('error:')));
  await bench.control.stop();
});

test.run();
