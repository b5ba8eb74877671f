// Numbers of the protocol in words: options, replies, commands, errors and chunks, as messages about a broken rule name them.
import { CHUNK, COMMAND, INFO, OPTION, OPTION_REPLY } from '../nbd/constants.js';

/** Error numbers of the transmission phase. */
export const NBD_ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

function namer(table: Readonly<Record<string, number>>): (value: number) => string {
  const names = new Map(Object.entries(table).map(([name, value]) => [value, name]));
  return (value) => names.get(value) ?? `0x${value.toString(16)}`;
}

export const optionName = namer(OPTION);
export const optionReplyName = namer(OPTION_REPLY);
export const infoName = namer(INFO);
export const commandName = namer(COMMAND);
export const chunkName = namer(CHUNK);
const errnoNames = namer(NBD_ERRNO);

export function errnoName(errno: number): string {
  const name = errnoNames(errno);
  return name.startsWith('0x') ? `error ${errno}` : name;
}

/** `A`, `A or B`, `A, B or C`. */
export function oneOf(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

/** Text of the server that is safe to print, shortened. */
export function quoted(bytes: Buffer): string {
  return JSON.stringify(bytes.toString('utf8').slice(0, 120));
}
