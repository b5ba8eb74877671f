// The record codec: what goes in comes out, and what was changed on the way is noticed.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { DamagedRecord, decodeRecord, encodeRecord } from '../../gateway/store/record-codec.js';

const test = suite('store/record-codec');

const key = fc.oneof(fc.string(), fc.constantFrom('$bytes', '$$bytes', '$', '__proto__', 'constructor', '7'));
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
    fc.string({ unit: 'binary' }),
    fc.uint8Array({ maxLength: 40 }),
    fc.array(tie('any'), { maxLength: 4 }),
    fc.array(fc.tuple(key, tie('any')), { maxLength: 4 }).map((entries) => Object.fromEntries(entries)),
  ),
})).any;

test('a value comes back as it was', () => {
  fc.assert(
    fc.property(value, (original) => assert.deepEqual(decodeRecord(encodeRecord(original)), original)),
    { numRuns: 500 },
  );
});

test('a changed byte anywhere is damage', () => {
  fc.assert(
    fc.property(value, fc.nat(), fc.integer({ min: 1, max: 255 }), (original, position, flip) => {
      const bytes = encodeRecord(original);
      bytes[position % bytes.length] ^= flip;
      assert.throws(() => decodeRecord(bytes), DamagedRecord);
    }),
  );
});

test('a record cut off anywhere is damage', () => {
  const bytes = encodeRecord({ text: 'some', bytes: new Uint8Array(20) });
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeRecord(bytes.subarray(0, length)), DamagedRecord);
  }
});

test('the bytes are those of the format', () => {
  const bytes = encodeRecord({ n: 1, b: Buffer.from([9, 8]) });
  assert.equal(bytes.subarray(4).toString('latin1'), '\x18\0\0\0{"n":1,"b":{"$bytes":2}}\x09\x08');
  assert.equal(bytes.readUInt32LE(0), 0x394db23b);
});

test('what no record can hold is refused before anything is written', () => {
  const loop: unknown[] = [];
  loop.push(loop);
  for (const bad of [undefined, Number.NaN, Number.POSITIVE_INFINITY, 1n, () => 1, Symbol('s'), new Date(), new Map(), [undefined], loop]) {
    assert.throws(() => encodeRecord(bad), assert.AssertionError);
  }
  assert.deepEqual(decodeRecord(encodeRecord({ a: undefined, b: 1 })), { b: 1 });
});

test.run();
