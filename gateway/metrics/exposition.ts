// `GET /metrics`: every family in the Prometheus text format, rendered by prom-client when it is asked for and at no
// other time. Between scrapes nothing here runs but the monitor of the event loop.
import { type Metric, Registry } from 'prom-client';
import type { Family, Value } from './family.js';
import { gatewayFamilies, type ProcessMetrics } from './gateway-families.js';
import { NODE_FAMILIES } from './node-families.js';
import type { MetricsSource, Scrape } from './source.js';
import { VOLUME_FAMILIES } from './volume-families.js';

/** What prom-client's registry calls on a metric when it renders. */
interface RenderedMetric {
  name: string;
  get(): Promise<{ name: string; help: string; type: Family['type']; values: Value[] }>;
}

export class Exposition {
  readonly #registry = new Registry();
  readonly #source: MetricsSource;
  readonly #process: ProcessMetrics;
  #rendering: Promise<string> | null = null;

  constructor(source: MetricsSource) {
    this.#source = source;
    this.#process = gatewayFamilies();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Scrapes that come while one is rendered get the same text. */
  render(): Promise<string> {
    this.#rendering ??= this.#render().finally(() => {
      this.#rendering = null;
    });
    return this.#rendering;
  }

  stop(): void {
    this.#process.stop();
  }

  async #render(): Promise<string> {
    const scrape: Scrape = { volumes: this.#source.volumes(), nodes: this.#source.nodes(), gateway: this.#source.gateway() };
    this.#registry.clear();
    for (const { name, help, type, values } of [...this.#process.families, ...VOLUME_FAMILIES, ...NODE_FAMILIES]) {
      const metric: RenderedMetric = { name, get: async () => ({ name, help, type, values: values(scrape) }) };
      this.#registry.registerMetric(metric as unknown as Metric);
    }
    return await this.#registry.metrics();
  }
}
