// The journal against a disk that loses, tears and reorders what was not synced: whatever happens, what is found after a
// crash is what was appended, in order, without a gap, and holds all that was promised; and damage is never overlooked.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { OP } from '../../replication/device.js';
import { Journal } from '../../replication/journal.js';
import type { JournalRecord } from '../../replication/journal-options.js';
import { ManualClock } from '../support/manual-clock.js';
import { CrashDisk, newImage, randomFrom, sum, turn } from './replication-journal-disk.js';

const test = suite('replication/journal: crashes');
const BLOCK = 4096;
const RING = 48 * BLOCK;
const SETTLE_MS = 100;
const RUNS = Number(process.env.JOURNAL_RUNS ?? 1000);

interface Appended {
  op: number;
  offset: number;
  length: number;
  punch: boolean;
  /** The payload's checksum. */
  contents: bigint;
}

interface Membership {
  joined: number;
  durable: number;
}

/** A volume that uses its journal, and an oracle of what must be found after a crash. */
class Rig {
  disk: CrashDisk;
  journal!: Journal;
  clock = new ManualClock();
  /** What the store holds. */
  record = { epoch: 1, firstSequence: 1 };
  readonly appended = new Map<number, Appended>();
  members = new Map<number, Membership>();
  /** Left, and nobody was told that this is durable: the journal may still stand for them. */
  former: { id: number; member: Membership }[] = [];
  /** As the last answered sync found it. */
  promised = { sequence: 0, covered: new Set<number>(), absent: new Set<number>() };
  recovered = 0;
  #writes = 0;

  constructor(
    readonly random: () => number,
    readonly sectorBytes: number,
  ) {
    this.disk = new CrashDisk(newImage(RING), sectorBytes);
  }

  async open(): Promise<void> {
    this.clock = new ManualClock();
    this.disk.automatic = true;
    const opening = await Journal.open({
      file: this.disk,
      sum,
      clock: this.clock,
      volume: 'v',
      ...this.record,
      batchBytesMax: 4 * BLOCK,
      memoryBytesMax: 64 * 1024,
      settleMs: SETTLE_MS,
      room: () => {},
      failed: (reason) => assert.fail(reason),
    });
    assert(opening.ok, opening.ok ? '' : opening.reason);
    this.disk.automatic = false;
    this.journal = opening.journal;
  }

  write(op: 1 | 3, length: number): void {
    const { journal } = this;
    if (!journal.reserve(op, length)) return;
    this.#writes += 1;
    const data = op === OP.WRITE ? Buffer.alloc(length, this.#writes) : null;
    if (data !== null && length >= 4) data.writeUInt32LE(this.#writes);
    const offset = Math.floor(this.random() * 2 ** 41);
    const punch = op === OP.ZEROES && this.random() < 0.5;
    const first = journal.lastSequence + 1;
    const last = journal.append({ op, offset, length, punch, data });
    if (this.members.size === 0) assert.equal(last, first - 1);
    // Long writes are cut into pieces of the largest batch less one block.
    const pieceBytes = op === OP.WRITE ? 3 * BLOCK : length;
    for (let sequence = first, from = 0; sequence <= last; sequence += 1, from += pieceBytes) {
      const bytes = Math.min(pieceBytes, length - from);
      const contents = data === null ? 0n : sum(data.subarray(from, from + bytes));
      this.appended.set(sequence, { op, offset: offset + from, length: bytes, punch, contents });
    }
  }

  sync(): void {
    const sequence = this.journal.lastSequence;
    const covered = [...this.members].filter(([, member]) => isCovered(member));
    const absent = [1, 2, 3].filter((id) => !this.members.has(id));
    const former = [...this.former];
    this.journal.sync({
      journaled: (errno) => {
        assert.equal(errno, 0);
        // Of those that left meanwhile nothing is promised.
        const stayed = covered.filter(([id, member]) => this.members.get(id) === member).map(([id]) => id);
        this.former = this.former.filter((each) => !former.includes(each));
        const gone = absent.filter((id) => !this.members.has(id) && !this.former.some((each) => each.id === id));
        this.promised = { sequence: Math.max(sequence, this.promised.sequence), covered: new Set(stayed), absent: new Set(gone) };
      },
    });
  }

  join(id: number): void {
    if (this.members.has(id)) return;
    assert(this.journal.join(id));
    this.members.set(id, { joined: this.journal.lastSequence + 1, durable: 0 });
    this.promised.absent.delete(id);
  }

  leave(id: number): void {
    const member = this.members.get(id);
    if (member === undefined) return;
    this.journal.leave(id);
    this.members.delete(id);
    this.former.push({ id, member });
    this.promised.covered.delete(id);
  }

  durable(id: number, part: number): void {
    const member = this.members.get(id);
    if (member === undefined) return;
    const from = Math.max(member.durable, member.joined - 1);
    const sequence = from + Math.round((this.journal.lastSequence - from) * part);
    member.durable = Math.max(member.durable, sequence);
    this.journal.durable(id, sequence);
  }

  flip(id: number): void {
    this.record = { epoch: this.record.epoch + 1, firstSequence: this.journal.epochStart(id) };
    this.journal.beginEpoch(this.record.epoch);
    this.leave(id);
  }

  async step(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      this.disk.step();
      await turn();
    }
  }

  /** Until the disk has nothing to do and nothing is left to be said. */
  async settle(): Promise<void> {
    this.sync();
    for (let quiet = 0; quiet < 4; ) {
      await turn();
      while (this.disk.step()) await turn();
      this.clock.advance(SETTLE_MS);
      await turn();
      quiet = this.disk.calls.length > 0 ? 0 : quiet + 1;
    }
  }

  /** The power fails; looks at what is there, and goes on with it. */
  async crash(kept: number): Promise<void> {
    this.disk = new CrashDisk(this.disk.crash(kept, this.random), this.sectorBytes);
    await this.open();
    assert.equal(this.journal.incomplete, null, 'a crash is no damage');
    await this.compare();
    await this.goOn();
  }

  /** Everything that was promised is there, and what is there is right. */
  async compare(): Promise<void> {
    const { journal } = this;
    const end = journal.lastSequence;
    assert(end >= this.promised.sequence, `records up to ${this.promised.sequence} were synced, found up to ${end}`);
    for (const id of [1, 2, 3]) {
      const why = journal.shortfall(id);
      if (this.promised.covered.has(id)) assert.equal(why, null, `mirror ${id} was covered`);
      if (this.promised.absent.has(id)) assert.notEqual(why, null, `mirror ${id} had left`);
      if (why !== null) continue;
      const possible = [...this.former.filter((each) => each.id === id).map((each) => each.member), this.members.get(id)];
      const member = possible.filter((each) => each !== undefined && isCovered(each)).at(-1);
      assert(member !== undefined, `mirror ${id} is said to be covered and never was`);
      const found: JournalRecord[] = [];
      this.disk.automatic = true;
      for await (const record of journal.replay(id)) found.push({ ...record });
      this.disk.automatic = false;
      for (const record of found) {
        const { sequence, op, offset, length, punch, data } = record;
        const contents = data === null ? 0n : sum(data);
        assert.deepEqual({ op, offset, length, punch, contents }, this.appended.get(sequence), `record ${sequence}`);
      }
      const first = found[0]?.sequence ?? end + 1;
      assert(found.every((record, i) => i === 0 || record.sequence > found[i - 1].sequence));
      for (let sequence = Math.min(member.durable, end) + 1; sequence <= end; sequence += 1) {
        const there = found.some((record) => record.sequence === sequence);
        assert(there || !this.appended.has(sequence), `mirror ${id} lacks record ${sequence} of ${first} to ${end}`);
      }
      this.recovered += found.length;
    }
  }

  /** The records that are gone are gone, and mirrors that are not covered leave. */
  async goOn(): Promise<void> {
    const { journal } = this;
    const end = journal.lastSequence;
    for (const sequence of [...this.appended.keys()]) if (sequence > end) this.appended.delete(sequence);
    const members = new Map<number, Membership>();
    const former: typeof this.former = [];
    for (const id of [1, 2, 3]) {
      const known = this.former.filter((each) => each.id === id).map((each) => each.member);
      if (this.members.has(id)) known.push(this.members.get(id)!);
      if (journal.shortfall(id) === null) {
        const { joined, durable } = known.filter(isCovered).at(-1)!;
        members.set(id, { joined: Math.min(joined, end + 1), durable: Math.min(durable, end) });
      } else {
        journal.leave(id);
        this.promised.covered.delete(id);
        for (const member of known) former.push({ id, member });
      }
    }
    this.members = members;
    this.former = former;
  }
}

function isCovered({ joined, durable }: Membership): boolean {
  return durable >= joined - 1;
}

const member = fc.integer({ min: 1, max: 3 });
const action = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('write' as const), length: fc.integer({ min: 1, max: 9000 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('write' as const), length: fc.integer({ min: 9000, max: 30_000 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('zeroes' as const), length: fc.integer({ min: 1, max: 2 ** 32 - 1 }) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('sync' as const) }) },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('step' as const), count: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('durable' as const), id: member, part: fc.constantFrom(0.3, 0.7, 1) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('join' as const), id: member }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), id: member }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('flip' as const), id: member }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tick' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('crash' as const), kept: fc.constantFrom(0, 0.2, 0.5, 0.9, 0.98, 1) }) },
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

async function run(rig: Rig, actions: Action[]): Promise<void> {
  await rig.open();
  for (const each of actions) {
    if (each.do === 'write') rig.write(OP.WRITE, each.length);
    else if (each.do === 'zeroes') rig.write(OP.ZEROES, each.length);
    else if (each.do === 'sync') rig.sync();
    else if (each.do === 'step') await rig.step(each.count);
    else if (each.do === 'durable') rig.durable(each.id, each.part);
    else if (each.do === 'join') rig.join(each.id);
    else if (each.do === 'leave') rig.leave(each.id);
    else if (each.do === 'flip') rig.flip(each.id);
    else if (each.do === 'tick') rig.clock.advance(SETTLE_MS);
    else await rig.crash(each.kept);
  }
}

const history = fc.record({
  seed: fc.nat(),
  sectorBytes: fc.constantFrom(512, 4096),
  actions: fc.array(action, { minLength: 20, maxLength: 150, size: 'max' }),
});

test('after any crash all that was promised is found, in order and without a gap, and nothing else', async () => {
  let recovered = 0;
  await fc.assert(
    fc.asyncProperty(history, async ({ seed, sectorBytes, actions }) => {
      const rig = new Rig(randomFrom(seed), sectorBytes);
      await run(rig, [{ do: 'join', id: 1 }, ...actions]);
      for (const kept of [0.5, 1]) await rig.crash(kept);
      recovered += rig.recovered;
    }),
    { numRuns: RUNS, includeErrorInReport: true, interruptAfterTimeLimit: 240_000 },
  );
  assert(recovered > RUNS * 10, `${recovered} records were found after crashes`);
});

test('any damage to one sector of a settled journal is reported or makes no difference', async () => {
  let reported = 0;
  await fc.assert(
    fc.asyncProperty(history, fc.boolean(), async (past, whole) => {
      const rig = new Rig(randomFrom(past.seed), past.sectorBytes);
      await run(rig, [{ do: 'join', id: 1 }, ...past.actions]);
      await rig.settle();
      rig.join(1);
      rig.durable(1, 1);
      for (let i = 0; i < 4; i += 1) rig.write(OP.WRITE, 1 + Math.floor(rig.random() * 9000));
      await rig.settle();
      assert(rig.promised.sequence === rig.journal.lastSequence);
      const image = rig.disk.crash(0, rig.random);
      // Somewhere in what was ever written.
      const written: number[] = [];
      for (let sector = 0; sector < image.length; sector += 512) {
        if (image.subarray(sector, sector + 512).some((byte) => byte !== 0)) written.push(sector);
      }
      const from = written[Math.floor(rig.random() * written.length)] + Math.floor(rig.random() * 512);
      if (whole) for (let i = from - (from % 512); i < from - (from % 512) + 512; i += 1) image[i] ^= 1 + Math.floor(rig.random() * 255);
      else image[from] ^= 1 << Math.floor(rig.random() * 8);
      rig.disk = new CrashDisk(image, past.sectorBytes);
      await rig.open();
      if (rig.journal.incomplete !== null) {
        reported += 1;
        const { fromSequence } = rig.journal.incomplete;
        assert(fromSequence <= rig.promised.sequence + 1, 'nothing is called missing that never was');
        for (const id of [1, 2, 3]) assert.notEqual(rig.journal.shortfall(id), null);
        return;
      }
      await rig.compare();
    }),
    { numRuns: RUNS, includeErrorInReport: true, interruptAfterTimeLimit: 240_000 },
  );
  assert(reported > RUNS / 10, `${reported} of ${RUNS} were reported`);
});

test.run();
