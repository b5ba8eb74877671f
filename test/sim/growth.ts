// An operator who makes a volume larger while faults strike, in some seeds: the volume begins small, nodes' exports are made
// larger (what a plain node's export has there is somebody else's), then the gateway is asked, at moments that matter, and
// may crash at any of them; what was refused is asked for again. All of it is drawn from a stream of its own.
import { BLOCK_BYTES } from './disk.js';
import type { SimNode } from './node.js';
import type { Random } from './random.js';
import type { SimWorld } from './sim-world.js';

const TRIES = 6;
const MOMENTS = [
  'commit',
  'commit of volume',
  'commit of mark',
  'flush-executed',
  'host-write',
  'wish flip',
  'wish add-mirror',
  'fact flipped flip',
  'fact flipped failover',
  'fact target-lost',
  'fact target-back',
  'fact mirror-state synced',
] as const;
/** When the gateway crashes in a growth: after one of these, or at any time. */
const CRASH_MOMENTS = ['commit of volume', 'export made larger', 'flush-executed', 'commit'] as const;

/** What it acts on. */
export interface GrowthStage {
  world: SimWorld;
  volume: string;
  /** The time of faults is over. */
  over(): boolean;
  sizeBytes(): number;
  crashGateway(downMs: number): void;
  /** Null: the gateway crashed meanwhile. */
  grow(sizeBytes: number): Promise<{ ok: boolean } | null>;
}

export class GrowthPlan {
  /** Of the volume at the start. */
  readonly firstBytes: number;
  /** When all faults are over it is made as large as this, which nothing may refuse; null: it stays as it is. */
  readonly finalBytes: number | null;
  /** Sizes that are wished for, and after how many operations. */
  readonly steps: { sizeBytes: number; afterOperations: number }[] = [];
  readonly #random: Random;

  /** `lastBytes`: what it may have at the end. */
  constructor(random: Random, lastBytes: number, operations: number) {
    this.#random = random;
    const most = lastBytes / BLOCK_BYTES;
    let blocks = random.between(Math.ceil(most / 8), most - 1);
    this.firstBytes = blocks * BLOCK_BYTES;
    for (let steps = random.between(1, 3); steps > 0 && blocks < most; steps -= 1) {
      blocks = steps === 1 && random.chance(0.5) ? most : random.between(blocks + 1, most);
      this.steps.push({ sizeBytes: blocks * BLOCK_BYTES, afterOperations: random.int(Math.ceil(operations * 0.9)) });
    }
    this.finalBytes = random.chance(0.7) ? lastBytes : null;
    this.steps.sort((one, other) => one.afterOperations - other.afterOperations);
  }

  /** Some plain nodes' exports are larger than the volume from the start. */
  offer(nodes: readonly SimNode[], volume: string, lastBytes: number): void {
    for (const node of nodes) if (this.#random.chance(0.2)) enlarge(node, volume, lastBytes, this.#random);
  }

  /** Nobody forgets an export. */
  enlargeAll(nodes: readonly SimNode[], volume: string, sizeBytes: number): void {
    for (const node of nodes) enlarge(node, volume, sizeBytes, this.#random);
  }

  /** Plays what is due after so many operations. */
  play(done: number, stage: GrowthStage): void {
    while (this.steps.length > 0 && this.steps[0].afterOperations < done) {
      const { sizeBytes } = this.steps.shift()!;
      const { world } = stage;
      const begin = (): void => void this.#wish(sizeBytes, stage, TRIES);
      if (this.#random.chance(0.4)) world.scheduler.after(0, begin);
      else world.onNext(this.#random.pick(MOMENTS), this.#random.range(1, 300), begin);
    }
  }

  async #wish(sizeBytes: number, stage: GrowthStage, tries: number): Promise<void> {
    const random = this.#random;
    const { world } = stage;
    if (stage.over() || stage.sizeBytes() >= sizeBytes || tries === 0) return;
    // At first one may be forgotten.
    for (const node of world.nodes) if (tries < TRIES || random.chance(0.85)) enlarge(node, stage.volume, sizeBytes, random);
    if (random.chance(0.3)) this.#crashIn(stage);
    const answer = await stage.grow(sizeBytes);
    if (answer?.ok) return;
    world.scheduler.after(random.range(20, 1500), () => void this.#wish(sizeBytes, stage, tries - 1));
  }

  #crashIn({ world, over, crashGateway }: GrowthStage): void {
    const random = this.#random;
    const downMs = random.range(0, 50);
    const crash = (): void => {
      if (!over()) crashGateway(downMs);
    };
    if (random.chance(0.5)) world.scheduler.after(random.range(0, random.pick([5, 40, 300])), crash);
    else world.onNext(random.pick(CRASH_MOMENTS), 300, () => world.scheduler.after(random.chance(0.5) ? 0 : random.range(0, 3), crash));
  }
}

/** A plain node's owner makes its export larger; an agent's only its gateway does. */
function enlarge(node: SimNode, exportName: string, sizeBytes: number, random: Random): void {
  const disk = node.disks.get(exportName);
  if (node.fencing || disk === undefined || disk.contents.length >= sizeBytes) return;
  disk.grow(sizeBytes, random.chance(0.7) ? 0xdd : 0);
}
