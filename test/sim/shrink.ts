// Makes a failing scenario short: leaves out faults, sessions and operations for as long as it still fails in the same way.
// What is left out changes the course of all that follows, so that a failure that needs luck may hide: each candidate is tried
// with several courses of chance. What is found is the smallest that was seen to fail, not the smallest there is.
import type { Reduction } from './fault-plan.js';

/** Courses of chance that each candidate gets. */
const VARIANTS = 8;

export interface Size {
  faults: readonly number[];
  sessions: number;
  operations: number;
}

/** The shortest reduction of `start` for which `fails` held; `start` must. Stops when `over`. */
export async function shrink(
  start: Reduction,
  size: Size,
  fails: (reduction: Reduction) => Promise<boolean>,
  over: () => boolean,
): Promise<Reduction> {
  let best = start;
  const shorter = async (change: Partial<Reduction>): Promise<boolean> => {
    const candidate = { ...best, ...change };
    const variants = new Set([best.variant, ...Array.from({ length: VARIANTS }, (_, variant) => variant)]);
    for (const variant of variants) {
      if (over()) return false;
      if (!(await fails({ ...candidate, variant }))) continue;
      best = { ...candidate, variant };
      return true;
    }
    return false;
  };
  let before: Reduction | null = null;
  while (before !== best && !over()) {
    before = best;
    await fewerFaults(size.faults, () => best, shorter);
    await fewerOperations(size.operations, () => best, shorter);
    for (let session = 0; session < size.sessions; session += 1)
      if (!best.idle.includes(session) && best.idle.length < size.sessions - 1) await shorter({ idle: [...best.idle, session] });
  }
  return best;
}

type Attempt = (change: Partial<Reduction>) => Promise<boolean>;

/** By halves, quarters and so on, as delta debugging does. */
async function fewerFaults(all: readonly number[], best: () => Reduction, shorter: Attempt): Promise<void> {
  const left = (): number[] => all.filter((number) => !best().without.includes(number));
  for (let piece = Math.ceil(left().length / 2); piece >= 1; piece = piece === 1 ? 0 : Math.ceil(piece / 2)) {
    for (let from = 0; from < left().length; ) {
      const out = left().slice(from, from + piece);
      if (!(await shorter({ without: [...best().without, ...out].sort((one, other) => one - other) }))) from += piece;
    }
  }
}

async function fewerOperations(all: number, best: () => Reduction, shorter: Attempt): Promise<void> {
  let most = best().load ?? all;
  let passes = 0;
  while (most - passes > 1) {
    const middle = Math.floor((passes + most) / 2);
    if (await shorter({ load: middle })) most = middle;
    else passes = middle;
  }
}

/** The words of a command that plays the reduction. */
export function reductionWords({ without, idle, load, variant }: Reduction): string {
  const words: string[] = [];
  if (without.length > 0) words.push(`--without ${without.join(',')}`);
  if (idle.length > 0) words.push(`--idle ${idle.join(',')}`);
  if (load !== null) words.push(`--load ${load}`);
  if (variant !== 0) words.push(`--variant ${variant}`);
  return words.join(' ');
}
