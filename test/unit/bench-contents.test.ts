// The benchmark's idea of what the node holds: it must see bytes of another block, of an older write, and any change.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { BLOCK_BYTES, Contents } from '../../native-free-bench/contents.js';

const test = suite('bench contents');
const BLOCKS = 8;

/** What a node holds after `count` blocks from `first` were written. */
function written(contents: Contents, first: number, count: number): Buffer {
  assert.equal(contents.claim(first, count), true);
  const payload = Buffer.concat(Array.from({ length: count }, () => contents.pattern));
  contents.stamp(payload, 0, first, count);
  contents.settle(first, count, true);
  return payload;
}

test('what was written matches, cut at any byte', () => {
  const contents = new Contents(BLOCKS * BLOCK_BYTES);
  const bytes = written(contents, 2, 2);
  for (const cut of [0, 1, 4, 7, 8, 9, 100, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 3, 2 * BLOCK_BYTES]) {
    assert.equal(contents.matches(bytes, 0, cut, 2, 0, true), true, `up to ${cut}`);
    assert.equal(contents.matches(bytes, cut, bytes.length, 2, cut, true), true, `from ${cut}`);
  }
});

test('a changed byte anywhere is seen by a thorough look, one of a stamp by any', () => {
  const contents = new Contents(BLOCKS * BLOCK_BYTES);
  const bytes = written(contents, 0, 2);
  for (let at = 0; at < bytes.length; at++) {
    bytes[at] ^= 0x10;
    assert.equal(contents.matches(bytes, 0, bytes.length, 0, 0, true), false, `byte ${at}`);
    assert.equal(contents.matches(bytes, 0, bytes.length, 0, 0, false), at % BLOCK_BYTES >= 8, `byte ${at}, stamps only`);
    bytes[at] ^= 0x10;
  }
});

test('bytes of another block or of an older write do not match', () => {
  const contents = new Contents(BLOCKS * BLOCK_BYTES);
  const old = written(contents, 3, 1);
  const other = written(contents, 4, 1);
  written(contents, 3, 1);
  assert.equal(contents.matches(old, 0, BLOCK_BYTES, 3, 0, false), false);
  assert.equal(contents.matches(other, 0, BLOCK_BYTES, 3, 0, false), false);
});

test('a block that is being written cannot be claimed again, also as part of a larger write', () => {
  const contents = new Contents(BLOCKS * BLOCK_BYTES);
  assert.equal(contents.claim(3, 1), true);
  assert.equal(contents.claim(0, 4), false);
  assert.equal(contents.claim(0, 3), true);
  contents.settle(3, 1, true);
  assert.equal(contents.claim(3, 2), true);
});

test('a block is not judged before it was written, after a failed write and after one nobody answered', () => {
  const contents = new Contents(BLOCKS * BLOCK_BYTES);
  const nonsense = Buffer.alloc(BLOCK_BYTES, 0xee);
  assert.equal(contents.matches(nonsense, 0, BLOCK_BYTES, 0, 0, true), true);
  written(contents, 0, 2);
  assert.equal(contents.matches(nonsense, 0, BLOCK_BYTES, 0, 0, true), false);
  contents.claim(0, 1);
  contents.settle(0, 1, false);
  assert.equal(contents.matches(nonsense, 0, BLOCK_BYTES, 0, 0, true), true);
  contents.claim(1, 1);
  contents.abandonWrites();
  assert.equal(contents.matches(nonsense, 0, BLOCK_BYTES, 1, 0, true), true);
  assert.equal(contents.claim(1, 1), true);
});

test.run();
