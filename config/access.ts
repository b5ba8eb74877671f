// Who may attach a volume: the rules of its entry, what must hold within one and between it and the server's section, so
// that a rule which can never hold is an error of the file and not a locked door.
import type { AccessRule, ServerConfig } from './config.js';
import { parseNetwork } from './network.js';
import type { Report } from './nodes.js';
import type { KeyPath } from './problem.js';

export function networkProblem(text: string): string | undefined {
  const network = parseNetwork(text);
  return typeof network === 'string' ? network : undefined;
}

/** Names are compared as they are: what looks like a pattern would never match. */
export function certificateNameProblem(name: string): string | undefined {
  if (name === '' || name.includes('\0')) return "must be a name in the client's certificate";
  return name.includes('*')
    ? `"${name}" would have to stand in the certificate just so: names are compared whole, without patterns`
    : undefined;
}

interface AccessInput {
  certificate?: string;
  psk?: string;
  address?: string;
  unix?: true;
  readOnly: boolean;
}

const who = ['certificate', 'psk', 'address', 'unix'] as const;

export function accessRules(input: AccessInput[] | undefined, path: KeyPath, report: Report): AccessRule[] | null {
  if (input === undefined) return null;
  if (input.length === 0)
    report([...path, 'access'], 'is empty, so nobody could attach: name who may, or leave it out and everyone may who can connect');
  return input.map((rule, at) => {
    const here = [...path, 'access', at];
    if (who.every((key) => rule[key] === undefined)) report(here, `names nobody: give at least one of ${who.join(', ')}`);
    if (rule.unix && rule.address !== undefined)
      report([...here, 'address'], 'cannot hold for the Unix socket: make two rules of it', 'key');
    if (rule.psk !== undefined && rule.certificate !== undefined)
      report(
        [...here, 'certificate'],
        'cannot hold for a client with a pre-shared key, which shows no certificate: make two rules of it',
        'key',
      );
    const { certificate = null, psk = null, address = null, unix = false, readOnly } = rule;
    return { certificate, psk, address, unix, readOnly };
  });
}

/** A rule about what the server never asks for would keep its clients out for ever. */
export function checkAccess(rules: AccessRule[] | null, { nbd }: ServerConfig, path: KeyPath, report: Report): void {
  rules?.forEach((rule, at) => {
    const here = [...path, 'access', at];
    const asked = nbd.tls.mode !== 'off' && nbd.tls.clientCertificates !== 'none';
    if (rule.certificate !== null && !asked)
      report(
        [...here, 'certificate'],
        'can never hold: server.nbd.tls asks no client for a certificate (clientAuthority, clientCertificates)',
        'key',
      );
    if (rule.psk !== null && (nbd.tls.mode === 'off' || nbd.tls.psk === null))
      report([...here, 'psk'], 'can never hold: server.nbd.tls has no pre-shared keys (psk)', 'key');
    if (rule.unix && nbd.unix === null) report([...here, 'unix'], 'can never hold: there is no Unix socket (server.nbd.unix)', 'key');
  });
}
