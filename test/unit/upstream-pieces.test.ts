// The upstream's pure parts against naive models: guards byte for byte, the unflushed list against an array, intervals
// against a set of bytes, splitting, and the pieces of a replay.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { Guards } from '../../gateway/upstream/guards.js';
import { IntervalSet } from '../../gateway/upstream/interval-set.js';
import { Job } from '../../gateway/upstream/job.js';
import { Replay } from '../../gateway/upstream/replay.js';
import { splitJob } from '../../gateway/upstream/splitter.js';
import { Unflushed } from '../../gateway/upstream/unflushed.js';
import { ERRNO, OP } from '../../replication/device.js';

const test = suite('upstream/pieces');
const SIZE = 40;

const range = fc.record({ offset: fc.nat(SIZE - 1), length: fc.integer({ min: 1, max: 15 }) });
const guardAction = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('protect' as const),
      range,
      expiresMs: fc.constantFrom(10, 20, 30, Number.POSITIVE_INFINITY),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('wrote' as const), range, zero: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('settle' as const), nowMs: fc.constantFrom(5, 10, 20, 30) }) },
);

test('guards keep the newest bytes of exactly the guarded ranges', () => {
  fc.assert(
    fc.property(fc.array(guardAction, { maxLength: 40 }), (actions) => {
      const guards = new Guards();
      let ranges: { from: number; to: number; expiresMs: number }[] = [];
      /** Newest byte where one is kept. */
      let kept = new Array<number | null>(SIZE).fill(null);
      const guarded = (at: number): boolean => ranges.some(({ from, to }) => at >= from && at < to);
      let value = 0;
      for (const action of actions) {
        if (action.kind === 'settle') {
          const due = guards.due(action.nowMs);
          const expected = ranges.filter(({ expiresMs }) => expiresMs <= action.nowMs);
          const inDue = (at: number): boolean => expected.some(({ from, to }) => at >= from && at < to);
          const newest = new Array<number | null>(SIZE).fill(null);
          for (const segment of guards.newest(due)) {
            for (let at = segment.offset; at < segment.end; at += 1) {
              assert.equal(newest[at], null, 'pieces do not overlap');
              newest[at] = segment.data === null ? 0 : segment.data[at - segment.offset];
            }
          }
          assert.deepEqual(
            newest,
            kept.map((byte, at) => (inDue(at) ? byte : null)),
          );
          guards.settle(due);
          ranges = ranges.filter(({ expiresMs }) => expiresMs > action.nowMs);
          kept = kept.map((byte, at) => (guarded(at) ? byte : null));
        } else {
          const { offset } = action.range;
          const length = Math.min(action.range.length, SIZE - offset);
          if (action.kind === 'protect') {
            guards.protect(offset, length, action.expiresMs);
            ranges.push({ from: offset, to: offset + length, expiresMs: action.expiresMs });
          } else {
            value = (value % 250) + 1;
            const data = action.zero ? null : Buffer.alloc(length, value);
            guards.wrote(offset, length, data);
            for (let at = offset; at < offset + length; at += 1) if (guarded(at)) kept[at] = action.zero ? 0 : value;
            // The caller's buffer is its own again.
            data?.fill(0xff);
          }
        }
        const bytes = Buffer.alloc(SIZE, 0xaa);
        guards.patch(0, bytes);
        assert.deepEqual(
          [...bytes],
          kept.map((byte) => byte ?? 0xaa),
        );
        const middle = Buffer.alloc(10, 0xbb);
        guards.patch(15, middle);
        assert.deepEqual(
          [...middle],
          kept.slice(15, 25).map((byte) => byte ?? 0xbb),
        );
        assert.equal(guards.empty, ranges.length === 0);
        assert.equal(
          guards.overlaps(7, 3),
          ranges.some(({ from, to }) => from < 10 && to > 7),
        );
        assert.equal(guards.nextExpiryMs(), Math.min(Number.POSITIVE_INFINITY, ...ranges.map(({ expiresMs }) => expiresMs)));
      }
    }),
    { numRuns: 400 },
  );
});

test('the unflushed list is an array that forgets its head', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          { weight: 20, arbitrary: fc.record({ length: fc.nat(30), zero: fc.boolean(), punch: fc.boolean() }) },
          { weight: 1, arbitrary: fc.record({ drop: fc.nat(600) }) },
        ),
        { maxLength: 900, size: 'max' },
      ),
      (actions) => {
        const list = new Unflushed();
        const model: { offset: number; length: number; data: Buffer | null; punch: boolean }[] = [];
        let first = 0;
        for (const [at, action] of actions.entries()) {
          if ('drop' in action) {
            const until = Math.min(first + action.drop, model.length);
            list.dropBelow(until);
            first = until;
          } else {
            const data = action.zero ? null : Buffer.alloc(action.length, at);
            list.add(at, action.length, data, action.punch);
            model.push({ offset: at, length: action.length, data, punch: action.punch });
          }
          assert.equal(list.count, model.length - first);
          assert.equal(list.next, model.length);
          assert.equal(list.first, first);
        }
        for (let sequence = first; sequence < model.length; sequence += 1) assert.deepEqual(list.get(sequence), model[sequence]);
        const bytes = model.slice(first).reduce((sum, { data }) => sum + 64 + (data?.length ?? 0), 0);
        assert.equal(list.bytes, bytes);
        list.clear();
        assert.equal(list.bytes, 0);
        assert.equal(list.count, 0);
      },
    ),
    { numRuns: 60 },
  );
});

test('an interval set tells what of a range was new', () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 40 }), (ranges) => {
      const set = new IntervalSet();
      const model = new Set<number>();
      for (const { offset, length } of ranges) {
        const fresh = new Set<number>();
        let last = -1;
        for (const [from, to] of set.add(offset, offset + length)) {
          assert(from < to && from > last, 'in order, never empty');
          last = to;
          for (let at = from; at < to; at += 1) fresh.add(at);
        }
        const expected = new Set<number>();
        for (let at = offset; at < offset + length; at += 1) if (!model.has(at)) expected.add(at);
        assert.deepEqual(fresh, expected);
        for (const at of expected) model.add(at);
      }
    }),
    { numRuns: 500 },
  );
});

test('a replay writes the newest byte of every place once, leaves out what is newer, and at most 32 at once', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ range, zero: fc.boolean() }), { maxLength: 120 }),
      fc.array(range, { maxLength: 3 }),
      fc.nat(1000),
      (writes, newer, order) => {
        const unflushed = new Unflushed();
        const expected = new Array<number | null>(SIZE + 20).fill(null);
        writes.forEach(({ range: { offset, length }, zero }, at) => {
          unflushed.add(offset, length, zero ? null : Buffer.alloc(length, (at % 250) + 1), false);
          expected.fill(zero ? 0 : (at % 250) + 1, offset, offset + length);
        });
        for (const { offset, length } of newer) expected.fill(null, offset, offset + length);
        const got = new Array<number | null>(SIZE + 20).fill(null);
        const running: Job[] = [];
        let outcome: string | null = null;
        const replay = new Replay(
          unflushed,
          newer,
          {
            takeJob: () => new Job(),
            transmit: (job) => {
              running.push(job);
              assert(running.length <= 32);
              assert(job.replay);
              for (let at = job.offset; at < job.offset + job.length; at += 1) {
                assert.equal(got[at], null, 'once');
                got[at] = job.op === OP.ZEROES ? 0 : job.data![at - job.offset];
              }
            },
          },
          () => assert.fail('nothing was refused'),
          () => {
            outcome = 'done';
          },
        );
        replay.run();
        let step = order;
        while (running.length > 0) {
          step = (step * 31 + 7) % 1009;
          const [job] = running.splice(step % running.length, 1);
          job.settled!(0, job);
        }
        assert.equal(outcome, 'done');
        assert.deepEqual(got, expected);
      },
    ),
    { numRuns: 300 },
  );
});

test('a replay tells what was refused before it ends, and ends not at all when it is stopped', () => {
  const unflushed = new Unflushed();
  for (let at = 0; at < 3; at += 1) unflushed.add(at * 10, 5, Buffer.alloc(5), false);
  const jobs: Job[] = [];
  const told: string[] = [];
  const refused = (offset: number, length: number, _data: Buffer | null, errno: number) => told.push(`${offset}+${length} ${errno}`);
  const sender = { takeJob: () => new Job(), transmit: (job: Job) => jobs.push(job) };
  new Replay(unflushed, [], sender, refused, () => told.push('done')).run();
  for (const [at, errno] of [ERRNO.ENOSPC, ERRNO.EIO, 0].entries()) jobs[at].settled!(errno, jobs[at]);
  assert.deepEqual(told, [`20+5 ${ERRNO.ENOSPC}`, `10+5 ${ERRNO.EIO}`, 'done']);
  jobs.length = 0;
  const stopped = new Replay(unflushed, [], sender, refused, () => assert.fail('it was stopped'));
  stopped.run();
  stopped.stop();
  for (const job of jobs) job.settled!(0, job);
});

for (const op of [OP.READ, OP.WRITE, OP.ZEROES]) {
  test(`a split request (operation ${op}) covers its range once, in parts of at most the maximum, four at a time`, () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 50 }),
        fc.nat(1000),
        fc.integer({ min: -1, max: 20 }),
        (length, most, order, failing) => {
          const whole = new Job();
          whole.op = op;
          whole.offset = 1000;
          whole.length = length;
          whole.fua = true;
          whole.data = op === OP.WRITE ? Buffer.from(Array.from({ length }, (_, at) => at % 256)) : null;
          const running: Job[] = [];
          const seen = new Array<number>(length).fill(-1);
          const outcomes: number[] = [];
          splitJob(
            whole,
            { zeroes: false, payloadBytesMax: most, rangeBytesMax: 2 ** 32 },
            {
              takeJob: () => new Job(),
              sendPart: (part) => {
                running.push(part);
                assert(running.length <= 4 && part.length <= most && part.length > 0 && part.fua && part.whole === whole);
                assert.equal(part.op, op === OP.READ ? OP.READ : OP.WRITE);
                for (let at = part.offset - 1000; at < part.offset - 1000 + part.length; at += 1) {
                  assert.equal(seen[at], -1);
                  seen[at] = op === OP.READ ? 0 : part.data![at - (part.offset - 1000)];
                }
              },
            },
            (_job, errno) => outcomes.push(errno),
          );
          let step = order;
          let count = 0;
          while (running.length > 0) {
            step = (step * 31 + 7) % 1009;
            const [part] = running.splice(step % running.length, 1);
            if (op === OP.READ) part.data = Buffer.from(Array.from({ length: part.length }, (_, at) => (part.offset - 1000 + at) % 256));
            part.settled!(count === failing ? ERRNO.EIO : 0, part);
            count += 1;
          }
          const failed = failing >= 0 && failing < count;
          assert.deepEqual(outcomes, [failed ? ERRNO.EIO : 0]);
          if (failed) return;
          if (op === OP.READ)
            assert.deepEqual(
              [...whole.data!],
              Array.from({ length }, (_, at) => at % 256),
            );
          else
            assert.deepEqual(
              seen,
              Array.from({ length }, (_, at) => (op === OP.WRITE ? at % 256 : 0)),
            );
        },
      ),
    );
  });
}

test.run();
