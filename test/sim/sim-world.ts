// The whole simulated world of one seed: time, network, nodes, the gateway's disk, the hosts' history, and what was seen
// of it. Everything random is drawn from streams of the seed. Faults and sessions act on it; it decides nothing itself.
import { History } from './history.js';
import { SimJournals } from './journal-disk.js';
import { SimLatches } from './latches.js';
import { Network } from './network.js';
import type { NodeFeatures } from './node-handshake.js';
import { SimNode } from './node.js';
import { Random } from './random.js';
import { Rotten } from './rotten.js';
import { Worn } from './worn.js';
import { SimStore } from './records.js';
import { Scheduler } from './scheduler.js';

/** Moments that explain what follows. */
const TOLD = /^(fact |commit of (volume|protection)|commit-failed|protection )/;

/** Waits for a thing to happen. */
interface Watcher {
  moment: string;
  run(): void;
}

export class SimWorld {
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly store: SimStore;
  readonly journals: SimJournals;
  readonly latches: SimLatches;
  readonly nodes: SimNode[] = [];
  readonly history = new History();
  /** Blocks of which a copy went bad: where no checksum was known of them hosts may see that. */
  readonly rotten = new Rotten();
  /** Blocks that a copy could not read any more. */
  readonly worn = new Worn();
  /** How often each thing happened. */
  readonly counts = new Map<string, number>();
  /** And when last. */
  readonly lastMs = new Map<string, number>();
  /** What happened, for people; null: not wanted. */
  readonly lines: string[] | null;
  #watchers: Watcher[] = [];
  #wallOffsetMs = 1_750_000_000_000;

  /** `variant`: not 0: another course of chance. */
  constructor(seed: number, verbose: boolean, variant = 0) {
    const root = new Random(seed, variant === 0 ? 'world' : `world ${variant}`);
    this.random = root.fork('chance');
    this.scheduler = new Scheduler(root.fork('ties'));
    this.lines = verbose ? [] : null;
    const mostMs = root.pick([0.2, 1, 5]);
    const timing = { leastMs: 0.02, mostMs, cut: root.pick([0.05, 0.3]), highWaterBytes: root.pick([4096, 65_536, 1_048_576]) };
    this.network = new Network(this.scheduler, root.fork('network'), timing);
    this.store = new SimStore(this.scheduler, root.fork('records'), root.pick([0.5, 3, 20]), (name) => this.moment(name));
    this.latches = new SimLatches(this.scheduler, seed, (name) => this.moment(name));
    const journals = new Random(seed, 'journals');
    this.journals = new SimJournals(this.scheduler, journals, journals.pick([0.2, 2, 10]), (name) => this.moment(name));
  }

  get wallMs(): number {
    return this.#wallOffsetMs + this.scheduler.nowMs;
  }

  /** The wall clock is set to another time; nothing but what people read may depend on it. */
  jumpClock(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  addNode(name: string, place: { features: NodeFeatures; fencing: boolean; zombieMs: number; serviceMs: number }): SimNode {
    const address = { host: name, port: 10809 };
    const node = new SimNode({
      ...place,
      name,
      address,
      scheduler: this.scheduler,
      random: this.random.fork(name),
      moment: (what) => this.moment(what),
      trace: (line) => this.trace(line),
    });
    this.nodes.push(node);
    this.network.listen(address, node);
    return node;
  }

  node(name: string): SimNode {
    return this.nodes.find((node) => node.name === name)!;
  }

  /** A thing happened: it is counted, and who waits for it is told. */
  moment(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    this.lastMs.set(name, this.scheduler.nowMs);
    if (this.lines !== null && TOLD.test(name)) this.trace(() => name);
    if (this.#watchers.length === 0) return;
    const due = this.#watchers.filter((watcher) => watcher.moment === name);
    if (due.length === 0) return;
    this.#watchers = this.#watchers.filter((watcher) => watcher.moment !== name);
    for (const watcher of due) this.scheduler.after(0, watcher.run);
  }

  /** Calls `run` once, the next time `moment` happens or after `atMostMs`. */
  onNext(moment: string, atMostMs: number, run: () => void): void {
    let ran = false;
    const once = (): void => {
      if (ran) return;
      ran = true;
      run();
    };
    this.#watchers.push({ moment, run: once });
    this.scheduler.after(atMostMs, once);
  }

  trace(line: () => string): void {
    this.lines?.push(`${this.scheduler.nowMs.toFixed(3).padStart(10)} ms  ${line()}`);
  }
}
