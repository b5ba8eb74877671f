// Records on their way into the journal: one batch under construction. Holds descriptors in their final bytes and the
// payloads by reference. Pooled: its buffer is made once.
import assert from 'node:assert';
import { OP, type Op } from './device.js';
import {
  BLOCK_BYTES,
  type BatchHeader,
  DESCRIPTOR_BYTES,
  encodeDescriptor,
  encodeHeader,
  HEADER_BYTES,
  putPayloadSum,
  type Sum,
  wholeBlocks,
} from './journal-format.js';

const RECORDS_MAX = 256;
const ZEROES = Buffer.alloc(BLOCK_BYTES);

/** An acknowledged write, as the journal takes it. Nobody changes `data` any more. */
export interface JournalWrite {
  op: Op;
  offset: number;
  length: number;
  punch: boolean;
  data: Buffer | null;
}

/** What is known when a batch is written, beyond its records. */
export type BatchFacts = Omit<BatchHeader, 'recordCount' | 'bytes' | 'epoch' | 'sequence'>;

export class JournalBatch {
  epoch = 0;
  /** Of the first record. */
  sequence = 0;
  recordCount = 0;
  /** Ring bytes that were set aside for its records; at least `bytes`. */
  costBytes = 0;
  /** Memory that its payloads keep from being freed. */
  retainedBytes = 0;
  readonly #metadata = Buffer.alloc(HEADER_BYTES + RECORDS_MAX * DESCRIPTOR_BYTES);
  #payloads: (Buffer | null)[] = [];
  #payloadBytes = 0;
  #lastRetained: ArrayBufferLike | null = null;

  begin(epoch: number, sequence: number): void {
    this.epoch = epoch;
    this.sequence = sequence;
    this.recordCount = 0;
    this.costBytes = 0;
    this.retainedBytes = 0;
    this.#payloads.length = 0;
    this.#payloadBytes = 0;
    this.#lastRetained = null;
  }

  /** On disk. */
  get bytes(): number {
    return wholeBlocks(HEADER_BYTES + this.recordCount * DESCRIPTOR_BYTES + this.#payloadBytes);
  }

  /** Has it place for a record with this payload? */
  fits(payloadBytes: number, batchBytesMax: number): boolean {
    const bytes = HEADER_BYTES + (this.recordCount + 1) * DESCRIPTOR_BYTES + this.#payloadBytes + payloadBytes;
    return this.recordCount < RECORDS_MAX && bytes <= batchBytesMax;
  }

  /** Takes `length` bytes of a write from `from` bytes into it on. Gives the bytes of memory that it now keeps in addition. */
  add(write: JournalWrite, from: number, length: number, costBytes: number): number {
    const { op, offset, punch, data } = write;
    const sequence = this.sequence + this.recordCount;
    encodeDescriptor(this.#metadata, this.recordCount, { sequence, offset: offset + from, length, op, punch });
    this.recordCount += 1;
    this.costBytes += costBytes;
    if (op !== OP.WRITE) {
      this.#payloads.push(null);
      return 0;
    }
    assert(data !== null && data.length === write.length, 'a write has as many bytes as it says');
    this.#payloads.push(length === data.length ? data : data.subarray(from, from + length));
    this.#payloadBytes += length;
    // Payloads of one slab come one after the other: it is counted once.
    if (data.buffer === this.#lastRetained) return 0;
    this.#lastRetained = data.buffer;
    this.retainedBytes += data.buffer.byteLength;
    return data.buffer.byteLength;
  }

  /** Fills in what is missing and gives the bytes to write, `bytes` in all, with the header's checksum. */
  seal(facts: BatchFacts, sum: Sum): { buffers: Buffer[]; sum: bigint } {
    const metadataBytes = HEADER_BYTES + this.recordCount * DESCRIPTOR_BYTES;
    const buffers: Buffer[] = [this.#metadata.subarray(0, metadataBytes)];
    this.#payloads.forEach((payload, index) => {
      if (payload === null) return;
      putPayloadSum(this.#metadata, index, sum(payload));
      buffers.push(payload);
    });
    const { epoch, sequence, recordCount, bytes } = this;
    const paddingBytes = bytes - metadataBytes - this.#payloadBytes;
    if (paddingBytes > 0) buffers.push(ZEROES.subarray(0, paddingBytes));
    return { buffers, sum: encodeHeader(this.#metadata, { ...facts, epoch, sequence, recordCount, bytes }, sum) };
  }

  /** Lets go of the payloads. */
  clear(): void {
    this.#payloads.length = 0;
    this.#lastRetained = null;
  }
}

/** Splits what is to be written at an address of the ring where the ring ends: at most two pieces. */
export function splitAt(buffers: Buffer[], firstBytes: number): [Buffer[], Buffer[]] {
  const first: Buffer[] = [];
  const second: Buffer[] = [];
  let left = firstBytes;
  for (const buffer of buffers) {
    if (buffer.length <= left) first.push(buffer);
    else if (left <= 0) second.push(buffer);
    else {
      first.push(buffer.subarray(0, left));
      second.push(buffer.subarray(left));
    }
    left -= buffer.length;
  }
  return [first, second];
}
