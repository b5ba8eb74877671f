// What the API asks of the gateway, answered from its parts. No state of its own.
import type {
  Backend,
  EventFeed,
  Readiness,
  ReloadReport,
  RollbackReport,
  SamplesReceipt,
  ScrubRun,
  VerdictQuery,
} from '../api/backend.js';
import {
  type FlipCertificate,
  type MirrorView,
  type NodeView,
  type Outcome,
  refuse,
  type TargetRef,
  type Verdict,
  type VolumeView,
} from '../control.js';
import type { Fleet } from '../fleet/fleet.js';
import type { Judge } from '../health/judge.js';
import type { NodeControl } from '../placement/node-control.js';
import type { Protection } from '../protection/protection.js';
import type { SampleIntake } from './sample-intake.js';
import type { ServedVolume } from './served-volume.js';
import { enlargerOf, findNoRoom } from './target-growth.js';

export interface BackendParts {
  events: EventFeed;
  volumes: ReadonlyMap<string, ServedVolume>;
  fleet: Fleet;
  protection: Protection;
  judge: Judge;
  intake: SampleIntake;
  nodeControl: NodeControl;
  /** Everything that was to be started has been. */
  started(): boolean;
  reload(): Promise<Outcome<ReloadReport>>;
}

export class GatewayBackend implements Backend {
  readonly #parts: BackendParts;

  constructor(parts: BackendParts) {
    this.#parts = parts;
  }

  get events(): EventFeed {
    return this.#parts.events;
  }

  ready(): Readiness {
    const reasons: string[] = [];
    let served = 0;
    for (const view of this.volumes()) {
      if (view.service === 'served') served += 1;
      else reasons.push(`volume ${view.name} is ${view.service}: ${view.reason ?? 'no reason is known'}`);
    }
    if (!this.#parts.started()) reasons.unshift('the gateway is starting');
    // One volume that cannot be served must not take the others away from whoever looks at this.
    return { ready: this.#parts.started() && (served > 0 || this.#parts.volumes.size === 0), reasons };
  }

  volumes(): VolumeView[] {
    return [...this.#parts.volumes.values()].map((served) => this.#view(served));
  }

  volume(name: string): VolumeView | undefined {
    const served = this.#parts.volumes.get(name);
    return served && this.#view(served);
  }

  async addMirror(volume: string, node: string | null): Promise<Outcome<MirrorView>> {
    return this.#unserved(volume) ?? this.#parts.protection.operatorMirror(volume, node);
  }

  async removeMirror(volume: string, node: string): Promise<Outcome<TargetRef>> {
    return this.#unserved(volume) ?? this.#parts.protection.operatorDropMirror(volume, node);
  }

  async flip(volume: string, node: string | null): Promise<Outcome<FlipCertificate>> {
    return this.#unserved(volume) ?? this.#parts.protection.operatorFlip(volume, node);
  }

  async takeOver(name: string, node: string | null, acceptLoss: boolean): Promise<Outcome<FlipCertificate>> {
    const unserved = this.#unserved(name);
    if (unserved !== null) return unserved;
    const volume = this.#parts.volumes.get(name)!.volume!;
    const mirrors = volume.mirrors().filter((mirror) => node === null || mirror.node === node);
    const [best] = mirrors.sort(
      (one, other) => Number(one.state === 'lost') - Number(other.state === 'lost') || one.dirtyBytes - other.dirtyBytes,
    );
    if (best === undefined) return refuse('no-mirror', `${name} has no mirror${node === null ? '' : ` on ${node}`} that could take over`);
    // Protection hears of it as of any failover.
    return volume.takeOver({ node: best.node, export: best.export }, acceptLoss);
  }

  async rollback(volume: string): Promise<Outcome<RollbackReport>> {
    return this.#unserved(volume) ?? this.#parts.protection.rollback(volume);
  }

  async grow(volume: string, sizeBytes: number): Promise<Outcome<VolumeView>> {
    const { fleet, volumes } = this.#parts;
    const unserved = this.#unserved(volume);
    if (unserved !== null) return unserved;
    const served = volumes.get(volume)!;
    const control = served.volume!;
    // What a mirror that was given up holds counts no more: its node need not have room.
    const targets = control.copies.flatMap(({ target, mirror }) => (mirror?.condition === 'failed' ? [] : [target]));
    const flaw = sizeBytes > control.sizeBytes ? await findNoRoom(fleet, targets, sizeBytes) : null;
    if (flaw !== null) return flaw;
    const grown = await control.grow(
      sizeBytes,
      enlargerOf(fleet, volume, () => control.epoch),
    );
    return grown.ok ? { ok: true, value: this.#view(served) } : grown;
  }

  async scrub(volume: string): Promise<Outcome<ScrubRun>> {
    const unserved = this.#unserved(volume);
    if (unserved !== null) return unserved;
    const served = this.#parts.volumes.get(volume)!.volume!;
    const before = served.scrubReport;
    // One after a flip or a regular one: whoever asks joins it.
    if (before?.state === 'running') {
      const ended = this.#parts.volumes.get(volume)!.scrubEnded();
      return { ok: true, value: { report: before, finished: ended.then((value) => ({ ok: true, value })) } };
    }
    const finished = this.#parts.protection.scrub(volume);
    const report = served.scrubReport;
    // It began, and says so in its report, or it was refused at once.
    if (report !== null && report !== before && report.state === 'running') return { ok: true, value: { report, finished } };
    const outcome = await finished;
    return outcome.ok ? { ok: true, value: { report: outcome.value, finished } } : outcome;
  }

  nodes(): NodeView[] {
    return this.#parts.fleet.all().map((node) => this.#nodeView(node.id)!);
  }

  node(id: string): NodeView | undefined {
    return this.#nodeView(id);
  }

  async pushSamples(node: string, body: unknown): Promise<Outcome<SamplesReceipt>> {
    return this.#unknownNode(node) ?? this.#parts.intake.push(node, body);
  }

  async giveVerdict(node: string, given: { probability: number; reason: string }): Promise<Outcome<Verdict>> {
    return this.#unknownNode(node) ?? this.#parts.judge.giveVerdict(node, given);
  }

  verdicts(query: VerdictQuery): Verdict[] {
    const { node, firing, limit } = query;
    const found = this.#parts.judge
      .history()
      .filter((verdict) => (node === undefined || verdict.node === node) && (firing === undefined || verdict.firing === firing));
    return found.slice(-limit);
  }

  reload(): Promise<Outcome<ReloadReport>> {
    return this.#parts.reload();
  }

  #view(served: ServedVolume): VolumeView {
    return served.view(this.#parts.protection.state(served.name)?.state ?? 'healthy');
  }

  #nodeView(id: string): NodeView | undefined {
    const { fleet, nodeControl, judge, volumes } = this.#parts;
    const node = fleet.get(id);
    if (node === undefined) return undefined;
    const held: NodeView['volumes'] = [];
    for (const served of volumes.values()) {
      for (const { target, role } of served.targets()) if (target.node === id) held.push({ name: served.name, role });
    }
    return fleet.view(node, nodeControl.freeSpares(id), judge.latest(id), held);
  }

  #unserved(name: string): Outcome<never> | null {
    const served = this.#parts.volumes.get(name);
    if (served === undefined) return refuse('volume-not-found', `there is no volume ${name}`);
    if (served.volume === null) return refuse('volume-not-served', `volume ${name} is not served: ${served.problem ?? 'it is starting'}`);
    return null;
  }

  #unknownNode(id: string): Outcome<never> | null {
    return this.#parts.fleet.get(id) === undefined ? refuse('node-not-found', `there is no node ${id}`) : null;
  }
}
