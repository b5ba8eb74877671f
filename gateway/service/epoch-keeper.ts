// Tells the agents that hold a volume's copies its epoch and their role, so that they refuse whoever is older (rules 19,
// 20): the copy a volume left, too, or a gateway that lost its store would serve that one, old as it is. After the commit,
// never before: the store decides, the agents only fence. Tried until it is done, or superseded.
import type { Clock, Log, Timer } from '../../replication/world.js';
import type { Outcome, TargetRef } from '../control.js';

const RETRY_MS = 2000;

export interface ClaimedCopy {
  target: TargetRef;
  role: 'active' | 'mirror';
}

/** gateway/fleet's nodes and gateway/agent's client satisfy it. */
export interface ClaimingFleet {
  get(node: string): { agent: ClaimingAgent | null } | undefined;
}

interface ClaimingAgent {
  setEpoch(name: string, claim: { volume: string; epoch: number; role: 'active' | 'mirror' }): Promise<Outcome<unknown>>;
}

interface Claim extends ClaimedCopy {
  epoch: number;
  timer: Timer | null;
}

export class EpochKeeper {
  readonly #world: { clock: Clock; log: Log; fleet: ClaimingFleet };
  readonly #claims = new Map<string, Claim[]>();
  #stopped = false;

  constructor(world: { clock: Clock; log: Log; fleet: ClaimingFleet }) {
    this.#world = world;
  }

  /** These are the volume's copies from now on; claims before are forgotten. */
  claim(volume: string, copies: readonly ClaimedCopy[], epoch: number): void {
    for (const old of this.#claims.get(volume) ?? []) old.timer?.cancel();
    const claims = copies.map(({ target, role }): Claim => ({ target, role, epoch, timer: null }));
    this.#claims.set(volume, claims);
    for (const claim of claims) void this.#tell(volume, claim);
  }

  stop(): void {
    this.#stopped = true;
    for (const claims of this.#claims.values()) for (const claim of claims) claim.timer?.cancel();
  }

  async #tell(volume: string, claim: Claim): Promise<void> {
    const { target, epoch, role } = claim;
    const agent = this.#world.fleet.get(target.node)?.agent ?? null;
    if (agent === null) return;
    const told = await agent.setEpoch(target.export, { volume, epoch, role });
    if (told.ok || this.#stopped || !this.#claims.get(volume)?.includes(claim)) return;
    if (told.code === 'stale-epoch' || told.code === 'owner-mismatch') {
      this.#world.log.error({ volume, target, epoch }, `the agent knows of a newer owner: ${told.message}`);
      return;
    }
    // Its space was given back meanwhile: nobody can serve it any more.
    if (told.code === 'export-unknown' && role === 'mirror') return;
    claim.timer = this.#world.clock.after(RETRY_MS, () => void this.#tell(volume, claim));
  }
}
