// Certificates and keys from PEM files, read whole and judged before anything uses them: what is missing, unreadable,
// no PEM, or does not belong together is an outcome that names the file and says what would be right.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type Outcome, refuse } from '../control.js';

/** No bundle of authorities is longer. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;
const CERTIFICATE = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[\s\S]*?-----END (?:TRUSTED |X509 )?CERTIFICATE-----/g;

/** A certificate with what issued it, and its key. */
export interface KeyPair {
  certificate: string;
  key: string;
  /** The first certificate of the file. */
  leaf: X509Certificate;
}

/** `what` names the file in the sentence: `certificate`, `key`. Codes of a refusal: `tls-file`. */
export async function readTextFile(file: string, what: string): Promise<Outcome<string>> {
  try {
    const chunks: Buffer[] = [];
    let lengthBytes = 0;
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      lengthBytes += chunk.length;
      if (lengthBytes > FILE_BYTES_MAX) return wrong(file, what, `is longer than ${FILE_BYTES_MAX} bytes`);
    }
    return { ok: true, value: new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return wrong(file, what, 'does not exist');
    if (code === 'EACCES') return wrong(file, what, 'may not be read by this user: check its permissions');
    if (code === 'EISDIR') return wrong(file, what, 'is a directory: name the file in it');
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return wrong(file, what, 'is no text: a PEM or PSK file is');
    return wrong(file, what, `cannot be read: ${message}`);
  }
}

export function wrong(file: string, what: string, problem: string): Outcome<never> {
  return refuse('tls-file', `the ${what} ${file} ${problem}`);
}

/** The certificates of `text`, each by itself; at least one. */
export function parseCertificates(text: string, file: string, what: string): Outcome<X509Certificate[]> {
  const certificates: X509Certificate[] = [];
  for (const [pem] of text.matchAll(CERTIFICATE)) {
    try {
      certificates.push(new X509Certificate(pem));
    } catch (error) {
      return wrong(file, what, `holds a certificate that cannot be read: ${(error as Error).message}`);
    }
  }
  if (certificates.length === 0) return wrong(file, what, 'holds no certificate: a PEM file begins with -----BEGIN CERTIFICATE-----');
  return { ok: true, value: certificates };
}

/** The authorities' file as node:tls wants it. */
export async function readAuthority(file: string): Promise<Outcome<string>> {
  const text = await readTextFile(file, 'certificate authority');
  if (!text.ok) return text;
  const certificates = parseCertificates(text.value, file, 'certificate authority');
  return certificates.ok ? text : certificates;
}

/** Both files, and that they belong together. */
export async function readKeyPair(certificateFile: string, keyFile: string, what: string): Promise<Outcome<KeyPair>> {
  const certificate = await readTextFile(certificateFile, `${what}certificate`);
  if (!certificate.ok) return certificate;
  const key = await readTextFile(keyFile, `${what}key`);
  if (!key.ok) return key;
  const chain = parseCertificates(certificate.value, certificateFile, `${what}certificate`);
  if (!chain.ok) return chain;
  const leaf = chain.value[0];
  try {
    const privateKey = createPrivateKey(key.value);
    if (!leaf.checkPrivateKey(privateKey))
      return wrong(keyFile, `${what}key`, `does not belong to the certificate ${certificateFile}: give the key it was made with`);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_MISSING_PASSPHRASE' || /ENCRYPTED/.test(key.value))
      return wrong(keyFile, `${what}key`, 'is protected by a passphrase, which nobody is there to type: store it without one');
    return wrong(keyFile, `${what}key`, `holds no private key that can be read (${message})`);
  }
  return { ok: true, value: { certificate: certificate.value, key: key.value, leaf } };
}
