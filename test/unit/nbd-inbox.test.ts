// The inbox against a naive one that concatenates.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { Inbox } from '../../gateway/nbd/inbox.js';

const test = suite('nbd inbox');

test('gives back what was put in, in order, however it is cut', () => {
  const step = fc.oneof(
    fc.record({ append: fc.uint8Array({ maxLength: 3000 }) }),
    fc.record({ take: fc.nat(3000) }),
    fc.record({ skip: fc.nat(3000) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const inbox = new Inbox();
      let naive = Buffer.alloc(0);
      for (const one of steps) {
        if ('append' in one) {
          inbox.append(one.append);
          naive = Buffer.concat([naive, one.append]);
        } else if ('take' in one) {
          const length = Math.min(one.take, naive.length);
          assert.deepEqual(inbox.peek(length), naive.subarray(0, length));
          assert.deepEqual(inbox.take(length), naive.subarray(0, length));
          naive = naive.subarray(length);
        } else {
          const length = Math.min(one.skip, naive.length);
          inbox.skip(length);
          naive = naive.subarray(length);
        }
        assert.equal(inbox.available, naive.length);
      }
    }),
  );
});

test('what was taken stays as it was', () => {
  const inbox = new Inbox();
  inbox.append(Buffer.alloc(1024, 1));
  const taken = inbox.take(1024);
  inbox.append(Buffer.alloc(1024, 2));
  assert.deepEqual(taken, Buffer.alloc(1024, 1));
});

test.run();
