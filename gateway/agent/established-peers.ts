// Which TCP clients still hold their end of the connection, by the kernel's own table. A socket that we have stopped
// reading (backpressure) does not tell us that its client was killed; the table does. Linux only, elsewhere null.
import { readFile } from 'node:fs/promises';
import { endianness } from 'node:os';

const ESTABLISHED = '01';
const TABLES = ['/proc/self/net/tcp', '/proc/self/net/tcp6'];

/** Keys (`peerKey`) of the peers connected to `localPort` that have not closed; null where the system does not say. */
export async function establishedPeers(localPort: number): Promise<Set<string> | null> {
  try {
    const tables = await Promise.all(TABLES.map((path) => readFile(path, 'latin1').catch(() => '')));
    if (tables.every((table) => table === '')) return null;
    return parseTables(tables, localPort);
  } catch {
    return null;
  }
}

/** Lines of /proc/net/tcp: number, local address:port, remote address:port, state, ... in hexadecimal. */
export function parseTables(tables: string[], localPort: number): Set<string> {
  const port = localPort.toString(16).toUpperCase().padStart(4, '0');
  const peers = new Set<string>();
  for (const table of tables) {
    for (const line of table.split('\n')) {
      const [, local, remote, state] = line.trim().split(/\s+/);
      if (state !== ESTABLISHED || !local?.endsWith(`:${port}`)) continue;
      const [address, remotePort] = remote.split(':');
      peers.add(`${address.toUpperCase()}:${Number.parseInt(remotePort, 16)}`);
    }
  }
  return peers;
}

/** The key of a wire's peer (`127.0.0.1:43122`, `[::1]:43122`): its address as the kernel prints it. Null for one that is no address. */
export function peerKey(peer: string): string | null {
  const colon = peer.lastIndexOf(':');
  const host = peer.slice(0, colon);
  const bytes = host.startsWith('[') ? ipv6Bytes(host) : ipv4Bytes(host);
  if (colon < 0 || bytes === null) return null;
  return `${kernelHex(bytes)}:${peer.slice(colon + 1)}`;
}

/** 32-bit words in the machine's own byte order. */
function kernelHex(bytes: number[]): string {
  const hex = bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, '0'));
  let words = '';
  for (let at = 0; at < hex.length; at += 4) {
    const word = hex.slice(at, at + 4);
    words += (endianness() === 'LE' ? word.reverse() : word).join('');
  }
  return words;
}

function ipv4Bytes(host: string): number[] | null {
  const bytes = host.split('.').map(Number);
  return bytes.length === 4 && bytes.every((byte) => byte >= 0 && byte <= 255) ? bytes : null;
}

/** `host` in brackets; the URL parser turns each spelling into one of at most one `::` and no dots. */
function ipv6Bytes(host: string): number[] | null {
  if (!URL.canParse(`http://${host}`)) return null;
  const [head, tail] = new URL(`http://${host}`).hostname.slice(1, -1).split('::');
  const groups = (part: string | undefined): number[] => (part ? part.split(':').map((group) => Number.parseInt(group, 16)) : []);
  const before = groups(head);
  const after = groups(tail);
  const middle = new Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...middle, ...after].flatMap((group) => [group >> 8, group & 0xff]);
}
