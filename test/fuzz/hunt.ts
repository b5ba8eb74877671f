// The hunt for inputs that break one target: draws new ones, varies those that were worth keeping, keeps what takes new
// branches. The same seed and the same corpus give the same inputs in the same order.
import { Random } from '../sim/random.js';
import { SeenBranches } from './branch-record.js';
import { type Step, streamBytes } from './input.js';
import { failureOf } from './shrink.js';
import type { Target } from './target.js';
import { varied } from './variation.js';

/** Of inputs, drawn anew; the rest are variations. */
const FRESH = 0.3;
/** Inputs with longer streams take milliseconds: they are varied seldom. */
const QUICK_BYTES_MAX = 4096;
const SLOW = 0.01;

export class Hunt {
  inputs = 0;
  readonly seen: SeenBranches;
  readonly kept: Step[][] = [];
  readonly #quick: Step[][] = [];
  readonly #target: Target;
  readonly #random: Random;
  readonly #corpus: Step[][];

  /** `branches`: how many the sources have. */
  constructor(target: Target, seed: number, corpus: readonly Step[][], branches: number) {
    this.#target = target;
    this.#random = new Random(seed, target.name);
    this.#corpus = [...corpus];
    this.seen = new SeenBranches(branches);
  }

  get target(): Target {
    return this.#target;
  }

  /** Tries one more input; gives what broke. */
  async next(): Promise<{ steps: Step[]; failure: Error } | null> {
    const steps = this.#corpus.shift() ?? this.#draw();
    this.inputs += 1;
    const failure = await failureOf(this.#target, steps);
    if (failure !== null) return { steps, failure };
    if (!this.seen.add()) return null;
    this.kept.push(steps);
    if (steps.reduce((sum, step) => sum + (streamBytes(step)?.length ?? 0), 0) <= QUICK_BYTES_MAX) this.#quick.push(steps);
    return null;
  }

  #draw(): Step[] {
    const random = this.#random;
    const kept = random.chance(SLOW) ? this.kept : this.#quick;
    if (kept.length === 0 || random.chance(FRESH)) return this.#target.draw(random);
    // What was found last is not worked through yet.
    const from = random.chance(0.5) ? Math.floor(kept.length * 0.8) : 0;
    const other = random.chance(0.3) ? this.#target.draw(random) : random.pick(kept);
    return varied(kept[from + random.int(kept.length - from)], other, random);
  }
}
