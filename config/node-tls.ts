// How the gateway speaks TLS with a node: what its URI says and what its tls section says, as one. What cannot be together,
// or would be without effect, is refused: TLS that is written down is never silently left out.
import type { Report } from './nodes.js';
import type { KeyPath } from './problem.js';
import type { ClientTlsInput } from './schema.js';
import { type ClientTls, plainestTls } from './tls.js';

/** `fromUri`: what the URI says; undefined: it is one without TLS. `path` is the node's. */
export function nodeTls(
  input: ClientTlsInput | undefined,
  fromUri: ClientTls | undefined,
  path: KeyPath,
  report: Report,
): ClientTls | null {
  if (input === undefined) return fromUri ?? null;
  const here = [...path, 'tls'];
  const uri = fromUri ?? plainestTls;
  const { authority = null, certificate = null, key = null, serverName = null, psk = null, identity = null } = input;
  if (certificate !== null && key === null) report([...here, 'certificate'], 'needs its key besides: give key', 'key');
  if (key !== null && certificate === null) report([...here, 'key'], 'needs its certificate besides: give certificate', 'key');
  const usesPsk = psk !== null || uri.psk !== null;
  for (const [name, value] of Object.entries({ authority, certificate, key, serverName }))
    if (value !== null && usesPsk)
      report([...here, name], 'has no use with a pre-shared key, which proves both sides: remove one of them', 'key');
  if (identity !== null && !usesPsk) report([...here, 'identity'], 'is of a pre-shared key: give psk besides', 'key');
  const twice = (name: string, one: string | null, other: string | null): void => {
    if (one !== null && other !== null) report([...here, name], "is in the node's URI too: say it in one place", 'key');
  };
  twice('psk', psk, uri.psk);
  twice('identity', identity, uri.identity);
  twice('serverName', serverName, uri.serverName);
  twice('authority', authority, uri.directory);
  twice('certificate', certificate, uri.directory);
  if (psk !== null && uri.directory !== null)
    report([...here, 'psk'], "has no use besides the certificates in the node's URI: remove one of them", 'key');
  return {
    directory: uri.directory,
    authority,
    certificate,
    key,
    psk: psk ?? uri.psk,
    identity: identity ?? uri.identity,
    serverName: serverName ?? uri.serverName,
    verifyPeer: uri.verifyPeer,
  };
}
