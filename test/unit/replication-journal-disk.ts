// A disk for journal tests. Every call waits until the test completes it; what was written and not synced may be lost,
// kept or torn, sector by sector and in any order, when the power fails.
import assert from 'node:assert/strict';
import { encodeSuperblock } from '../../replication/journal-format.js';
import type { JournalFile } from '../../replication/journal-options.js';
import { createHash64 } from '../../gateway/hashing/xxh64.js';

export const sum = await createHash64();

/** Numbers below 1, always the same for a seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The bytes of a new journal. */
export function newImage(ringBytes: number, volume = 'v', firstSequence = 1, id = 77n): Buffer {
  const block = encodeSuperblock({ ringBytes, generation: 1, id, firstSequence, volume }, sum);
  return Buffer.concat([block, block, Buffer.alloc(ringBytes)]);
}

interface Call {
  kind: 'read' | 'write' | 'sync';
  end(error: Error | null): void;
}

export class CrashDisk implements JournalFile {
  readonly sizeBytes: number;
  /** Calls that are not answered. */
  readonly calls: Call[] = [];
  /** Answer every call at once. */
  automatic = false;
  /** Fails calls from now on. */
  refusing: Error | null = null;
  /** Offsets of blocks that cannot be read. */
  readonly unreadable = new Set<number>();
  writes = 0;
  syncs = 0;
  readonly #durable: Buffer;
  readonly #current: Buffer;
  readonly #sectorBytes: number;
  #unsynced: { at: number; bytes: Buffer }[] = [];
  #dead = false;

  constructor(image: Buffer, sectorBytes = 512) {
    this.#durable = Buffer.from(image);
    this.#current = Buffer.from(image);
    this.#sectorBytes = sectorBytes;
    this.sizeBytes = image.length;
  }

  get image(): Buffer {
    return Buffer.from(this.#current);
  }

  read(offset: number, length: number): Promise<Buffer> {
    assert(offset + length <= this.sizeBytes);
    return this.#call('read', () => {
      for (const at of this.unreadable) if (at >= offset && at < offset + length) throw new Error('EIO');
      return Buffer.from(this.#current.subarray(offset, offset + length));
    });
  }

  write(offset: number, buffers: Buffer[]): Promise<void> {
    const bytes = Buffer.concat(buffers);
    assert(offset % 4096 === 0 && bytes.length % 4096 === 0 && bytes.length > 0, 'writes are whole blocks');
    assert(offset + bytes.length <= this.sizeBytes);
    this.writes += 1;
    // It may reach the disk before it is answered.
    if (!this.#dead && this.refusing === null) {
      bytes.copy(this.#current, offset);
      for (let at = 0; at < bytes.length; at += this.#sectorBytes) {
        this.#unsynced.push({ at: offset + at, bytes: bytes.subarray(at, at + this.#sectorBytes) });
      }
    }
    return this.#call('write', () => {});
  }

  sync(): Promise<void> {
    this.syncs += 1;
    const covered = this.#unsynced.length;
    return this.#call('sync', () => {
      for (const { at, bytes } of this.#unsynced.splice(0, covered)) bytes.copy(this.#durable, at);
    });
  }

  /** Answers the oldest call. */
  step(): boolean {
    const call = this.calls.shift();
    call?.end(this.refusing);
    return call !== undefined;
  }

  /** No call is answered any more. Gives what is on the disk: each unsynced sector is kept with this probability. */
  crash(kept: number, random: () => number): Buffer {
    this.#dead = true;
    this.calls.length = 0;
    for (const { at, bytes } of this.#unsynced) if (random() < kept) bytes.copy(this.#durable, at);
    return Buffer.from(this.#durable);
  }

  #call<T>(kind: Call['kind'], act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = (error: Error | null): void => {
        if (this.#dead) return;
        try {
          if (error !== null) throw error;
          resolve(act());
        } catch (failure) {
          reject(failure);
        }
      };
      if (this.#dead) return;
      if (this.automatic) end(this.refusing);
      else this.calls.push({ kind, end });
    });
  }
}
