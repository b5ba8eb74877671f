// The world of a protection scenario: the real Protection, NodeControl and placement over volumes and agents in memory.
import assert from 'node:assert/strict';
import { type NewEvent, refuse, type TargetRef, type Verdict } from '../../gateway/control.js';
import { type ControlledNode, NodeControl } from '../../gateway/placement/node-control.js';
import type { NodeFacts } from '../../gateway/placement/node-facts.js';
import { Protection } from '../../gateway/protection/protection.js';
import { describeTarget, sameTarget } from '../../gateway/protection/situation.js';
import { QuietLog } from '../support/quiet-log.js';
import { type FakeVolume, MemoryRecords, SettlingClock } from './protection-fakes.js';

interface FakeNode {
  facts: NodeFacts;
  exports: Map<string, string>;
  refusesDelete: string | null;
  refusesCreate: string | null;
}

export class World {
  readonly clock = new SettlingClock();
  records = new MemoryRecords();
  readonly nodes = new Map<string, FakeNode>();
  readonly volumes = new Map<string, FakeVolume>();
  readonly verdicts = new Map<string, { verdict: Verdict; sinceMs: number }>();
  readonly lessons: string[] = [];
  readonly trimmed: string[] = [];
  events: NewEvent[] = [];
  control!: NodeControl;
  protection!: Protection;
  #verdictIds = 0;

  start(): void {
    const events = { publish: (event: NewEvent) => this.events.push(event) };
    const common = { clock: this.clock, log: new QuietLog(), records: this.records, events };
    this.control = new NodeControl({
      ...common,
      node: (id) => this.#controlled(id),
      epochOf: (name) => this.volumes.get(name)?.epoch ?? null,
      usedBy: (target) => ({ ok: true, value: this.isUsed(target) ? 'a volume' : null }),
      trim: async (target) => {
        this.trimmed.push(describeTarget(target));
        return { ok: true, value: null };
      },
    });
    this.protection = new Protection({
      ...common,
      targets: this.control,
      lessons: {
        failed: (node) => this.lessons.push(`failed ${node}`),
        falseAlarm: (node) => {
          this.lessons.push(`false-alarm ${node}`);
          const known = this.verdicts.get(node);
          if (known?.verdict.origin === 'outside') this.judge(node, 0, 'model', null);
        },
      },
      candidates: () => [...this.nodes.values()].map(({ facts }) => this.#seen(facts)),
    });
    for (const { verdict, sinceMs } of this.verdicts.values()) this.protection.judged(verdict, sinceMs);
    for (const volume of this.volumes.values()) this.protect(volume);
    this.control.start();
  }

  /** Ends without a word; whatever it was doing never comes to anything. */
  crash(): void {
    void this.protection.stop();
    void this.control.stop();
    this.records = this.records.copy();
    for (const volume of this.volumes.values()) {
      volume.fact = () => {};
      volume.holds.clear();
      volume.held = {};
    }
  }

  async stop(): Promise<void> {
    await this.protection.stop();
    await this.control.stop();
    for (const volume of this.volumes.values()) volume.fact = () => {};
  }

  protect(volume: FakeVolume): void {
    volume.fact = (fact) => this.protection.fact(volume.name, fact);
    volume.begun = ({ node, export: name }) => this.records.map.set(`ours/${node}/${name}`, JSON.stringify({ volume: volume.name }));
    this.protection.add({
      control: volume,
      policy: () => volume.policy,
      priority: () => volume.priority,
      labels: () => ({ program: `owner-of-${volume.name}` }),
      clients: () => ['127.0.0.1:5000'],
      profile: () => ({ readShare: 0.5, iops: 100, bytesPerSecond: 409_600, blockBytes: 4096 }),
      latency: () => null,
    });
  }

  addNode(id: string, change: Partial<NodeFacts> = {}): void {
    const facts: NodeFacts = {
      id,
      zone: `rack-${id}`,
      site: 'dc-1',
      kind: 'agent',
      state: 'up',
      reason: null,
      verdict: null,
      capacityBytes: 100 * 2 ** 30,
      freeBytes: 90 * 2 ** 30,
      spares: [],
      latency: null,
      load: { iops: 0, bytesPerSecond: 0 },
      utilisation: null,
      copies: 0,
      ...change,
    };
    this.nodes.set(id, { facts, exports: new Map(), refusesDelete: null, refusesCreate: null });
  }

  judge(node: string, probability: number | null, origin: 'model' | 'outside', failsInMs: number | null): void {
    const before = this.verdicts.get(node);
    const firing = probability === null ? (before?.verdict.firing ?? false) : probability >= 0.5;
    const byPolicy = (limit: number) => ({
      probability,
      threshold: limit,
      firing: probability === null ? (before?.verdict.firing ?? false) : probability >= limit,
      horizonSeconds: 2_592_000,
    });
    // A policy is called by its threshold here.
    const named = [...this.volumes.values()].map(({ policy: { name } }) => name).filter((name) => name !== 'adaptive');
    const keeps = before?.verdict.firing === firing && origin === 'model';
    const verdict: Verdict = {
      id: `v${++this.#verdictIds}`,
      node,
      at: new Date(this.clock.wallMs()).toISOString(),
      probability,
      threshold: 0.5,
      firing,
      horizonSeconds: 2_592_000,
      reasons: [{ source: 'test', contribution: 1, text: 'pending sectors rose' }],
      origin,
      predictedFailureAt: failsInMs === null ? null : new Date(this.clock.wallMs() + failsInMs).toISOString(),
      policies: { adaptive: byPolicy(0.5), ...Object.fromEntries(named.map((name) => [name, byPolicy(Number(name))])) },
    };
    const sinceMs = keeps && before ? before.sinceMs : this.clock.wallMs();
    this.verdicts.set(node, { verdict, sinceMs });
    this.protection.judged(verdict, sinceMs);
  }

  isUsed(target: TargetRef): boolean {
    return [...this.volumes.values()].some(
      (volume) => sameTarget(volume.active, target) || volume.views.some((view) => sameTarget(view, target)),
    );
  }

  #seen(facts: NodeFacts): NodeFacts {
    const verdict = this.verdicts.get(facts.id)?.verdict ?? null;
    const spares = facts.kind === 'plain' ? this.control.freeSpares(facts.id).map((name) => ({ export: name, sizeBytes: null })) : [];
    const volumes = [...this.volumes.values()];
    const copies = volumes.flatMap(({ active, views }) => [active, ...views]).filter(({ node }) => node === facts.id).length;
    return { ...facts, verdict, spares, copies };
  }

  #controlled(id: string): ControlledNode | undefined {
    const node = this.nodes.get(id);
    if (!node) return undefined;
    if (node.facts.kind === 'plain') return { id, kind: 'plain', spares: node.facts.spares.map((spare) => spare.export) };
    return {
      id,
      kind: 'agent',
      agent: {
        createExport: async ({ name, volume }) => {
          if (node.refusesCreate !== null) return refuse('agent-unreachable', node.refusesCreate);
          if (node.exports.has(name)) return refuse('export-exists', `${name} exists`);
          node.exports.set(name, volume);
          return { ok: true, value: null };
        },
        deleteExport: async (name) => {
          if (node.refusesDelete !== null) return refuse('agent-unreachable', node.refusesDelete);
          assert(!this.isUsed({ node: id, export: name }), `${id}/${name} was deleted while a volume used it`);
          return node.exports.delete(name) ? { ok: true, value: null } : refuse('export-unknown', `no ${name}`);
        },
      },
    };
  }
}
