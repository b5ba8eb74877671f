// The server under test, as its URI names it: where it listens, which export, and how TLS is done there if it is.
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls, type SecureContextOptions, type TLSSocket } from 'node:tls';
import { type NbdAddress, parseNbdUri } from '../../config/address.js';
import type { ClientTls } from '../../config/tls.js';
import { OPTION } from '../nbd/constants.js';
import { loadClientCredentials } from '../tls/client-credentials.js';
import { RawLink } from './raw-link.js';
import { type Deadline, DeadlinePassed, RawStream } from './raw-stream.js';
import { RuleBroken } from './verdict.js';

export interface Target {
  /** As it was given, for reports. */
  uri: string;
  address: NbdAddress;
  export: string;
  /** Null: the URI is one without TLS. */
  tls: TargetTls | null;
}

export interface TargetTls {
  /** A pre-shared key instead of certificates. */
  psk: boolean;
  /** What a TLS client needs here, with these versions and ciphers if they are given. */
  options(context?: SecureContextOptions): Promise<ConnectionOptions>;
}

/** Refused are URIs that are wrong and credentials that cannot be used, with a sentence without a full stop. */
export async function readTarget(uri: string): Promise<{ ok: true; value: Target } | { ok: false; problem: string }> {
  const parsed = parseNbdUri(uri);
  if (!parsed.ok) return { ok: false, problem: `the URI ${parsed.problem}` };
  const { address, export: name, tls } = parsed.value;
  const target = { uri, address, export: name };
  if (tls === undefined) return { ok: true, value: { ...target, tls: null } };
  const host = 'host' in address ? address.host : null;
  const loaded = await loadClientCredentials(tls, host);
  if (!loaded.ok) return { ok: false, problem: loaded.message };
  return { ok: true, value: { ...target, tls: { psk: tls.psk !== null, options: (context) => optionsOf(tls, host, context) } } };
}

async function optionsOf(tls: ClientTls, host: string | null, context?: SecureContextOptions): Promise<ConnectionOptions> {
  const loaded = await loadClientCredentials(tls, host, context);
  if (!loaded.ok) throw new Error(loaded.message);
  return loaded.value;
}

/** A connection of which nothing was read and on which nothing was sent. */
export async function openLink({ address }: Target, deadline: Deadline): Promise<RawLink> {
  return new RawLink(await RawStream.open(address, deadline), deadline);
}

/** STARTTLS and the TLS handshake, which must both succeed. */
export async function startTls(link: RawLink, target: Target): Promise<void> {
  const answer = await link.option(OPTION.STARTTLS);
  if (!answer.acknowledged) throw new RuleBroken('STARTTLS to be acknowledged', answer.words);
  await shakeHands(link, target);
}

/** The TLS handshake alone, after an ACK to STARTTLS; rejects with the TLS library's error. */
export async function shakeHands(link: RawLink, { tls }: Target, context?: SecureContextOptions): Promise<void> {
  const options = (await tls?.options(context)) ?? {};
  await link.upgrade((duplex) => secured(duplex, options, link.deadline));
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
