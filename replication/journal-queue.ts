// Room in a journal for writes that were sent (reserved) and for records that are not in the ring yet (queued), in ring
// bytes and in memory, and the batches that take such records. Everything is bounded before a write is sent (rule 5).
import assert from 'node:assert';
import { OP, type Op } from './device.js';
import { JournalBatch, type JournalWrite } from './journal-batch.js';
import { BLOCK_BYTES, DESCRIPTOR_BYTES, HEADER_BYTES, wholeBlocks } from './journal-format.js';

export class JournalQueue {
  readonly #batchBytesMax: number;
  readonly #memoryBytesMax: number;
  readonly #pool: JournalBatch[] = [];
  /** The last one takes records, those before it are full. */
  readonly #batches: JournalBatch[] = [];
  #reservedBytes = 0;
  #reservedMemoryBytes = 0;
  #queuedBytes = 0;
  #retainedBytes = 0;

  constructor(batchBytesMax: number, memoryBytesMax: number) {
    assert(batchBytesMax % BLOCK_BYTES === 0 && batchBytesMax > BLOCK_BYTES, 'a batch is whole blocks, its header and at least one more');
    this.#batchBytesMax = batchBytesMax;
    this.#memoryBytesMax = memoryBytesMax;
  }

  /** Batches that wait to be written. */
  get length(): number {
    return this.#batches.length;
  }

  /** Nothing is queued and nothing has room reserved. */
  get idle(): boolean {
    return this.#batches.length === 0 && this.#reservedBytes === 0;
  }

  /** Payloads in memory, by the buffers they keep alive. */
  get retainedBytes(): number {
    return this.#retainedBytes;
  }

  /** Sets room aside in `freeBytes` of the ring; false: there is too little of it, or of memory. */
  reserve(op: Op, length: number, freeBytes: number): boolean {
    const costBytes = this.cost(op, length);
    const payloadBytes = op === OP.WRITE ? length : 0;
    const memoryBytes = this.#retainedBytes + this.#reservedMemoryBytes;
    if (this.#queuedBytes + this.#reservedBytes + costBytes > freeBytes) return false;
    if (memoryBytes > 0 && memoryBytes + payloadBytes > this.#memoryBytesMax) return false;
    this.#reservedBytes += costBytes;
    this.#reservedMemoryBytes += payloadBytes;
    return true;
  }

  unreserve(op: Op, length: number): void {
    this.#reservedBytes -= this.cost(op, length);
    if (op === OP.WRITE) this.#reservedMemoryBytes -= length;
    assert(this.#reservedBytes >= 0 && this.#reservedMemoryBytes >= 0, 'what is appended had room');
  }

  /** The most that a write takes of the ring: as if each of its records had a batch of its own. */
  cost(op: Op, length: number): number {
    if (op !== OP.WRITE) return BLOCK_BYTES;
    const restBytes = length % this.#pieceBytesMax;
    const wholeBytes = Math.floor(length / this.#pieceBytesMax) * this.#batchBytesMax;
    return restBytes === 0 ? wholeBytes : wholeBytes + wholeBlocks(HEADER_BYTES + DESCRIPTOR_BYTES + restBytes);
  }

  /** Queues the records of a write; gives the sequence of the last of them. A long write has several. */
  add(write: JournalWrite, epoch: number, firstSequence: number): number {
    const { op, length } = write;
    const pieceBytesMax = op === OP.WRITE ? this.#pieceBytesMax : length;
    let sequence = firstSequence - 1;
    for (let from = 0; from < length; from += pieceBytesMax) {
      const pieceBytes = Math.min(pieceBytesMax, length - from);
      sequence += 1;
      const batch = this.#batchFor(op === OP.WRITE ? pieceBytes : 0, epoch, sequence);
      const costBytes = this.cost(op, pieceBytes);
      this.#retainedBytes += batch.add(write, from, pieceBytes, costBytes);
      this.#queuedBytes += costBytes;
    }
    return sequence;
  }

  /** The oldest batch; without one, an empty one that would stand at this place. */
  take(epoch: number, sequence: number): JournalBatch {
    const batch = this.#batches.shift();
    if (batch !== undefined) return batch;
    const empty = this.#pool.pop() ?? new JournalBatch();
    empty.begin(epoch, sequence);
    return empty;
  }

  /** A batch that was taken is in the ring. */
  written(batch: JournalBatch): void {
    this.#queuedBytes -= batch.costBytes;
    this.#retainedBytes -= batch.retainedBytes;
    batch.clear();
    this.#pool.push(batch);
  }

  drop(): void {
    this.#batches.length = 0;
  }

  get #pieceBytesMax(): number {
    return this.#batchBytesMax - BLOCK_BYTES;
  }

  #batchFor(payloadBytes: number, epoch: number, sequence: number): JournalBatch {
    const last = this.#batches.at(-1);
    if (last !== undefined && last.epoch === epoch && last.fits(payloadBytes, this.#batchBytesMax)) return last;
    const batch = this.#pool.pop() ?? new JournalBatch();
    batch.begin(epoch, sequence);
    this.#batches.push(batch);
    return batch;
  }
}
