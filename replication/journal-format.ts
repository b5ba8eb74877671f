// The bytes of a volume's journal. Guarantees that what is decoded is exactly what was encoded: every part carries a
// checksum (xxh64, seed 0), and what does not fit is "not there", never something else. Pure: no file is touched here.
//
// All numbers are little endian, u64 numbers are safe integers, checksums and ids use all 64 bits. The file is a row of
// blocks of 4096 bytes: two equal superblocks, then the ring.
//
// Superblock (written when the journal is made or started anew, at 0 and at 4096):
//      0  8 bytes "FSTLJRNS"
//      8  u32     format version (1)
//     12  u32     bytes of a block (4096)
//     16  u64     bytes of the ring, a multiple of 4096
//     24  u64     generation: the higher of two valid superblocks counts
//     32  u64     id: drawn at random with every generation, so that nothing older is ever taken for new
//     40  u64     sequence of the first record
//     48  u32     N: bytes of the volume's name
//     52  N bytes the volume's name, UTF-8; zeroes up to 4088
//   4088  u64     checksum of bytes 0 to 4087
//
// The ring is addressed by a number that only grows; the byte of address A is at 8192 + A modulo the ring's bytes. It holds
// batches, one behind the other, each a whole number of blocks:
//      0  512     header
//    512  32 * R  descriptors of the batch's R records
//  512 + 32 * R   payloads of its writes in the same order, then zeroes up to the next block
//
// Header (fits a disk's smallest sector, so that it is there or not):
//      0  8 bytes "FSTLJRNB"
//      8  u32     format version (1)
//     12  u32     R: records, 0 for a batch that only says what is known
//     16  u64     id of the superblock
//     24  u64     xxh64 of the volume's name
//     32  u64     number: grows with every batch, over restarts too, where it may leap
//     40  u64     address of this batch
//     48  u32     bytes of the batch
//     52  u32     D: destinations (0 to 8)
//     56  u64     epoch of its records
//     64  u64     sequence of its first record (R = 0: of the next one)
//     72  u64     chain: checksum of the header before it (the first batch: the id)
//     80  u64     synced: all batches up to this number are on stable storage
//     88  u64     tail: address from which on batches are still needed
//     96  u64     number that the batch there has at least
//    104  u64     sequence of the first record there
//    112  u64     chain of the batch there
//    120  u64     checksum of the descriptors
//    128  24 * D  destinations: u64 id, u64 joined (records from this sequence on are meant for it), u64 durable (it has all
//                 up to this sequence on stable storage)
//    320          zeroes
//    504  u64     checksum of bytes 0 to 503
//
// Descriptor:
//      0  u64     sequence
//      8  u64     offset in the volume
//     16  u32     length
//     20  u8      1: write, 2: zeroes
//     21  u8      bit 0: the zeroes may be a hole
//     22  u16     0
//     24  u64     checksum of the payload (zeroes: 0)
//
// So the checksum of a header covers all of its batch, and by the chain all batches before it.
import assert from 'node:assert';
import { OP, type Op } from './device.js';

const VERSION = 1;
export const BLOCK_BYTES = 4096;
export const RING_START = 2 * BLOCK_BYTES;
export const HEADER_BYTES = 512;
export const DESCRIPTOR_BYTES = 32;
export const DESTINATIONS_MAX = 8;
/** Of a new journal. Not 1: what a mirror has that joins before the first record must be told too, as the sequence before. */
export const FIRST_SEQUENCE = 2;
const SUPERBLOCK_MAGIC = Buffer.from('FSTLJRNS');
const BATCH_MAGIC = Buffer.from('FSTLJRNB');
const BATCH_MAGIC_LOW = BATCH_MAGIC.readUInt32LE(0);
const NAME_BYTES_MAX = 1024;
const DISK_OP = { WRITE: 1, ZEROES: 2 } as const;
const PUNCH = 1;

/** xxh64 with seed 0. */
export type Sum = (bytes: Uint8Array) => bigint;

export interface Superblock {
  ringBytes: number;
  generation: number;
  id: bigint;
  firstSequence: number;
  volume: string;
}

/** blank: nothing was ever written there. foreign: not a journal. newer: of a later version. damaged: it was one. */
export type SuperblockProblem = { problem: 'blank' | 'foreign' | 'newer' | 'damaged' | 'other-volume'; reason: string };

/** A mirror that records are kept for. It lacks nothing but records of the journal once `durable >= joined - 1`. */
export interface DestinationFact {
  /** Given by the caller, never used for another mirror. */
  id: number;
  joined: number;
  durable: number;
}

/** Where a batch begins and what its place in the chain is. */
export interface Place {
  address: number;
  number: number;
  sequence: number;
  chain: bigint;
}

export interface BatchHeader extends Place {
  recordCount: number;
  id: bigint;
  volumeSum: bigint;
  bytes: number;
  epoch: number;
  synced: number;
  tail: Place;
  destinations: DestinationFact[];
}

export interface DecodedHeader extends BatchHeader {
  recordsSum: bigint;
  /** The header's own checksum: the chain of the batch that follows. */
  sum: bigint;
}

export interface Descriptor {
  sequence: number;
  offset: number;
  length: number;
  op: Op;
  punch: boolean;
  payloadSum: bigint;
}

/** The bytes of whole blocks that hold `bytes`. */
export function wholeBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/** Both superblocks, as they stand at the start of the file. */
export function encodeSuperblock(superblock: Superblock, sum: Sum): Buffer {
  const name = Buffer.from(superblock.volume);
  assert(name.length <= NAME_BYTES_MAX && superblock.ringBytes % BLOCK_BYTES === 0, 'the name fits and the ring is whole blocks');
  const block = Buffer.alloc(BLOCK_BYTES);
  SUPERBLOCK_MAGIC.copy(block);
  block.writeUInt32LE(VERSION, 8);
  block.writeUInt32LE(BLOCK_BYTES, 12);
  putNumber(block, superblock.ringBytes, 16);
  putNumber(block, superblock.generation, 24);
  block.writeBigUInt64LE(superblock.id, 32);
  putNumber(block, superblock.firstSequence, 40);
  block.writeUInt32LE(name.length, 48);
  name.copy(block, 52);
  block.writeBigUInt64LE(sum(block.subarray(0, BLOCK_BYTES - 8)), BLOCK_BYTES - 8);
  return block;
}

/** Is what begins with these two blocks, and has this many bytes, the journal of this volume? */
export function judgeSuperblocks(blocks: Buffer, fileBytes: number, volume: string, sum: Sum): Superblock | SuperblockProblem {
  const found = decodeSuperblocks(blocks, sum);
  if ('problem' in found) return found;
  if (found.volume !== volume) return { problem: 'other-volume', reason: `it is the journal of volume ${JSON.stringify(found.volume)}` };
  if (RING_START + found.ringBytes <= fileBytes) return found;
  return { problem: 'damaged', reason: `it has ${fileBytes} bytes and should have ${RING_START + found.ringBytes}` };
}

/** The newer of two valid superblocks, or why there is none. */
function decodeSuperblocks(blocks: Buffer, sum: Sum): Superblock | SuperblockProblem {
  const both = [0, BLOCK_BYTES].map((at) => decodeSuperblock(blocks.subarray(at, at + BLOCK_BYTES), sum));
  const valid = both.filter((each): each is Superblock => !('problem' in each));
  if (valid.length > 0) return valid.reduce((one, other) => (other.generation > one.generation ? other : one));
  const problems = both as SuperblockProblem[];
  for (const kind of ['newer', 'damaged', 'foreign'] as const) {
    const found = problems.find((each) => each.problem === kind);
    if (found !== undefined) return found;
  }
  return problems[0];
}

function decodeSuperblock(block: Buffer, sum: Sum): Superblock | SuperblockProblem {
  if (block.length < BLOCK_BYTES) return { problem: 'damaged', reason: 'it is shorter than its superblocks' };
  if (block.every((byte) => byte === 0)) return { problem: 'blank', reason: 'it holds only zeroes' };
  if (!block.subarray(0, 8).equals(SUPERBLOCK_MAGIC)) return { problem: 'foreign', reason: 'it does not begin as a journal does' };
  const version = block.readUInt32LE(8);
  const sound = block.readBigUInt64LE(BLOCK_BYTES - 8) === sum(block.subarray(0, BLOCK_BYTES - 8));
  if (sound && version === VERSION && block.readUInt32LE(12) === BLOCK_BYTES && block.readUInt32LE(48) <= NAME_BYTES_MAX) {
    return {
      ringBytes: getNumber(block, 16),
      generation: getNumber(block, 24),
      id: block.readBigUInt64LE(32),
      firstSequence: getNumber(block, 40),
      volume: block.toString('utf8', 52, 52 + block.readUInt32LE(48)),
    };
  }
  // A later version may place its checksum elsewhere.
  if (version > VERSION && version < 1000)
    return { problem: 'newer', reason: `it has format ${version}, known are formats up to ${VERSION}` };
  return { problem: 'damaged', reason: 'the checksums of both its superblocks are wrong' };
}

/** Writes a header into the first 512 bytes of `into`, where the descriptors follow already. Gives its checksum. */
export function encodeHeader(into: Buffer, header: BatchHeader, sum: Sum): bigint {
  assert(
    header.destinations.length <= DESTINATIONS_MAX && header.bytes % BLOCK_BYTES === 0,
    'the destinations fit and a batch is whole blocks',
  );
  into.fill(0, 0, HEADER_BYTES);
  BATCH_MAGIC.copy(into);
  into.writeUInt32LE(VERSION, 8);
  into.writeUInt32LE(header.recordCount, 12);
  into.writeBigUInt64LE(header.id, 16);
  into.writeBigUInt64LE(header.volumeSum, 24);
  putNumber(into, header.number, 32);
  putNumber(into, header.address, 40);
  into.writeUInt32LE(header.bytes, 48);
  into.writeUInt32LE(header.destinations.length, 52);
  putNumber(into, header.epoch, 56);
  putNumber(into, header.sequence, 64);
  into.writeBigUInt64LE(header.chain, 72);
  putNumber(into, header.synced, 80);
  putNumber(into, header.tail.address, 88);
  putNumber(into, header.tail.number, 96);
  putNumber(into, header.tail.sequence, 104);
  into.writeBigUInt64LE(header.tail.chain, 112);
  into.writeBigUInt64LE(sum(into.subarray(HEADER_BYTES, HEADER_BYTES + header.recordCount * DESCRIPTOR_BYTES)), 120);
  let at = 128;
  for (const { id, joined, durable } of header.destinations) {
    putNumber(into, id, at);
    putNumber(into, joined, at + 8);
    putNumber(into, durable, at + 16);
    at += 24;
  }
  const own = sum(into.subarray(0, HEADER_BYTES - 8));
  into.writeBigUInt64LE(own, HEADER_BYTES - 8);
  return own;
}

/** The header at `at`; null when none is there. */
export function decodeHeader(bytes: Buffer, at: number, sum: Sum): DecodedHeader | null {
  if (bytes.length < at + HEADER_BYTES || bytes.readUInt32LE(at) !== BATCH_MAGIC_LOW) return null;
  const header = bytes.subarray(at, at + HEADER_BYTES);
  const own = header.readBigUInt64LE(HEADER_BYTES - 8);
  if (own !== sum(header.subarray(0, HEADER_BYTES - 8))) return null;
  if (!header.subarray(0, 8).equals(BATCH_MAGIC) || header.readUInt32LE(8) !== VERSION) return null;
  const destinations: DestinationFact[] = [];
  const destinationCount = Math.min(header.readUInt32LE(52), DESTINATIONS_MAX);
  for (let i = 0; i < destinationCount; i += 1) {
    const from = 128 + i * 24;
    destinations.push({ id: getNumber(header, from), joined: getNumber(header, from + 8), durable: getNumber(header, from + 16) });
  }
  return {
    recordCount: header.readUInt32LE(12),
    id: header.readBigUInt64LE(16),
    volumeSum: header.readBigUInt64LE(24),
    number: getNumber(header, 32),
    address: getNumber(header, 40),
    bytes: header.readUInt32LE(48),
    epoch: getNumber(header, 56),
    sequence: getNumber(header, 64),
    chain: header.readBigUInt64LE(72),
    synced: getNumber(header, 80),
    tail: {
      address: getNumber(header, 88),
      number: getNumber(header, 96),
      sequence: getNumber(header, 104),
      chain: header.readBigUInt64LE(112),
    },
    recordsSum: header.readBigUInt64LE(120),
    destinations,
    sum: own,
  };
}

/** Writes one descriptor; its payload's checksum is put when the batch is written (`putPayloadSum`). */
export function encodeDescriptor(
  into: Buffer,
  index: number,
  record: { sequence: number; offset: number; length: number; op: Op; punch: boolean },
): void {
  assert(record.op === OP.WRITE || record.op === OP.ZEROES, 'a journal has writes and zeroes');
  const at = HEADER_BYTES + index * DESCRIPTOR_BYTES;
  putNumber(into, record.sequence, at);
  putNumber(into, record.offset, at + 8);
  into.writeUInt32LE(record.length, at + 16);
  into[at + 20] = record.op === OP.WRITE ? DISK_OP.WRITE : DISK_OP.ZEROES;
  into[at + 21] = record.punch ? PUNCH : 0;
  into.writeUInt16LE(0, at + 22);
  into.fill(0, at + 24, at + 32);
}

export function putPayloadSum(into: Buffer, index: number, payloadSum: bigint): void {
  into.writeBigUInt64LE(payloadSum, HEADER_BYTES + index * DESCRIPTOR_BYTES + 24);
}

/** The records of a batch whose bytes are `batch`; a string says why they are not what `header` stands for. */
export function decodeRecords(batch: Buffer, header: DecodedHeader, sum: Sum): Descriptor[] | string {
  const payloadsAt = HEADER_BYTES + header.recordCount * DESCRIPTOR_BYTES;
  if (payloadsAt > header.bytes || batch.length !== header.bytes) return 'its length is wrong';
  if (sum(batch.subarray(HEADER_BYTES, payloadsAt)) !== header.recordsSum) return 'the checksum of its records is wrong';
  const records: Descriptor[] = [];
  let end = payloadsAt;
  for (let i = 0; i < header.recordCount; i += 1) {
    const at = HEADER_BYTES + i * DESCRIPTOR_BYTES;
    const op = batch[at + 20] === DISK_OP.WRITE ? OP.WRITE : OP.ZEROES;
    const record: Descriptor = {
      sequence: getNumber(batch, at),
      offset: getNumber(batch, at + 8),
      length: batch.readUInt32LE(at + 16),
      op,
      punch: (batch[at + 21] & PUNCH) !== 0,
      payloadSum: batch.readBigUInt64LE(at + 24),
    };
    if (record.sequence !== header.sequence + i) return 'its records are not in sequence';
    records.push(record);
    if (op !== OP.WRITE) continue;
    if (end + record.length > header.bytes) return 'its records are longer than it is';
    if (sum(batch.subarray(end, end + record.length)) !== record.payloadSum) return `the checksum of record ${record.sequence} is wrong`;
    end += record.length;
  }
  return wholeBlocks(end) === header.bytes ? records : 'its length is wrong';
}

function putNumber(into: Buffer, value: number, at: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, 'a number of the journal is whole and not negative');
  into.writeUInt32LE(value % 0x1_0000_0000, at);
  into.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4);
}

function getNumber(from: Buffer, at: number): number {
  return from.readUInt32LE(at + 4) * 0x1_0000_0000 + from.readUInt32LE(at);
}
