// Who listens where: the gateway's own ports and sockets, and the nodes'. Two of them on one address is a mistake that
// would show only when a host's data goes to the wrong place, so it is refused beforehand.
import { normalize } from 'node:path';
import type { NbdAddress } from './address.js';
import type { NodeConfig, ServerConfig } from './config.js';
import type { Report } from './nodes.js';
import type { KeyPath } from './problem.js';

/** A node with where it stands in the file. */
export interface PlacedNode {
  node: NodeConfig;
  path: KeyPath;
}

const anyHost = new Set(['0.0.0.0', '::']);
const loopbackHost = new Set(['127.0.0.1', '::1']);

function hostKey(host: string): string {
  const lower = host.toLowerCase();
  return lower === 'localhost' ? '127.0.0.1' : lower;
}

function pathKey(path: string): string {
  return normalize(path).replace(/(?<=.)\/$/, '');
}

function same(a: NbdAddress, b: NbdAddress): boolean {
  if ('path' in a || 'path' in b) return 'path' in a && 'path' in b && pathKey(a.path) === pathKey(b.path);
  return a.port === b.port && a.port !== 0 && hostKey(a.host) === hostKey(b.host);
}

/** True when who connects to `address` arrives at `listener`. */
function reaches(address: NbdAddress, listener: { host: string; port: number }): boolean {
  if (same(address, listener)) return true;
  return !('path' in address) && address.port === listener.port && anyHost.has(listener.host) && loopbackHost.has(hostKey(address.host));
}

function addressOf(node: NodeConfig): NbdAddress {
  if (node.kind === 'plain') return node.address;
  if (node.kind === 'embedded') return { path: node.directory };
  const { hostname, port, protocol } = new URL(node.url);
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || (protocol === 'https:' ? 443 : 80)) };
}

const addressKey = { plain: 'nbd', agent: 'agent', embedded: 'embedded' } as const;

export function checkServer({ nbd, api }: ServerConfig, report: Report): void {
  const oneOfThemTakesAll = nbd.port === api.port && nbd.port !== 0 && (anyHost.has(nbd.host) || anyHost.has(api.host));
  if (same(nbd, api) || oneOfThemTakesAll)
    report(['server', 'api', 'port'], `${api.port} is the port of server.nbd on the same host: give each its own`);
}

function checkAgainstServer(node: NodeConfig, key: KeyPath, { nbd, api, dataDirectory }: ServerConfig, report: Report): void {
  const address = addressOf(node);
  if (node.kind === 'plain' && (reaches(address, nbd) || (nbd.unix !== null && same(address, { path: nbd.unix })))) {
    report(key, 'is where this gateway itself serves (server.nbd): a node is another server');
  }
  if (node.kind === 'agent' && reaches(address, api))
    report(key, 'is where this gateway itself serves (server.api): an agent has a port of its own');
  if (node.kind === 'embedded' && same(address, { path: dataDirectory }))
    report(key, 'is the directory of server.data: give the node its own');
}

/** Two nodes at one place would be lost together, and a copy from one to the other would overwrite itself. */
export function checkNodePlaces(nodes: PlacedNode[], server: ServerConfig | null, report: Report): void {
  nodes.forEach(({ node, path }, at) => {
    const key = [...path, addressKey[node.kind]];
    const twin = nodes.slice(0, at).find((other) => other.node.kind === node.kind && same(addressOf(other.node), addressOf(node)));
    if (twin !== undefined) report(key, `is where node "${twin.node.id}" is: two names for one node protect nothing, give each its own`);
    if (server !== null) checkAgainstServer(node, key, server, report);
  });
}
