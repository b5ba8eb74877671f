// A predictor that reads the simulation's signs and keeps what it is told from outside, as the real one does for as long as
// its process lives. One policy judges.
import type { PolicyVerdict } from '../../gateway/control.js';
import type { Assessment, Oracle, OutsideVerdict } from '../../gateway/health/oracle.js';
import type { Signs } from './signs.js';

const THRESHOLD = 0.5;
const QUIET = 0.01;

export class SimOracle implements Oracle {
  readonly #signs: Signs;
  readonly #policy: string;
  readonly #outside = new Map<string, OutsideVerdict>();

  constructor(signs: Signs, policy: string) {
    this.#signs = signs;
    this.#policy = policy;
  }

  observe(): void {}

  observeIo(): void {}

  failed(): void {}

  outsideVerdict(node: string, given: OutsideVerdict): void {
    this.#outside.set(node, given);
  }

  falseAlarm(node: string): void {
    this.#outside.delete(node);
  }

  assess(node: string): Assessment {
    const shown = this.#signs.of(node) ?? QUIET;
    const told = this.#outside.get(node)?.probability ?? 0;
    const probability = Math.max(shown, told);
    const verdict: PolicyVerdict = { probability, threshold: THRESHOLD, firing: probability >= THRESHOLD, horizonSeconds: 86_400 };
    return {
      ...verdict,
      reasons: [{ source: 'simulation', contribution: 1, text: 'the simulation says so' }],
      origin: told >= THRESHOLD && told >= shown ? 'outside' : 'model',
      predictedFailureAtMs: null,
      policies: { [this.#policy]: verdict },
    };
  }
}
