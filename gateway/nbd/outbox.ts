// Replies on their way to a wire, gathered until the end of the turn and then written at once: headers and small data
// side by side in a slab, large data by reference. The slab is used again only when the wire has taken every byte.
import type { Wire } from '../wire.js';

const SLAB_BYTES = 256 * 1024;
/** Data up to here is copied next to its header: cheaper than one more buffer in the system call. */
const COPY_BYTES_MAX = 16 * 1024;

export class Outbox {
  /** Where `reserve` gives room; may change with each `reserve`. */
  slab = Buffer.alloc(0);
  #used = 0;
  /** Start of what is in the slab and not yet among the parts. */
  #partStart = 0;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** What was written and not yet flushed. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Room for the next `bytes` bytes of the stream (at most 16 KiB), to be filled in at once: gives its position in `slab`. */
  reserve(bytes: number): number {
    if (this.#used + bytes > this.slab.length) {
      this.#closePart();
      this.slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#used = 0;
      this.#partStart = 0;
    }
    const at = this.#used;
    this.#used += bytes;
    this.#bytes += bytes;
    return at;
  }

  /** The next bytes of the stream; they must not change until they are sent. */
  append(data: Buffer): void {
    if (data.length <= COPY_BYTES_MAX) {
      const at = this.reserve(data.length);
      data.copy(this.slab, at);
    } else {
      this.#closePart();
      this.#parts.push(data);
      this.#bytes += data.length;
    }
  }

  /** Hands everything to the wire. False: the wire wants no more for now. */
  flush(wire: Wire): boolean {
    this.#closePart();
    const parts = this.#parts;
    let ready = true;
    if (parts.length === 1) {
      ready = wire.write(parts[0]);
    } else if (parts.length > 1) {
      wire.cork();
      for (let i = 0; i < parts.length; i++) if (!wire.write(parts[i])) ready = false;
      wire.uncork();
    }
    parts.length = 0;
    this.#bytes = 0;
    if (wire.queuedBytes === 0) this.#used = this.#partStart = 0;
    return ready;
  }

  /** Forgets what was not flushed. */
  clear(): void {
    this.#parts.length = 0;
    this.#partStart = this.#used;
    this.#bytes = 0;
  }

  #closePart(): void {
    if (this.#partStart === this.#used) return;
    this.#parts.push(this.slab.subarray(this.#partStart, this.#used));
    this.#partStart = this.#used;
  }
}
