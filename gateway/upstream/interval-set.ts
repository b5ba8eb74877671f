// Which bytes of a device have been seen: sorted, disjoint intervals. Adding tells what was new.

export class IntervalSet {
  /** Starts and ends, interleaved and ascending. */
  #bounds: number[] = [];

  /** Adds [from, to); gives the parts of it that were not there, in order. */
  add(from: number, to: number): [number, number][] {
    const bounds = this.#bounds;
    // The first interval that ends at or behind `from`, and the first that starts behind `to`.
    const first = this.#firstEndingFrom(from);
    let last = first;
    const fresh: [number, number][] = [];
    let at = from;
    let start = from;
    let end = to;
    while (last < bounds.length && bounds[last] <= to) {
      if (bounds[last] > at) fresh.push([at, Math.min(bounds[last], to)]);
      at = Math.max(at, bounds[last + 1]);
      start = Math.min(start, bounds[last]);
      end = Math.max(end, bounds[last + 1]);
      last += 2;
    }
    if (at < to) fresh.push([at, to]);
    bounds.splice(first, last - first, start, end);
    return fresh;
  }

  #firstEndingFrom(from: number): number {
    let low = 0;
    let high = this.#bounds.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#bounds[middle * 2 + 1] < from) low = middle + 1;
      else high = middle;
    }
    return low * 2;
  }
}
