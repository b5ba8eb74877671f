// The bitmap against a Set of region numbers.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { Bitmap } from '../../replication/bitmap.js';

const test = suite('replication/bitmap');

/** Regions a byte range touches, and those it holds whole; the last region may be short. */
function touched(sizeBytes: number, regionBytes: number, offset: number, length: number): number[] {
  const regions: number[] = [];
  for (let region = 0; region * regionBytes < sizeBytes; region += 1) {
    const end = Math.min(sizeBytes, (region + 1) * regionBytes);
    if (length > 0 && offset < end && offset + length > region * regionBytes) regions.push(region);
  }
  return regions;
}

function inside(sizeBytes: number, regionBytes: number, offset: number, length: number): number[] {
  return touched(sizeBytes, regionBytes, offset, length).filter(
    (region) => offset <= region * regionBytes && offset + length >= Math.min(sizeBytes, (region + 1) * regionBytes),
  );
}

const action = fc.record({
  kind: fc.constantFrom('setRange', 'clearRange', 'setInside', 'clearTouched', 'add', 'delete', 'setAll', 'clearAll'),
  from: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.oneof(fc.nat(40), fc.nat(3000)),
});

test('every operation and every question agrees with a Set', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2500 }),
      fc.constantFrom(1, 4, 16, 64),
      fc.array(action, { maxLength: 40 }),
      (sizeBytes, regionBytes, actions) => {
        const bitmap = new Bitmap(sizeBytes, regionBytes);
        const model = new Set<number>();
        const regions = Math.ceil(sizeBytes / regionBytes);
        const all = Array.from({ length: regions }, (_, region) => region);
        for (const { kind, from, length } of actions) {
          const offset = Math.min(sizeBytes - 1, Math.floor(from * sizeBytes));
          const bytes = Math.min(length, sizeBytes - offset);
          const region = Math.floor(offset / regionBytes);
          if (kind === 'setRange') {
            bitmap.setRange(offset, bytes);
            for (const each of touched(sizeBytes, regionBytes, offset, bytes)) model.add(each);
          } else if (kind === 'clearTouched') {
            bitmap.clearTouched(offset, bytes);
            for (const each of touched(sizeBytes, regionBytes, offset, bytes)) model.delete(each);
          } else if (kind === 'setInside') {
            bitmap.setInside(offset, bytes);
            for (const each of inside(sizeBytes, regionBytes, offset, bytes)) model.add(each);
          } else if (kind === 'clearRange') {
            bitmap.clearRange(offset, bytes);
            for (const each of inside(sizeBytes, regionBytes, offset, bytes)) model.delete(each);
          } else if (kind === 'add') {
            bitmap.add(region);
            model.add(region);
          } else if (kind === 'delete') {
            bitmap.delete(region);
            model.delete(region);
          } else if (kind === 'setAll') {
            bitmap.setAll();
            for (const each of all) model.add(each);
          } else {
            bitmap.clearAll();
            model.clear();
          }
          assert.equal(bitmap.count, model.size);
          const modelBytes = [...model].reduce((sum, each) => sum + Math.min(regionBytes, sizeBytes - each * regionBytes), 0);
          assert.equal(bitmap.countBytes, modelBytes);
          assert.deepEqual(
            all.filter((each) => bitmap.has(each)),
            all.filter((each) => model.has(each)),
          );
          const hit = touched(sizeBytes, regionBytes, offset, bytes);
          assert.equal(
            bitmap.anyIn(offset, bytes),
            hit.some((each) => model.has(each)),
          );
          if (bytes > 0)
            assert.equal(
              bitmap.allIn(offset, bytes),
              hit.every((each) => model.has(each)),
            );
          const sorted = [...model].sort((one, other) => one - other);
          assert.equal(bitmap.next(region), sorted.find((each) => each >= region) ?? -1);
          assert.equal(bitmap.next(regions), -1);
        }
        const found: number[] = [];
        for (let region = bitmap.next(0); region >= 0; region = bitmap.next(region + 1)) found.push(region);
        assert.deepEqual(
          found,
          all.filter((each) => model.has(each)),
        );
      },
    ),
    { numRuns: 300 },
  );
});

test('a device that grows keeps its bits, and has no others', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.nat(1500),
      fc.constantFrom(1, 4, 16, 64),
      fc.array(fc.nat(1000)),
      (before, more, regionBytes, set) => {
        const bitmap = new Bitmap(before, regionBytes);
        for (const region of set) if (region < bitmap.regions) bitmap.add(region);
        const model = new Set(set.filter((region) => region < bitmap.regions));
        bitmap.grow(before + more);
        const regions = Math.ceil((before + more) / regionBytes);
        assert.deepEqual([bitmap.sizeBytes, bitmap.regions, bitmap.count], [before + more, regions, model.size]);
        for (let region = 0; region < regions; region += 1) assert.equal(bitmap.has(region), model.has(region));
        // A short last region that is set has more bytes now.
        const bytes = [...model].reduce((sum, each) => sum + Math.min(regionBytes, before + more - each * regionBytes), 0);
        assert.equal(bitmap.countBytes, bytes);
        bitmap.setAll();
        assert.equal(bitmap.count, regions);
        bitmap.clearRange(0, before + more);
        assert.equal(bitmap.next(0), -1);
      },
    ),
  );
  assert.throws(() => new Bitmap(100, 16).grow(99), /only grows/);
});

test('a range partly outside the device is cut at its end', () => {
  const bitmap = new Bitmap(100, 16);
  bitmap.setRange(90, 1000);
  assert.equal(bitmap.count, 2);
  bitmap.clearRange(0, 1000);
  assert.equal(bitmap.count, 0);
  bitmap.setInside(0, 1000);
  assert.equal(bitmap.count, 7);
  assert.equal(bitmap.countBytes, 100);
});

test.run();
