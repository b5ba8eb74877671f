// One gateway incarnation's hold on the world: clock, dialer and records that all fall silent at its crash, as if the
// process had been killed: timers do not fire, wires carry nothing more, commits are decided and never resolve.
import { type Outcome, refuse, type TargetRef } from '../../gateway/control.js';
import type { VolumeSettings } from '../../gateway/volume/volume-settings.js';
import type { Dialer } from '../../gateway/wire.js';
import type { Clock, Log, Timer } from '../../replication/world.js';
import type { SimAgent } from './agent.js';
import { sum } from './hasher.js';
import type { SimJournalFiles } from './journal-disk.js';
import type { IncarnationLatches } from './latches.js';
import type { Connection } from './network.js';
import type { SimRecords } from './records.js';
import type { SimWorld } from './sim-world.js';
import type { AlarmSurroundings, NodeAgent, NodePlace, Surroundings, VolumePlan } from './system.js';

export interface LifePlan {
  giveUpAfterMs: number;
  hedgeAfterMs: VolumeSettings['hedgeAfterMs'];
  durability: VolumeSettings['durability'];
  whenFull: VolumeSettings['whenFull'];
  /** Null: no protection. */
  alarms: Omit<AlarmSurroundings, 'agent'> | null;
}

export class GatewayLife implements Surroundings {
  readonly clock: Clock;
  readonly dialer: Dialer;
  readonly records: SimRecords;
  readonly journals: SimJournalFiles;
  readonly latches: IncarnationLatches;
  readonly durability: VolumeSettings['durability'];
  readonly whenFull: VolumeSettings['whenFull'];
  readonly log: Log;
  readonly nodes: readonly NodePlace[];
  readonly volumes: readonly VolumePlan[];
  readonly giveUpAfterMs: number;
  readonly hedgeAfterMs: VolumeSettings['hedgeAfterMs'];
  readonly alarms: AlarmSurroundings | null;
  readonly #world: SimWorld;
  readonly #connections: Connection[] = [];
  #dead = false;

  constructor(world: SimWorld, nodes: readonly NodePlace[], volumes: readonly VolumePlan[], plan: LifePlan) {
    this.#world = world;
    this.nodes = nodes;
    this.volumes = volumes;
    this.giveUpAfterMs = plan.giveUpAfterMs;
    this.hedgeAfterMs = plan.hedgeAfterMs;
    this.durability = plan.durability;
    this.whenFull = plan.whenFull;
    this.alarms = plan.alarms && { ...plan.alarms, agent: (node) => this.#agent(world.node(node).agent!) };
    this.clock = {
      nowMs: () => world.scheduler.nowMs,
      wallMs: () => world.wallMs,
      after: (delayMs, run) => this.#after(delayMs, run),
    };
    this.dialer = world.network.dialer((connection) => {
      this.#connections.push(connection);
      if (this.#dead) connection.gateway.silence();
    });
    this.records = world.store.open();
    this.journals = world.journals.open(sum);
    this.latches = world.latches.open();
    const line = (level: string) => (fields: object, message: string) => world.trace(() => `${level} ${message} ${wordsOf(fields)}`);
    this.log = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
  }

  get dead(): boolean {
    return this.#dead;
  }

  count(what: string): void {
    if (!this.#dead) this.#world.moment(what);
  }

  answers(how: 'failover' | 'takeover' | 'return', volume: string, node: string): void {
    if (!this.#dead) this.#world.history.mark(how, node, [volume], this.#world.scheduler.nowMs);
  }

  enlarge({ node: name, export: exportName }: TargetRef, sizeBytes: number): Promise<Outcome<unknown>> {
    const node = this.#world.node(name);
    const { scheduler, random } = this.#world;
    return new Promise((resolve) => {
      if (!node.fencing) {
        resolve({ ok: true, value: null });
        return;
      }
      scheduler.after(random.range(0, 5), () => {
        const disk = node.disks.get(exportName);
        if (disk === undefined || !node.up) resolve(refuse('agent-unreachable', `${name} does not answer`));
        else {
          // As an agent does it: what is new is a hole.
          if (disk.contents.length < sizeBytes) disk.grow(sizeBytes, 0);
          this.#world.moment('export made larger');
          scheduler.after(random.range(0, 5), () => {
            if (!this.#dead) resolve({ ok: true, value: null });
          });
        }
      });
    });
  }

  crash(): void {
    this.#dead = true;
    for (const connection of this.#connections) connection.gateway.silence();
    this.records.crash();
    this.journals.crash();
    this.latches.crash();
  }

  /** An agent whose answers a dead gateway does not hear. */
  #agent(agent: SimAgent): NodeAgent {
    const heard = <T>(answer: Promise<T>): Promise<T> =>
      new Promise((resolve) => {
        void answer.then((value) => {
          if (!this.#dead) resolve(value);
        });
      });
    return {
      capacityBytes: agent.capacityBytes,
      createExport: (wish) => heard(agent.createExport(wish)),
      deleteExport: (name, owner) => heard(agent.deleteExport(name, owner)),
      setEpoch: (name, wish) => heard(agent.setEpoch(name, wish)),
      look: () => heard(agent.look()),
    };
  }

  /** Timers fire late, never early. */
  #after(delayMs: number, run: () => void): Timer {
    const { scheduler, random } = this.#world;
    const lateMs = random.chance(0.1) ? random.range(0, 5) : random.range(0, 0.1);
    return scheduler.after(Math.max(0, delayMs) + lateMs, () => {
      if (!this.#dead) run();
    });
  }
}

function wordsOf(fields: object): string {
  return JSON.stringify(fields, (_key, value) => (value instanceof Error ? value.message : value));
}
