// What the NBD server needs for TLS, from the files that the configuration names: read again with each reload, and judged
// before anything of them is used. Certificates and pre-shared keys may both be there; no session is ever resumed, so that
// everyone proves anew who he is.
import { constants, createHash } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { ServerTls } from '../../config/tls.js';
import { type Outcome, refuse } from '../control.js';
import { readAuthority, readKeyPair } from './pem-files.js';
import { readPskFile, type PskKeys } from './psk-file.js';
import { ServerSecurity } from './server-security.js';

/** With forward secrecy and authenticated encryption alone. Those of TLS 1.3 whose hash fits pre-shared keys come first. */
const CIPHERS_13 = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384';
const CERTIFICATE_CIPHERS =
  'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:' +
  'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384';
/** Suites that need a pre-shared key in TLS 1.2, those with forward secrecy first. */
const PSK_CIPHERS =
  'ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-CHACHA20-POLY1305:' +
  'ECDHE-PSK-AES128-CBC-SHA256:ECDHE-PSK-AES256-CBC-SHA384:PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384';

/** What to use, and what an operator should know of it. */
export interface ServerCredentials {
  /** Null: TLS is off. */
  served: { mode: 'optional' | 'required'; security: ServerSecurity } | null;
  /** Another one where anything of the files is different. */
  fingerprint: string;
  warnings: string[];
}

/** Codes of a refusal: `tls-file`. */
export async function loadServerCredentials(tls: ServerTls, nowMs: number): Promise<Outcome<ServerCredentials>> {
  if (tls.mode === 'off') return { ok: true, value: { served: null, fingerprint: 'off', warnings: [] } };
  const context: SecureContextOptions = {
    minVersion: tls.minimum === '1.3' ? 'TLSv1.3' : 'TLSv1.2',
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    ciphers: ciphers(tls),
    // OpenSSL wants one for pre-shared keys where certificates are asked for too, though nothing is resumed.
    sessionIdContext: 'forestall',
    honorCipherOrder: true,
    // Parameters of a well-known group, for pre-shared keys in TLS 1.2 without elliptic curves.
    dhparam: 'auto',
  };
  const warnings: string[] = [];
  const digest = createHash('sha256');
  if (tls.mode === 'optional')
    warnings.push('TLS is optional: hosts that do not ask for it are served in plain, and whoever is between can make them not ask');
  if (tls.certificate !== null && tls.key !== null) {
    const pair = await readKeyPair(tls.certificate, tls.key, '');
    if (!pair.ok) return pair;
    context.cert = pair.value.certificate;
    context.key = pair.value.key;
    digest.update(pair.value.certificate).update(pair.value.key);
    const { validFrom, validTo } = pair.value.leaf;
    if (Date.parse(validTo) < nowMs) warnings.push(`the certificate ${tls.certificate} has expired on ${validTo}: clients refuse it`);
    if (Date.parse(validFrom) > nowMs) warnings.push(`the certificate ${tls.certificate} is valid only from ${validFrom} on`);
  }
  if (tls.authority !== null) {
    const authority = await readAuthority(tls.authority);
    if (!authority.ok) return authority;
    context.ca = authority.value;
    digest.update(authority.value);
  }
  let keys: PskKeys = new Map();
  if (tls.psk !== null) {
    const read = await readPskFile(tls.psk);
    if (!read.ok) return read;
    keys = read.value;
    for (const [identity, key] of keys) digest.update(identity).update(key);
  }
  try {
    const means = { context: createSecureContext(context), clientCertificates: tls.clientCertificates, keys };
    const served = { mode: tls.mode, security: new ServerSecurity(means) };
    return { ok: true, value: { served, fingerprint: digest.digest('hex'), warnings } };
  } catch (error) {
    return refuse('tls-file', `TLS cannot be set up with these files: ${(error as Error).message}`);
  }
}

/** A client that offers pre-shared keys means them, so they come first. */
function ciphers(tls: ServerTls): string {
  const suites = [CIPHERS_13];
  if (tls.psk !== null) suites.push(PSK_CIPHERS);
  if (tls.certificate !== null) suites.push(CERTIFICATE_CIPHERS);
  return suites.join(':');
}
