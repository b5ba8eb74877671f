// The outbox: order, one flush a turn, and that no byte is changed before the wire has taken it.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { Outbox } from '../../gateway/nbd/outbox.js';
import { HeldWire } from '../support/held-wire.js';

const test = suite('nbd outbox');

test('small pieces leave as one, large data by reference between them', () => {
  const outbox = new Outbox();
  const wire = new HeldWire();
  const large = Buffer.alloc(20_000, 3);
  outbox.append(Buffer.from([1, 1]));
  outbox.append(Buffer.from([2]));
  outbox.append(large);
  outbox.append(Buffer.from([4]));
  assert.equal(outbox.bytes, 20_004);
  outbox.flush(wire);
  assert.deepEqual(
    wire.held.map((bytes) => bytes.length),
    [3, 20_000, 1],
  );
  assert.equal(wire.held[1], large);
  assert.equal(wire.corks, 0, 'uncorked again');
  assert.equal(outbox.bytes, 0);
});

test('says when the wire wants no more', () => {
  const outbox = new Outbox();
  const wire = new HeldWire();
  outbox.append(Buffer.from([1]));
  assert.equal(outbox.flush(wire), true);
  wire.windowBytes = 0;
  outbox.append(Buffer.from([2]));
  outbox.append(Buffer.alloc(20_000));
  assert.equal(outbox.flush(wire), false);
});

test('what was cleared is not sent', () => {
  const outbox = new Outbox();
  const wire = new HeldWire();
  outbox.append(Buffer.from([1]));
  outbox.append(Buffer.alloc(20_000));
  outbox.append(Buffer.from([2]));
  outbox.clear();
  assert.equal(outbox.bytes, 0);
  outbox.append(Buffer.from([3]));
  outbox.flush(wire);
  wire.take();
  assert.deepEqual(wire.taken, Buffer.from([3]));
});

test('the stream arrives whole and unchanged, however slowly the wire takes it', () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ append: fc.integer({ min: 1, max: 30_000 }) }) },
    { weight: 3, arbitrary: fc.constant('flush' as const) },
    { weight: 1, arbitrary: fc.constant('take' as const) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const outbox = new Outbox();
      const wire = new HeldWire();
      const sent: Buffer[] = [];
      for (const one of steps) {
        if (one === 'flush') outbox.flush(wire);
        else if (one === 'take') wire.take();
        else {
          const bytes = Buffer.alloc(one.append, sent.length + 1);
          sent.push(bytes);
          outbox.append(bytes);
        }
      }
      outbox.flush(wire);
      wire.take();
      assert(wire.taken.equals(Buffer.concat(sent)));
    }),
    { numRuns: 200 },
  );
});

test.run();
