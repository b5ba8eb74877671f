// Extents as BLOCK_STATUS payloads: golden bytes, and the protocol's rules against a naive map of every byte.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { allocationRuns, encodeBlockStatus } from '../../gateway/nbd/block-status.js';
import type { Extent } from '../../replication/device.js';
import { hex, uint32, uint64 } from '../support/nbd-bytes.js';

const test = suite('nbd block status');

const DATA = { hole: false, zero: false };
const HOLE = { hole: true, zero: true };
const ZERO = { hole: false, zero: true };
const FORM = { contextId: 1, blockBytes: 1, one: false, wide: false };

/** A payload as extended headers want it: 64-bit fields, and how many descriptors there are. */
function widened(payload: Buffer): Buffer {
  const fields = parse(payload).flatMap(({ lengthBytes, flags }) => [uint64(lengthBytes), uint64(flags)]);
  return Buffer.concat([payload.subarray(0, 4), uint32(fields.length / 2), ...fields]);
}

function parse(payload: Buffer): { lengthBytes: number; flags: number }[] {
  const parsed: { lengthBytes: number; flags: number }[] = [];
  for (let at = 4; at < payload.length; at += 8)
    parsed.push({ lengthBytes: payload.readUInt32BE(at), flags: payload.readUInt32BE(at + 4) });
  return parsed;
}

test('has its golden bytes', () => {
  const extents = [
    { lengthBytes: 4096, ...DATA },
    { lengthBytes: 8192, ...HOLE },
    { lengthBytes: 512, ...ZERO },
    { lengthBytes: 512, hole: true, zero: false },
  ];
  assert.deepEqual(
    encodeBlockStatus(allocationRuns(extents), { ...FORM, contextId: 7, length: 13312 }),
    hex('00000007 00001000 00000000 00002000 00000003 00000200 00000002 00000200 00000001'),
  );
});

test('has its golden bytes with extended headers', () => {
  const extents = [
    { lengthBytes: 4096, ...DATA },
    { lengthBytes: 4096, ...HOLE },
    { lengthBytes: 2 ** 32, ...HOLE },
  ];
  assert.deepEqual(
    encodeBlockStatus(allocationRuns(extents), { ...FORM, contextId: 7, length: 2 ** 32 + 8192, wide: true }),
    hex('00000007 00000002 0000000000001000 0000000000000000 0000000100001000 0000000000000003'),
  );
});

test('REQ_ONE gives one extent, as long as it goes and no longer than the request', () => {
  const extents = [
    { lengthBytes: 100, ...HOLE },
    { lengthBytes: 100, ...HOLE },
    { lengthBytes: 100, ...DATA },
  ];
  assert.deepEqual(parse(encodeBlockStatus(allocationRuns(extents), { ...FORM, length: 1000, one: true })), [
    { lengthBytes: 200, flags: 3 },
  ]);
  assert.deepEqual(parse(encodeBlockStatus(allocationRuns(extents), { ...FORM, length: 150, one: true })), [
    { lengthBytes: 150, flags: 3 },
  ]);
});

test('a block that the device calls two things is what both are', () => {
  const extents = [
    { lengthBytes: 700, ...HOLE },
    { lengthBytes: 324, ...ZERO },
    { lengthBytes: 1024, ...DATA },
  ];
  assert.deepEqual(parse(encodeBlockStatus(allocationRuns(extents), { ...FORM, length: 2048, blockBytes: 512 })), [
    { lengthBytes: 512, flags: 3 },
    { lengthBytes: 512, flags: 2 },
    { lengthBytes: 1024, flags: 0 },
  ]);
});

test('a mixed block between any two extents is told, however many there are', () => {
  const extents = Array.from({ length: 20 }, (_, i) => ({ lengthBytes: 1000, ...(i % 2 === 0 ? { hole: true, zero: false } : ZERO) }));
  const told = parse(encodeBlockStatus(allocationRuns(extents), { ...FORM, length: 19_968, blockBytes: 512 }));
  assert.equal(
    told.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
    19_968,
  );
  assert.equal(told.filter(({ flags, lengthBytes }) => flags === 0 && lengthBytes === 512).length, 19);
});

test('a device that knows less than a block gets one block of data', () => {
  assert.deepEqual(parse(encodeBlockStatus(allocationRuns([{ lengthBytes: 100, ...HOLE }]), { ...FORM, length: 4096, blockBytes: 512 })), [
    { lengthBytes: 512, flags: 0 },
  ]);
});

test('no run at all is a bug', () => {
  assert.throws(() => encodeBlockStatus([], { ...FORM, length: 4096 }), /at least one run/);
  assert.throws(() => encodeBlockStatus([{ lengthBytes: 0, status: 0 }], { ...FORM, length: 4096 }), /at least one run/);
});

test('the number of extents is bounded; what is told is true', () => {
  const extents = Array.from({ length: 40_000 }, (_, i) => ({ lengthBytes: 512, ...(i % 2 === 0 ? DATA : HOLE) }));
  const told = parse(encodeBlockStatus(allocationRuns(extents), { ...FORM, length: 40_000 * 512, blockBytes: 512 }));
  assert.equal(told.length, 16 * 1024);
  assert(told.every(({ lengthBytes, flags }, i) => lengthBytes === 512 && flags === (i % 2 === 0 ? 0 : 3)));
});

test('keeps the rules and claims no hole or zero that is not, for any extents', () => {
  const extent = fc.record({ lengthBytes: fc.integer({ min: 1, max: 40 }), hole: fc.boolean(), zero: fc.boolean() });
  const block = fc.constantFrom(1, 2, 8, 16);
  fc.assert(
    fc.property(
      fc.array(extent, { minLength: 1, maxLength: 20 }),
      block,
      fc.integer({ min: 1, max: 20 }),
      fc.boolean(),
      (extents, blockBytes, blocks, one) => {
        const length = blocks * blockBytes;
        const truth = extents.flatMap((each: Extent) =>
          new Array<number>(each.lengthBytes).fill((each.hole ? 1 : 0) | (each.zero ? 2 : 0)),
        );
        const form = { contextId: 1, length, blockBytes, one, wide: false };
        const narrow = encodeBlockStatus(allocationRuns(extents), form);
        const told = parse(narrow);
        assert.deepEqual(
          encodeBlockStatus(allocationRuns(extents), { ...form, wide: true }),
          widened(narrow),
          'the wide form says the same',
        );
        assert(told.length >= 1 && (!one || told.length === 1));
        let at = 0;
        for (const [i, { lengthBytes, flags }] of told.entries()) {
          assert(lengthBytes > 0 && lengthBytes % blockBytes === 0, 'whole blocks');
          if (i > 0) assert.notEqual(flags, told[i - 1].flags, 'neighbours differ');
          for (let start = at; start < at + lengthBytes; start += blockBytes) {
            const all = Array.from({ length: blockBytes }, (_, k) => truth[start + k] ?? 0).reduce((a, b) => a & b);
            assert.equal(flags, all);
          }
          at += lengthBytes;
        }
        assert(at <= length, 'not past the request');
        if (!one && truth.length >= length) assert.equal(at, length, 'all of it, where the device knows all of it');
      },
    ),
    { numRuns: 2000 },
  );
});

test.run();
