// What a simulated node's program does for placement: makes exports and gives their space back, keeps who owns each at
// which epoch, says what is free. Calls come in order and take time; a program that hangs carries them out when it goes on,
// long after the caller was told that nobody answered. The rules of ownership are the agent's own. A plain node is only looked at.
import { claim, mayDelete } from '../../gateway/agent/ownership.js';
import type { ExportRecord } from '../../gateway/agent/export-record.js';
import { type Outcome, refuse } from '../../gateway/control.js';
import type { SimNode } from './node.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

/** As long as the gateway's client waits. */
const TIMEOUT_MS = 10_000;

export interface NodeLook {
  freeBytes: number;
  /** Bytes of each export. */
  sizes: ReadonlyMap<string, number>;
}

export interface AgentOptions {
  node: SimNode;
  capacityBytes: number;
  scheduler: Scheduler;
  random: Random;
  moment(name: string): void;
  trace(line: () => string): void;
  /** An export is about to be deleted. */
  deletes(node: string, exportName: string): void;
}

export class SimAgent {
  readonly capacityBytes: number;
  readonly #options: AgentOptions;
  readonly #records = new Map<string, ExportRecord>();
  /** Calls that came while the program hung. */
  #waiting: (() => void)[] = [];

  constructor(options: AgentOptions) {
    this.#options = options;
    this.capacityBytes = options.capacityBytes;
  }

  /** The exports that are there, with the volume each belongs to. */
  get owners(): ReadonlyMap<string, ExportRecord> {
    return this.#records;
  }

  get freeBytes(): number {
    let used = 0;
    for (const { sizeBytes } of this.#records.values()) used += sizeBytes;
    return this.capacityBytes - used;
  }

  /** An export that a volume was given when it was first placed. */
  place(name: string, sizeBytes: number): void {
    this.#records.set(name, this.#record(name, sizeBytes, name, 0));
  }

  createExport(wish: { name: string; sizeBytes: number; volume: string; epoch: number }): Promise<Outcome<unknown>> {
    return this.#call(() => {
      const { node, moment, trace } = this.#options;
      const { name, sizeBytes, volume, epoch } = wish;
      const known = this.#records.get(name);
      if (known !== undefined) {
        const same = known.sizeBytes === sizeBytes && known.volume === volume && known.epoch === epoch;
        return same ? { ok: true, value: null } : refuse('export-exists', `export ${name} exists and is another`);
      }
      if (sizeBytes > this.freeBytes || [...node.disks.values()].some((disk) => disk.full)) return refuse('no-space', 'there is no space');
      this.#records.set(name, this.#record(name, sizeBytes, volume, epoch));
      node.addExport(name, sizeBytes);
      trace(() => `${node.name} makes export ${name}`);
      moment('export made');
      return { ok: true, value: null };
    });
  }

  deleteExport(name: string, owner: { volume: string; epoch: number }): Promise<Outcome<unknown>> {
    return this.#call(() => {
      const { node, moment, trace, deletes } = this.#options;
      const record = this.#records.get(name);
      if (record === undefined) return refuse('export-unknown', `there is no export ${name}`);
      const allowed = mayDelete(record, owner, node.clientsOf(name));
      if (!allowed.ok) return allowed;
      deletes(node.name, name);
      this.#records.delete(name);
      node.disks.delete(name);
      trace(() => `${node.name} deletes export ${name}`);
      moment('export deleted');
      return { ok: true, value: null };
    });
  }

  setEpoch(name: string, wish: { volume: string; epoch: number; role: 'active' | 'mirror' }): Promise<Outcome<unknown>> {
    return this.#call(() => {
      const record = this.#records.get(name);
      if (record === undefined) return refuse('export-unknown', `there is no export ${name}`);
      const claimed = claim(record, wish, this.#options.node.clientsOf(name));
      if (claimed.ok) this.#records.set(name, claimed.value);
      return claimed;
    });
  }

  /** What placement asks regularly; of a plain node in place of a handshake with each spare. */
  look(): Promise<Outcome<NodeLook>> {
    return this.#call(() => {
      const sizes = new Map([...this.#options.node.disks].map(([name, disk]) => [name, disk.contents.length]));
      return { ok: true, value: { freeBytes: this.freeBytes, sizes } };
    });
  }

  // What its node's program tells.

  resume(): void {
    for (const run of this.#waiting.splice(0)) run();
  }

  stop(): void {
    this.#waiting = [];
  }

  #record(name: string, sizeBytes: number, volume: string, epoch: number): ExportRecord {
    return { format: 1, name, sizeBytes, volume, epoch, createdAt: '2026-01-01T00:00:00.000Z', origin: 'created', state: 'kept' };
  }

  /** Gives what `run` gave, or that nobody answered though it may run all the same. */
  #call<T>(run: () => Outcome<T>): Promise<Outcome<T>> {
    const { node, scheduler, random } = this.#options;
    const unreachable = (): Outcome<never> => refuse('agent-unreachable', `the agent of ${node.name} does not answer`);
    return new Promise((resolve) => {
      const late = scheduler.after(TIMEOUT_MS, () => resolve(refuse('agent-timeout', `the agent of ${node.name} took too long`)));
      const answer = (outcome: () => Outcome<T>): void => {
        scheduler.after(random.range(0.1, 3), () => {
          late.cancel();
          resolve(outcome());
        });
      };
      scheduler.after(random.range(0.1, 3), () => {
        if (!node.up) {
          answer(unreachable);
          return;
        }
        const carryOut = (): void => {
          const outcome = run();
          answer(() => (node.up ? outcome : unreachable()));
        };
        if (node.hung) this.#waiting.push(carryOut);
        else carryOut();
      });
    });
  }
}
