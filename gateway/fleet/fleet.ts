// All storage nodes of the configuration, and the connections to their targets. Looks at each node regularly; gives
// placement its facts, volumes their upstreams and the API its views. A node that is down is a state, never an error.
import type { Config, NodeConfig } from '../../config/config.js';
import type { Clock, Log, Timer } from '../../replication/world.js';
import { type NodeView, type Outcome, refuse, type TargetRef, type Verdict } from '../control.js';
import type { ControlledNode } from '../placement/node-control.js';
import type { NodeFacts } from '../placement/node-facts.js';

import type { Requirements } from '../upstream/features.js';
import { type TargetMemory, Upstream, type UpstreamEvents } from '../upstream/upstream.js';
import type { NodeSecurities } from '../tls/client-security.js';
import type { Dialer } from '../wire.js';
import { StorageNode } from './node.js';

const LOOK_MS = 5000;
const UNFLUSHED_BYTES_MAX = 64 * 1024 * 1024;

export interface FleetWorld {
  clock: Clock;
  log: Log;
  dialer: Dialer;
}

export class Fleet {
  readonly #world: FleetWorld;
  readonly #nodes = new Map<string, StorageNode>();
  #timer: Timer | null = null;
  #stopped = false;

  constructor(world: FleetWorld) {
    this.#world = world;
  }

  /**
   * Takes up the configuration's nodes: those that are new are started, those that are gone are let go. What `securities` says holds for
   * connections from now on.
   */
  async configure(config: Config, securities: NodeSecurities): Promise<void> {
    const named = new Set(config.nodes.map((node) => node.id));
    for (const [id, node] of this.#nodes) {
      if (named.has(id)) continue;
      this.#nodes.delete(id);
      await node.stop();
    }
    const fresh: StorageNode[] = [];
    for (const nodeConfig of config.nodes) {
      const known = this.#nodes.get(nodeConfig.id);
      if (known !== undefined && samePlace(known.config, nodeConfig)) {
        known.config = nodeConfig;
        const changed = securities.get(nodeConfig);
        if (changed !== undefined) known.secure(changed);
        continue;
      }
      await known?.stop();
      const node = new StorageNode(nodeConfig, this.#world);
      node.secure(securities.get(nodeConfig) ?? refuse('tls-file', 'what it needs for TLS was not read'));
      this.#nodes.set(nodeConfig.id, node);
      fresh.push(node);
    }
    // An embedded agent must serve before its volumes start; others may take their time.
    await Promise.all(fresh.filter((node) => node.config.kind === 'embedded').map((node) => node.start()));
    for (const node of fresh) if (node.config.kind !== 'embedded') void node.start();
    if (this.#timer === null) this.#again();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await Promise.all([...this.#nodes.values()].map((node) => node.stop()));
  }

  get(id: string): StorageNode | undefined {
    return this.#nodes.get(id);
  }

  all(): StorageNode[] {
    return [...this.#nodes.values()];
  }

  /** The connection to a target, not started. `memory` null: nothing that is written there is ever read again. */
  connect(target: TargetRef, needs: Requirements, events: UpstreamEvents, memory: TargetMemory | null): Outcome<Upstream> {
    const node = this.#nodes.get(target.node);
    if (node === undefined)
      return refuse('node-not-found', `node ${target.node} is not in the configuration: add it, or restore the configuration that had it`);
    const { clock, log, dialer } = this.#world;
    const upstream: Upstream = new Upstream(
      {
        target,
        address: () => this.#nodes.get(target.node)?.address() ?? `node ${target.node} is not in the configuration any more`,
        exportName: target.export,
        connections: node.config.connectionsMax,
        zombieMs: node.config.zombieMs,
        unflushedBytesMax: UNFLUSHED_BYTES_MAX,
        memory,
        needs,
        dialer,
        clock,
        log,
      },
      {
        connected: (features) => events.connected(features),
        lost: (reason) => {
          events.lost(reason);
          // An agent that restarted may serve elsewhere now.
          void this.#nodes.get(target.node)?.look();
        },
        blocked: (reason) => events.blocked(reason),
        settled: (ranges) => events.settled(ranges),
        unlike: (finding) => events.unlike(finding),
      },
      () => this.#nodes.get(target.node)?.forget(upstream),
    );
    node.adopt(upstream);
    return { ok: true, value: upstream };
  }

  controlled(id: string): ControlledNode | undefined {
    const node = this.#nodes.get(id);
    if (node === undefined) return undefined;
    if (node.config.kind === 'plain') return { id, kind: 'plain', spares: node.config.spares };
    return node.agent === null ? undefined : { id, kind: 'agent', agent: node.agent };
  }

  facts(freeSpares: (id: string) => string[], verdictOf: (id: string) => Verdict | null, copiesOn: (id: string) => number): NodeFacts[] {
    return this.all().map((node) => {
      const { state, reason } = node.state;
      const verdict = verdictOf(node.id);
      const io = node.recentIo;
      return {
        id: node.id,
        zone: node.config.zone,
        site: node.config.site,
        kind: node.kind,
        state,
        reason,
        verdict: verdict === null ? null : { probability: verdict.probability, firing: verdict.firing },
        capacityBytes: node.config.capacityBytes ?? node.info?.capacityBytes ?? null,
        freeBytes: node.info?.freeBytes ?? null,
        spares: freeSpares(node.id).map((name) => ({ export: name, sizeBytes: node.spareSize(name) })),
        latency: io === null || io.p50Us === null || io.p99Us === null ? null : { p50Us: io.p50Us, p99Us: io.p99Us },
        load: { iops: io?.iops ?? 0, bytesPerSecond: io?.bytesPerSecond ?? 0 },
        utilisation: null,
        copies: copiesOn(node.id),
      };
    });
  }

  view(node: StorageNode, freeSpares: string[], verdict: Verdict | null, volumes: NodeView['volumes']): NodeView {
    const { state, reason } = node.state;
    const totals = node.totals();
    const latency = node.latencyOfAll();
    return {
      id: node.id,
      kind: node.kind,
      zone: node.config.zone,
      site: node.config.site,
      state,
      reason,
      capacityBytes: node.config.capacityBytes ?? node.info?.capacityBytes ?? null,
      freeBytes: node.info?.freeBytes ?? null,
      freeSpares,
      volumes,
      verdict,
      io: {
        reads: totals.reads,
        writes: totals.writes,
        errors: totals.errors,
        p50Us: latency.quantile(0.5),
        p99Us: latency.quantile(0.99),
      },
    };
  }

  #again(): void {
    this.#timer = this.#world.clock.after(LOOK_MS, () => {
      void Promise.all(this.all().map((node) => node.look())).then(() => {
        if (!this.#stopped) this.#again();
      });
    });
  }
}

/** Is it still the same node, reached the same way? */
function samePlace(one: NodeConfig, other: NodeConfig): boolean {
  const place = (node: NodeConfig): string =>
    JSON.stringify(node.kind === 'plain' ? node.address : node.kind === 'agent' ? node.url : node.directory);
  return one.kind === other.kind && place(one) === place(other);
}
