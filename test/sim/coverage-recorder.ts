// What an instrumented copy of the sources tells while a seed runs: awaits that were reached, those at which somebody was
// suspended when the gateway crashed, and changes of states. Where nothing is instrumented it is told nothing.

/** How the instrumented sources call it. */
export const RECORDER = 'globalThis.forestallCoverage';

/** Of one run. */
export interface Coverage {
  /** For each await that was reached: its number, how often it was, and how many crashes met somebody there. */
  awaits: [number, number, number][];
  /** `FILE PROPERTY FROM TO` and how often. */
  moves: [string, number][];
  /** Somebody was still suspended at the await to crash at when what else is due at that instant had begun. */
  waited: boolean;
}

export class CoverageRecorder {
  #reached = new Map<number, number>();
  #crashed = new Map<number, number>();
  #moves = new Map<string, number>();
  /** Who is suspended where, in the gateway that runs now. */
  #suspended = new Map<number, number>();
  #crashAt: number | null = null;
  #crash: (() => void) | null = null;
  #waited = false;

  /** A run begins; the first time that somebody is suspended at await `crashAt`, `crash` is called. */
  begin(crashAt: number | null): void {
    this.#reached = new Map();
    this.#crashed = new Map();
    this.#moves = new Map();
    this.#suspended = new Map();
    this.#crashAt = crashAt;
    this.#crash = null;
    this.#waited = false;
  }

  /** The run can be made to crash by `crash`, which asks `isDue` when its turn has come. */
  arm(crash: () => void): void {
    this.#crash = crash;
  }

  /** An await that never lasts until another event is none at which a crash could be told from one before or behind it. */
  isDue(): boolean {
    const due = this.#crashAt !== null && (this.#suspended.get(this.#crashAt) ?? 0) > 0;
    if (due) this.#waited = true;
    return due;
  }

  /** `awaited` as it is, so that awaiting takes as long as without. */
  reach<T>(id: number, awaited: T): T {
    increase(this.#reached, id, 1);
    if (!(awaited instanceof Promise)) return awaited;
    const suspended = this.#suspended;
    increase(suspended, id, 1);
    const leave = (): void => increase(suspended, id, -1);
    awaited.then(leave, leave);
    if (id === this.#crashAt) this.#crash?.();
    return awaited;
  }

  enter<T>(machine: string, from: unknown, to: T): T {
    if (from !== to) increase(this.#moves, `${machine} ${nameOf(from)} ${nameOf(to)}`, 1);
    return to;
  }

  crashed(): void {
    for (const [id, count] of this.#suspended) if (count > 0) increase(this.#crashed, id, 1);
    if (this.#waited) this.#crash = null;
    this.#suspended = new Map();
  }

  get coverage(): Coverage {
    const awaits = [...this.#reached].map(([id, reached]): [number, number, number] => [id, reached, this.#crashed.get(id) ?? 0]);
    return { awaits, moves: [...this.#moves], waited: this.#waited };
  }
}

function increase<K>(counts: Map<K, number>, key: K, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}

function nameOf(state: unknown): string {
  if (typeof state === 'object' && state !== null && 'state' in state) return String(state.state);
  return String(state);
}

export const recorder = new CoverageRecorder();
Object.assign(globalThis, { forestallCoverage: recorder });
