// The independent judge of protection. While a run goes on: nothing is deleted or zeroed that the store names, and never are
// more copies begun at once than may be. At rest: every volume has left the nodes under a verdict where there is a sound
// place, nothing is in between, nothing is left over on nodes, and protection's picture is the volumes' own. Knows the
// store, the nodes and what the API tells; not how protection decides.
import type { TargetRef } from '../../gateway/control.js';
import { oursKey } from '../../gateway/volume/volume-record.js';
import type { AlarmPlan } from './alarm-plan.js';
import type { Cast } from './cast.js';
import type { Violation } from './checker.js';
import type { Wish } from './faults.js';
import type { SimWorld } from './sim-world.js';
import type { CopyUnderWay, Guarded, Incarnation, Status, VolumePlan } from './system.js';

const VIOLATIONS_MAX = 3;
const REST_MS = 300;
/** Of an agent's capacity, which placement leaves free. */
const RESERVE_SHARE = 0.05;

interface StoredVolume {
  active: TargetRef;
  mirrors: { target: TargetRef }[];
}

export class Warden {
  readonly violations: Violation[] = [];
  readonly #world: SimWorld;
  readonly #plan: AlarmPlan;
  #cast: Cast | null = null;
  /** Mirrors that operators asked for, by volume: they stay until an operator drops them. */
  readonly #asked = new Map<string, string[]>();
  /** Volumes whose operator decided against what a verdict asks for. */
  readonly #overruled = new Set<string>();
  /** Where the last copy of each volume was copied from when it began. */
  readonly #begunFrom = new Map<string, string>();
  #restingSinceMs: number | null = null;

  constructor(world: SimWorld, plan: AlarmPlan) {
    this.#world = world;
    this.#plan = plan;
  }

  plays(cast: Cast): void {
    this.#cast = cast;
  }

  // What is watched.

  frees(target: TargetRef): void {
    const volume = this.#userOf(target, !this.#world.counts.has('commit-failed'));
    if (volume !== null) this.#note(`${target.node}/${target.export} is freed though the store says that ${volume} is there`);
    for (const { node, disk } of this.#cast!.foreign) {
      if (node.name === target.node && node.disks.get(target.export) === disk)
        this.#note(`${target.node}/${target.export} is freed, which holds somebody else's data`);
    }
  }

  begins(copy: CopyUnderWay, running: readonly CopyUnderWay[]): void {
    const { policy, limits } = this.#plan;
    this.#begunFrom.set(copy.volume, copy.source);
    if (policy.mirror.standing > 0 || this.#isAsked(copy)) return;
    // A volume takes one place, also when a copy that it had given up comes back while another begins.
    const counted = running.filter((each) => !this.#isAsked(each) && each.volume !== copy.volume);
    // A failover may have brought one here since it got its turn, or taken it away.
    const beside = counted.filter(
      ({ volume, source }) => source === copy.source && (this.#begunFrom.get(volume) ?? source) === copy.source,
    ).length;
    if (counted.length < limits.inAll && beside < limits.perNode) return;
    this.#note(`${copy.volume} begins a copy while ${counted.length} are under way, ${beside} of them from ${copy.source}`);
  }

  asked(what: Wish, volume: string, node: string): void {
    if (what === 'rollback' || what === 'remove-mirror') this.#overruled.add(volume);
    if (what === 'add-mirror') this.#asked.set(volume, [...(this.#asked.get(volume) ?? []), node]);
  }

  refused(what: Wish, volume: string, node: string): void {
    const asked = this.#asked.get(volume);
    if (what === 'add-mirror') asked?.splice(asked.indexOf(node), 1);
  }

  // What must be so in the end; null: it is.

  /** What is still to happen; asked after each event: it must have been so for a while, since not every plan can be seen. */
  unrest(incarnation: Incarnation): string | null {
    const { nowMs } = this.#world.scheduler;
    const why = this.#restless(incarnation) ?? this.#staying(incarnation);
    if (why !== null) {
      this.#restingSinceMs = null;
      return why;
    }
    this.#restingSinceMs ??= nowMs;
    return nowMs - this.#restingSinceMs < REST_MS ? 'protection has only just come to rest' : null;
  }

  /** Nothing is under way, and everybody's picture is the same. */
  #restless(incarnation: Incarnation): string | null {
    const guarded = incarnation.guarded!;
    for (const volume of this.#cast!.volumes) {
      const why = this.#between(volume, incarnation.status(volume.name), guarded) ?? this.#disagreement(volume.name, incarnation);
      if (why !== null) return why;
    }
    return this.#leftOver();
  }

  /** Every volume that a verdict drives away is gone, or ready to go where only an operator flips. */
  #staying(incarnation: Incarnation): string | null {
    const guarded = incarnation.guarded!;
    const alarmed = guarded.alarmed();
    for (const volume of this.#cast!.volumes) {
      const status = incarnation.status(volume.name);
      if (!alarmed.includes(status.active) || this.#overruled.has(volume.name) || this.#world.counts.has('fact damage')) continue;
      if (!this.#plan.policy.flip.automatic && this.#hasReadyCopy(status, alarmed)) continue;
      const place = this.#soundPlace(volume, status, alarmed);
      if (place !== null) return `${volume.name} is still on ${status.active}, over which a verdict stands, though ${place} could take it`;
    }
    return null;
  }

  /** Would a verdict over its node make it leave? */
  mayLeave(volume: VolumePlan, incarnation: Incarnation): boolean {
    const status = incarnation.status(volume.name);
    const alarmed = [...incarnation.guarded!.alarmed(), status.active];
    return !this.#world.counts.has('fact damage') && this.#soundPlace(volume, status, alarmed) !== null;
  }

  /** No verdict stands: what was made for one is gone, and as many mirrors are there as the policy always wants. */
  overdone(incarnation: Incarnation): string | null {
    const { standing } = this.#plan.policy.mirror;
    const adopted = this.#world.counts.has('commit-failed');
    const believed = this.#storedAlarm();
    if (!adopted && believed !== null) return `the store has a verdict over ${believed} still`;
    for (const volume of this.#cast!.volumes) {
      const { name } = volume;
      const status = incarnation.status(name);
      const view = incarnation.guarded!.view(name);
      const most = standing + (this.#asked.get(name)?.length ?? 0);
      if (view?.home && view.home.observedUntil !== null) return `${name} still watches ${view.home.node}`;
      if (!adopted && status.mirrors.length > most)
        return `${name} has ${status.mirrors.length} mirrors without a verdict, ${most} at most are wanted`;
      const good = status.mirrors.filter(({ state }) => state === 'synced').length;
      if (good < standing && this.#soundPlace(volume, { ...status, mirrors: [] }, [...status.mirrors.map(({ node }) => node)]) !== null)
        return `${name} has ${good} of its ${standing} standing mirrors`;
    }
    return null;
  }

  #between({ name }: VolumePlan, { mirrors }: Status, guarded: Guarded): string | null {
    const view = guarded.view(name);
    if (view === undefined) return `${name} is not protected yet`;
    if (view.state === 'flipping' || view.state === 'rolling-back') return `${name} is ${view.state}: ${view.cause}`;
    const copy = view.copies.find(({ dropping, state }) => dropping || state === 'starting');
    if (copy !== undefined) return `the copy of ${name} on ${copy.node} is ${copy.dropping ? 'being dropped' : copy.state}`;
    if (view.state === 'mirroring' && !mirrors.some(({ state }) => state === 'failed')) return `${name} is mirroring: ${view.cause}`;
    return null;
  }

  #disagreement(name: string, incarnation: Incarnation): string | null {
    const { active, mirrors } = incarnation.status(name);
    const words = (targets: readonly { node: string; export: string }[]): string =>
      targets
        .map((target) => `${target.node}/${target.export}`)
        .sort()
        .join(' ');
    const seen = words(mirrors);
    const believed = words(incarnation.guarded!.view(name)!.copies);
    if (seen !== believed) return `protection takes the copies of ${name} for ${believed || 'none'}, the volume for ${seen || 'none'}`;
    if (this.#world.counts.has('commit-failed')) return null;
    const stored = this.#world.store.get(`protection/${name}`) as { active: TargetRef; copies: { target: TargetRef }[] } | undefined;
    if (stored === undefined) return `protection has no record of ${name}`;
    const recalled = words(stored.copies.map(({ target }) => target));
    if (stored.active.node !== active || recalled !== seen)
      return `protection's record has ${name} on ${stored.active.node} with copies ${recalled || 'none'}, the volume is on ${active} with ${seen || 'none'}`;
    return null;
  }

  /** Space that nobody uses and nobody will free. */
  #leftOver(): string | null {
    const [waiting] = this.#world.store.list('free/');
    if (waiting !== undefined) return `${waiting[0]} is still to be freed`;
    for (const { name, agent } of this.#world.nodes) {
      for (const exportName of agent!.owners.keys()) {
        if (this.#userOf({ node: name, export: exportName }) === null) return `${name}/${exportName} is left over: no volume uses it`;
      }
    }
    return null;
  }

  /** A node that is under a verdict after a restart. */
  #storedAlarm(): string | null {
    for (const [, value] of this.#world.store.list('verdict/')) {
      const { verdict } = value as { verdict: { node: string; firing: boolean } };
      if (verdict.firing) return verdict.node;
    }
    return null;
  }

  #hasReadyCopy({ mirrors }: Status, alarmed: readonly string[]): boolean {
    return mirrors.some(({ node, state }) => state === 'synced' && !alarmed.includes(node));
  }

  /** A node that has a good copy, or can take one. */
  #soundPlace({ sizeBytes }: VolumePlan, { active, mirrors }: Status, alarmed: readonly string[]): string | null {
    for (const { name, agent } of this.#world.nodes) {
      if (name === active || alarmed.includes(name)) continue;
      const there = mirrors.find(({ node }) => node === name);
      if (there !== undefined) {
        if (there.state !== 'failed') return name;
        continue;
      }
      const spares = this.#cast!.spares.get(name);
      const fits =
        spares === undefined
          ? agent!.freeBytes - sizeBytes >= Math.ceil(agent!.capacityBytes * RESERVE_SHARE)
          : spares.some((spare) => this.#userOf({ node: name, export: spare }) === null && !this.#isForeign(name, spare));
      if (fits) return name;
    }
    return null;
  }

  /** It holds somebody else's data, or what the gateway must take for that: it once came back with other contents. */
  #isForeign(name: string, spare: string): boolean {
    const disk = this.#world.node(name).disks.get(spare)!;
    if (this.#cast!.foreign.some((each) => each.node.name === name && each.disk === disk)) return true;
    return this.#world.store.get(oursKey({ node: name, export: spare })) === undefined && disk.contents.some((byte) => byte !== 0);
  }

  #isAsked({ volume, node }: CopyUnderWay): boolean {
    return this.#asked.get(volume)?.includes(node) ?? false;
  }

  /** The volume that the store names the target for. Not `sure`: a mirror whose commit failed may be named all the same, the active target is not. */
  #userOf({ node, export: name }: TargetRef, sure = true): string | null {
    for (const [key, value] of this.#world.store.list('volume/')) {
      const { active, mirrors } = value as unknown as StoredVolume;
      const targets = [active, ...(sure ? mirrors : []).map(({ target }) => target)];
      if (targets.some((target) => target.node === node && target.export === name)) return key;
    }
    return null;
  }

  #note(text: string): void {
    if (this.violations.length < VIOLATIONS_MAX) this.violations.push({ property: 'protection', text });
  }
}
