// What a run is played with, drawn from its seed: nodes and what they offer, volumes, and at times somebody else's data where
// a copy could go. Under protection there may be more of them, and agents make their exports themselves.
import { SimAgent } from './agent.js';
import { BLOCK_BYTES, type SimDisk } from './disk.js';
import type { GrowthPlan } from './growth.js';
import { drawFeatures } from './node-features.js';
import type { SimNode } from './node.js';
import type { Random } from './random.js';
import type { SimWorld } from './sim-world.js';
import type { NodePlace, VolumePlan } from './system.js';

/** Copies of a volume that an agent has room for. */
const ROOM = 6;

/** What is somebody else's on a node, and must stay as it is. */
export interface Foreign {
  node: SimNode;
  disk: SimDisk;
  contents: Buffer;
}

export class Cast {
  readonly places: NodePlace[] = [];
  readonly volumes: VolumePlan[] = [];
  readonly foreign: Foreign[] = [];
  /** Of plain nodes, under protection. */
  readonly spares = new Map<string, string[]>();

  /** `alarms`: the stream of what is only drawn under protection; null: there is none. */
  /** Null: nothing grows. */
  readonly growth: GrowthPlan | null;

  constructor(
    world: SimWorld,
    random: Random,
    alarms: Random | null,
    /** Makes the plan by what the volume may have at the end. */
    growthOf: (lastBytes: number) => GrowthPlan | null,
    deletes: (node: string, exportName: string) => void,
  ) {
    this.#drawNodes(world, random, alarms);
    const lastBytes = random.pick([131_072, 262_144, 524_288]);
    this.growth = growthOf(lastBytes);
    const sizeBytes = this.growth?.firstBytes ?? lastBytes;
    this.volumes.push({ name: 'vol0', sizeBytes, node: random.pick(world.nodes).name });
    for (let more = alarms?.pick([0, 0, 1, 2]) ?? 0; more > 0; more -= 1)
      this.volumes.push({ name: `vol${more}`, sizeBytes, node: alarms!.pick(world.nodes).name });
    if (alarms === null) for (const { name } of this.volumes) for (const node of world.nodes) node.addExport(name, sizeBytes);
    else this.#offer(world, alarms, sizeBytes, deletes);
    this.growth?.offer(world.nodes, 'vol0', lastBytes);
    this.#drawForeign(world, random);
  }

  #drawNodes(world: SimWorld, random: Random, alarms: Random | null): void {
    const zombieMs = random.pick([100, 400, 1000]);
    const names = ['a', 'b', 'c'];
    if (alarms?.chance(0.5)) names.push('d');
    for (const name of names) {
      const fencing = random.chance(alarms === null ? 0.3 : 0.6);
      const node = world.addNode(name, {
        features: drawFeatures(random, fencing),
        fencing,
        zombieMs,
        serviceMs: random.pick([0.2, 1, 4]),
      });
      this.places.push({ name, address: node.address, fencing, zombieMs: fencing ? 0 : zombieMs });
    }
  }

  /** Each volume's first place, and for each volume a spare on every plain node. */
  #offer(world: SimWorld, random: Random, sizeBytes: number, deletes: (node: string, exportName: string) => void): void {
    for (const node of world.nodes) {
      const agent = new SimAgent({
        node,
        capacityBytes: ROOM * this.volumes.length * sizeBytes,
        scheduler: world.scheduler,
        random: random.fork(`agent ${node.name}`),
        moment: (what) => world.moment(what),
        trace: (line) => world.trace(line),
        deletes,
      });
      node.agent = agent;
      const isAgent = this.places.find(({ name }) => name === node.name)!.fencing;
      const spares: string[] = [];
      for (const volume of this.volumes) {
        const isFirst = volume.node === node.name;
        if (isFirst) node.addExport(volume.name, sizeBytes);
        if (isFirst && isAgent) agent.place(volume.name, sizeBytes);
        if (isAgent) continue;
        const spare = isFirst ? `spare-${volume.name}` : volume.name;
        node.addExport(spare, sizeBytes);
        spares.push(spare);
      }
      if (!isAgent) this.spares.set(node.name, spares);
    }
  }

  /** At times a node other than the first has data of somebody else where a copy could be. */
  #drawForeign(world: SimWorld, random: Random): void {
    if (!random.chance(0.15)) return;
    const { name, node: first } = this.volumes[0];
    const node = random.pick(world.nodes.filter((each) => each.name !== first));
    const disk = node.disks.get(name);
    if (disk === undefined) return;
    // What lies beyond the volume in an export that is given to it is its own.
    const blocks = Math.min(disk.blocks, this.volumes[0].sizeBytes / BLOCK_BYTES);
    const from = random.int(blocks);
    disk.occupy(from, random.between(1, blocks - from));
    this.foreign.push({ node, disk, contents: Buffer.from(disk.contents) });
  }
}
