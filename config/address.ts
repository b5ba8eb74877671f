// Addresses of what Forestall talks to: NBD URIs, and the HTTP URLs of agents and health sources. Text in, address or
// a sentence out; nothing is looked up.
import { isIP } from 'node:net';
import type { Parsed } from './units.js';

/** Where an NBD server listens. */
export type NbdAddress = { host: string; port: number } | { path: string };

export interface NbdUri {
  address: NbdAddress;
  /** The export's name, decoded; '' for the default export. */
  export: string;
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

/** `nbd://host[:port][/export]` or `nbd+unix:///export?socket=/path`, as the NBD URI specification has them. */
export function parseNbdUri(text: string): Parsed<NbdUri> {
  const [, scheme, authority, path = '', query] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text) ?? [];
  if (scheme === undefined) return wrong(`"${text}" is no NBD URI: write nbd://host:port or nbd+unix:///?socket=/path`);
  if (/^nbds(\+unix)?$/i.test(scheme))
    return wrong(`${scheme}:// means TLS, which is not available in this version: write ${scheme.replace(/s/i, '')}://`);
  if (!/^nbd(\+unix)?$/i.test(scheme)) return wrong(`"${scheme}://" is no NBD URI: write nbd://host:port or nbd+unix:///?socket=/path`);
  const name = decoded(path);
  if (name === undefined) return wrong(`"${path}" is no export name: a % needs two hexadecimal digits after it (%25 stands for %)`);
  if (scheme.toLowerCase() === 'nbd') {
    if (query !== undefined) return wrong(`"?${query}" has no meaning after nbd://: remove it`);
    const address = tcpAddress(authority);
    return address.ok ? { ok: true, value: { address: address.value, export: name } } : address;
  }
  if (authority !== '')
    return wrong(`"${authority}" names a host, a Unix socket has none: write nbd+unix:///?socket=/path (three slashes)`);
  const [, rawSocket = ''] = /(?:^|&)socket=([^&]*)/.exec(query ?? '') ?? [];
  const socket = decoded(rawSocket);
  if (socket === undefined || socket === '') return wrong('names no socket: write nbd+unix:///?socket=/path');
  const problem = socketPathProblem(socket);
  return problem === undefined ? { ok: true, value: { address: { path: socket }, export: name } } : wrong(`socket ${problem}`);
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
