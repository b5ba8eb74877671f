// A file or block device as a Device: every operation is a system call on a worker thread, answered by callback, with
// no promise and no new object per request but the data itself. At most `operationsMax` calls are under way; what is
// over waits in order. Never blocks the event loop; does not order overlapping requests (NBD does not ask for it).
import assert from 'node:assert/strict';
import { close, fdatasync, read, write } from 'node:fs';
import { type Device, type DeviceRequest, ERRNO, OP } from '../../replication/device.js';
import { EXTENTS_MAX, findExtents } from './file-extents.js';
import { FileFlusher, type FlushWaiter } from './file-flusher.js';
import { FileZeroes, type ZeroFile } from './file-zeroes.js';
import type { IoCounters } from './io-counters.js';
import type { Libc } from './libc.js';
import { ReadSlab } from './read-slab.js';
import { protocolErrno } from './system-error.js';

const OPERATIONS_MAX = 64;

export interface FileDeviceOptions extends ZeroFile {
  /** Open for reading and writing; the device owns it from here on and closes it. */
  fd: number;
  sizeBytes: number;
  libc: Libc | null;
  counters: IoCounters;
  /** Told about each kind of failing call once, and once about a failed fdatasync, after which nothing is durable any more. */
  failed: (call: string, error: NodeJS.ErrnoException) => void;
  operationsMax?: number;
}

export class FileDevice implements Device {
  #fd: number;
  #sizeBytes: number;
  #flusher: FileFlusher;
  #zeroes: FileZeroes;
  #slab = new ReadSlab();
  #free: FileOperation[] = [];
  #queue: DeviceRequest[] = [];
  #queueHead = 0;
  #active = 0;
  #inFlight = 0;
  #closing = false;
  #idle: (() => void)[] = [];
  #reported = new Set<string>();

  constructor(private readonly options: FileDeviceOptions) {
    this.#fd = options.fd;
    this.#sizeBytes = options.sizeBytes;
    this.#flusher = new FileFlusher(
      (done) => fdatasync(options.fd, done),
      (error) => options.failed('fdatasync', error),
    );
    this.#zeroes = new FileZeroes(options, options.libc);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Requests submitted and not yet answered. */
  get inFlight(): number {
    return this.#inFlight;
  }

  get punches(): boolean {
    return this.#zeroes.punches;
  }

  get fastZeroes(): boolean {
    return this.#zeroes.fast;
  }

  /** The file was made larger; what is new reads as zero. */
  grow(sizeBytes: number): void {
    assert(sizeBytes >= this.#sizeBytes, 'a device never shrinks');
    this.#sizeBytes = sizeBytes;
  }

  submit(request: DeviceRequest): void {
    assert(request.offset >= 0 && request.offset + request.length <= this.#sizeBytes, 'a request must lie within the device');
    assert(request.op === OP.FLUSH || request.length > 0, 'only a flush has no length');
    if (this.#closing) {
      request.complete(ERRNO.ESHUTDOWN);
      return;
    }
    this.#inFlight += 1;
    this.options.counters.inFlight += 1;
    if (request.op === OP.FLUSH) this.#flusher.join(this.#take(request));
    else if (this.#active >= (this.options.operationsMax ?? OPERATIONS_MAX)) this.#queue.push(request);
    else this.#start(request);
  }

  /** Resolves when no request is unanswered. */
  drained(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Refuses what comes from now on (ESHUTDOWN), answers what is in flight, flushes, closes. Gives the last flush's error number. */
  async close(): Promise<number> {
    this.#closing = true;
    await this.drained();
    const errno = await new Promise<number>((resolve) => this.#flusher.join({ flushed: resolve }));
    await this.discard();
    return errno;
  }

  /** As `close`, without the flush: for data that is about to be removed. */
  async discard(): Promise<void> {
    this.#closing = true;
    await this.drained();
    await new Promise<void>((resolve) => close(this.#fd, () => resolve()));
  }

  #start(request: DeviceRequest): void {
    this.#active += 1;
    this.#take(request).start();
  }

  #take(request: DeviceRequest): FileOperation {
    const operation =
      this.#free.pop() ?? new FileOperation(this.#fd, this.#slab, this.#zeroes, this.options.libc, this.#transferred, this.#answer);
    operation.request = request;
    return operation;
  }

  /** The call of an operation has ended and its place is free; with FUA it still waits for a flush. */
  #transferred = (operation: FileOperation, errno: number, error: NodeJS.ErrnoException | null): void => {
    const request = operation.request!;
    if (error) this.#report(request, error);
    this.#active -= 1;
    const next = this.#dequeue();
    if (next) this.#start(next);
    if (errno === 0 && request.fua && (request.op === OP.WRITE || request.op === OP.ZEROES)) this.#flusher.join(operation);
    else this.#answer(operation, errno);
  };

  #answer = (operation: FileOperation, errno: number): void => {
    const request = operation.request!;
    if (errno === 0 && request.op === OP.READ) request.data = operation.data;
    if (errno === 0 && request.op === OP.STATUS) request.extents = operation.extents;
    operation.clear();
    this.#free.push(operation);
    this.#inFlight -= 1;
    this.options.counters.inFlight -= 1;
    this.options.counters.count(request.op, request.length, errno);
    request.complete(errno);
    if (this.#inFlight === 0) for (const resolve of this.#idle.splice(0)) resolve();
  };

  #dequeue(): DeviceRequest | undefined {
    if (this.#queueHead === this.#queue.length) return undefined;
    const request = this.#queue[this.#queueHead++];
    if (this.#queueHead === this.#queue.length) {
      this.#queue.length = 0;
      this.#queueHead = 0;
    } else if (this.#queueHead >= 1024) {
      this.#queue.splice(0, this.#queueHead);
      this.#queueHead = 0;
    }
    return request;
  }

  #report(request: DeviceRequest, error: NodeJS.ErrnoException): void {
    const call = request.op === OP.READ ? 'read' : 'write';
    const kind = `${call} ${error.code}`;
    if (this.#reported.has(kind)) return;
    this.#reported.add(kind);
    this.options.failed(call, error);
  }
}

type Transferred = (operation: FileOperation, errno: number, error: NodeJS.ErrnoException | null) => void;

/** One request under way: pooled, with its callbacks made once. */
class FileOperation implements FlushWaiter {
  request: DeviceRequest | null = null;
  data: Buffer | null = null;
  extents: DeviceRequest['extents'] = null;
  #movedBytes = 0;

  constructor(
    private readonly fd: number,
    private readonly slab: ReadSlab,
    private readonly zeroes: FileZeroes,
    private readonly libc: Libc | null,
    private readonly transferred: Transferred,
    private readonly answer: (operation: FileOperation, errno: number) => void,
  ) {}

  start(): void {
    const request = this.request!;
    if (request.op === OP.READ) {
      this.data = this.slab.take(request.length);
      this.#read();
    } else if (request.op === OP.WRITE) {
      assert(request.data?.length === request.length, 'a write carries as many bytes as it says');
      this.data = request.data;
      this.#write();
    } else if (request.op === OP.ZEROES) {
      this.zeroes.zero(request.offset, request.length, request.punch, request.fast, this.#zeroed);
    } else {
      const { offset, length, one } = request;
      findExtents(this.libc, this.fd, { offset, length, extentsMax: one ? 1 : EXTENTS_MAX }, this.#found);
    }
  }

  clear(): void {
    this.request = null;
    this.data = null;
    this.extents = null;
    this.#movedBytes = 0;
  }

  flushed(errno: number): void {
    this.answer(this, errno);
  }

  #read(): void {
    const moved = this.#movedBytes;
    read(this.fd, this.data!, moved, this.request!.length - moved, this.request!.offset + moved, this.#moved);
  }

  #write(): void {
    const moved = this.#movedBytes;
    write(this.fd, this.data!, moved, this.request!.length - moved, this.request!.offset + moved, this.#moved);
  }

  /** Short reads and writes go on where they ended. Nothing moved at all: the file is shorter than it was, which is no end of file here. */
  #moved = (error: NodeJS.ErrnoException | null, bytes: number): void => {
    const request = this.request!;
    const failure = error?.code === 'EINTR' ? null : (error ?? (bytes === 0 ? truncated() : null));
    if (!error) this.#movedBytes += bytes;
    if (failure) this.transferred(this, protocolErrno(failure.code), failure);
    else if (this.#movedBytes === request.length) this.transferred(this, ERRNO.OK, null);
    else if (request.op === OP.READ) this.#read();
    else this.#write();
  };

  #zeroed = (errno: number): void => {
    this.transferred(this, errno, null);
  };

  #found = (extents: NonNullable<DeviceRequest['extents']>): void => {
    this.extents = extents;
    this.transferred(this, ERRNO.OK, null);
  };
}

function truncated(): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error('the file is shorter than the export; something outside has truncated it');
  error.code = 'TRUNCATED';
  return error;
}
