// What the demo's host writes: each 4 KiB block carries its number and the sequence number of the write that made it, and
// all its other bytes follow from the two, so that a block that is old, torn or elsewhere is seen at once. Pure.

export const BLOCK_BYTES = 4096;

const HEADER_BYTES = 8;

/** Writes block `block`'s contents of write `sequence` to `at`. */
export function writeBlock(into: Buffer, at: number, block: number, sequence: number): void {
  into.writeUInt32LE(block, at);
  into.writeUInt32LE(sequence, at + 4);
  const word = Buffer.alloc(4);
  word.writeUInt32LE((Math.imul(block + 1, 0x9e3779b1) ^ Math.imul(sequence + 1, 0x85ebca6b)) >>> 0);
  into.fill(word, at + HEADER_BYTES, at + BLOCK_BYTES);
}

/** Null: the block at `at` holds write `sequence` of `block`, whole. Else what is wrong with it. */
export function blockProblem(from: Buffer, at: number, block: number, sequence: number): string | null {
  const wanted = Buffer.allocUnsafe(BLOCK_BYTES);
  writeBlock(wanted, 0, block, sequence);
  if (wanted.equals(from.subarray(at, at + BLOCK_BYTES))) return null;
  const [is, written] = [from.readUInt32LE(at), from.readUInt32LE(at + 4)];
  if (is !== block) return `block ${block} holds what belongs to block ${is}`;
  return written === sequence ? `block ${block} is damaged` : `block ${block} holds write ${written} instead of ${sequence}`;
}
