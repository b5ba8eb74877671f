// A block device in memory for tests: completes at once, at the end of the turn, or when the test says so; fails where the
// test wants; keeps what it was asked, in order. Checks that requests are what a device may be given.
import assert from 'node:assert/strict';
import { type Device, type DeviceRequest, ERRNO, type Extent, OP, type Op } from '../../replication/device.js';

/** What the device was asked, copied when it was submitted. */
export interface Asked {
  op: Op;
  offset: number;
  length: number;
  fua: boolean;
  punch: boolean;
  fast: boolean;
  one: boolean;
  lane: number;
}

export interface MemoryDeviceOptions {
  /** sync: within `submit`. later: at the end of the turn, in order. held: when `release` says so. Default sync. */
  completion?: 'sync' | 'later' | 'held';
  /** Only so many bytes from the start are kept, for a device of any size that is only ever zeroed. Default all. */
  keptBytes?: number;
}

export class MemoryDevice implements Device {
  readonly sizeBytes: number;
  readonly bytes: Buffer;
  readonly asked: Asked[] = [];
  completion: 'sync' | 'later' | 'held';
  /** Gives the error number of a request, 0 to carry it out. */
  fail: (request: DeviceRequest) => number = () => 0;
  /** What STATUS answers; by default one extent of data. */
  extents: (request: DeviceRequest) => Extent[] = (request) => [{ lengthBytes: request.length, hole: false, zero: false }];
  #held: DeviceRequest[] = [];
  #waiting: { count: number; resolve: () => void }[] = [];

  constructor(sizeBytes: number, options: MemoryDeviceOptions = {}) {
    this.sizeBytes = sizeBytes;
    this.bytes = Buffer.alloc(options.keptBytes ?? sizeBytes);
    this.completion = options.completion ?? 'sync';
  }

  /** Requests submitted and not completed, oldest first. */
  get held(): readonly DeviceRequest[] {
    return this.#held;
  }

  submit(request: DeviceRequest): void {
    this.#check(request);
    const { op, offset, length, fua, punch, fast, one, lane } = request;
    this.asked.push({ op, offset, length, fua, punch, fast, one, lane });
    if (this.completion === 'sync') {
      this.#carryOut(request);
    } else {
      this.#held.push(request);
      if (this.completion === 'later') setImmediate(() => this.#completeHeld(request));
    }
    for (const waiter of this.#waiting.filter(({ count }) => this.asked.length >= count)) waiter.resolve();
    this.#waiting = this.#waiting.filter(({ count }) => this.asked.length < count);
  }

  /** Completes the held request at `index`, with its own outcome or with `errno`. */
  release(index = 0, errno?: number): void {
    const [request] = this.#held.splice(index, 1);
    assert(request !== undefined, 'no such held request');
    this.#carryOut(request, errno);
  }

  releaseAll(): void {
    while (this.#held.length > 0) this.release();
  }

  /** Resolves once `count` requests have been submitted since the start. */
  submitted(count: number): Promise<void> {
    if (this.asked.length >= count) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ count, resolve }));
  }

  #completeHeld(request: DeviceRequest): void {
    const index = this.#held.indexOf(request);
    if (index >= 0) this.release(index);
  }

  #carryOut(request: DeviceRequest, errno: number = this.fail(request)): void {
    const { op, offset, length } = request;
    if (errno === ERRNO.OK) {
      if (op === OP.READ) request.data = this.#read(offset, length);
      else if (op === OP.WRITE) request.data!.copy(this.bytes, offset);
      else if (op === OP.ZEROES) this.bytes.subarray(offset, offset + length).fill(0);
      else if (op === OP.STATUS) request.extents = this.extents(request);
    }
    request.complete(errno);
  }

  /** What is not kept reads as zero. */
  #read(offset: number, length: number): Buffer {
    const kept = this.bytes.subarray(offset, offset + length);
    return kept.length === length ? Buffer.from(kept) : Buffer.concat([kept], length);
  }

  #check(request: DeviceRequest): void {
    const { op, offset, length } = request;
    assert(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length), 'a range in integers');
    assert(op === OP.FLUSH ? length === 0 : length > 0, 'a length over zero, except for FLUSH');
    assert(offset + length <= this.sizeBytes, 'a range inside the device');
    if (op === OP.WRITE) assert.equal(request.data?.length, length, 'a payload as long as the range');
    else assert.equal(request.data, null, 'no data but for WRITE');
    assert.equal(request.extents, null, 'extents of an earlier request');
  }
}
