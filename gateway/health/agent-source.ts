// An agent's own /metrics as a source of samples: its disks under smartctl_exporter's names.
import type { Outcome } from '../control.js';
import type { Source } from './oracle.js';

/** What is needed of gateway/agent's client; it is closed by its owner. */
export interface MetricsText {
  metricsText(): Promise<Outcome<string>>;
}

export class AgentSource implements Source {
  readonly type = 'agent';

  constructor(
    readonly node: string,
    readonly name: string,
    readonly everyMs: number,
    readonly agent: MetricsText,
  ) {}

  fetch(): Promise<Outcome<string>> {
    return this.agent.metricsText();
  }

  async close(): Promise<void> {}
}
