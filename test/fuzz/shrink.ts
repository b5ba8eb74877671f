// Makes a failing input short: leaves out steps, then bytes of them, then makes bytes zero, for as long as it still fails
// with the same words.
import { beginRecord } from './branch-record.js';
import { STEP, type Step } from './input.js';
import type { Target } from './target.js';

/** What a run of `steps` comes to: null, or what is wrong. */
export async function failureOf(target: Target, steps: readonly Step[]): Promise<Error | null> {
  beginRecord();
  try {
    const running = target.run(steps);
    if (running !== undefined) await running;
    return null;
  } catch (error) {
    return error as Error;
  }
}

/** Failures with the same words, numbers aside, are one. */
export function kindOf(failure: Error): string {
  return failure.message.split('\n')[0].replaceAll(/\d+/g, 'N').slice(0, 120);
}

export async function shrunk(target: Target, steps: readonly Step[], failure: Error, over: () => boolean): Promise<Step[]> {
  const kind = kindOf(failure);
  let best = [...steps];
  const attempt = async (candidate: Step[]): Promise<boolean> => {
    if (over()) return false;
    const found = await failureOf(target, candidate);
    if (found === null || kindOf(found) !== kind) return false;
    best = candidate;
    return true;
  };
  let before: Step[] | null = null;
  while (before !== best && !over()) {
    before = best;
    await fewerSteps(() => best, attempt);
    for (let at = 0; at < best.length && !over(); at += 1) await shorterStep(() => best, at, attempt);
  }
  return best;
}

type Attempt = (candidate: Step[]) => Promise<boolean>;

/** By halves, quarters and so on, as delta debugging does. */
async function fewerSteps(best: () => Step[], attempt: Attempt): Promise<void> {
  for (let piece = Math.ceil(best().length / 2); piece >= 1; piece = piece === 1 ? 0 : Math.ceil(piece / 2)) {
    for (let from = 0; from < best().length; ) {
      if (!(await attempt([...best().slice(0, from), ...best().slice(from + piece)]))) from += piece;
    }
  }
}

async function shorterStep(best: () => Step[], at: number, attempt: Attempt): Promise<void> {
  const withData = (data: Buffer): Step[] => best().map((step, i) => (i === at ? { ...step, data } : step));
  const data = (): Buffer => best()[at].data;
  for (let piece = Math.ceil(data().length / 2); piece >= 1; piece = piece === 1 ? 0 : Math.ceil(piece / 2)) {
    for (let from = 0; from < data().length; ) {
      const less = Buffer.concat([data().subarray(0, from), data().subarray(from + piece)]);
      if (!(await attempt(withData(less)))) from += piece;
    }
  }
  if (best()[at].kind === STEP.SETUP) return;
  for (let i = 0; i < data().length; i += 1) {
    if (data()[i] === 0) continue;
    const zeroed = Buffer.from(data());
    zeroed[i] = 0;
    await attempt(withData(zeroed));
  }
}
