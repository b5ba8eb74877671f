// The judge of one block's history: against a judge that tries every order, and on histories made by hand, legal ones and
// ones with each kind of wrong that a gateway could do.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { asyncPromise } from '../sim/durability.js';
import type { Mark } from '../sim/history.js';
import { judgeRegister, type RegisterHistory, type RegisterRead, type RegisterWrite } from '../sim/register.js';

const NEVER = Number.POSITIVE_INFINITY;

function write(value: number, invoked: number, completed: number, durable = false): RegisterWrite {
  return { value, invoked, completed, durable };
}

function read(value: number, invoked: number, completed: number): RegisterRead {
  return { value, invoked, completed };
}

function history(parts: Partial<RegisterHistory>): RegisterHistory {
  return { writes: [], reads: [], flushes: [], losses: [], ...parts };
}

function isLegal(parts: Partial<RegisterHistory>): boolean {
  return judgeRegister(history(parts)) === null;
}

/** Tries every order of the operations that respects real time. */
function naive({ writes, reads }: RegisterHistory): boolean {
  const operations = [...writes.map((each) => ({ ...each, isRead: false })), ...reads.map((each) => ({ ...each, isRead: true }))];
  const place = (done: number, value: number): boolean => {
    let mustDo = false;
    for (const [index, operation] of operations.entries()) {
      if ((done & (1 << index)) !== 0) continue;
      if (operation.completed !== NEVER) mustDo = true;
      const overtaken = operations.some((other, at) => (done & (1 << at)) === 0 && at !== index && other.completed < operation.invoked);
      if (overtaken || (operation.isRead && operation.value !== value)) continue;
      if (place(done | (1 << index), operation.isRead ? value : operation.value)) return true;
    }
    return !mustDo;
  };
  return place(0, 0);
}

/** Up to 8 operations whose ends are shuffled into one order; values repeat, some writes are never answered. */
const histories = fc
  .array(
    fc.record({ isRead: fc.boolean(), value: fc.integer({ min: 0, max: 3 }), from: fc.nat(40), length: fc.nat(12), lost: fc.nat(5) }),
    {
      minLength: 1,
      maxLength: 8,
    },
  )
  .map((drawn) => {
    const ends: { at: number; set: (place: number) => void }[] = [];
    const parts = history({});
    for (const [index, { isRead, value, from, length, lost }] of drawn.entries()) {
      const operation = { value, invoked: 0, completed: NEVER, durable: false };
      if (isRead) parts.reads.push(operation);
      else parts.writes.push(operation);
      ends.push({
        at: from + index / 100,
        set: (place) => {
          operation.invoked = place;
        },
      });
      if (isRead || lost > 0) {
        ends.push({
          at: from + length + 0.5 + index / 100,
          set: (place) => {
            operation.completed = place;
          },
        });
      }
    }
    ends.sort((one, other) => one.at - other.at);
    for (const [index, end] of ends.entries()) end.set(index + 1);
    return parts;
  });

const random = suite('judgement of a register: random histories');

random('agrees with a judge that tries every order', () => {
  let legal = 0;
  let illegal = 0;
  fc.assert(
    fc.property(histories, (parts) => {
      const expected = naive(parts);
      if (expected) legal += 1;
      else illegal += 1;
      assert.equal(judgeRegister(parts) === null, expected);
    }),
    { numRuns: 6000 },
  );
  assert(legal > 500 && illegal > 500, `both kinds must occur: ${legal} legal, ${illegal} illegal`);
});

random.run();

const order = suite('judgement of a register: order');

order('a read gives the newest completed write', () => {
  assert(isLegal({ writes: [write(1, 1, 2), write(2, 3, 4)], reads: [read(2, 5, 6)] }));
});

order('a stale read is caught', () => {
  assert(!isLegal({ writes: [write(1, 1, 2), write(2, 3, 4)], reads: [read(1, 5, 6)] }));
});

order('a write that was lost altogether is caught', () => {
  assert(!isLegal({ writes: [write(1, 1, 2)], reads: [read(0, 3, 4)] }));
});

order('a read may see a write that is under way, and one that overlaps it may not', () => {
  assert(isLegal({ writes: [write(1, 1, 9)], reads: [read(1, 2, 6), read(0, 3, 5)] }));
});

order('two reads one after the other that see the new and then the old value are caught', () => {
  assert(!isLegal({ writes: [write(1, 1, 9)], reads: [read(1, 2, 3), read(0, 4, 5)] }));
});

order('a write that a later one overwrote and a zombie brings back is caught', () => {
  assert(!isLegal({ writes: [write(1, 1, 2), write(2, 3, 4)], reads: [read(2, 5, 6), read(1, 7, 8)] }));
});

order('a read from the future is caught', () => {
  assert(!isLegal({ writes: [write(1, 3, 4)], reads: [read(1, 1, 2)] }));
});

order('writes that overlap in time may take effect in either order, but reads agree on which', () => {
  const writes = [write(1, 1, 4), write(2, 2, 3)];
  assert(isLegal({ writes, reads: [read(1, 5, 6), read(1, 7, 8)] }));
  assert(isLegal({ writes, reads: [read(2, 5, 6), read(2, 7, 8)] }));
  assert(!isLegal({ writes, reads: [read(1, 5, 6), read(2, 7, 8)] }));
});

order('a write whose outcome nobody knows may take effect long afterwards', () => {
  assert(isLegal({ writes: [write(1, 1, NEVER), write(2, 3, 4)], reads: [read(2, 5, 6), read(1, 7, 8)] }));
});

order('a write whose outcome nobody knows takes effect once: seen, overwritten, it stays away', () => {
  assert(!isLegal({ writes: [write(1, 1, NEVER), write(2, 4, 5)], reads: [read(1, 2, 3), read(2, 6, 7), read(1, 8, 9)] }));
});

order('an unacknowledged write that was read and then is gone is caught', () => {
  assert(!isLegal({ writes: [write(1, 1, NEVER)], reads: [read(1, 2, 3), read(0, 4, 5)] }));
});

order('zeroes are a value like any other: each zeroing can bring them once', () => {
  assert(isLegal({ writes: [write(1, 1, 2), write(0, 3, 4)], reads: [read(0, 5, 6)] }));
  assert(!isLegal({ writes: [write(1, 1, 2), write(0, 3, 4), write(2, 5, 6)], reads: [read(0, 7, 8)] }));
  assert(isLegal({ writes: [write(1, 1, 2), write(0, 3, NEVER), write(2, 5, 6)], reads: [read(0, 7, 8)] }));
  assert(!isLegal({ writes: [write(1, 1, 2), write(0, 3, NEVER), write(2, 9, 10)], reads: [read(0, 7, 8), read(0, 11, 12)] }));
});

order('thousands of writes and reads of one block are judged in a moment', () => {
  const writes: RegisterWrite[] = [];
  const reads: RegisterRead[] = [];
  for (let index = 1; index <= 20_000; index += 1) {
    writes.push(write(index, index * 10, index * 10 + 15));
    reads.push(read(index, index * 10 + 7, index * 10 + 18));
  }
  const started = process.cpuUsage().user;
  assert(isLegal({ writes, reads }));
  assert(process.cpuUsage().user - started < 5_000_000);
});

order.run();

const loss = suite('judgement of a register: loss');
const always = { mayLose: () => true };

loss('without a fault nothing may go back', () => {
  assert(!isLegal({ writes: [write(1, 1, 2), write(2, 3, 4)], reads: [read(1, 6, 7)] }));
});

loss('a fault that may lose writes may take the register back to any that no flush has covered', () => {
  const writes = [write(1, 1, 2), write(2, 3, 4), write(3, 5, 6)];
  for (const value of [0, 1, 2, 3]) assert(isLegal({ writes, reads: [read(value, 8, 9)], losses: [{ at: 7, ...always }] }), `${value}`);
});

loss('what is lost stays lost', () => {
  const writes = [write(1, 1, 2), write(2, 3, 4)];
  assert(!isLegal({ writes, reads: [read(1, 8, 9), read(2, 10, 11)], losses: [{ at: 7, ...always }] }));
});

loss('before the fault nothing may go back', () => {
  const writes = [write(1, 1, 2), write(2, 3, 4)];
  assert(!isLegal({ writes, reads: [read(1, 5, 6)], losses: [{ at: 7, ...always }] }));
});

loss('what a flush has covered is not lost', () => {
  const writes = [write(1, 1, 2), write(2, 3, 4), write(3, 7, 8)];
  const flushes = [{ invoked: 5, completed: 6 }];
  const losses = [{ at: 9, ...always }];
  assert(isLegal({ writes, flushes, losses, reads: [read(3, 10, 11)] }));
  assert(isLegal({ writes, flushes, losses, reads: [read(2, 10, 11)] }));
  assert(!isLegal({ writes, flushes, losses, reads: [read(1, 10, 11)] }));
  assert(!isLegal({ writes, flushes, losses, reads: [read(0, 10, 11)] }));
});

loss('a flush covers what was answered before it was asked for, and nothing else', () => {
  const writes = [write(1, 1, 2), write(2, 3, 6)];
  const flushes = [{ invoked: 5, completed: 7 }];
  const losses = [{ at: 9, ...always }];
  assert(isLegal({ writes, flushes, losses, reads: [read(1, 10, 11)] }));
  assert(!isLegal({ writes, flushes, losses, reads: [read(0, 10, 11)] }));
});

loss('a write with FUA is not lost, nor anything older brought back', () => {
  const writes = [write(1, 1, 2), write(2, 3, 4, true), write(3, 5, 6)];
  const losses = [{ at: 9, ...always }];
  assert(isLegal({ writes, losses, reads: [read(2, 10, 11)] }));
  assert(isLegal({ writes, losses, reads: [read(3, 10, 11)] }));
  assert(!isLegal({ writes, losses, reads: [read(1, 10, 11)] }));
  assert(!isLegal({ writes: writes.slice(0, 2), losses, reads: [read(1, 10, 11)] }));
});

loss('a fault that may not lose this write does not excuse its loss', () => {
  const losses = [{ at: 9, mayLose: ({ invoked }: { invoked: number }) => invoked < 3 }];
  assert(isLegal({ writes: [write(1, 1, 2)], losses, reads: [read(0, 10, 11)] }));
  assert(!isLegal({ writes: [write(1, 5, 6)], losses, reads: [read(0, 10, 11)] }));
});

loss('what is lost shows what was below it, not what that had replaced', () => {
  const losses = [{ at: 9, mayLose: ({ completed }: { completed: number }) => completed === NEVER }];
  const writes = [write(1, 1, 2), write(2, 3, 4), write(3, 5, NEVER)];
  const seen = read(3, 6, 7);
  for (const value of [2, 3]) assert(isLegal({ writes, losses, reads: [seen, read(value, 10, 11)] }), `${value}`);
  for (const value of [0, 1]) assert(!isLegal({ writes, losses, reads: [seen, read(value, 10, 11)] }), `${value}`);
});

loss('a write that was under way and seen may be lost, and a later one is still in order', () => {
  const losses = [{ at: 9, ...always }];
  const writes = [write(1, 1, NEVER), write(2, 12, 13)];
  assert(isLegal({ writes, losses, reads: [read(1, 2, 3), read(0, 10, 11), read(2, 14, 15)] }));
  assert(!isLegal({ writes, losses, reads: [read(1, 2, 3), read(0, 10, 11), read(0, 14, 15)] }));
});

loss('a power loss of the active node may take away what was seen of a write that failed, and nothing that was acknowledged', () => {
  const marks: Mark[] = [{ at: 9, atMs: 9, kind: 'power-loss', node: 'a', activeFor: ['v'] }];
  const losses = [{ at: 9, mayLose: (lost: Pick<RegisterWrite, 'invoked' | 'completed'>) => asyncPromise.mayLose('v', lost, marks, 0) }];
  const reads = [read(2, 7, 8), read(1, 10, 11)];
  assert(isLegal({ writes: [write(1, 1, 2), write(2, 3, NEVER)], losses, reads }));
  assert(!isLegal({ writes: [write(1, 1, 2), write(2, 3, 4)], losses, reads }));
  assert(!isLegal({ writes: [write(1, 1, 2), write(2, 3, NEVER)], losses: [], reads }));
});

loss('what is lost may have been read before by who is told only later', () => {
  const losses = [{ at: 9, ...always }];
  const writes = [write(1, 1, 2), write(2, 3, NEVER)];
  assert(isLegal({ writes, losses, reads: [read(2, 8, 10), read(1, 11, 12)] }));
  assert(isLegal({ writes, losses, reads: [read(2, 8, 10), read(2, 11, 12)] }));
  assert(!isLegal({ writes, losses, reads: [read(2, 9.5, 10), read(1, 11, 12)] }), 'it was asked for after the loss');
  assert(!isLegal({ writes, losses, reads: [read(2, 8, 10), read(1, 11, 12), read(2, 13, 14)] }), 'it came back');
  assert(!isLegal({ writes: [write(1, 1, 2), write(2, 3, 15)], losses, reads: [read(2, 8, 10), read(1, 11, 12)] }), 'it was acknowledged');
  assert(!isLegal({ writes, flushes: [{ invoked: 5, completed: 6 }], losses, reads: [read(2, 8, 10), read(0, 11, 12)] }), 'it was flushed');
});

loss('a flush over a write that nobody acknowledged keeps the acknowledged one below it', () => {
  const writes = [write(1, 1, 2), write(2, 3, 4), write(3, 5, NEVER)];
  const flushes = [{ invoked: 8, completed: 9 }];
  const losses = [{ at: 10, ...always }];
  const seen = read(3, 6, 7);
  for (const value of [2, 3]) assert(isLegal({ writes, flushes, losses, reads: [seen, read(value, 11, 12)] }), `${value}`);
  for (const value of [0, 1]) assert(!isLegal({ writes, flushes, losses, reads: [seen, read(value, 11, 12)] }), `${value}`);
  const acknowledged = [...writes.slice(0, 2), write(3, 5, 7.5)];
  assert(!isLegal({ writes: acknowledged, flushes, losses, reads: [seen, read(2, 11, 12)] }));
});

loss('an acknowledged write is not lost by a flush from below one that nobody acknowledged and one that came later', () => {
  const writes = [write(1, 1, 2), write(2, 3, NEVER), write(3, 10, 11)];
  const flushes = [{ invoked: 6, completed: 7 }];
  const losses = [{ at: 12, ...always }];
  const seen = read(2, 4, 5);
  for (const value of [1, 2, 3]) assert(isLegal({ writes, flushes, losses, reads: [seen, read(value, 13, 14)] }), `${value}`);
  assert(!isLegal({ writes, flushes, losses, reads: [seen, read(0, 13, 14)] }));
});

loss.run();
