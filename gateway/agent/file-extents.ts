// Which parts of a range are allocated, by SEEK_DATA and SEEK_HOLE. A hole reads as zero, so it is reported as both.
// Where the system cannot say (no libc, a block device, an error), the range is one data extent: less known, never wrong.
import type { Extent } from '../../replication/device.js';
import { type Libc, SYSTEM_ERRNO, WHENCE } from './libc.js';

/** Enough for one reply; the client asks again from where it ends. */
export const EXTENTS_MAX = 1024;
/** One seek finds one edge; a file that changes under us may waste some. */
const SEEKS_MAX = 2 * EXTENTS_MAX;

/** `done` gets extents that start at `offset`, at least one, at most `extentsMax`, and never reach beyond the range. */
export function findExtents(
  libc: Libc | null,
  fd: number,
  range: { offset: number; length: number; extentsMax: number },
  done: (extents: Extent[]) => void,
): void {
  if (libc === null) done([{ lengthBytes: range.length, hole: false, zero: false }]);
  else new Walk(libc, fd, range, done).step();
}

class Walk {
  #extents: Extent[] = [];
  #at: number;
  #end: number;
  #seeks = 0;
  #whence: number = WHENCE.SEEK_DATA;

  constructor(
    private readonly libc: Libc,
    private readonly fd: number,
    private readonly range: { offset: number; length: number; extentsMax: number },
    private readonly done: (extents: Extent[]) => void,
  ) {
    this.#at = range.offset;
    this.#end = range.offset + range.length;
  }

  step(): void {
    this.#seeks += 1;
    this.libc.seek(this.fd, this.#at, this.#whence, this.#found);
  }

  /** What lies before the edge at `position` is of one kind: a hole when data was sought, data when a hole was. */
  #found = (errno: number, position: number): void => {
    const soughtData = this.#whence === WHENCE.SEEK_DATA;
    if (errno === SYSTEM_ERRNO.ENXIO && soughtData) this.#add(this.#end, true);
    else if (errno !== 0) this.#add(this.#end, false);
    else this.#add(position, soughtData);
    this.#whence = soughtData ? WHENCE.SEEK_HOLE : WHENCE.SEEK_DATA;
    if (this.#at < this.#end && this.#extents.length < this.range.extentsMax && this.#seeks < SEEKS_MAX) {
      this.step();
      return;
    }
    if (this.#extents.length === 0) this.#add(this.#end, false);
    this.done(this.#extents);
  };

  #add(position: number, hole: boolean): void {
    const edge = Math.min(position, this.#end);
    if (edge <= this.#at) return;
    this.#extents.push({ lengthBytes: edge - this.#at, hole, zero: hole });
    this.#at = edge;
  }
}
