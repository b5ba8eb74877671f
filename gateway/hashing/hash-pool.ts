// The Hasher of the product: small work on the spot, bulk work in piscina workers on batches, so that the event loop that
// carries I/O is never held up. A worker that fails fails its batch and nothing else: the scrub that asked stops, hosts see
// nothing, the process goes on.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { Hasher } from '../../replication/hasher.js';
import { type Clock, type Log, within } from '../../replication/world.js';
import { createHash64 } from './xxh64.js';

/** Batches under way when the pool closes have this long to end. */
const CLOSE_GRACE_MS = 5000;

/** Workers run built files; the sources have them beside themselves only when built. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? '../../dist/gateway/hashing/hash-worker.js' : './hash-worker.js', import.meta.url);

export class HashPool implements Hasher {
  readonly sum: (bytes: Uint8Array) => bigint;
  readonly #world: { clock: Clock; log: Log };
  readonly #pool: Piscina;
  readonly #underWay = new Set<Promise<unknown>>();
  #closed = false;

  private constructor(sum: (bytes: Uint8Array) => bigint, world: { clock: Clock; log: Log }) {
    this.sum = sum;
    this.#world = world;
    this.#pool = new Piscina({
      filename: fileURLToPath(WORKER),
      minThreads: 0,
      maxThreads: Math.max(1, Math.min(4, availableParallelism() - 1)),
      idleTimeout: 5000,
      concurrentTasksPerWorker: 2,
    });
    // A worker that dies without a batch: the next batch starts another one.
    this.#pool.on('error', (error: Error) => world.log.warn({ reason: error.message }, 'a worker that computes checksums ended'));
  }

  static async create(world: { clock: Clock; log: Log }): Promise<HashPool> {
    return new HashPool(await createHash64(), world);
  }

  /** Rejects when the worker fails, and at once when the pool is closed. */
  async sums(bytes: Buffer, regionBytes: number): Promise<bigint[]> {
    if (this.#closed) throw new Error('checksums are computed no more: the gateway is shutting down');
    const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
    // A slice of a shared buffer cannot be taken away from its owner.
    const owned = whole ? new Uint8Array(bytes.buffer) : Uint8Array.from(bytes);
    const batch: Promise<BigUint64Array> = this.#pool.run({ bytes: owned, regionBytes }, { transferList: [owned.buffer as ArrayBuffer] });
    this.#underWay.add(batch);
    try {
      return Array.from(await batch);
    } catch (error) {
      this.#world.log.warn({ reason: (error as Error).message }, 'checksums could not be computed');
      throw error;
    } finally {
      this.#underWay.delete(batch);
    }
  }

  /** Takes no more batches, and ends the workers once those under way are done, or after a while all the same: then they reject. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await within(this.#world.clock, CLOSE_GRACE_MS, Promise.allSettled(this.#underWay));
    await this.#pool.destroy();
  }
}
