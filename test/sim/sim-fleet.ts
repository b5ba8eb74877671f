// The nodes as one gateway incarnation knows them, for placement: what a look at each said last, which may be old by now.
// Stands in for gateway/fleet, whose nodes need sockets.
import type { Outcome, Verdict } from '../../gateway/control.js';
import type { ControlledNode } from '../../gateway/placement/node-control.js';
import type { NodeFacts } from '../../gateway/placement/node-facts.js';
import type { TrimFleet } from '../../gateway/service/target-trim.js';
import type { NodeLook } from './agent.js';
import type { AlarmSurroundings, NodeAgent, NodePlace, Surroundings } from './system.js';

const LOOK_MS = 1000;

interface Known {
  place: NodePlace;
  desk: NodeAgent;
  spares: readonly string[];
  /** Null: it was never looked at, or it does not answer. */
  look: NodeLook | null;
  state: NodeFacts['state'];
}

export class SimFleet implements TrimFleet {
  readonly connect: TrimFleet['connect'];
  readonly #surroundings: Surroundings;
  readonly #known = new Map<string, Known>();
  #stopped = false;

  constructor(surroundings: Surroundings, { agent, plan }: AlarmSurroundings, connect: TrimFleet['connect']) {
    this.#surroundings = surroundings;
    this.connect = connect;
    for (const place of surroundings.nodes) {
      const { name } = place;
      this.#known.set(name, { place, desk: agent(name), spares: plan.spares.get(name) ?? [], look: null, state: 'unknown' });
    }
  }

  start(): void {
    for (const known of this.#known.values()) void this.#watch(known);
  }

  get(id: string): { agent: NodeAgent | null; spareSize(name: string): number | null; look(): Promise<void> } | undefined {
    const known = this.#known.get(id);
    if (known === undefined) return undefined;
    return {
      agent: known.place.fencing ? known.desk : null,
      spareSize: (name) => known.look?.sizes.get(name) ?? null,
      look: () => look(known),
    };
  }

  controlled(id: string): ControlledNode | undefined {
    const known = this.#known.get(id);
    if (known === undefined) return undefined;
    return known.place.fencing ? { id, kind: 'agent', agent: known.desk } : { id, kind: 'plain', spares: known.spares };
  }

  facts(freeSpares: (id: string) => string[], verdictOf: (id: string) => Verdict | null, copiesOn: (id: string) => number): NodeFacts[] {
    return [...this.#known.values()].map((known) => {
      const { place, desk, state } = known;
      const verdict = verdictOf(place.name);
      return {
        id: place.name,
        zone: `zone-${place.name}`,
        site: 'here',
        kind: place.fencing ? 'agent' : 'plain',
        state,
        reason: state === 'down' ? 'it did not answer' : null,
        verdict: verdict === null ? null : { probability: verdict.probability, firing: verdict.firing },
        capacityBytes: place.fencing ? desk.capacityBytes : null,
        freeBytes: place.fencing ? (known.look?.freeBytes ?? null) : null,
        spares: freeSpares(place.name).map((name) => ({ export: name, sizeBytes: known.look?.sizes.get(name) ?? null })),
        latency: null,
        load: { iops: 0, bytesPerSecond: 0 },
        utilisation: null,
        copies: copiesOn(place.name),
      };
    });
  }

  stop(): void {
    this.#stopped = true;
  }

  async #watch(known: Known): Promise<void> {
    await look(known);
    if (this.#stopped) return;
    this.#surroundings.clock.after(LOOK_MS, () => void this.#watch(known));
  }
}

async function look(known: Known): Promise<void> {
  const looked: Outcome<NodeLook> = await known.desk.look();
  known.look = looked.ok ? looked.value : null;
  known.state = looked.ok ? 'up' : 'down';
}
