// Carries out one effect of the machine against volume and nodes, and says as a fact what came of it. Each looks first
// whether the effect still stands: between the order and the errand other facts may have come.
import type { TargetRef } from '../control.js';
import type { NodeFacts } from '../placement/node-facts.js';
import { choose, type Placement, type Ranked } from '../placement/placement.js';
import type { Effect, Fact } from './input.js';
import { copyOf, describeTarget, doubtOver, type Situation, sameTarget } from './situation.js';
import type { ProtectedVolume, ProtectionWorld } from './world.js';

/** Nodes that are tried for one target before it is given up. */
const MAKE_TRIES = 3;

export type EffectOf<T extends Effect['type']> = Extract<Effect, { type: T }>;

export interface Errand {
  world: ProtectionWorld;
  volume: ProtectedVolume;
  situation(): Situation;
  /** The nodes as they will be once what other volumes have under way is done. */
  candidates(): NodeFacts[];
  /** A target on this node is being made; null: it is made, or not. */
  promise(node: string | null): void;
  /** How often the volume refused each target since it last began a mirror, and all targets of each node. */
  refusals: Map<string, number>;
}

/** The volume's refusals that are the target's fault: another one may do. */
const TARGET_FAULTS: ReadonlySet<string> = new Set(['target-unusable', 'target-unreadable', 'target-not-blank']);

export async function chooseTarget(errand: Errand, { ticket, origin, node }: EffectOf<'choose-target'>): Promise<Fact | null> {
  const { world, volume } = errand;
  const { control } = volume;
  if (errand.situation().choice?.ticket !== ticket) return null;
  const placement = place(errand, node);
  const failures: string[] = [];
  for (const ranked of leastRefused(errand, placement.ranking, ({ node }) => node).slice(0, MAKE_TRIES)) {
    const wish = { volume: control.name, epoch: control.epoch, sizeBytes: control.sizeBytes };
    errand.promise(ranked.node);
    const made = await world.targets.make(ranked.node, ranked.export, wish);
    errand.promise(null);
    if (made.ok) {
      announce(errand, placement, ranked);
      return { type: 'target-chosen', ticket, target: made.value, origin };
    }
    failures.push(`${ranked.node}: ${made.message}`);
  }
  const reason = failures.length > 0 ? failures.join('; ') : placement.explanation;
  return { type: 'no-placement', ticket, reason, details: { refused: placement.refused, failures } };
}

/** Those that were refused least come first, else in the order they had. */
function leastRefused<T>({ refusals }: Errand, items: readonly T[], nameOf: (item: T) => string): T[] {
  const countOf = (item: T) => refusals.get(nameOf(item)) ?? 0;
  return [...items].sort((a, b) => countOf(a) - countOf(b));
}

/** The spares that a copy may be tried on next: none twice while there is another that was not tried. */
function sparesOf(errand: Errand, { id, spares }: NodeFacts): NodeFacts['spares'] {
  const nameOf = ({ export: name }: NodeFacts['spares'][number]) => describeTarget({ node: id, export: name });
  const [least] = leastRefused(errand, spares, nameOf).map((spare) => errand.refusals.get(nameOf(spare)) ?? 0);
  return spares.filter((spare) => (errand.refusals.get(nameOf(spare)) ?? 0) === least);
}

function place(errand: Errand, only: string | null): Placement {
  const { volume, situation, candidates } = errand;
  const { control } = volume;
  const copies = situation().copies.map((copy) => copy.target.node);
  const needs = {
    name: control.name,
    sizeBytes: control.sizeBytes,
    active: control.active.node,
    copies,
    profile: volume.profile(),
    latency: volume.latency(),
  };
  const nodes = candidates().map((node) => ({ ...node, verdict: doubted(situation(), node), spares: sparesOf(errand, node) }));
  return choose({ volume: needs, nodes, only });
}

/** The verdict over a node as the volume's policy has it. */
function doubted(s: Situation, { id, verdict }: NodeFacts): NodeFacts['verdict'] {
  const doubt = doubtOver(s, id);
  if (doubt !== null) return { probability: doubt.probability, firing: true };
  return verdict && { ...verdict, firing: false };
}

function announce({ world, volume }: Errand, { ranking, refused, explanation }: Placement, chosen: Ranked): void {
  world.events.publish({
    type: 'placement.chosen',
    level: 'info',
    message: chosen === ranking[0] ? explanation : `${chosen.node} takes the copy, since nodes ranked above it could not: ${explanation}`,
    volume: volume.control.name,
    node: chosen.node,
    labels: volume.labels(),
    clients: volume.clients(),
    details: { ranking: ranking.slice(0, 10), refused: refused.slice(0, 20) },
  });
}

export async function startMirror(errand: Errand, { ticket, target, cause }: EffectOf<'start-mirror'>): Promise<Fact> {
  const { world, volume } = errand;
  const situation = errand.situation();
  const copy = copyOf(situation, target);
  if (!copy || copy.drop || situation.choice?.ticket !== ticket) {
    return { type: 'mirror-refused', ticket, target, code: 'rolled-back', reason: 'it is not wanted any more' };
  }
  // The fact that says so is on its way: where the volume is now, it may have to wait for its turn.
  const { node } = volume.control.active;
  if (node !== situation.active.node) {
    return { type: 'mirror-refused', ticket, target, code: 'overtaken', reason: `the volume has gone to ${node} meanwhile` };
  }
  const started = await volume.control.addMirror(target, cause);
  noteRefusal(errand, target, started.ok ? null : started.code);
  if (!started.ok) return { type: 'mirror-refused', ticket, target, code: started.code, reason: started.message };
  await world.targets.keep(target);
  return { type: 'mirror-started', ticket, target };
}

function noteRefusal({ refusals }: Errand, target: TargetRef, code: string | null): void {
  if (code === null) refusals.clear();
  else if (TARGET_FAULTS.has(code))
    for (const name of [target.node, describeTarget(target)]) refusals.set(name, (refusals.get(name) ?? 0) + 1);
}

export async function dropMirror(errand: Errand, { target, cause }: EffectOf<'drop-mirror'>): Promise<Fact | null> {
  const { control } = errand.volume;
  if (!copyOf(errand.situation(), target)?.drop || sameTarget(control.active, target)) return null;
  const condemned = await errand.world.targets.condemn(target, { volume: control.name, epoch: control.epoch });
  if (!condemned.ok) return { type: 'drop-refused', target, reason: condemned.message };
  const removed = isMirror(errand, target) ? await control.removeMirror(target, cause) : null;
  if (sameTarget(control.active, target)) {
    await errand.world.targets.keep(target);
    return null;
  }
  if (removed === null || removed.ok || !isMirror(errand, target)) return { type: 'mirror-dropped', target };
  // It may become the active target before it is tried again.
  await errand.world.targets.keep(target);
  return { type: 'drop-refused', target, reason: removed.message };
}

function isMirror({ volume }: Errand, target: TargetRef): boolean {
  return volume.control.mirrors().some((view) => sameTarget(view, target));
}

/** The space of a target that no volume names any more. */
export async function freeTarget({ world, volume }: Errand, { target }: EffectOf<'free-target'>): Promise<null> {
  const { control } = volume;
  const condemned = await world.targets.condemn(target, { volume: control.name, epoch: control.epoch });
  if (condemned.ok) world.targets.free(target, control.name);
  else world.log.error({ volume: control.name, target: describeTarget(target), reason: condemned.message }, 'a target may be left over');
  return null;
}

export async function flip(errand: Errand, { ticket, to, kind, reason, verdict }: EffectOf<'flip'>): Promise<Fact | null> {
  if (errand.situation().flip?.ticket !== ticket) return null;
  const flipped = await errand.volume.control.flip(to, { reason, verdict, kind });
  if (flipped.ok) return { type: 'flip-done', certificate: flipped.value };
  return { type: 'flip-refused', ticket, code: flipped.code, reason: flipped.message, details: flipped.details };
}

export async function scrub(errand: Errand, { cause }: EffectOf<'scrub'>): Promise<Fact | null> {
  if (errand.situation().scrub !== 'running') return null;
  const scrubbed = await errand.volume.control.scrub(cause);
  return scrubbed.ok ? { type: 'scrub-finished', report: scrubbed.value } : { type: 'scrub-refused', reason: scrubbed.message };
}

/** The predictor learns what became of a verdict. */
export async function teach({ world, volume }: Errand, effect: EffectOf<'node-failed' | 'false-alarm'>): Promise<null> {
  if (effect.type === 'node-failed') world.lessons.failed(effect.node);
  else world.lessons.falseAlarm(effect.node, `${volume.control.name}: ${effect.reason}`);
  return null;
}
