// Room for the payloads of small writes: pieces cut one after the other from large buffers, so that a small write costs
// neither an allocation nor the whole chunk it came in. A piece is never handed out twice; a slab goes when all its
// pieces are forgotten.

const SLAB_BYTES = 256 * 1024;
/** Payloads up to here are copied into a slab; larger ones have a buffer of their own or stay where they arrived. */
export const SLAB_PAYLOAD_BYTES_MAX = 16 * 1024;

export class PayloadSlab {
  #slab = Buffer.alloc(0);
  #used = 0;

  /** Uninitialised room for `length` bytes. */
  take(length: number): Buffer {
    if (length > SLAB_PAYLOAD_BYTES_MAX) return Buffer.allocUnsafeSlow(length);
    if (this.#used + length > this.#slab.length) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#used = 0;
    }
    const start = this.#used;
    this.#used += length;
    return this.#slab.subarray(start, start + length);
  }
}
