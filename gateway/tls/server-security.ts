// The NBD server's side of TLS: takes a socket over after STARTTLS and says who the client has proved to be. A certificate
// that does not count makes a client without a name, never an error of the server's; what such a client may do is decided
// by who asks. Fails closed: what cannot be verified counts as not verified.
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { type PeerCertificate, type SecureContext, TLSSocket } from 'node:tls';
import type { Security, TlsPeer } from '../wire.js';
import { certificateNames } from './certificate-names.js';
import type { PskKeys } from './psk-file.js';
import { explainTlsFailure, sayTlsCode } from './tls-failure.js';

export interface ServerMeans {
  /** One that resumes no sessions. */
  context: SecureContext;
  /** Whether clients are asked for a certificate; `required`: one without a good certificate or key is refused. */
  clientCertificates: 'none' | 'optional' | 'required';
  keys: PskKeys;
}

/** What `authorized` of node:tls rests on, which it computes for its own servers alone. */
interface Verifier {
  verifyError(): { code?: string; message: string } | null;
}

export class ServerSecurity implements Security {
  readonly #means: ServerMeans;

  constructor(means: ServerMeans) {
    this.#means = means;
  }

  /** Is there a key for this identity? */
  knows(identity: string): boolean {
    return this.#means.keys.has(identity);
  }

  take(socket: Socket, secured: (peer: TlsPeer) => void): Socket {
    const { context, clientCertificates, keys } = this.#means;
    let identity: string | null = null;
    const options = {
      isServer: true,
      secureContext: context,
      requestCert: clientCertificates !== 'none',
      // Judged below, so that a client is told in the protocol's own words.
      rejectUnauthorized: false,
      ...(keys.size === 0
        ? {}
        : {
            pskCallback: (_: unknown, asked: string): Buffer | null => {
              const key = keys.get(asked) ?? null;
              identity = key === null ? null : asked;
              return key;
            },
          }),
    };
    const tls = new TLSSocket(socket, options);
    // A client that negotiated anew could become another one.
    tls.disableRenegotiation();
    // After the handshake node:tls tells errors of a server's socket only so, and leaves the socket as it is.
    tls.on('_tlsError', (error: Error) => tls.destroy(error));
    tls.once('secure', () => secured(this.#peerOf(tls, identity)));
    return tls;
  }

  explain(error: Error): Error {
    return explainTlsFailure(error);
  }

  #peerOf(tls: TLSSocket, identity: string | null): TlsPeer {
    const certificate = tls.getPeerCertificate() as PeerCertificate | Record<string, never>;
    const shown = 'raw' in certificate;
    // An identity was only named until the handshake was done with its key: one with a certificate on either side was done without.
    const byKey = identity !== null && !shown && usedKey(tls);
    const flaw = shown ? flawOf(tls) : null;
    return {
      protocol: tls.getProtocol() ?? '',
      cipher: tls.getCipher().standardName ?? tls.getCipher().name,
      identity: byKey ? identity : null,
      names: shown && flaw === null ? certificateNames(certificate as PeerCertificate) : null,
      flaw: flaw ?? (byKey ? null : this.#missing(shown)),
    };
  }

  #missing(shown: boolean): string | null {
    return this.#means.clientCertificates === 'required' && !shown ? 'no certificate of an authority that is trusted here was shown' : null;
  }
}

/**
 * Was the handshake done with a pre-shared key? To name an identity proves nothing: with other cipher suites than the key's the handshake
 * goes on with our certificate instead. In TLS 1.3 a session counts as resumed exactly then, for nothing else is ever resumed here.
 */
function usedKey(tls: TLSSocket): boolean {
  return tls.getProtocol() === 'TLSv1.3' ? tls.isSessionReused() : /(^|-)PSK-/.test(tls.getCipher().name);
}

function flawOf(tls: TLSSocket): string | null {
  const { ssl } = tls as unknown as { ssl?: Partial<Verifier> };
  assert(typeof ssl?.verifyError === 'function', 'this version of Node.js does not tell whether a certificate is good');
  const error = ssl.verifyError();
  return error === null || error === undefined ? null : sayTlsCode(error.code ?? error.message);
}
