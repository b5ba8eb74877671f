// The Hasher of the product: small work on the spot, bulk work in piscina workers on batches, so that the event loop that
// carries I/O is never held up. A worker that fails fails the batch; the scrub that asked sees an error, hosts see nothing.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { Hasher } from '../../replication/hasher.js';
import { createHash64 } from './xxh64.js';

/** Workers run built files; the sources have them beside themselves only when built. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? '../../dist/gateway/hashing/hash-worker.js' : './hash-worker.js', import.meta.url);

export class HashPool implements Hasher {
  readonly sum: (bytes: Uint8Array) => bigint;
  readonly #pool: Piscina;

  private constructor(sum: (bytes: Uint8Array) => bigint) {
    this.sum = sum;
    this.#pool = new Piscina({
      filename: fileURLToPath(WORKER),
      minThreads: 0,
      maxThreads: Math.max(1, Math.min(4, availableParallelism() - 1)),
      idleTimeout: 5000,
      concurrentTasksPerWorker: 2,
    });
  }

  static async create(): Promise<HashPool> {
    return new HashPool(await createHash64());
  }

  async sums(bytes: Buffer, regionBytes: number): Promise<bigint[]> {
    const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
    // A slice of a shared buffer cannot be taken away from its owner.
    const owned = whole ? new Uint8Array(bytes.buffer) : Uint8Array.from(bytes);
    const sums = (await this.#pool.run({ bytes: owned, regionBytes }, { transferList: [owned.buffer as ArrayBuffer] })) as BigUint64Array;
    return Array.from(sums);
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}
