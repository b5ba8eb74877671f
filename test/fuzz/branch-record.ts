// What instrumented sources tell while an input runs: how often each branch was taken, and how many rounds their loops made.
// Must be imported before any of them. Where nothing is instrumented it is told nothing.

const BRANCHES_MAX = 8192;
/** Far more than any input needs whose length is bounded as those of the fuzzer are. */
const LOOPS_MAX = 4_000_000;

const counts = new Uint8Array(BRANCHES_MAX);
let loops = 0;

/** One bit for each order of magnitude. */
const MAGNITUDE = Uint8Array.from({ length: 256 }, (_, count) => (count < 4 ? [0, 1, 2, 4][count] : count < 8 ? 8 : count < 32 ? 16 : 32));

function loop(): void {
  loops += 1;
  if (loops > LOOPS_MAX) {
    loops = 0;
    throw new Error(`a loop went round more than ${LOOPS_MAX} times`);
  }
}

/** Branches that some runs took, and in which orders of magnitude. */
export class SeenBranches {
  readonly #seen: Uint8Array;

  /** `branches`: how many there are. */
  constructor(branches: number) {
    if (branches > BRANCHES_MAX) throw new Error(`${branches} branches are more than there is room for`);
    this.#seen = new Uint8Array(branches);
  }

  /** How many branches were taken at all. */
  get count(): number {
    return this.#seen.reduce((sum, bits) => sum + (bits === 0 ? 0 : 1), 0);
  }

  /** The numbers of those. */
  get branches(): number[] {
    return [...this.#seen.keys()].filter((at) => this.#seen[at] !== 0);
  }

  /** Takes up what was taken since `beginRecord`; false: nothing of it is new. */
  add(): boolean {
    const seen = this.#seen;
    let found = false;
    for (let at = 0; at < seen.length; at += 1) {
      const count = counts[at];
      if (count === 0) continue;
      const bit = MAGNITUDE[count];
      if ((seen[at] & bit) !== 0) continue;
      seen[at] |= bit;
      found = true;
    }
    return found;
  }
}

export function beginRecord(): void {
  counts.fill(0);
  loops = 0;
}

Object.assign(globalThis, { forestallBranches: counts, forestallLoop: loop });
