// Samples that are pushed to the API: checked one and all before any counts, then given to the predictor.
import { validateSamples } from '../../pfa/sample.js';
import type { Clock } from '../../replication/world.js';
import type { SamplesReceipt } from '../api/backend.js';
import { type Outcome, refuse } from '../control.js';
import type { Oracle } from '../health/oracle.js';

export class SampleIntake {
  readonly #clock: Clock;
  readonly #oracle: Pick<Oracle, 'observe'>;
  readonly #fresh: (node: string) => void;

  constructor(options: { clock: Clock; oracle: Pick<Oracle, 'observe'>; fresh(node: string): void }) {
    this.#clock = options.clock;
    this.#oracle = options.oracle;
    this.#fresh = (node) => options.fresh(node);
  }

  push(node: string, body: unknown): Outcome<SamplesReceipt> {
    const checked = validateSamples(body, node, this.#clock.wallMs());
    if (!checked.ok) return refuse('samples-invalid', checked.message, checked.index === null ? {} : { index: checked.index });
    for (const sample of checked.samples) this.#oracle.observe(sample);
    if (checked.samples.length > 0) this.#fresh(node);
    return { ok: true, value: { accepted: checked.samples.length, ignored: [] } };
  }
}
