// Protection as the composition root wires it, in the simulated world: the real wards, planner, judge, placement, epochs
// and freeing of space, over simulated nodes and signs.
import type { NewEvent, Outcome, TargetRef, VolumeControl, VolumeFact } from '../../gateway/control.js';
import { Judge } from '../../gateway/health/judge.js';
import { NodeControl } from '../../gateway/placement/node-control.js';
import { Protection } from '../../gateway/protection/protection.js';
import type { ProtectionView } from '../../gateway/protection/view.js';
import { EpochKeeper } from '../../gateway/service/epoch-keeper.js';
import { trimTarget } from '../../gateway/service/target-trim.js';
import { UsedTargets } from '../../gateway/service/used-targets.js';
import type { Volume } from '../../gateway/volume/volume.js';
import { SimFleet } from './sim-fleet.js';
import { SimOracle } from './sim-oracle.js';
import type { AlarmSurroundings, Answer, CopyUnderWay, Guarded, Surroundings } from './system.js';
import type { connectIn } from './upstreams.js';

/** A volume of the configuration, open or not. */
export interface Served {
  readonly volume: Volume | null;
  targets(): { target: TargetRef; role: 'active' | 'mirror' }[];
}

export class Guard implements Guarded {
  readonly protection: Protection;
  readonly #surroundings: Surroundings;
  readonly #alarms: AlarmSurroundings;
  readonly #served: ReadonlyMap<string, Served>;
  readonly #judge: Judge;
  readonly #control: NodeControl;
  readonly #epochs: EpochKeeper;
  readonly #fleet: SimFleet;
  /** Nodes of the copies that protection began and that were not lost since, by volume: one that comes back takes no place. */
  readonly #begun = new Map<string, Set<string>>();

  constructor(
    surroundings: Surroundings,
    alarms: AlarmSurroundings,
    served: ReadonlyMap<string, Served>,
    connect: ReturnType<typeof connectIn>,
  ) {
    const { clock, log, records, nodes, volumes } = surroundings;
    const { plan, signs } = alarms;
    this.#surroundings = surroundings;
    this.#alarms = alarms;
    this.#served = served;
    const world = { clock, log, records, events: { publish: (event: NewEvent) => this.#publish(event) } };
    const fleet = new SimFleet(surroundings, alarms, connect);
    this.#fleet = fleet;
    const used = new UsedTargets(world, served);
    this.#control = new NodeControl({
      ...world,
      node: (id) => fleet.controlled(id),
      usedBy: (target) => used.usedBy(target),
      epochOf: (name) => served.get(name)?.volume?.epoch ?? null,
      trim: async (target) => {
        alarms.trims(target);
        const trimmed = await trimTarget(fleet, clock, target);
        alarms.trims(target);
        surroundings.count(`spare ${trimmed.ok ? 'zeroed' : 'not zeroed'}`);
        return trimmed;
      },
    });
    this.#epochs = new EpochKeeper({ clock, log, fleet });
    this.#judge = new Judge({
      ...world,
      oracle: new SimOracle(signs, plan.policy.name),
      nodes: () => nodes.map(({ name }) => name),
      residents: () => [],
      judged: (verdict, sinceMs) => this.protection.judged(verdict, sinceMs),
    });
    const copiesOn = (id: string): number =>
      [...served.values()].flatMap((each) => each.targets()).filter(({ target }) => target.node === id).length;
    this.protection = new Protection(
      {
        ...world,
        targets: this.#control,
        lessons: this.#judge,
        candidates: () =>
          fleet.facts(
            (id) => this.#control.freeSpares(id),
            (id) => this.#judge.latest(id),
            copiesOn,
          ),
      },
      plan.limits,
    );
    this.#judge.start();
    used.look(new Set(volumes.map(({ name }) => name)));
    this.#control.start();
    fleet.start();
  }

  async stop(): Promise<void> {
    await this.#judge.stop();
    await this.protection.stop();
    await this.#control.stop();
    this.#epochs.stop();
    this.#fleet.stop();
  }

  /** The volume is open. */
  protect(volume: Volume): void {
    const { name } = volume;
    this.#epochs.claim(name, this.#served.get(name)!.targets(), volume.epoch);
    const number = this.#surroundings.volumes.findIndex((plan) => plan.name === name);
    this.protection.add({
      control: this.#watched(volume),
      policy: () => this.#alarms.plan.policy,
      priority: () => number,
      labels: () => ({}),
      clients: () => [],
      profile: () => ({ readShare: 0.5, iops: 100, bytesPerSecond: 409_600, blockBytes: 4096 }),
      latency: () => null,
    });
  }

  fact(name: string, fact: VolumeFact): void {
    if (fact.type === 'mirror-state' && fact.to !== 'copying') this.#begunFor(name).delete(fact.target.node);
    if (fact.type === 'flipped') this.#epochs.claim(name, this.#served.get(name)!.targets(), fact.certificate.epoch);
    this.protection.fact(name, fact);
  }

  addMirror(name: string, node: string): Promise<Answer> {
    return answered(this.protection.operatorMirror(name, node));
  }

  removeMirror(name: string, node: string): Promise<Answer> {
    return answered(this.protection.operatorDropMirror(name, node));
  }

  async flip(name: string, node: string): Promise<Answer> {
    const flipped = await this.protection.operatorFlip(name, node);
    return { ...(await answered(Promise.resolve(flipped))), certificate: flipped.ok ? flipped.value : undefined };
  }

  scrub(name: string): Promise<Answer> {
    return answered(this.protection.scrub(name));
  }

  rollback(name: string): Promise<Answer> {
    return answered(this.protection.rollback(name));
  }

  giveVerdict(node: string, probability: number): Promise<Answer> {
    return answered(this.#judge.giveVerdict(node, { probability, reason: 'somebody says so' }));
  }

  fresh(node: string): void {
    this.#judge.fresh(node);
  }

  alarmed(): string[] {
    return this.#surroundings.nodes.map(({ name }) => name).filter((name) => this.#judge.latest(name)?.firing);
  }

  view(name: string): ProtectionView | undefined {
    return this.protection.state(name);
  }

  #publish({ type, message, details }: NewEvent): void {
    const { count, log } = this.#surroundings;
    const what = type === 'protection.transition' ? `protection ${String(details?.to)}` : `event ${type}`;
    count.call(this.#surroundings, what);
    log.info({}, message);
  }

  /** The volume as protection sees it; each copy that it begins is told, with those that are under way. */
  #watched(volume: Volume): VolumeControl {
    return {
      get name() {
        return volume.name;
      },
      get sizeBytes() {
        return volume.sizeBytes;
      },
      get epoch() {
        return volume.epoch;
      },
      get active() {
        return volume.active;
      },
      mirrors: () => volume.mirrors(),
      addMirror: async (target, cause) => {
        this.#alarms.begins({ volume: volume.name, node: target.node, source: volume.active.node }, this.#copying());
        const begun = this.#begunFor(volume.name);
        begun.add(target.node);
        const added = await volume.addMirror(target, cause);
        if (!added.ok) begun.delete(target.node);
        return added;
      },
      removeMirror: (target, cause) => {
        this.#begunFor(volume.name).delete(target.node);
        return volume.removeMirror(target, cause);
      },
      flip: (to, cause) => volume.flip(to, cause),
      scrub: (cause) => volume.scrub(cause),
    };
  }

  #begunFor(name: string): Set<string> {
    const begun = this.#begun.get(name) ?? new Set();
    this.#begun.set(name, begun);
    return begun;
  }

  #copying(): CopyUnderWay[] {
    const found: CopyUnderWay[] = [];
    for (const [name, { volume }] of this.#served) {
      if (volume === null) continue;
      const nodes = new Set(this.#begunFor(name));
      for (const { node, state } of volume.mirrors()) if (state !== 'copying') nodes.delete(node);
      // What is about to go takes nobody's place.
      for (const { node, dropping } of this.view(name)?.copies ?? []) if (dropping) nodes.delete(node);
      for (const node of nodes) found.push({ volume: name, node, source: volume.active.node });
    }
    return found;
  }
}

async function answered(outcome: Promise<Outcome<unknown>>): Promise<Answer> {
  const given = await outcome;
  return given.ok ? { ok: true, text: 'done' } : { ok: false, text: `${given.code}: ${given.message}` };
}
