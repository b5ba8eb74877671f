// Networks of IP addresses, as access rules name them: an address or CIDR in text, and whether a client's address lies in
// it. IPv4 addresses in IPv6's clothes (::ffff:10.0.0.1) are IPv4 addresses; the two families are never mixed.
import { isIPv4, isIPv6 } from 'node:net';

export interface Network {
  family: 4 | 6;
  /** The bits of the address that count; the others are 0. */
  bits: bigint;
  prefix: number;
}

interface Address {
  family: 4 | 6;
  bits: bigint;
}

const LENGTH = { 4: 32, 6: 128 } as const;
const MAPPED_PREFIX = 96;
const MAPPED = 0xffffn << 32n;

function ipv4Bits(text: string): bigint {
  return text.split('.').reduce((bits, part) => (bits << 8n) | BigInt(Number(part)), 0n);
}

function ipv6Bits(text: string): bigint {
  // The last 32 bits may be written as IPv4.
  const plain = text.replace(/[\d.]+$/, (tail) => {
    if (!tail.includes('.')) return tail;
    const bits = ipv4Bits(tail);
    return `${(bits >> 16n).toString(16)}:${(bits & 0xffffn).toString(16)}`;
  });
  const [head, tail] = plain.split('::');
  const groups = (part: string | undefined): string[] => (part === undefined || part === '' ? [] : part.split(':'));
  const left = groups(head);
  const right = groups(tail);
  const zeroes = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<string>(zeroes).fill('0'), ...right].reduce((bits, group) => (bits << 16n) | BigInt(`0x${group}`), 0n);
}

/** Undefined: no address. */
function parseAddress(text: string): Address | undefined {
  if (isIPv4(text)) return { family: 4, bits: ipv4Bits(text) };
  const [unzoned] = text.split('%');
  if (!isIPv6(unzoned)) return undefined;
  return { family: 6, bits: ipv6Bits(unzoned) };
}

function isMapped({ family, bits }: Address): boolean {
  return family === 6 && bits >> 32n === MAPPED >> 32n;
}

function cut(bits: bigint, length: number, prefix: number): bigint {
  const free = BigInt(length - prefix);
  return (bits >> free) << free;
}

/** The network, or a sentence that says what is wrong. */
export function parseNetwork(text: string): Network | string {
  const [host, mask, ...rest] = text.split('/');
  const address = host.includes('%') ? undefined : parseAddress(host);
  if (address === undefined || rest.length > 0)
    return `"${text}" is no address or network: write one such as 10.0.0.7, 10.0.0.0/24 or fd00::/8`;
  const length = LENGTH[address.family];
  if (mask !== undefined && (!/^\d{1,3}$/.test(mask) || Number(mask) > length))
    return `"${mask}" is no length of a network: after the / stands a number from 0 to ${length}`;
  const prefix = mask === undefined ? length : Number(mask);
  const bits = cut(address.bits, length, prefix);
  if (bits !== address.bits) return `"${text}" has bits behind its first ${prefix}: write the network alone`;
  if (isMapped(address) && prefix >= MAPPED_PREFIX) return { family: 4, bits: bits & 0xffffffffn, prefix: prefix - MAPPED_PREFIX };
  return { family: address.family, bits, prefix };
}

/** Is `host`, an address without a port, in `network`? What is no address is in none. */
export function contains(network: Network, host: string): boolean {
  const address = parseAddress(host);
  if (address === undefined) return false;
  const { family, bits } = isMapped(address) ? { family: 4 as const, bits: address.bits & 0xffffffffn } : address;
  return family === network.family && cut(bits, LENGTH[family], network.prefix) === network.bits;
}
