// What a client may do with a volume, by the rules of its entry: pure, from who the client has proved to be and where it
// comes from. Without rules everyone may; with rules, whom none names may nothing. Of several that name it the one that allows most holds.
import type { AccessRule, VolumeConfig } from '../../config/config.js';
import { contains, type Network, parseNetwork } from '../../config/network.js';
import type { Client } from '../nbd/export.js';

export type Access = 'none' | 'read-only' | 'read-write';

const networks = new WeakMap<AccessRule, Network>();

export function accessOf({ readOnly, access }: Pick<VolumeConfig, 'readOnly' | 'access'>, client: Client): Access {
  const most = readOnly ? 'read-only' : 'read-write';
  if (access === null) return most;
  let granted: Access = 'none';
  for (const rule of access) {
    if (!holds(rule, client)) continue;
    if (!rule.readOnly) return most;
    granted = 'read-only';
  }
  return granted;
}

/** Everything that the rule names. */
function holds(rule: AccessRule, { peer, tls }: Client): boolean {
  if (rule.certificate !== null && !tls?.names?.includes(rule.certificate)) return false;
  if (rule.psk !== null && tls?.identity !== rule.psk) return false;
  if (rule.unix && peer !== 'unix') return false;
  return rule.address === null || comesFrom(rule, rule.address, peer);
}

function comesFrom(rule: AccessRule, text: string, peer: string): boolean {
  const network = networks.get(rule) ?? parseNetwork(text);
  if (typeof network === 'string') return false;
  networks.set(rule, network);
  return contains(network, hostOf(peer));
}

/** `10.0.0.1:4711` and `[fd00::1]:4711` without the port; '' for the Unix socket. */
function hostOf(peer: string): string {
  return /^\[(.*)\]:\d+$/.exec(peer)?.[1] ?? /^([^:]*):\d+$/.exec(peer)?.[1] ?? '';
}
