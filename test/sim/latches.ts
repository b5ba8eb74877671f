// The latches of volumes on the gateway's disk: a change takes time, a gateway that crashes leaves it made or not, and by chance one
// fails and nobody knows whether it was made.
import type { Latch, Latches } from '../../replication/latch.js';
import { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

const FAILS = 0.1;

/** What is on the gateway's disk; outlives its incarnations. */
export class SimLatches {
  readonly set = new Set<string>();
  readonly random: Random;
  readonly #scheduler: Scheduler;
  readonly #latencyMs: number;
  readonly #moment: (name: string) => void;

  constructor(scheduler: Scheduler, seed: number, moment: (name: string) => void) {
    this.random = new Random(seed, 'latches');
    this.#scheduler = scheduler;
    this.#latencyMs = this.random.pick([0.2, 2, 20]);
    this.#moment = moment;
  }

  /** The latches as one gateway incarnation sees them. */
  open(): IncarnationLatches {
    return new IncarnationLatches(this);
  }

  spend(done: () => void): void {
    this.#scheduler.after(this.random.range(0.1, 1) * this.#latencyMs, done);
  }

  write(volume: string, to: boolean): void {
    this.#moment(to ? 'latch set' : 'latch clear');
    if (to) this.set.add(volume);
    else this.set.delete(volume);
  }
}

export class IncarnationLatches implements Latches {
  readonly #disk: SimLatches;
  readonly #pending = new Set<() => void>();
  #dead = false;

  constructor(disk: SimLatches) {
    this.#disk = disk;
  }

  async open(volume: string): Promise<Latch> {
    return {
      wasSet: this.#disk.set.has(volume),
      set: () => this.#change(volume, true),
      clear: () => this.#change(volume, false),
      close: async () => {},
    };
  }

  crash(): void {
    this.#dead = true;
    for (const write of this.#pending) if (this.#disk.random.chance(0.5)) write();
    this.#pending.clear();
  }

  #change(volume: string, to: boolean): Promise<void> {
    const write = (): void => this.#disk.write(volume, to);
    this.#pending.add(write);
    const fails = this.#disk.random.chance(FAILS);
    return new Promise((resolve, reject) => {
      this.#disk.spend(() => {
        if (this.#dead) return;
        this.#pending.delete(write);
        if (!fails || this.#disk.random.chance(0.5)) write();
        if (fails) reject(new Error('the latch could not be written: simulated failure'));
        else resolve();
      });
    });
  }
}
