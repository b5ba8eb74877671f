// Scrapes one source again and again: with jitter, so that many do not come at once, and never twice at a time. What it
// reads it hands on; a source that fails is counted and told once, when it begins and when it ends. Failing says nothing
// about the node: that is the absence of a signal, never a good one.
import type { Clock, Timer } from '../../replication/world.js';
import type { Sample } from '../../pfa/sample.js';
import type { EventSink, Outcome } from '../control.js';
import type { Source } from './oracle.js';
import { readPage } from './page.js';

const FIRST_MS_MAX = 1_000;
const JITTER_SHARE = 0.1;

export interface ScraperOptions {
  source: Source;
  clock: Clock;
  events: EventSink;
  /** 0 to 1, evenly. */
  random(): number;
  /** Samples of one page, all of the same node and time. */
  take(samples: Sample[]): void;
}

/** What metrics and people ask of a source. */
export interface ScrapeView {
  node: string;
  type: Source['type'];
  source: string;
  scrapes: number;
  failures: number;
  /** Samples of the latest good page. */
  samples: number;
  lastGoodAt: string | null;
  /** Why the latest scrape failed; null: it did not. */
  problem: string | null;
}

export class Scraper {
  readonly source: Source;
  readonly #options: ScraperOptions;
  #timer: Timer | null = null;
  #running: Promise<void> | null = null;
  #stopped = false;
  #scrapes = 0;
  #failures = 0;
  #samples = 0;
  #lastGoodMs: number | null = null;
  #problem: string | null = null;

  constructor(options: ScraperOptions) {
    this.#options = options;
    this.source = options.source;
  }

  start(): void {
    const { clock, random } = this.#options;
    this.#timer = clock.after(random() * Math.min(FIRST_MS_MAX, this.source.everyMs), () => this.#begin());
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    // Ends a fetch that is under way.
    await this.source.close();
    await this.#running;
  }

  view(): ScrapeView {
    const { node, type, name } = this.source;
    const lastGoodAt = this.#lastGoodMs === null ? null : new Date(this.#lastGoodMs).toISOString();
    return {
      node,
      type,
      source: name,
      scrapes: this.#scrapes,
      failures: this.#failures,
      samples: this.#samples,
      lastGoodAt,
      problem: this.#problem,
    };
  }

  #begin(): void {
    this.#timer = null;
    this.#running = this.#scrape();
  }

  async #scrape(): Promise<void> {
    const { clock, random } = this.#options;
    const startedMs = clock.nowMs();
    const page = await this.#page();
    this.#running = null;
    if (this.#stopped) return;
    this.#scrapes += 1;
    if (page.ok) this.#good(page.value);
    else this.#failed(page.code, page.message);
    const periodMs = this.source.everyMs * (1 + JITTER_SHARE * (2 * random() - 1));
    this.#timer = clock.after(Math.max(0, startedMs + periodMs - clock.nowMs()), () => this.#begin());
  }

  async #page(): Promise<Outcome<Sample[]>> {
    const text = await this.source.fetch();
    return text.ok ? readPage(this.source.type, text.value, this.source.node, this.#options.clock.wallMs()) : text;
  }

  #good(samples: Sample[]): void {
    this.#samples = samples.length;
    this.#lastGoodMs = this.#options.clock.wallMs();
    if (this.#problem !== null) {
      this.#tell('info', 'health.source-back', `${this.source.name} of ${this.source.node} can be read again.`);
      this.#problem = null;
    }
    this.#options.take(samples);
  }

  #failed(code: string, message: string): void {
    this.#failures += 1;
    if (this.#problem === null) {
      const consequence = 'Until it can be read there is no signal from it.';
      this.#tell('warning', 'health.source-failed', `${this.source.name} of ${this.source.node}: ${message}. ${consequence}`, { code });
    }
    this.#problem = message;
  }

  #tell(level: 'info' | 'warning', type: string, message: string, details: Record<string, unknown> = {}): void {
    const { node, name } = this.source;
    this.#options.events.publish({ type, level, message, node, details: { source: name, ...details } });
  }
}
