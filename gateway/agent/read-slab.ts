// Memory for what is read: small reads are cut one after the other from a slab, which costs about half of an allocation
// each. A slab is never reused (its pieces belong to whoever got them), and is small, because one piece retains it whole.
const SLAB_BYTES = 64 * 1024;
const PIECE_BYTES_MAX = 8 * 1024;

export class ReadSlab {
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #used = 0;

  /** `lengthBytes` bytes of unknown content, the receiver's own. */
  take(lengthBytes: number): Buffer {
    if (lengthBytes > PIECE_BYTES_MAX) return Buffer.allocUnsafeSlow(lengthBytes);
    if (this.#used + lengthBytes > SLAB_BYTES) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#used = 0;
    }
    const piece = this.#slab.subarray(this.#used, this.#used + lengthBytes);
    this.#used += lengthBytes;
    return piece;
  }
}
