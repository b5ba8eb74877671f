// What the sessions write: each 512-byte block names the operation and the block it was written by and to, all over its
// length, so that a read tells which write it saw and a torn, shifted or foreign block is known as garbage.
import { BLOCK_BYTES } from './disk.js';

const WORDS = BLOCK_BYTES / 4;
const words = new Uint32Array(WORDS);
const pattern = Buffer.from(words.buffer);
const zeroes = Buffer.alloc(BLOCK_BYTES);
let patternOf = 0;

/** A block that no write has made. */
export const GARBAGE = -1;
/** Nothing is known of it: block status did not say that it is zero. */
export const UNSEEN = -2;

/** `operation` is at least 1. */
function shape(operation: number, block: number): Buffer {
  if (operation !== patternOf) {
    let word = Math.imul(operation, 0x9e3779b1);
    for (let at = 0; at < WORDS; at += 1) {
      word = (Math.imul(word, 0x5bd1e995) + 0x3c6ef372) | 0;
      words[at] = word;
    }
    patternOf = operation;
  }
  words[0] = operation;
  words[1] = block;
  words[WORDS - 1] = operation ^ block;
  return pattern;
}

/** The payload of a write of `count` blocks from `block`. */
export function payloadOf(operation: number, block: number, count: number): Buffer {
  const bytes = Buffer.allocUnsafe(count * BLOCK_BYTES);
  for (let each = 0; each < count; each += 1) shape(operation, block + each).copy(bytes, each * BLOCK_BYTES);
  return bytes;
}

/** Which operation wrote the block whose bytes stand at `at`: its number, 0 for zeroes, or GARBAGE. */
export function writerOf(bytes: Buffer, at: number, block: number): number {
  const operation = bytes.readUInt32LE(at);
  const expected = operation === 0 ? zeroes : shape(operation, block);
  return expected.compare(bytes, at, at + BLOCK_BYTES) === 0 ? operation : GARBAGE;
}

/** Why a block is garbage, for people. */
export function describeGarbage(bytes: Buffer, at: number): string {
  const operation = bytes.readUInt32LE(at);
  const block = bytes.readUInt32LE(at + 4);
  const end = bytes.readUInt32LE(at + BLOCK_BYTES - 4);
  return `begins like write ${operation} of block ${block}, ends with ${end.toString(16)}`;
}
