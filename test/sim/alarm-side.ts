// What of a run is there only under protection: the drawn policy, what nodes show of their health, and who judges what
// becomes of it. All of it is drawn from a stream of its own, so that other runs stay as they are.
import { type AlarmPlan, drawLimits, drawPolicy } from './alarm-plan.js';
import type { Cast } from './cast.js';
import { Random } from './random.js';
import { Signs } from './signs.js';
import type { SimWorld } from './sim-world.js';
import type { AlarmSurroundings } from './system.js';
import { Warden } from './warden.js';

/** How many of the seeds run under protection. */
const SHARE = 1 / 3;

export class AlarmSide {
  readonly random: Random;
  readonly plan: AlarmPlan;
  readonly signs = new Signs();
  readonly warden: Warden;

  /** Null: this seed runs without. `wanted` undefined: the seed decides. */
  static draw(world: SimWorld, seed: number, wanted: boolean | undefined): AlarmSide | null {
    const random = new Random(seed, 'protection');
    const drawn = random.chance(SHARE);
    return (wanted ?? drawn) ? new AlarmSide(world, random) : null;
  }

  private constructor(world: SimWorld, random: Random) {
    this.random = random;
    this.plan = { policy: drawPolicy(random), limits: drawLimits(random), spares: new Map<string, readonly string[]>() };
    this.warden = new Warden(world, this.plan);
  }

  surroundings({ spares }: Cast): Omit<AlarmSurroundings, 'agent'> {
    const { plan, signs, warden } = this;
    return {
      plan: { ...plan, spares },
      signs,
      trims: (target) => warden.frees(target),
      begins: (copy, running) => warden.begins(copy, running),
    };
  }
}
