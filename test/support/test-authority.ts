// A certificate authority for a test, made at run time with the openssl program: no key is ever stored with the sources.
// Writes directories as libnbd, nbdkit and QEMU want them (ca-cert.pem, server-cert.pem, client-cert.pem, ...).
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface CertificateWishes {
  commonName: string;
  /** As openssl writes them: `DNS:node.example`, `IP:127.0.0.1`. */
  names?: string[];
  /** Default server. */
  use?: 'server' | 'client';
  /** Days from now; a negative number has run out. */
  days?: number;
}

export interface CertificateFiles {
  certificate: string;
  key: string;
}

export class TestAuthority {
  readonly directory: string;
  readonly certificate: string;
  readonly #key: string;
  #made = 0;

  /** `directory` is made if need be. */
  constructor(directory: string, name = 'Test Authority') {
    mkdirSync(directory, { recursive: true });
    this.directory = directory;
    this.certificate = join(directory, 'ca-cert.pem');
    this.#key = join(directory, 'ca-key.pem');
    newKey(this.#key);
    const extensions = ['-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
    openssl('req', '-x509', '-key', this.#key, '-out', this.certificate, '-days', '2', '-subj', subject(name), ...extensions);
  }

  issue({ commonName, names = [], use = 'server', days = 2 }: CertificateWishes): CertificateFiles {
    this.#made += 1;
    const base = join(this.directory, `made-${this.#made}`);
    const files = { certificate: `${base}-cert.pem`, key: `${base}-key.pem` };
    newKey(files.key);
    openssl('req', '-new', '-key', files.key, '-out', `${base}.csr`, '-subj', subject(commonName));
    const extensions = [`extendedKeyUsage=${use}Auth`, 'keyUsage=critical,digitalSignature', 'basicConstraints=critical,CA:FALSE'];
    // In a section of its own each name runs to the end of its line, whatever is in it.
    if (names.length > 0) extensions.push('subjectAltName=@names', '[names]', ...names.map((name, at) => name.replace(':', `.${at} = `)));
    writeFileSync(`${base}.ext`, `${extensions.join('\n')}\n`);
    const serial = ['-set_serial', String(Date.now() * 1000 + this.#made)];
    const issuer = ['-CA', this.certificate, '-CAkey', this.#key, ...serial, '-days', String(days), '-extfile', `${base}.ext`];
    openssl('x509', '-req', '-in', `${base}.csr`, '-out', files.certificate, ...issuer);
    return files;
  }

  /** A directory with the authority's certificate and, as `server-` or `client-`, the given pair. */
  directoryFor(name: string, pairs: { server?: CertificateFiles; client?: CertificateFiles }): string {
    const directory = join(this.directory, name);
    mkdirSync(directory, { recursive: true });
    copyFileSync(this.certificate, join(directory, 'ca-cert.pem'));
    for (const [use, pair] of Object.entries(pairs)) {
      copyFileSync(pair.certificate, join(directory, `${use}-cert.pem`));
      copyFileSync(pair.key, join(directory, `${use}-key.pem`));
    }
    return directory;
  }
}

function subject(commonName: string): string {
  return `/CN=${commonName.replaceAll('/', '\\/')}`;
}

function newKey(file: string): void {
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', file);
}

function openssl(...words: string[]): void {
  execFileSync('openssl', words, { stdio: ['ignore', 'ignore', 'pipe'], timeout: 30_000 });
}
