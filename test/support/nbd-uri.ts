// NBD URIs as tests write them: nbd://host:port/name and nbd+unix:///name?socket=/path.
import type { WireAddress } from '../../gateway/wire.js';

const DEFAULT_PORT = 10809;

export function parseNbdUri(uri: string): { address: WireAddress; exportName: string } {
  const url = new URL(uri);
  const exportName = decodeURIComponent(url.pathname.replace(/^\//, ''));
  if (url.protocol === 'nbd+unix:') {
    const path = url.searchParams.get('socket');
    if (path === null) throw new Error(`no socket in ${uri}`);
    return { address: { path }, exportName };
  }
  if (url.protocol !== 'nbd:') throw new Error(`no NBD URI: ${uri}`);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { address: { host, port: url.port === '' ? DEFAULT_PORT : Number(url.port) }, exportName };
}

export function nbdUri(address: WireAddress, exportName: string): string {
  const name = encodeURIComponent(exportName);
  return 'path' in address ? `nbd+unix:///${name}?socket=${address.path}` : `nbd://${address.host}:${address.port}/${name}`;
}
