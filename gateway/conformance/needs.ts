// What rules need of a server, an export and the user. A need that is not met makes a rule not applicable, with the reason; that
// the user has not allowed writing makes it not run.
import { EXPORT_FLAG, HANDSHAKE_FLAG } from '../nbd/constants.js';
import { bestFlags, type Facts, isReadOnly, payloadBytesMax } from './survey.js';

export interface Need {
  name: string;
  /** Why the rule does not apply; null: it does. */
  unmet(facts: Facts): string | null;
  /** The user has to allow it. */
  permission?: true;
}

function need(name: string, met: (facts: Facts) => boolean, unmet: string): Need {
  return { name, unmet: (facts) => (met(facts) ? null : unmet) };
}

function flag(name: string, bit: number): Need {
  return need(name, (facts) => (bestFlags(facts) & bit) !== 0, `the export does not offer ${name}`);
}

function noFlag(name: string, bit: number): Need {
  return need(`no ${name}`, (facts) => (bestFlags(facts) & bit) === 0, `the export offers ${name}`);
}

const MIB = 1024 * 1024;

export const NEED = {
  /** Contents are destroyed; the export may be read-only. */
  WRITING: { name: '--write', unmet: () => null, permission: true } as Need,
  WRITABLE: need('a writable export', (facts) => !isReadOnly(facts), 'the export is read-only'),
  READ_ONLY: need('a read-only export', isReadOnly, 'the export is writable'),
  NO_ZEROES: need(
    'NO_ZEROES',
    ({ handshakeFlags }) => (handshakeFlags & HANDSHAKE_FLAG.NO_ZEROES) !== 0,
    'the server does not offer NO_ZEROES',
  ),
  ZEROES_ONLY: need(
    'no NO_ZEROES',
    ({ handshakeFlags }) => (handshakeFlags & HANDSHAKE_FLAG.NO_ZEROES) === 0,
    'the server offers NO_ZEROES',
  ),
  GO: need('INFO and GO', ({ go }) => go, 'the server does not do GO'),
  STRUCTURED: need('structured replies', ({ structured }) => structured, 'the server does not do structured replies'),
  EXTENDED: need('extended headers', ({ extended }) => extended, 'the server does not do extended headers'),
  NOT_EXTENDED: need('no extended headers', ({ extended }) => !extended, 'the server does extended headers'),
  CONTEXTS: need(
    'metadata contexts',
    ({ contexts, allocation }) => contexts.length > 0 || allocation,
    'the export has no metadata context',
  ),
  TWO_CONTEXTS: need('two metadata contexts', ({ contexts }) => contexts.length > 1, 'the export has not more than one metadata context'),
  FOREIGN_CONTEXT: need(
    'a context outside base:',
    ({ contexts }) => contexts.some((name) => !name.startsWith('base:')),
    'the export has no metadata context outside base:',
  ),
  ALLOCATION: need('base:allocation', ({ allocation }) => allocation, 'the export has no context base:allocation'),
  LISTING: need('LIST', ({ names }) => names !== null, 'the server refuses LIST'),
  UNKNOWN_NAME: need('a name that is unknown', ({ unknownName }) => unknownName !== null, 'the server takes any export name'),
  OTHER_NAME: need('another export', ({ otherName }) => otherName !== null, 'the server names no other export'),
  BLOCK_SIZES: need('INFO_BLOCK_SIZE', ({ block }) => block !== null, 'the server sends no INFO_BLOCK_SIZE'),
  NO_BLOCK_SIZES: need('no INFO_BLOCK_SIZE', ({ block }) => block === null, 'the server sends INFO_BLOCK_SIZE'),
  ALIGNMENT: need('a minimum block over 1', ({ block }) => (block?.minimum ?? 1) > 1, 'the minimum block is 1'),
  NO_ALIGNMENT: need('a minimum block of 1', ({ block }) => (block?.minimum ?? 1) === 1, 'the minimum block is over 1'),
  FLUSH: flag('SEND_FLUSH', EXPORT_FLAG.SEND_FLUSH),
  FUA: flag('SEND_FUA', EXPORT_FLAG.SEND_FUA),
  NO_FUA: noFlag('SEND_FUA', EXPORT_FLAG.SEND_FUA),
  TRIM: flag('SEND_TRIM', EXPORT_FLAG.SEND_TRIM),
  ZEROES: flag('SEND_WRITE_ZEROES', EXPORT_FLAG.SEND_WRITE_ZEROES),
  FAST_ZERO: flag('SEND_FAST_ZERO', EXPORT_FLAG.SEND_FAST_ZERO),
  NO_FAST_ZERO: noFlag('SEND_FAST_ZERO', EXPORT_FLAG.SEND_FAST_ZERO),
  CACHE: flag('SEND_CACHE', EXPORT_FLAG.SEND_CACHE),
  DF: flag('SEND_DF', EXPORT_FLAG.SEND_DF),
  MULTI_CONN: flag('CAN_MULTI_CONN', EXPORT_FLAG.CAN_MULTI_CONN),
  STATUS_PAYLOAD: need(
    'BLOCK_STATUS_PAYLOAD',
    ({ flags, statusPayload }) => statusPayload || (flags.extended & EXPORT_FLAG.BLOCK_STATUS_PAYLOAD) !== 0,
    'the export does not offer BLOCK_STATUS_PAYLOAD',
  ),
  NO_STATUS_PAYLOAD: need(
    'no BLOCK_STATUS_PAYLOAD',
    ({ flags, statusPayload }) => !statusPayload && (flags.extended & EXPORT_FLAG.BLOCK_STATUS_PAYLOAD) === 0,
    'the export offers BLOCK_STATUS_PAYLOAD',
  ),
  /** For payloads of 32 MiB beside others. */
  ROOM: need('an export of 64 MiB', ({ sizeBytes }) => sizeBytes >= 64 * MIB, 'the export has less than 64 MiB'),
  BEYOND_PAYLOAD: need(
    'an export longer than a payload may be',
    (facts) => facts.sizeBytes > payloadBytesMax(facts) && payloadBytesMax(facts) <= 64 * MIB,
    'the export is not longer than the largest payload, or that is over 64 MiB',
  ),
  HUGE: need('an export over 4 GiB', ({ sizeBytes }) => sizeBytes > 2 ** 32 + 2 ** 20, 'the export is not over 4 GiB'),
  NOT_HUGE: need('an export under 4 GiB', ({ sizeBytes }) => sizeBytes < 2 ** 32 - 2 ** 17, 'the export is over 4 GiB'),
  NO_TLS: need('no TLS', ({ tls }) => tls === 'none', 'the server does TLS'),
  TLS_OFFERED: need('TLS', ({ tls }) => tls !== 'none', 'the server does not do TLS'),
  TLS_NOT_REQUIRED: need('no required TLS', ({ tls, throughTls }) => tls !== 'required' || throughTls, 'the server requires TLS'),
  TLS_REQUIRED: need('required TLS', ({ tls }) => tls === 'required', 'the server does not require TLS'),
  TLS_ONLY_OFFERED: need('TLS that is not required', ({ tls }) => tls === 'offered', 'the server does not negotiate without TLS'),
  WITHOUT_TLS: need('a URI without TLS', ({ throughTls }) => !throughTls, 'the URI is one with TLS'),
  THROUGH_TLS: need('a URI with TLS', ({ throughTls }) => throughTls, 'the URI is not one with TLS (nbds://)'),
} as const;
