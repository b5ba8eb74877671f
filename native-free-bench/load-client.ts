// The load generator as the benchmark sees it: a process that takes one job at a time and always answers, if only with
// the news that it is gone.
import { type Outcome, refuse } from '../gateway/control.js';
import type { LoadAnswer } from './load.js';
import type { LoadJob } from './load-job.js';
import type { Reading } from './meter.js';
import { modulePath } from './module-path.js';
import type { Part, Parts } from './part.js';

/** The generator bounds every wait itself; this is for the case that it does not get to it. */
const ANSWER_EXTRA_MS = 150_000;

export class LoadClient {
  readonly #part: Part;

  private constructor(part: Part) {
    this.#part = part;
  }

  static async start(parts: Parts): Promise<Outcome<LoadClient>> {
    const started = await parts.start({ name: 'load generator', run: { module: modulePath('./load') }, args: [] });
    return started.ok ? { ok: true, value: new LoadClient(started.value.part) } : started;
  }

  async run(job: LoadJob): Promise<Outcome<Reading>> {
    const { child, ended, ending } = this.#part;
    if (ending !== null) return refuse('load-gone', this.#part.explain(ending));
    let onMessage: (answer: LoadAnswer) => void = () => {};
    const answered = new Promise<LoadAnswer>((resolve) => {
      onMessage = resolve;
    });
    child.once('message', onMessage);
    const gone = ended.then((how) => refuse('load-gone', this.#part.explain(how)));
    const extentMs = job.extent.kind === 'window' ? job.extent.warmupMs + job.extent.measureMs : 0;
    let timer: NodeJS.Timeout | undefined;
    const silent = new Promise<LoadAnswer>((resolve) => {
      timer = setTimeout(() => resolve(refuse('load-silent', this.#part.explain('does not answer'))), extentMs + ANSWER_EXTRA_MS);
    });
    child.send(job);
    const answer = await Promise.race([answered, gone, silent]);
    clearTimeout(timer);
    child.off('message', onMessage);
    return answer;
  }
}
