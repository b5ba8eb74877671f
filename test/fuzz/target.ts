// What is fuzzed: a way to draw conversations that are right or nearly so, and a way to run one that throws when the
// machine, or what it said, is wrong.
import type { Random } from '../sim/random.js';
import { STEP, type Step, streamBytes } from './input.js';

export interface Target {
  readonly name: string;
  draw(random: Random): Step[];
  /** Whatever the steps are, it comes to an end. */
  run(steps: readonly Step[]): void | Promise<void>;
}

/** How a stream is cut: as the steps are, or otherwise, which must make no difference. */
export type Cut = (bytes: Buffer) => Buffer[];

export const AS_GIVEN: Cut = (bytes) => (bytes.length === 0 ? [] : [bytes]);

/** Short streams byte by byte, longer ones in pieces of changing lengths. */
export function otherwise(): Cut {
  let turn = 0;
  return (bytes) => {
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      turn = (turn * 5 + 1) & 0xff;
      const length = bytes.length <= 32 ? 1 : bytes.length > 4096 ? 1 + turn * 97 : 1 + (turn & 31);
      pieces.push(bytes.subarray(at, at + length));
      at += length;
    }
    return pieces;
  };
}

/** Steps with neighbouring pieces of the stream made one. */
export function joined(steps: readonly Step[]): Step[] {
  const result: Step[] = [];
  let run: Buffer[] = [];
  const flush = (): void => {
    if (run.length > 0) result.push({ kind: STEP.BYTES, data: Buffer.concat(run) });
    run = [];
  };
  for (const step of steps) {
    const bytes = streamBytes(step);
    if (bytes !== null) run.push(bytes);
    else {
      flush();
      result.push(step);
    }
  }
  flush();
  return result;
}
