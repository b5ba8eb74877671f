// What a changed configuration changes, and whether a running gateway can take it up: at once, only with a restart, or not
// at all because data would be lost. Pure: it compares two configurations and does nothing about the difference.
import { isDeepStrictEqual } from 'node:util';
import type { Config, NodeConfig, PolicyConfig, ServerConfig, VolumeConfig } from './config.js';
import { formatBytes } from './units.js';

/** What the running gateway holds. */
export interface InUse {
  /** Nodes that hold a copy of a volume now, with the volumes' names. */
  nodes: ReadonlyMap<string, readonly string[]>;
  /** Volumes that hosts have attached now. */
  attached: ReadonlySet<string>;
}

/** A change that is taken up while hosts go on. `keys` are those of the product's form that differ. */
export type ConfigChange =
  | { type: 'server-changed'; server: ServerConfig; keys: string[] }
  | { type: 'node-added'; node: NodeConfig }
  | { type: 'node-removed'; id: string }
  | { type: 'node-changed'; node: NodeConfig; keys: string[] }
  | { type: 'policy-added'; policy: PolicyConfig }
  | { type: 'policy-removed'; name: string }
  | { type: 'policy-changed'; policy: PolicyConfig; keys: string[] }
  | { type: 'volume-added'; volume: VolumeConfig }
  | { type: 'volume-removed'; name: string }
  | { type: 'volume-changed'; volume: VolumeConfig; keys: string[] };

/** Something to tell about one entry: what it is about, `nodes.a`, `volumes.vol0.size`, and a sentence. */
export interface Remark {
  path: string;
  message: string;
}

export interface ConfigDiff {
  /** Never to be taken up: while there is one, nothing else is either. */
  refusals: Remark[];
  /** Taken up by the next start only; the running gateway keeps the old values. */
  restart: Remark[];
  /** Has no effect, now or later. */
  ignored: Remark[];
  live: ConfigChange[];
  /** What the gateway runs with once `live` is taken up; compare the next file with this. */
  running: Config;
}

function changedKeys<T extends object>(before: T, after: T): string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]) as Set<keyof T & string>;
  return [...keys].filter((key) => !isDeepStrictEqual(before[key], after[key]));
}

function byName<T>(entries: readonly T[], nameOf: (entry: T) => string): Map<string, T> {
  return new Map(entries.map((entry) => [nameOf(entry), entry]));
}

/** What a server takes up while it runs. */
const LIMITS = ['connectionsMax', 'connectionsPerClientMax', 'handshakeMs', 'inFlightMax', 'memoryBytesMax', 'stallMs'] as const;

function diffServer(before: ServerConfig, after: ServerConfig, diff: ConfigDiff): void {
  const needsRestart = (path: string, changed: boolean) => {
    if (changed) diff.restart.push({ path, message: 'takes effect with a restart: the gateway goes on where it is' });
  };
  for (const key of ['host', 'port', 'unix'] as const) needsRestart(`server.nbd.${key}`, before.nbd[key] !== after.nbd[key]);
  for (const key of ['host', 'port'] as const) needsRestart(`server.api.${key}`, before.api[key] !== after.api[key]);
  needsRestart('server.data', before.dataDirectory !== after.dataDirectory);
  const keys = LIMITS.filter((key) => before.nbd[key] !== after.nbd[key]).map((key) => `nbd.${key}`);
  if (!isDeepStrictEqual(before.nbd.tls, after.nbd.tls)) keys.push('nbd.tls');
  if (before.logLevel !== after.logLevel) keys.push('logLevel');
  if (keys.length > 0) diff.live.push({ type: 'server-changed', server: after, keys });
}

/** The keys by which a node is reached: with another value it is another server. */
const placeKeys = new Set(['kind', 'address', 'url', 'directory']);

function copiesOn(id: string, inUse: InUse): readonly string[] {
  return inUse.nodes.get(id) ?? [];
}

function isMovedInUse(before: NodeConfig, after: NodeConfig, inUse: InUse): boolean {
  return copiesOn(after.id, inUse).length > 0 && changedKeys(before, after).some((key) => placeKeys.has(key));
}

function diffNodes(before: Config, after: Config, inUse: InUse, diff: ConfigDiff): void {
  const old = byName(before.nodes, ({ id }) => id);
  const now = byName(after.nodes, ({ id }) => id);
  for (const id of old.keys()) {
    const holds = copiesOn(id, inUse);
    if (now.has(id)) continue;
    if (holds.length === 0) diff.live.push({ type: 'node-removed', id });
    else
      diff.refusals.push({
        path: `nodes.${id}`,
        message: `still holds a copy of ${holds.join(', ')}: move or remove the copies first, then the node`,
      });
  }
  for (const [id, node] of now) {
    const previous = old.get(id);
    if (previous === undefined) {
      diff.live.push({ type: 'node-added', node });
      continue;
    }
    const keys = changedKeys(previous, node);
    if (isMovedInUse(previous, node, inUse)) {
      const holds = copiesOn(id, inUse).join(', ');
      const message = `has another address but still holds a copy of ${holds}: it is judged anew with a restart, or move the copies first`;
      diff.restart.push({ path: `nodes.${id}`, message });
    } else if (keys.length > 0) diff.live.push({ type: 'node-changed', node, keys });
  }
}

function diffPolicies(before: Config, after: Config, diff: ConfigDiff): void {
  const old = byName(before.policies, ({ name }) => name);
  const now = byName(after.policies, ({ name }) => name);
  for (const [name, policy] of now) {
    const previous = old.get(name);
    const keys = previous === undefined ? [] : changedKeys(previous, policy);
    if (previous === undefined) diff.live.push({ type: 'policy-added', policy });
    else if (keys.length > 0) diff.live.push({ type: 'policy-changed', policy, keys });
  }
  for (const name of old.keys()) if (!now.has(name)) diff.live.push({ type: 'policy-removed', name });
}

function diffVolume(before: VolumeConfig, after: VolumeConfig, diff: ConfigDiff): void {
  const path = `volumes.${after.name}`;
  if (after.sizeBytes < before.sizeBytes) {
    const message = `would shrink from ${formatBytes(before.sizeBytes)} to ${formatBytes(after.sizeBytes)} and lose what lies beyond: make a new volume instead`;
    diff.refusals.push({ path: `${path}.size`, message });
  }
  if (after.sizeBytes > before.sizeBytes) {
    const message =
      'is its first size only and has no effect any more: "forestall grow" makes a volume larger, if it is not that large yet';
    diff.ignored.push({ path: `${path}.size`, message });
  }
  if (after.node !== before.node || after.export !== before.export) {
    const message = 'is its first placement only and has no effect any more: the gateway knows where the volume is; a flip moves it';
    diff.ignored.push({ path: `${path}.node`, message });
  }
  const keys = (['priority', 'labels', 'readOnly', 'access'] as string[]).filter((key) => changedKeys(before, after).includes(key));
  if (before.policy.name !== after.policy.name) keys.push('policy');
  if (keys.length > 0) diff.live.push({ type: 'volume-changed', volume: after, keys });
}

function diffVolumes(before: Config, after: Config, inUse: InUse, diff: ConfigDiff): void {
  const old = byName(before.volumes, ({ name }) => name);
  const now = byName(after.volumes, ({ name }) => name);
  for (const name of old.keys()) {
    if (now.has(name)) continue;
    if (inUse.attached.has(name))
      diff.refusals.push({ path: `volumes.${name}`, message: 'is attached by a host: detach it first, then remove it' });
    else diff.live.push({ type: 'volume-removed', name });
  }
  for (const [name, volume] of now) {
    const previous = old.get(name);
    if (previous === undefined) diff.live.push({ type: 'volume-added', volume });
    else diffVolume(previous, volume, diff);
  }
}

/** `after`, where a restart is needed still as `before`. */
function runningConfig(before: Config, after: Config, inUse: InUse): Config {
  const { nbd, logLevel } = after.server;
  const server: ServerConfig = {
    ...before.server,
    nbd: {
      ...before.server.nbd,
      ...Object.fromEntries(LIMITS.map((key) => [key, nbd[key]])),
      tls: nbd.tls,
    },
    logLevel,
  };
  const oldNodes = byName(before.nodes, ({ id }) => id);
  const oldVolumes = byName(before.volumes, ({ name }) => name);
  const nodes = after.nodes.map((node) => {
    const old = oldNodes.get(node.id);
    return old !== undefined && isMovedInUse(old, node, inUse) ? old : node;
  });
  const volumes = after.volumes.map((volume) => ({ ...volume, sizeBytes: oldVolumes.get(volume.name)?.sizeBytes ?? volume.sizeBytes }));
  return { server, nodes, volumes, policies: after.policies };
}

/** Nodes and policies come first, then the volumes that refer to them, and last what nothing refers to any more. */
function rank({ type }: ConfigChange): number {
  if (type === 'node-removed' || type === 'policy-removed') return 2;
  return type.startsWith('volume-') ? 1 : 0;
}

/** Live changes come in an order in which they can be taken up one by one. */
export function diffConfig(before: Config, after: Config, inUse: InUse): ConfigDiff {
  const diff: ConfigDiff = { refusals: [], restart: [], ignored: [], live: [], running: before };
  diffServer(before.server, after.server, diff);
  diffNodes(before, after, inUse, diff);
  diffPolicies(before, after, diff);
  diffVolumes(before, after, inUse, diff);
  diff.live.sort((a, b) => rank(a) - rank(b));
  if (diff.refusals.length === 0) diff.running = runningConfig(before, after, inUse);
  return diff;
}
