// Which regions of the source are holes, as it said itself, so that copying need not read them. Only a hint that is
// checked under the region's lock: whatever a host writes meanwhile takes the region out of the map.
import { Bitmap } from './bitmap.js';
import { type Device, OP, PromisedRequest, perform } from './device.js';
import type { RangeLock } from './range-lock.js';

/** How much one question covers. */
const WINDOW_BYTES = 1024 * 1024 * 1024;

export class ZeroMap {
  readonly #zero: Bitmap;
  readonly #lock: RangeLock;
  #from = 0;
  #to = 0;
  /** Ranges written while an answer is awaited: the answer says nothing of them. */
  #written: { offset: number; length: number }[] | null = null;

  constructor(sizeBytes: number, regionBytes: number, lock: RangeLock) {
    this.#zero = new Bitmap(sizeBytes, regionBytes);
    this.#lock = lock;
  }

  /** Was the source asked about this place? */
  covers(offset: number): boolean {
    return offset >= this.#from && offset < this.#to;
  }

  isZero(region: number): boolean {
    return this.#zero.has(region);
  }

  allZero(first: number, regions: number): boolean {
    return this.#zero.allIn(first * this.#zero.regionBytes, regions * this.#zero.regionBytes);
  }

  forget(offset: number, length: number): void {
    this.#zero.clearTouched(offset, length);
    this.#written?.push({ offset, length });
  }

  /** The source has become larger: nothing is known of its new part, nor of the region that was short before. */
  grow(sizeBytes: number): void {
    this.#zero.clearTouched(this.#zero.sizeBytes - 1, 1);
    this.#zero.grow(sizeBytes);
  }

  /** Asks the source about the window that begins at `offset`. Never fails: what is not known is not zero. */
  async look(source: Device, offset: number): Promise<void> {
    const length = Math.min(WINDOW_BYTES, this.#zero.sizeBytes - offset);
    this.#zero.clearAll();
    this.#written = [];
    const request = new PromisedRequest(OP.STATUS, offset, length);
    const errno = await perform(source, request);
    const written = this.#written;
    this.#written = null;
    this.#from = offset;
    this.#to = offset + length;
    if (errno !== 0) return;
    let at = offset;
    for (const extent of request.extents!) {
      const end = Math.min(at + extent.lengthBytes, offset + length);
      if (extent.zero && end > at) this.#zero.setInside(at, end - at);
      at = end;
    }
    // The answer may stop early; what lies behind is asked when copying gets there.
    this.#to = Math.max(at, offset + this.#zero.regionBytes);
    for (const range of written) this.#zero.clearTouched(range.offset, range.length);
    for (const range of this.#lock.ranges()) this.#zero.clearTouched(range.offset, range.length);
  }
}
