// The range lock against a naive queue: who holds what after every step, in order of arrival, and nobody starves.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { hold, LockEntry, RangeLock } from '../../replication/range-lock.js';

const test = suite('replication/range-lock');

class Entry extends LockEntry {
  held = false;

  constructor(readonly onGrant: (entry: Entry) => void = () => {}) {
    super();
  }

  granted(): void {
    assert(!this.held, 'granted once');
    this.held = true;
    this.onGrant(this);
  }

  take(lock: RangeLock, offset: number, length: number): this {
    if (lock.acquire(this, offset, length)) this.held = true;
    return this;
  }
}

interface Naive {
  entry: Entry;
  offset: number;
  end: number;
}

/** Held: no earlier entry, held or waiting, overlaps it. */
function holders(queue: Naive[]): Set<Entry> {
  return new Set(
    queue
      .filter((each, at) => !queue.slice(0, at).some((other) => other.offset < each.end && other.end > each.offset))
      .map(({ entry }) => entry),
  );
}

const action = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      offset: fc.nat(300),
      length: fc.integer({ min: 1, max: 60 }),
      unit: fc.constantFrom(1, 1, 65_536, 3_000_000),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), which: fc.nat(20) }) },
);

test('after every step the holders are those of a naive queue, and in the end everybody was served', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
      const lock = new RangeLock();
      let queue: Naive[] = [];
      const check = (): void => {
        const expected = holders(queue);
        for (const { entry } of queue) assert.equal(entry.held, expected.has(entry));
        assert.equal(lock.entries, queue.length);
      };
      const leave = (entry: Entry): void => {
        queue = queue.filter((each) => each.entry !== entry);
        lock.release(entry);
      };
      for (const each of actions) {
        if (each.kind === 'take') {
          const offset = each.offset * each.unit;
          const entry = new Entry();
          queue.push({ entry, offset, end: offset + each.length * each.unit });
          entry.take(lock, offset, each.length * each.unit);
        } else {
          const waiting = each.kind === 'cancel';
          const candidates = queue.filter(({ entry }) => entry.held !== waiting);
          if (candidates.length > 0) leave(candidates[each.which % candidates.length].entry);
        }
        check();
        for (const offset of [0, 70, 65_536 * 40]) {
          assert.equal(
            lock.overlaps(offset, 100),
            queue.some((other) => other.offset < offset + 100 && other.end > offset),
          );
        }
        assert.deepEqual(
          [...lock.ranges()],
          queue.map(({ offset, end }) => ({ offset, length: end - offset })),
        );
      }
      while (queue.length > 0) {
        const first = queue[0].entry;
        assert(first.held, 'the oldest always holds');
        leave(first);
        check();
      }
      assert.equal(lock.entries, 0);
    }),
    { numRuns: 400 },
  );
});

test('an entry may release, and be taken again, inside its grant', () => {
  const lock = new RangeLock();
  const order: string[] = [];
  const first = new Entry().take(lock, 0, 10);
  const again = new Entry(() => order.push('again'));
  new Entry((entry) => {
    order.push('second');
    lock.release(entry);
    again.take(lock, 5, 1);
  }).take(lock, 0, 10);
  const third = new Entry(() => order.push('third')).take(lock, 0, 10);
  lock.release(first);
  assert.deepEqual(order, ['second', 'third']);
  lock.release(third);
  assert.deepEqual(order, ['second', 'third', 'again']);
});

test('a wide entry and a narrow one see each other, however many stripes lie between', () => {
  const lock = new RangeLock();
  const wide = new Entry().take(lock, 0, 2 ** 40);
  const narrow = new Entry().take(lock, 2 ** 39, 1);
  assert(!narrow.held);
  lock.release(wide);
  assert(narrow.held);
  const far = new Entry().take(lock, 2 ** 39 + 4096 * 65_536, 1);
  assert(far.held, 'the same stripe, another place');
});

test('hold waits its turn', async () => {
  const lock = new RangeLock();
  const first = await hold(lock, 0, 10);
  let second = false;
  const waiting = hold(lock, 5, 10).then((entry) => {
    second = true;
    return entry;
  });
  await Promise.resolve();
  assert(!second);
  lock.release(first);
  lock.release(await waiting);
  assert.equal(lock.entries, 0);
});

test('one that gets its range may make others give theirs up: they are not told, and nobody waits for them', () => {
  const lock = new RangeLock();
  const second = new Entry();
  const third = new Entry();
  const clearing = new Entry(() => {
    for (const other of [second, third]) lock.release(other);
    third.take(lock, 200, 10);
  });
  const holder = new Entry().take(lock, 0, 100);
  clearing.take(lock, 10, 10);
  second.take(lock, 50, 10);
  third.take(lock, 70, 10);
  const fourth = new Entry().take(lock, 50, 10);
  lock.release(holder);
  assert.deepEqual([clearing.held, second.held, third.held, fourth.held], [true, false, true, true]);
  for (const each of [clearing, third, fourth]) lock.release(each);
  assert.equal(lock.entries, 0);
});

test.run();
