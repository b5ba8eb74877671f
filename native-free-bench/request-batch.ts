// Buffers that requests are sent from: each has room for as many requests as one connection may have in flight, and
// those of a writer hold the payload's pattern from the start, so that a request costs its header and its stamps.
// A batch is used again only once its bytes have left.
import { SIZE } from '../gateway/nbd/constants.js';
import { BLOCK_BYTES, type Contents } from './contents.js';

export class RequestBatch {
  readonly bytes: Buffer;
  readonly #free: RequestBatch[];
  /** To be called when the bytes have left. */
  readonly release = (): void => {
    this.#free.push(this);
  };

  constructor(bytes: Buffer, free: RequestBatch[]) {
    this.bytes = bytes;
    this.#free = free;
  }
}

export class RequestBatches {
  readonly entryBytes: number;
  readonly #payloadBytes: number;
  readonly #entries: number;
  readonly #pattern: Buffer;
  readonly #free: RequestBatch[] = [];

  /** `payloadBytes` is 0 for reads, else whole blocks. */
  constructor(entries: number, payloadBytes: number, contents: Contents) {
    this.#entries = entries;
    this.#payloadBytes = payloadBytes;
    this.entryBytes = SIZE.REQUEST + payloadBytes;
    this.#pattern = contents.pattern;
  }

  take(): RequestBatch {
    return this.#free.pop() ?? this.#make();
  }

  #make(): RequestBatch {
    const bytes = Buffer.alloc(this.#entries * this.entryBytes);
    for (let entry = 0; entry < this.#entries; entry++) {
      const payload = entry * this.entryBytes + SIZE.REQUEST;
      for (let at = 0; at < this.#payloadBytes; at += BLOCK_BYTES) this.#pattern.copy(bytes, payload + at);
    }
    return new RequestBatch(bytes, this.#free);
  }
}
