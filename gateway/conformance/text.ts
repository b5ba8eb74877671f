// What the protocol document calls a string.
import { isUtf8 } from 'node:buffer';
import { STRING_BYTES_MAX } from '../nbd/constants.js';

/** UTF-8 without NUL, at most 4096 bytes. */
export function isString(bytes: Buffer): boolean {
  return bytes.length <= STRING_BYTES_MAX && !bytes.includes(0) && isUtf8(bytes);
}
