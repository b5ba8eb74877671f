// Which bytes of a read have come, when they come in pieces and out of order: two pieces that overlap are found, and what lies
// next to each other is one, so that a node with its bytes in crumbs costs neither time nor memory beyond a bound.

/** More gaps than that no server makes: each is a binary search and a move of what is behind it. */
const PIECES_MAX = 4096;

export class Coverage {
  /** [from, to) of each piece, in order, none touching the next. */
  readonly #bounds: number[] = [];

  /** `overlap`: some of it was there already. `crumbs`: more pieces than anyone keeps. Null: it is noted. */
  add(from: number, to: number): 'overlap' | 'crumbs' | null {
    const bounds = this.#bounds;
    // The first piece that ends behind `from`.
    let low = 0;
    let high = bounds.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (bounds[2 * middle + 1] <= from) low = middle + 1;
      else high = middle;
    }
    const at = 2 * low;
    if (at < bounds.length && bounds[at] < to) return 'overlap';
    const joinsLast = at > 0 && bounds[at - 1] === from;
    const joinsNext = at < bounds.length && bounds[at] === to;
    if (joinsLast && joinsNext) bounds.splice(at - 1, 2);
    else if (joinsLast) bounds[at - 1] = to;
    else if (joinsNext) bounds[at] = from;
    else {
      if (bounds.length >= 2 * PIECES_MAX) return 'crumbs';
      bounds.splice(at, 0, from, to);
    }
    return null;
  }
}
