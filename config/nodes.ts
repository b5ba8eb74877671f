// A node's entry into the product's form, with what must hold within the one entry: exactly one kind, addresses that
// can be read, keys that fit the kind.
import { type NbdUri, parseHttpUrl, parseNbdUri } from './address.js';
import type { HealthSource, NodeConfig } from './config.js';
import { nodeTls } from './node-tls.js';
import type { KeyPath } from './problem.js';
import { type NodeInput, nodeSchema } from './schema.js';

export type Report = (path: KeyPath, message: string, part?: 'key' | 'value') => void;

const kinds = ['nbd', 'agent', 'embedded'] as const;
type Kind = (typeof kinds)[number];
const zombieDefaultMs = 30_000;

function healthSources(input: NodeInput, path: KeyPath, report: Report): HealthSource[] {
  return input.health.flatMap(({ type, url, every }, at) => {
    const parsed = parseHttpUrl(url, 'http://127.0.0.1:9633/metrics');
    if (parsed.ok) return [{ type, url: parsed.value, everyMs: every }];
    report([...path, 'health', at, 'url'], parsed.problem);
    return [];
  });
}

/** Agents make exports on demand and fence what is late: what plain nodes need for that means nothing there. */
function refusePlainKeys(input: NodeInput, path: KeyPath, report: Report): void {
  if (input.spares !== undefined && input.spares.length > 0) {
    report([...path, 'spares'], 'is for nbd nodes: an agent makes exports for mirrors itself, so remove it', 'key');
  }
  if (input.zombie !== undefined && input.zombie > 0) {
    report([...path, 'zombie'], 'is for nbd nodes: an agent keeps late requests out itself, so remove it', 'key');
  }
}

function reportTwice(spares: string[], path: KeyPath, report: Report): void {
  spares.forEach((spare, at) => {
    const first = spares.indexOf(spare);
    if (first < at) report([...path, 'spares', at], `"${spare}" is already spares[${first}]: name each export once`);
  });
}

/** The kind of the entry, or null when it has none or several. */
function kindOf(entry: Partial<Record<Kind, unknown>>, path: KeyPath, report: Report): Kind | null {
  const given = kinds.filter((kind) => entry[kind] !== undefined);
  if (given.length === 0) {
    report(path, 'has no address: give nbd (an NBD server), agent (a storage-node agent) or embedded (an agent within the gateway)');
  }
  if (given.length > 1)
    report([...path, given[1]], `is given besides ${given[0]}: a node is one of nbd, agent and embedded, remove the others`, 'key');
  return given.length === 1 ? given[0] : null;
}

function nbdAddress(text: string, path: KeyPath, report: Report): NbdUri | null {
  const uri = parseNbdUri(text);
  if (!uri.ok) report([...path, 'nbd'], uri.problem);
  else if (uri.value.export !== '') {
    const right = "write it as a volume's export or in spares, and leave it out here";
    report([...path, 'nbd'], `names the export "${uri.value.export}", but a node's address is its server's: ${right}`);
  } else return uri.value;
  return null;
}

function agentUrl(text: string, path: KeyPath, report: Report): string | null {
  const url = parseHttpUrl(text, 'http://127.0.0.1:8091');
  if (!url.ok) report([...path, 'agent'], url.problem);
  else if (new URL(url.value).pathname !== '/' || /[?#]/.test(url.value)) {
    report([...path, 'agent'], `must be the agent alone, without a path: write ${new URL(url.value).origin}`);
  } else return url.value;
  return null;
}

/** What is wrong with the address of an entry that is wrong elsewhere too. One with an unknown key may have misspelt its kind. */
export function checkAddress(entry: Record<string, unknown>, path: KeyPath, report: Report): void {
  const misspelt = Object.keys(entry).some((key) => !(key in nodeSchema.shape));
  const kind = misspelt && kinds.every((one) => entry[one] === undefined) ? null : kindOf(entry, path, report);
  if (kind === 'nbd' && typeof entry.nbd === 'string') nbdAddress(entry.nbd, path, report);
  if (kind === 'agent' && typeof entry.agent === 'string') agentUrl(entry.agent, path, report);
}

/** Null when a problem was reported that leaves nothing to work with. */
export function nodeConfig(input: NodeInput, path: KeyPath, report: Report): NodeConfig | null {
  const kind = kindOf(input, path, report);
  const common = {
    id: input.id,
    zone: input.zone,
    site: input.site,
    capacityBytes: input.capacity ?? null,
    health: healthSources(input, path, report),
    connectionsMax: input.connections,
  };
  if (kind === null) return null;
  if (kind === 'nbd') {
    const spares = input.spares ?? [];
    reportTwice(spares, path, report);
    const uri = nbdAddress(input.nbd ?? '', path, report);
    if (uri === null) return null;
    if (input.tls !== undefined && uri.tls === undefined)
      report([...path, 'tls'], 'is for nbds:// and nbds+unix://: write the URI so, or remove it', 'key');
    const tls = nodeTls(input.tls, uri.tls, path, report);
    return { ...common, kind: 'plain', address: uri.address, tls, spares, zombieMs: input.zombie ?? zombieDefaultMs };
  }
  refusePlainKeys(input, path, report);
  if (kind === 'embedded') {
    if (input.tls !== undefined) report([...path, 'tls'], 'has no use for a node within the gateway: remove it', 'key');
    return { ...common, kind: 'embedded', directory: input.embedded?.dir ?? '', tls: null, zombieMs: 0 };
  }
  const url = agentUrl(input.agent ?? '', path, report);
  return url === null ? null : { ...common, kind: 'agent', url, tls: nodeTls(input.tls, undefined, path, report), zombieMs: 0 };
}
