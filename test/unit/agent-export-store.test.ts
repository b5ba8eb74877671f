// The store of exports: what it makes, refuses and finds again, and who may change what (rules 19 and 20).
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import { isExportName } from '../../gateway/agent/export-record.js';
import { ExportStore } from '../../gateway/agent/export-store.js';
import { IoCounters } from '../../gateway/agent/io-counters.js';
import { claim, mayDelete } from '../../gateway/agent/ownership.js';
import type { Outcome } from '../../gateway/control.js';
import { OP, PromisedRequest, perform } from '../../replication/device.js';
import { Rig } from './agent-rig.js';

const MIB = 1024 * 1024;

function value<T>(outcome: Outcome<T>): T {
  assert(outcome.ok, outcome.ok ? '' : outcome.message);
  return outcome.value;
}

function code(outcome: Outcome<unknown>): string {
  assert(!outcome.ok, 'it should have been refused');
  return outcome.code;
}

const store = suite<{ rig: Rig }>('agent export store');
store.before.each((context) => {
  context.rig = new Rig();
});
store.after.each((context) => context.rig.remove());

store('makes blank exports that a restart finds again', async ({ rig }) => {
  const first = await rig.store();
  const made = value(await first.create({ name: 'vol0', sizeBytes: 5 * MIB, volume: 'vol0', epoch: 3, role: 'mirror' }));
  assert.equal(made.created, true);
  const view = await made.stored.view();
  assert.deepEqual([view.blank, view.allocatedBytes, view.kind, view.origin], [true, 0, 'file', 'created']);
  assert.deepEqual(readdirSync(rig.dir).sort(), ['agent.lock', 'vol0.img', 'vol0.json']);
  await rig.stop(first);
  const second = await rig.store();
  assert.deepEqual(await second.get('vol0')?.view(), view);
});

store('answers the same creation again without making anything, and refuses another under the name', async ({ rig }) => {
  const exports = await rig.store();
  const wish = { name: 'a', sizeBytes: MIB, volume: 'v', epoch: 1 };
  assert.deepEqual(
    (await Promise.all([exports.create(wish), exports.create(wish), exports.create(wish)])).map((answer) => value(answer).created),
    [true, false, false],
  );
  assert.equal(code(await exports.create({ ...wish, sizeBytes: 2 * MIB })), 'export-exists');
  assert.equal(code(await exports.create({ ...wish, volume: 'w' })), 'export-exists');
  assert.equal(code(await exports.create({ ...wish, epoch: 2 })), 'export-exists');
});

store('takes no name that leaves the directory or hits a file of ours', async ({ rig }) => {
  const exports = await rig.store();
  for (const name of ['', '.', '..', '../a', 'a/b', '/etc/passwd', '.a', '-a', 'a\0b', 'ü', 'smart', 'a'.repeat(65), 'a b', 'a\nb']) {
    assert.equal(code(await exports.create({ name, sizeBytes: MIB, volume: '', epoch: 0 })), 'invalid-name', JSON.stringify(name));
  }
  for (const name of ['a', 'A.b-c_9', 'x.img', 'x.json', '0'.repeat(64)]) assert(isExportName(name), name);
  assert.deepEqual(readdirSync(rig.dir), ['agent.lock']);
});

store('grows an export with zeroes and never shrinks it', async ({ rig }) => {
  const exports = await rig.store();
  const { stored } = value(await exports.create({ name: 'a', sizeBytes: MIB, volume: 'v', epoch: 1 }));
  const device = value(await exports.device(stored));
  await perform(device, new PromisedRequest(OP.WRITE, 0, MIB, Buffer.alloc(MIB, 7)));
  // As a growth that was cut short leaves it, and then somebody's bytes in the part never served.
  truncateSync(join(rig.dir, 'a.img'), MIB + 4096);
  writeFileSync(join(rig.dir, 'a.img'), Buffer.concat([Buffer.alloc(MIB, 7), Buffer.alloc(4096, 9)]));
  value(await exports.update('a', { sizeBytes: 3 * MIB }));
  assert.equal(device.sizeBytes, 3 * MIB);
  const read = new PromisedRequest(OP.READ, 0, 3 * MIB);
  assert.equal(await perform(device, read), 0);
  assert(read.data!.subarray(0, MIB).every((byte) => byte === 7));
  assert(read.data!.subarray(MIB).every((byte) => byte === 0));
  assert.equal(code(await exports.update('a', { sizeBytes: 2 * MIB })), 'shrink-refused');
  value(await exports.update('a', { sizeBytes: 3 * MIB }));
  assert.equal(statSync(join(rig.dir, 'a.img')).size, 3 * MIB);
});

store('keeps volume and epoch over a restart and lets the epoch only grow', async ({ rig }) => {
  const first = await rig.store();
  value(await first.create({ name: 'a', sizeBytes: MIB, volume: 'v', epoch: 1 }));
  value(await first.update('a', { volume: 'v', epoch: 5, role: 'active' }));
  await rig.stop(first);
  const second = await rig.store();
  assert.equal(code(await second.update('a', { volume: 'v', epoch: 4 })), 'stale-epoch');
  assert.equal(code(await second.update('a', { sizeBytes: 2 * MIB, epoch: 4 })), 'stale-epoch');
  assert.equal(code(await second.delete('a', { epoch: 4 })), 'stale-epoch');
  assert.equal(code(await second.delete('a', {})), 'epoch-required');
  assert.equal(code(await second.delete('a', { epoch: 5, volume: 'w' })), 'owner-mismatch');
  value(await second.update('a', { volume: 'v', epoch: 5 }));
  assert.deepEqual(second.get('a')?.record.role, 'active');
  assert.equal(statSync(join(rig.dir, 'a.img')).size, MIB);
});

store('deletes an export only while nobody holds it, with its data', async ({ rig }) => {
  const exports = await rig.store();
  const { stored } = value(await exports.create({ name: 'a', sizeBytes: MIB, volume: 'v', epoch: 2 }));
  const hold = value(stored.hold('host:1'));
  const refused = await exports.delete('a', { epoch: 2 });
  assert.equal(code(refused), 'export-in-use');
  hold.release();
  assert.deepEqual(value(await exports.delete('a', { epoch: 2 })), { removed: true });
  assert.deepEqual(readdirSync(rig.dir), ['agent.lock']);
  assert.equal(code(stored.hold('host:2')), 'export-unknown');
  assert.equal(code(await exports.delete('a', { epoch: 2 })), 'export-unknown');
  const again = value(await exports.create({ name: 'a', sizeBytes: MIB, volume: 'v', epoch: 0 }));
  assert.deepEqual([again.created, (await again.stored.view()).blank], [true, true]);
});

store('marks a deletion before it removes anything, shows one that fails, and lets it be asked for again', async ({ rig }) => {
  const first = await rig.store();
  value(await first.create({ name: 'a', sizeBytes: MIB, volume: 'v', epoch: 1 }));
  value(await first.create({ name: 'b', sizeBytes: MIB, volume: 'v', epoch: 1 }));
  const image = join(rig.dir, 'a.img');
  unlinkSync(image);
  mkdirSync(image);
  assert.equal(code(await first.delete('a', { epoch: 1 })), 'storage-error');
  assert.equal(JSON.parse(readFileSync(join(rig.dir, 'a.json'), 'utf8')).state, 'deleting');
  assert.match(first.get('a')!.problem!, /its deletion is not finished/);
  await rig.stop(first);
  const second = await rig.store();
  assert.match(second.get('a')!.problem!, /its deletion is not finished/);
  assert.equal(second.get('b')!.problem, null);
  rmdirSync(image);
  assert.deepEqual(value(await second.delete('a', { epoch: 1 })), { removed: true });
  assert.deepEqual(readdirSync(rig.dir).sort(), ['agent.lock', 'b.img', 'b.json']);
});

store('makes a name anew that is being deleted, after its deletion', async ({ rig }) => {
  const exports = await rig.store();
  value(await exports.create({ name: 'a', sizeBytes: MIB, volume: 'v', epoch: 0 }));
  const [deleted, created] = await Promise.all([
    exports.delete('a', { epoch: 0 }),
    exports.create({ name: 'a', sizeBytes: 2 * MIB, volume: 'w', epoch: 0 }),
  ]);
  assert.equal(value(deleted).removed, true);
  assert.equal(value(created).created, true);
  assert.equal(exports.get('a')?.record.volume, 'w');
});

store('offers data it found, claims it, and never removes it', async ({ rig }) => {
  writeFileSync(join(rig.dir, 'old.img'), Buffer.alloc(8192, 3));
  const exports = await rig.store();
  const found = await exports.get('old')!.view();
  assert.deepEqual([found.sizeBytes, found.volume, found.epoch, found.origin, found.blank], [8192, '', 0, 'found', false]);
  value(await exports.update('old', { volume: 'v', epoch: 4 }));
  assert.deepEqual(value(await exports.delete('old', { epoch: 4 })), { removed: false });
  assert.equal(readFileSync(join(rig.dir, 'old.img')).length, 8192);
  assert(!existsSync(join(rig.dir, 'old.json')));
  const released = exports.get('old')!.record;
  assert.deepEqual([released.volume, released.epoch], ['', 0]);
});

store('finishes what a kill cut short and removes what nobody was told of', async ({ rig }) => {
  const first = await rig.store();
  for (const name of ['deleting', 'half-made', 'kept']) value(await first.create({ name, sizeBytes: MIB, volume: 'v', epoch: 1 }));
  await rig.stop(first);
  const at = (name: string): string => join(rig.dir, name);
  const record = JSON.parse(readFileSync(at('deleting.json'), 'utf8'));
  writeFileSync(at('deleting.json'), JSON.stringify({ ...record, state: 'deleting' }));
  writeFileSync(at('untold.img.new'), Buffer.alloc(4096));
  writeFileSync(at('half-made.img.new'), readFileSync(at('half-made.img')));
  writeFileSync(at('kept.json.tmp'), '{"format":1,"na');
  unlinkSync(at('half-made.img'));
  const second = await rig.store();
  assert.deepEqual(second.names(), ['half-made', 'kept']);
  assert.equal(second.get('half-made')?.problem, null);
  assert.deepEqual(readdirSync(rig.dir).sort(), ['agent.lock', 'half-made.img', 'half-made.json', 'kept.img', 'kept.json']);
});

store('shows a damaged export with its reason, uses it for nothing, and leaves its files', async ({ rig }) => {
  const first = await rig.store();
  for (const name of ['short', 'garbled', 'lost', 'newer']) value(await first.create({ name, sizeBytes: MIB, volume: 'v', epoch: 1 }));
  await rig.stop(first);
  const at = (name: string): string => join(rig.dir, name);
  truncateSync(at('short.img'), 512);
  writeFileSync(at('garbled.json'), '{"format":1');
  writeFileSync(at('newer.json'), '{"format":2}');
  unlinkSync(at('lost.img'));
  writeFileSync(at('foreign.json'), '{"hello":1}');
  const second = await rig.store();
  assert.deepEqual(second.names(), ['garbled', 'lost', 'newer', 'short']);
  assert.match(second.get('short')!.problem!, /512 bytes and its metadata says 1048576/);
  assert.match(second.get('garbled')!.problem!, /no JSON/);
  assert.match(second.get('newer')!.problem!, /format 2/);
  assert.match(second.get('lost')!.problem!, /missing/);
  assert.equal(code(second.get('short')!.hold('host')), 'export-unusable');
  assert.equal(code(await second.update('short', { volume: 'v', epoch: 2 })), 'export-unusable');
  assert.equal(code(await second.update('garbled', { volume: 'x', epoch: 9, adopt: true })), 'export-unusable');
  assert.equal(code(await second.delete('garbled', { epoch: 9 })), 'export-unusable');
  assert(existsSync(at('garbled.json')) && existsSync(at('garbled.img')));
  value(await second.delete('lost', { epoch: 1 }));
  assert.deepEqual(second.names(), ['garbled', 'newer', 'short']);
});

store('follows a link to a file and passes over what is no data', async ({ rig }) => {
  writeFileSync(join(rig.dir, 'raw'), Buffer.alloc(4096));
  symlinkSync(join(rig.dir, 'raw'), join(rig.dir, 'linked.img'));
  symlinkSync(join(rig.dir, 'nowhere'), join(rig.dir, 'dangling.img'));
  symlinkSync('/dev/null', join(rig.dir, 'null.img'));
  const exports = await rig.store();
  assert.deepEqual(exports.names(), ['linked']);
});

store('is refused the directory of another that lives, and has it when that one closed', async ({ rig }) => {
  const first = await rig.store();
  const { log, clock, dir } = rig;
  const second = await ExportStore.open({ dir, libc: null, log, clock, counters: new IoCounters() });
  assert.equal(code(second), 'directory-in-use');
  assert.match(second.ok ? '' : second.message, new RegExp(`process ${process.pid}`));
  await rig.stop(first);
  await rig.store();
});

store('refuses a directory that cannot be one, with the reason', async ({ rig }) => {
  writeFileSync(join(rig.dir, 'file'), '');
  const { log, clock } = rig;
  const opened = await ExportStore.open({ dir: join(rig.dir, 'file'), libc: null, log, clock, counters: new IoCounters() });
  assert.equal(code(opened), 'directory-unusable');
});

store.run();

const ownership = suite('agent ownership');
const record = {
  format: 1 as const,
  name: 'a',
  sizeBytes: MIB,
  volume: 'v',
  epoch: 7,
  createdAt: '',
  origin: 'created' as const,
  state: 'kept' as const,
};

ownership('gives an unclaimed export to whoever asks, an owned one to its owner at the same epoch or a newer', () => {
  assert.deepEqual(value(claim({ ...record, volume: '', epoch: 0 }, { volume: 'w', epoch: 2 }, [])).volume, 'w');
  assert.equal(value(claim(record, { volume: 'v', epoch: 7 }, ['host'])).epoch, 7);
  assert.equal(value(claim(record, { volume: 'v', epoch: 8 }, ['host'])).epoch, 8);
  assert.equal(code(claim(record, { volume: 'w', epoch: 8 }, [])), 'owner-mismatch');
  assert.equal(code(claim(record, { volume: 'v', epoch: 6 }, [])), 'stale-epoch');
});

ownership('lets an operator adopt another owner and a newer epoch, but not under an open connection', () => {
  const adopted = value(claim(record, { volume: 'w', epoch: 1, adopt: true }, []));
  assert.deepEqual([adopted.volume, adopted.epoch], ['w', 1]);
  assert.equal(code(claim(record, { volume: 'w', epoch: 1, adopt: true }, ['host'])), 'export-in-use');
  assert.equal(value(claim(record, { volume: 'v', epoch: 8, adopt: true }, ['host'])).epoch, 8);
});

ownership('needs no epoch to delete what never had one', () => {
  assert.equal(mayDelete({ ...record, epoch: 0 }, {}, []).ok, true);
  assert.equal(code(mayDelete({ ...record, epoch: 0 }, {}, ['host'])), 'export-in-use');
});

ownership.run();
