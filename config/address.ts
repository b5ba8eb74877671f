// Addresses of what Forestall talks to: NBD URIs, and the HTTP URLs of agents and health sources. Text in, address or
// a sentence out; nothing is looked up.
import { isIP } from 'node:net';
import { type ClientTls, plainestTls } from './tls.js';
import type { Parsed } from './units.js';

/** Where an NBD server listens. */
export type NbdAddress = { host: string; port: number } | { path: string };

export interface NbdUri {
  address: NbdAddress;
  /** The export's name, decoded; '' for the default export. */
  export: string;
  /** Only with `nbds://` and `nbds+unix://`: the connection goes on over TLS or not at all. */
  tls?: ClientTls;
}

export const nbdPortDefault = 10809;
/** A Unix socket's path has to fit into sockaddr_un with its final zero. */
const socketPathBytesMax = 107;

function wrong(problem: string): { ok: false; problem: string } {
  return { ok: false, problem };
}

/** What is wrong with a host name or IP address (without brackets), or undefined. */
export function hostProblem(host: string): string | undefined {
  if (isIP(host) !== 0) return undefined;
  if (/^[\d.]+$/.test(host)) return `"${host}" is no IP address: write four numbers from 0 to 255, such as 127.0.0.1`;
  const name = /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$/;
  return name.test(host) ? undefined : `"${host}" is no host: write a name or an IP address alone, such as 127.0.0.1 or ::1`;
}

/** What is wrong with the path of a Unix socket, or undefined. */
export function socketPathProblem(path: string): string | undefined {
  if (path === '' || path.includes('\0')) return 'is no path of a socket: write one such as /run/forestall/nbd.sock';
  const bytes = Buffer.byteLength(path);
  return bytes > socketPathBytesMax ? `is ${bytes} bytes long: the path of a socket has at most ${socketPathBytesMax}` : undefined;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function tcpAddress(authority: string): Parsed<NbdAddress> {
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:@]*))(?::(.*))?$/.exec(authority) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || (bracketed === undefined && port?.includes(':'))) {
    return wrong(`"${authority}" is no host and port: write nbd://host:port (an IPv6 address in brackets, as nbd://[::1]:10809)`);
  }
  if (host === '') return wrong('names no host: write nbd://host:port, such as nbd://127.0.0.1:10809');
  const problem = hostProblem(host);
  if (problem !== undefined) return wrong(problem);
  if (port === undefined) return { ok: true, value: { host, port: nbdPortDefault } };
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535) {
    return wrong(`"${port}" is no port: write a number from 1 to 65535, or leave it out for ${nbdPortDefault}`);
  }
  return { ok: true, value: { host, port: Number(port) } };
}

const tlsKeys = ['tls-certificates', 'tls-psk-file', 'tls-hostname', 'tls-verify-peer'] as const;

/** The query's `key=value` pairs, decoded; a key that is not among `known` or comes twice is a problem. */
function parseQuery(query: string | undefined, known: readonly string[]): Parsed<Map<string, string>> {
  const values = new Map<string, string>();
  for (const pair of (query ?? '').split('&')) {
    if (pair === '') continue;
    const at = pair.indexOf('=');
    const key = at < 0 ? pair : pair.slice(0, at);
    const value = at < 0 ? '' : decoded(pair.slice(at + 1));
    if (value === undefined) return wrong(`"${pair}" cannot be read: a % needs two hexadecimal digits after it (%25 stands for %)`);
    if (!known.includes(key)) return wrong(`"${key}" has no meaning in this URI: after the ? there are ${known.join(', ')}`);
    if (values.has(key)) return wrong(`names ${key} twice: once is enough`);
    values.set(key, value);
  }
  return { ok: true, value: values };
}

/** The TLS parameters as libnbd has them. `user` is still encoded. */
function tlsOf(user: string | undefined, values: ReadonlyMap<string, string>): Parsed<ClientTls> {
  const identity = user === undefined ? null : decoded(user);
  if (identity === undefined || identity === '' || identity?.includes('\0'))
    return wrong(`"${user}" is no user: before the @ stands the identity of a pre-shared key`);
  for (const key of ['tls-certificates', 'tls-psk-file'] as const) {
    const path = values.get(key);
    if (path !== undefined && (path === '' || path.includes('\0'))) return wrong(`${key} names no file: write ${key}=PATH`);
  }
  const psk = values.get('tls-psk-file') ?? null;
  const directory = values.get('tls-certificates') ?? null;
  if (psk !== null && directory !== null) return wrong('names tls-certificates and tls-psk-file: a connection uses one of them');
  const serverName = values.get('tls-hostname') ?? null;
  const nameProblem = serverName === null ? undefined : hostProblem(serverName);
  if (nameProblem !== undefined) return wrong(`tls-hostname ${nameProblem}`);
  const verify = values.get('tls-verify-peer') ?? 'true';
  if (!/^(true|false|yes|no|on|off|1|0)$/i.test(verify)) return wrong(`tls-verify-peer is true or false, not "${verify}"`);
  return { ok: true, value: { ...plainestTls, directory, psk, identity, serverName, verifyPeer: /^(true|yes|on|1)$/i.test(verify) } };
}

/**
 * `nbd://host[:port][/export]` or `nbd+unix:///export?socket=/path`, as the NBD URI specification has them, and with TLS
 * `nbds://[user@]host...` and `nbds+unix://[user@]/...` with libnbd's parameters tls-certificates, tls-psk-file,
 * tls-hostname and tls-verify-peer.
 */
export function parseNbdUri(text: string): Parsed<NbdUri> {
  const [, scheme, authority, path = '', query] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text) ?? [];
  if (scheme === undefined) return wrong(`"${text}" is no NBD URI: write nbd://host:port or nbd+unix:///?socket=/path`);
  if (!/^nbds?(\+unix)?$/i.test(scheme)) return wrong(`"${scheme}://" is no NBD URI: write nbd://host:port or nbd+unix:///?socket=/path`);
  const name = decoded(path);
  if (name === undefined) return wrong(`"${path}" is no export name: a % needs two hexadecimal digits after it (%25 stands for %)`);
  if (/^nbds/i.test(scheme)) return parseSecure(scheme.toLowerCase(), authority, name, query);
  if (/(?:^|&)tls-/.test(query ?? '')) return wrong(`"?${query}" is of TLS: write nbds:// or nbds+unix:// for it, or remove it`);
  if (scheme.toLowerCase() === 'nbd') {
    if (query !== undefined) return wrong(`"?${query}" has no meaning after nbd://: remove it`);
    const address = tcpAddress(authority);
    return address.ok ? { ok: true, value: { address: address.value, export: name } } : address;
  }
  if (authority !== '')
    return wrong(`"${authority}" names a host, a Unix socket has none: write nbd+unix:///?socket=/path (three slashes)`);
  const [, rawSocket = ''] = /(?:^|&)socket=([^&]*)/.exec(query ?? '') ?? [];
  const address = socketAddress(decoded(rawSocket), 'nbd+unix:///');
  return address.ok ? { ok: true, value: { address: address.value, export: name } } : address;
}

function socketAddress(socket: string | undefined, example: string): Parsed<NbdAddress> {
  if (socket === undefined || socket === '') return wrong(`names no socket: write ${example}?socket=/path`);
  const problem = socketPathProblem(socket);
  return problem === undefined ? { ok: true, value: { path: socket } } : wrong(`socket ${problem}`);
}

function parseSecure(scheme: string, authority: string, name: string, query: string | undefined): Parsed<NbdUri> {
  const unix = scheme === 'nbds+unix';
  const [, user, host] = /^(?:(.*)@)?(.*)$/s.exec(authority) as unknown as [string, string | undefined, string];
  if (unix && host !== '') return wrong(`"${host}" names a host, a Unix socket has none: write nbds+unix:///?socket=/path (three slashes)`);
  const values = parseQuery(query, unix ? ['socket', ...tlsKeys] : tlsKeys);
  if (!values.ok) return values;
  const address = unix ? socketAddress(values.value.get('socket'), 'nbds+unix:///') : tcpAddress(host);
  if (!address.ok) return address;
  const tls = tlsOf(user, values.value);
  return tls.ok ? { ok: true, value: { address: address.value, export: name, tls: tls.value } } : tls;
}

/** An http or https URL, as the URL standard writes it, without a trailing slash. `example` is what would be right. */
export function parseHttpUrl(text: string, example: string): Parsed<string> {
  if (!/^https?:\/\/[^/]/i.test(text)) return wrong(`"${text}" is no HTTP URL: write one such as ${example}`);
  if (!URL.canParse(text)) return wrong(`"${text}" is no URL: check its host and port, and write one such as ${example}`);
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') return wrong('holds a user name or password: write the URL without it');
  if (url.port === '0') return wrong(`has port 0: write the port it listens on, as in ${example}`);
  return { ok: true, value: url.href.replace(/\/$/, '') };
}
