// Everything that feeds the predictor by itself: a scraper for each source, and a look at each node's I/O every few
// seconds. Sources may be changed while it runs; those that stay as they were go on undisturbed.
import type { Clock, Timer } from '../../replication/world.js';
import type { Sample } from '../../pfa/sample.js';
import type { EventSink } from '../control.js';
import type { IoMeter, Oracle, Source } from './oracle.js';
import { Scraper, type ScrapeView } from './scraper.js';

const IO_EVERY_MS = 5_000;

export interface CollectorsOptions {
  clock: Clock;
  events: EventSink;
  oracle: Pick<Oracle, 'observe' | 'observeIo'>;
  /** The meters there are now. */
  meters(): Iterable<IoMeter>;
  /** The predictor knows something new of the node. */
  fresh(node: string): void;
  random?(): number;
}

export class Collectors {
  readonly #options: CollectorsOptions;
  readonly #scrapers = new Map<string, Scraper>();
  #timer: Timer | null = null;
  #stopped = false;

  constructor(options: CollectorsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#pollLater();
  }

  /** The sources there are from now on. One with the same node, type, address and interval is the same. */
  async use(sources: Source[]): Promise<void> {
    const wanted = new Map(sources.map((source) => [keyOf(source), source]));
    const gone = [...this.#scrapers].filter(([key]) => !wanted.has(key));
    for (const [key] of gone) this.#scrapers.delete(key);
    const unused: Source[] = [];
    for (const [key, source] of wanted) {
      if (this.#scrapers.has(key)) unused.push(source);
      else this.#add(key, source);
    }
    await Promise.all([...gone.map(([, scraper]) => scraper.stop()), ...unused.map((source) => source.close())]);
  }

  views(): ScrapeView[] {
    return [...this.#scrapers.values()].map((scraper) => scraper.view());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await Promise.all([...this.#scrapers.values()].map((scraper) => scraper.stop()));
  }

  #add(key: string, source: Source): void {
    const { clock, events, random = Math.random } = this.#options;
    const scraper = new Scraper({ source, clock, events, random, take: (samples) => this.#take(source.node, samples) });
    this.#scrapers.set(key, scraper);
    scraper.start();
  }

  #take(node: string, samples: Sample[]): void {
    for (const sample of samples) this.#options.oracle.observe(sample);
    if (samples.length > 0) this.#options.fresh(node);
  }

  #pollLater(): void {
    this.#timer = this.#options.clock.after(IO_EVERY_MS, () => this.#poll());
  }

  #poll(): void {
    if (this.#stopped) return;
    for (const meter of this.#options.meters()) {
      const aggregate = meter.take(this.#options.clock.wallMs());
      if (aggregate) this.#options.oracle.observeIo(meter.node, aggregate);
    }
    this.#pollLater();
  }
}

function keyOf({ node, type, name, everyMs }: Source): string {
  return JSON.stringify([node, type, name, everyMs]);
}
