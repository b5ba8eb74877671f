// The demo's own account must be able to find the product wrong: lost, old, torn and misplaced blocks, errors and gaps.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { BLOCK_BYTES, blockProblem, writeBlock } from '../../gateway/demo/block-contents.js';
import { Ledger } from '../../gateway/demo/ledger.js';

const test = suite('demo ledger');

function block(number: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  writeBlock(bytes, 0, number, sequence);
  return bytes;
}

test('a block is right only with its number, its write and every byte', () => {
  assert.equal(blockProblem(block(7, 3), 0, 7, 3), null);
  assert.equal(blockProblem(block(7, 2), 0, 7, 3), 'block 7 holds write 2 instead of 3');
  assert.equal(blockProblem(block(8, 3), 0, 7, 3), 'block 7 holds what belongs to block 8');
  assert.equal(blockProblem(Buffer.alloc(BLOCK_BYTES), 0, 7, 3), 'block 7 holds what belongs to block 0');
  for (const at of [8, 100, 2048, BLOCK_BYTES - 1]) {
    const damaged = block(7, 3);
    damaged[at] ^= 1;
    assert.equal(blockProblem(damaged, 0, 7, 3), 'block 7 is damaged');
  }
  const torn = Buffer.concat([block(7, 3).subarray(0, 512), block(7, 2).subarray(512)]);
  assert.equal(blockProblem(torn, 0, 7, 3), 'block 7 is damaged');
});

test('a block must hold its last answered write; after a failed one it may hold either', () => {
  const ledger = new Ledger(4, 0);
  const first = ledger.writing(2);
  ledger.written(2, first, true, 1);
  assert.equal(ledger.held(2), first);
  ledger.written(2, ledger.writing(2), false, 2);
  assert.equal(ledger.held(2), first);
  assert.equal(ledger.errors, 1);
  ledger.reading(2);
  ledger.read(2, true, 'block 2 holds write 2 instead of 1');
  assert.deepEqual(ledger.mismatches, []);
  ledger.reading(1);
  ledger.read(1, true, 'block 1 is damaged');
  ledger.reading(1);
  ledger.read(1, false, null);
  assert.deepEqual([ledger.mismatches, ledger.errors, ledger.reads], [['block 1 is damaged'], 2, 3]);
});

test('a flush covers what was answered before it began, and only when it succeeds', () => {
  const ledger = new Ledger(8, 0);
  const write = (at: number) => ledger.written(at, ledger.writing(at), true, 0);
  write(0);
  write(1);
  ledger.flushing();
  write(2);
  ledger.flushed(false);
  assert.equal(ledger.unflushed, 3);
  ledger.flushing();
  write(3);
  ledger.flushed(true);
  assert.equal(ledger.unflushed, 1);
});

test('a block with something under way is not idle', () => {
  const ledger = new Ledger(3, 0);
  ledger.writing(1);
  assert.equal(ledger.idle(1), 2);
  ledger.reading(2);
  assert.equal(ledger.idle(1), 0);
  ledger.writing(0);
  assert.equal(ledger.idle(1), null);
});

test('a gap counts while it lasts, in the stretch in which it lasts, and across the end of one', () => {
  const ledger = new Ledger(8, 0);
  const write = (nowMs: number) => ledger.written(0, ledger.writing(0), true, nowMs);
  ledger.started(1_000);
  write(1_010);
  write(1_040);
  assert.deepEqual(ledger.stretch(1_045), { writes: 2, longestGapMs: 30 });
  ledger.begin(1_100);
  assert.deepEqual(ledger.stretch(1_500), { writes: 0, longestGapMs: 460 });
  write(2_000);
  assert.deepEqual(ledger.stretch(2_000), { writes: 1, longestGapMs: 960 });
  assert.deepEqual(ledger.whole(2_000), { writes: 3, longestGapMs: 960 });
});

test.run();
