// The server under test, as its URI names it: where it listens, which export, and how TLS is done there if it is.
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls, type SecureVersion, type TLSSocket } from 'node:tls';
import type { NbdAddress } from '../../config/address.js';
import { OPTION } from '../nbd/constants.js';
import { RawLink } from './raw-link.js';
import { type Deadline, DeadlinePassed, RawStream } from './raw-stream.js';
import { RuleBroken } from './verdict.js';

export interface Target {
  /** As it was given, for reports. */
  uri: string;
  address: NbdAddress;
  export: string;
  /** What a TLS client needs here; null: the URI is one without TLS. */
  tls: ConnectionOptions | null;
}

/** A connection of which nothing was read and on which nothing was sent. */
export async function openLink({ address }: Target, deadline: Deadline): Promise<RawLink> {
  return new RawLink(await RawStream.open(address, deadline), deadline);
}

/** STARTTLS and the TLS handshake, which must both succeed; gives the TLS version. */
export async function startTls(
  link: RawLink,
  target: Target,
  versions: { from?: SecureVersion; to?: SecureVersion } = {},
): Promise<string> {
  const answer = await link.option(OPTION.STARTTLS);
  if (!answer.acknowledged) throw new RuleBroken('STARTTLS to be acknowledged', answer.words);
  return shakeHands(link, target, versions);
}

/** The TLS handshake alone, after an ACK to STARTTLS; rejects with the TLS library's error. */
export async function shakeHands(
  link: RawLink,
  target: Target,
  { from, to }: { from?: SecureVersion; to?: SecureVersion } = {},
): Promise<string> {
  let version = '';
  await link.upgrade(async (duplex) => {
    const socket = await secured(duplex, { ...target.tls, minVersion: from, maxVersion: to ?? target.tls?.maxVersion }, link.deadline);
    version = socket.getProtocol() ?? '';
    return socket;
  });
  return version;
}

function secured(duplex: Duplex, options: ConnectionOptions, deadline: Deadline): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ ...options, socket: duplex });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new DeadlinePassed('TLS handshake', deadline.totalMs, 0));
    }, deadline.leftMs);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    socket.once('error', failed);
    socket.once('close', () => failed(new Error('the server closed the connection during the TLS handshake')));
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      socket.removeAllListeners('error').removeAllListeners('close');
      resolve(socket);
    });
  });
}
