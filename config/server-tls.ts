// The server's TLS section in the product's form, with what must hold within it: TLS needs something to prove, and a
// client's certificate somebody who vouches for it.
import type { Report } from './nodes.js';
import type { KeyPath } from './problem.js';
import type { ServerTlsInput } from './schema.js';
import { type ServerTls, serverTlsOff } from './tls.js';

export function serverTls(input: ServerTlsInput | undefined, path: KeyPath, report: Report): ServerTls {
  if (input === undefined) return serverTlsOff;
  const { mode, certificate = null, key = null, clientAuthority: authority = null, psk = null, minimum } = input;
  const clientCertificates = input.clientCertificates ?? (authority === null ? 'none' : 'required');
  if (certificate !== null && key === null) report([...path, 'certificate'], 'needs its key besides: give key', 'key');
  if (key !== null && certificate === null) report([...path, 'key'], 'needs its certificate besides: give certificate', 'key');
  if (mode !== 'off' && certificate === null && key === null && psk === null)
    report([...path, 'mode'], `${mode} needs something to prove who we are: give certificate and key, psk, or both`);
  if (clientCertificates !== 'none' && authority === null)
    report([...path, 'clientCertificates'], `${clientCertificates} needs somebody who vouches for them: give clientAuthority`);
  if (clientCertificates === 'none' && authority !== null)
    report([...path, 'clientAuthority'], 'has no use while clientCertificates is none: remove it, or ask for certificates', 'key');
  else if (authority !== null && certificate === null)
    report([...path, 'clientAuthority'], 'has no use with pre-shared keys alone: give certificate and key, or remove it', 'key');
  return { mode, certificate, key, authority, clientCertificates, psk, minimum };
}
