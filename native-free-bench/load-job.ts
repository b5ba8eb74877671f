// Runs one workload against one endpoint: opens the connections, drives them through warm-up and window, and gives
// the reading or the reason why there is none. Every wait has a deadline. Runs in the load generator's process.
import { type Outcome, refuse } from '../gateway/control.js';
import { BLOCK_BYTES, Contents } from './contents.js';
import { type Endpoint, LoadConnection, nowUs } from './load-connection.js';
import { Meter, type Reading } from './meter.js';
import type { Workload } from './workload.js';

export interface LoadJob {
  endpoint: Endpoint;
  workload: Workload;
  /** `window`: warm up, then count for a while. `pass`: touch every block once and compare every byte that is read. */
  extent: { kind: 'window'; warmupMs: number; measureMs: number } | { kind: 'pass' };
  seed: number;
}

export interface LoadLimits {
  attachMs: number;
  /** After the window has closed, what is still in flight is given up after this time. */
  drainMs: number;
  passMs: number;
}

const LIMITS: LoadLimits = { attachMs: 10_000, drainMs: 10_000, passMs: 120_000 };

export class LoadGenerator {
  readonly #limits: LoadLimits;
  #contents: Contents | null = null;

  constructor(limits: LoadLimits = LIMITS) {
    this.#limits = limits;
  }

  async run(job: LoadJob): Promise<Outcome<Reading>> {
    const connections = Array.from({ length: job.workload.connections }, () => new LoadConnection(job.endpoint));
    const { attachMs } = this.#limits;
    const attachTimer = setTimeout(() => giveUp(connections, `not attached within ${attachMs} ms`), attachMs);
    const sizes = await Promise.all(connections.map((connection) => connection.attached));
    clearTimeout(attachTimer);
    const contents = this.#contentsFor(sizes);
    if (typeof contents === 'string') giveUp(connections, contents);
    else return this.#drive(job, connections, contents);
    return (await ending(connections)) ?? refuse('not-attached', 'a connection was not attached');
  }

  /** The reason why these exports cannot be measured, or what they hold. */
  #contentsFor(sizes: (number | null)[]): Contents | string {
    const [size] = sizes;
    if (size === null || sizes.some((other) => other !== size)) return 'the export could not be attached';
    const bytes = size - (size % BLOCK_BYTES);
    this.#contents ??= new Contents(bytes);
    if (this.#contents.blocks * BLOCK_BYTES !== bytes) {
      return `the export has ${size} bytes here and ${this.#contents.blocks * BLOCK_BYTES} on other paths`;
    }
    return this.#contents;
  }

  async #drive(job: LoadJob, connections: LoadConnection[], contents: Contents): Promise<Outcome<Reading>> {
    const { workload, extent } = job;
    const beginUs = nowUs();
    const timed = extent.kind === 'window';
    const meter = timed ? new Meter(beginUs + extent.warmupMs * 1000, beginUs + (extent.warmupMs + extent.measureMs) * 1000) : new Meter();
    const { drainMs, passMs } = this.#limits;
    const deadlineMs = timed ? extent.warmupMs + extent.measureMs + drainMs : passMs;
    const timer = setTimeout(() => {
      const missing = connections.reduce((sum, connection) => sum + connection.outstanding, 0);
      giveUp(connections, `${missing} requests were not answered in time (${deadlineMs} ms)`);
    }, deadlineMs);
    const requestsMax = timed ? Number.POSITIVE_INFINITY : Math.floor((contents.blocks * BLOCK_BYTES) / workload.blockBytes);
    connections.forEach((connection, i) => {
      connection.run({ workload, contents, meter, seed: job.seed * connections.length + i + 1, requestsMax, thorough: !timed });
    });
    const failure = await ending(connections);
    clearTimeout(timer);
    contents.abandonWrites();
    return failure ?? { ok: true, value: meter.read() };
  }
}

function giveUp(connections: LoadConnection[], reason: string): void {
  for (const connection of connections) connection.destroy(reason);
}

/** Waits until all connections are gone; as soon as one fails, the others are given up too. */
async function ending(connections: LoadConnection[]): Promise<Outcome<Reading> | null> {
  let first: string | null = null;
  const one = async (connection: LoadConnection) => {
    const flaw = await connection.closed;
    if (flaw === null || first !== null) return;
    first = flaw;
    giveUp(connections, 'another connection of the same measurement failed');
  };
  await Promise.all(connections.map(one));
  return first === null ? null : refuse('load-failed', first);
}
