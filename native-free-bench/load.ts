// The load generator's process: takes jobs from its parent and answers each with a reading or a reason, one at a time.
// It lives for a whole run, so that every path meets the same warm code, and ends with its parent.
import type { Outcome } from '../gateway/control.js';
import { LoadGenerator, type LoadJob } from './load-job.js';
import type { Reading } from './meter.js';

export type LoadAnswer = Outcome<Reading>;

const generator = new LoadGenerator();

process.on('message', (job: LoadJob) => {
  void generator.run(job).then((answer: LoadAnswer) => process.send?.(answer));
});
process.on('disconnect', () => process.exit());
process.send?.({ ready: true });
