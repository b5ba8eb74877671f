// What a client needs for TLS with an NBD server, from the files that the configuration or a URI names, as options for
// node:tls's `connect`. The server is always known by something: its certificate's name and issuer, or the pre-shared
// key; only `verifyPeer: false` takes whoever answers.
import { access, constants } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, checkServerIdentity, createSecureContext, type SecureContextOptions } from 'node:tls';
import type { ClientTls } from '../../config/tls.js';
import { type Outcome, refuse } from '../control.js';
import { readAuthority, readKeyPair, readTextFile } from './pem-files.js';
import { readPskFile } from './psk-file.js';

/** With a pre-shared key alone: no suite by which a server could show a certificate instead, nor one whose hash does not fit the key in TLS 1.3. */
const PSK_CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-PSK-CHACHA20-POLY1305',
  'DHE-PSK-AES256-GCM-SHA384',
  'DHE-PSK-AES128-GCM-SHA256',
  'DHE-PSK-CHACHA20-POLY1305',
  'ECDHE-PSK-AES256-CBC-SHA384',
  'ECDHE-PSK-AES128-CBC-SHA256',
  'PSK-AES256-GCM-SHA384',
  'PSK-AES128-GCM-SHA256',
].join(':');

/**
 * Options for `tls.connect({ socket, ...options })`. `host` is the host dialled, null for a Unix socket. Codes of a refusal:
 * `tls-file` (a file is missing, unreadable or wrong), `tls-identity` (the PSK file does not hold the identity asked for).
 * `overrides` are for who tries out versions of TLS.
 */
export async function loadClientCredentials(
  tls: ClientTls,
  host: string | null,
  overrides: SecureContextOptions = {},
): Promise<Outcome<ConnectionOptions>> {
  if (tls.psk !== null) return pskOptions(tls.psk, tls.identity, overrides);
  return certificateOptions(tls, tls.serverName ?? host ?? 'localhost', overrides);
}

async function certificateOptions(tls: ClientTls, name: string, overrides: SecureContextOptions): Promise<Outcome<ConnectionOptions>> {
  const files = tls.directory === null ? tls : await filesOf(tls.directory, tls);
  const context: SecureContextOptions = { minVersion: 'TLSv1.2', ...overrides };
  if (files.authority !== null) {
    const authority = await readAuthority(files.authority);
    if (!authority.ok) return authority;
    context.ca = authority.value;
  }
  if ('revoked' in files && typeof files.revoked === 'string') {
    const revoked = await readTextFile(files.revoked, 'revocation list');
    if (!revoked.ok) return revoked;
    context.crl = revoked.value;
  }
  if (files.certificate !== null || files.key !== null) {
    if (files.certificate === null || files.key === null)
      return refuse('tls-file', 'a client certificate and its key belong together: name both or none');
    const pair = await readKeyPair(files.certificate, files.key, 'client ');
    if (!pair.ok) return pair;
    context.cert = pair.value.certificate;
    context.key = pair.value.key;
  }
  return withContext(context, {
    rejectUnauthorized: tls.verifyPeer,
    servername: isIP(name) === 0 ? name : '',
    checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
  });
}

async function pskOptions(file: string, identity: string | null, overrides: SecureContextOptions): Promise<Outcome<ConnectionOptions>> {
  const keys = await readPskFile(file);
  if (!keys.ok) return keys;
  const known = [...keys.value.keys()];
  if (identity === null && known.length > 1)
    return refuse('tls-identity', `the PSK file ${file} holds ${known.length} identities: say which, as in nbds://IDENTITY@host`);
  const used = identity ?? known[0];
  const psk = keys.value.get(used);
  if (psk === undefined) return refuse('tls-identity', `the PSK file ${file} has no identity ${JSON.stringify(used)}`);
  return withContext(
    { minVersion: 'TLSv1.2', ciphers: PSK_CIPHERS, ca: [], ...overrides },
    {
      rejectUnauthorized: true,
      pskCallback: () => ({ psk, identity: used }),
      // Without a certificate there is no name to compare; a server that shows one has not proved that it knows the key.
      checkServerIdentity: (_, certificate) =>
        certificate !== undefined && Object.keys(certificate).length > 0
          ? new Error('the server shows a certificate instead of using the pre-shared key')
          : undefined,
    },
  );
}

function withContext(context: SecureContextOptions, options: ConnectionOptions): Outcome<ConnectionOptions> {
  try {
    return { ok: true, value: { ...options, secureContext: createSecureContext(context) } };
  } catch (error) {
    return refuse('tls-file', `TLS cannot be set up with these files: ${(error as Error).message}`);
  }
}

interface CertificateFiles {
  authority: string | null;
  certificate: string | null;
  key: string | null;
  revoked: string | null;
}

/** What is in a directory of libnbd's kind: the authority always, the client's own certificate and the revocation list if they are there. */
async function filesOf(directory: string, single: ClientTls): Promise<CertificateFiles> {
  const present = async (name: string): Promise<string | null> => {
    const file = join(directory, name);
    return (await exists(file)) ? file : null;
  };
  return {
    authority: single.authority ?? join(directory, 'ca-cert.pem'),
    certificate: single.certificate ?? (await present('client-cert.pem')),
    key: single.key ?? (await present('client-key.pem')),
    revoked: await present('ca-crl.pem'),
  };
}

async function exists(file: string): Promise<boolean> {
  try {
    await access(file, constants.F_OK);
    return true;
  } catch {
    return false;
  }
}
