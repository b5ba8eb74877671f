// Files of pre-shared keys as psktool writes them: a line `identity:key` each, the key in hexadecimal. An identity that
// begins with # is hexadecimal too. Everything that other programs might read in another way is refused.
import { type Outcome, refuse } from '../control.js';
import { readTextFile } from './pem-files.js';

/** OpenSSL takes no longer identity. */
const IDENTITY_BYTES_MAX = 255;
/** A shorter key could be guessed; a longer one than the most is not taken everywhere. */
const KEY_BYTES = { min: 16, max: 256 };

/** Keys by identity; an identity is told apart byte for byte. */
export type PskKeys = ReadonlyMap<string, Buffer>;

function flaw(file: string, line: number, problem: string): Outcome<never> {
  return refuse('tls-file', `the PSK file ${file} is wrong in line ${line}: ${problem}`);
}

/** The identity as text, or null when it is none. */
function identityOf(written: string): string | null {
  let identity = written;
  if (written.startsWith('#')) {
    if (!/^#(?:[0-9a-fA-F]{2})+$/.test(written)) return null;
    try {
      identity = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(written.slice(1), 'hex'));
    } catch {
      return null;
    }
  }
  // What a client sends that is no UTF-8 arrives with U+FFFD in it, so no identity may have that.
  const good = identity !== '' && !/[\0\ufffd]/.test(identity) && Buffer.byteLength(identity) <= IDENTITY_BYTES_MAX;
  return good ? identity : null;
}

export function parsePskFile(text: string, file: string): Outcome<PskKeys> {
  const keys = new Map<string, Buffer>();
  const lines = text.split('\n');
  for (const [at, raw] of lines.entries()) {
    const line = raw.replace(/\r$/, '');
    if (line === '') continue;
    const colon = line.indexOf(':');
    if (colon < 0) return flaw(file, at + 1, 'write identity:key, the key in hexadecimal, as psktool does');
    const identity = identityOf(line.slice(0, colon));
    const key = line.slice(colon + 1);
    if (identity === null) return flaw(file, at + 1, `an identity has 1 to ${IDENTITY_BYTES_MAX} bytes of UTF-8 text`);
    if (!/^(?:[0-9a-fA-F]{2})+$/.test(key)) return flaw(file, at + 1, 'what follows the first : is no hexadecimal key');
    const lengthBytes = key.length / 2;
    if (lengthBytes < KEY_BYTES.min || lengthBytes > KEY_BYTES.max)
      return flaw(file, at + 1, `a key has ${KEY_BYTES.min} to ${KEY_BYTES.max} bytes, this one ${lengthBytes}`);
    if (keys.has(identity)) return flaw(file, at + 1, `${JSON.stringify(identity)} is there already: each identity has one key`);
    keys.set(identity, Buffer.from(key, 'hex'));
  }
  if (keys.size === 0) return refuse('tls-file', `the PSK file ${file} holds no key: make one with psktool -u IDENTITY -p ${file}`);
  return { ok: true, value: keys };
}

export async function readPskFile(file: string): Promise<Outcome<PskKeys>> {
  const text = await readTextFile(file, 'PSK file');
  return text.ok ? parsePskFile(text.value, file) : text;
}
