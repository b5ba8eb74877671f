// Our side of TLS with a storage node: takes a socket over after STARTTLS, and is done only when the node has proved to be
// the one that the configuration means (client-credentials.ts says how).
import type { Socket } from 'node:net';
import { type ConnectionOptions, connect } from 'node:tls';
import type { NodeConfig } from '../../config/config.js';
import type { Outcome } from '../control.js';
import type { Security, TlsPeer } from '../wire.js';
import { loadClientCredentials } from './client-credentials.js';
import { explainTlsFailure, isOfCertificate } from './tls-failure.js';

export class ClientSecurity implements Security {
  readonly #options: ConnectionOptions;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  take(socket: Socket, secured: (peer: TlsPeer) => void): Socket {
    const tls = connect({ ...this.#options, socket });
    tls.disableRenegotiation();
    tls.once('secureConnect', () => {
      const { name, standardName } = tls.getCipher();
      secured({ protocol: tls.getProtocol() ?? '', cipher: standardName ?? name, identity: null, names: null, flaw: null });
    });
    return tls;
  }

  explain(error: Error): Error {
    // With a key alone every certificate is one of a stranger.
    const byCertificate = this.#options.pskCallback !== undefined && isOfCertificate((error as NodeJS.ErrnoException).code ?? '');
    return byCertificate
      ? new Error('TLS: the server shows a certificate instead of using the pre-shared key', { cause: error })
      : explainTlsFailure(error);
  }
}

/** For each node what to dial it with: null in plain, a refusal when its files cannot be used. */
export type NodeSecurities = ReadonlyMap<NodeConfig, Outcome<Security | null>>;

export async function loadNodeSecurity(node: NodeConfig): Promise<Outcome<Security | null>> {
  if (node.tls === null) return { ok: true, value: null };
  const credentials = await loadClientCredentials(node.tls, hostOf(node));
  return credentials.ok ? { ok: true, value: new ClientSecurity(credentials.value) } : credentials;
}

export async function loadNodeSecurities(nodes: readonly NodeConfig[]): Promise<NodeSecurities> {
  const loaded = new Map<NodeConfig, Outcome<Security | null>>();
  for (const node of nodes) loaded.set(node, await loadNodeSecurity(node));
  return loaded;
}

/** The host whose name the node's certificate has to hold, unless the configuration says another. */
function hostOf(node: NodeConfig): string | null {
  if (node.kind === 'agent') return new URL(node.url).hostname.replace(/^\[|\]$/g, '');
  return node.kind === 'plain' && 'host' in node.address ? node.address.host : null;
}
