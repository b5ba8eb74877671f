// Tells agents the epoch of the volume whose active copy they hold, so that they refuse whoever is older (rules 19, 20).
// After the commit, never before: the store decides, the agents only fence. Tried until it is done, or superseded.
import type { Clock, Log, Timer } from '../../replication/world.js';
import type { TargetRef } from '../control.js';
import type { Fleet } from '../fleet/fleet.js';

const RETRY_MS = 2000;

interface Claim {
  target: TargetRef;
  epoch: number;
  timer: Timer | null;
}

export class EpochKeeper {
  readonly #world: { clock: Clock; log: Log; fleet: Fleet };
  readonly #claims = new Map<string, Claim>();
  #stopped = false;

  constructor(world: { clock: Clock; log: Log; fleet: Fleet }) {
    this.#world = world;
  }

  claim(volume: string, target: TargetRef, epoch: number): void {
    this.#claims.get(volume)?.timer?.cancel();
    const claim: Claim = { target, epoch, timer: null };
    this.#claims.set(volume, claim);
    void this.#tell(volume, claim);
  }

  stop(): void {
    this.#stopped = true;
    for (const claim of this.#claims.values()) claim.timer?.cancel();
  }

  async #tell(volume: string, claim: Claim): Promise<void> {
    const agent = this.#world.fleet.get(claim.target.node)?.agent ?? null;
    if (agent === null) return;
    const told = await agent.setEpoch(claim.target.export, { volume, epoch: claim.epoch, role: 'active' });
    if (told.ok || this.#stopped || this.#claims.get(volume) !== claim) return;
    if (told.code === 'stale-epoch' || told.code === 'owner-mismatch') {
      this.#world.log.error({ volume, target: claim.target, epoch: claim.epoch }, `the agent knows of a newer owner: ${told.message}`);
      return;
    }
    claim.timer = this.#world.clock.after(RETRY_MS, () => void this.#tell(volume, claim));
  }
}
