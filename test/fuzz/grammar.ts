// Pieces that several targets draw from: numbers at the edges of fields, sizes and names, and bytes of any kind.
import type { Random } from '../sim/random.js';

const EDGES_32 = [
  0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15, 16, 20, 63, 64, 65, 255, 256, 257, 264, 265, 511, 512, 513, 4095, 4096, 4097, 8192,
].concat([16383, 16384, 16385, 65535, 65536, 65537, 131072, 1048576, 1048577, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff]);
const EDGES_64 = [
  ...EDGES_32.map(BigInt),
  2n ** 32n,
  2n ** 36n - 512n,
  2n ** 36n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 63n,
].concat([2n ** 64n - 4097n, 2n ** 64n - 4096n, 2n ** 64n - 512n, 2n ** 64n - 1n]);

export function edge32(random: Random): number {
  return random.pick(EDGES_32);
}

export function edge64(random: Random): bigint {
  return random.pick(EDGES_64);
}

/** Mostly below `usual`, sometimes at an edge. */
export function number32(random: Random, usual: number): number {
  return random.chance(0.15) ? edge32(random) : random.int(usual);
}

export function anyBytes(random: Random, lengthMax: number): Buffer {
  const bytes = Buffer.allocUnsafe(random.int(lengthMax + 1));
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = random.uint32();
  return bytes;
}

export const NAMES = ['disk', 'ro', 'blocks', 'bare', 'huge', 'locked', '', 'nothing', 'größe', 'x'.repeat(300)] as const;
const BAD_NAMES = ['di\0sk', 'x'.repeat(4096), 'x'.repeat(4097)]
  .map((name) => Buffer.from(name))
  .concat([Buffer.from([0xc3, 0x28]), Buffer.from([0xff])]);

export function someName(random: Random): Buffer {
  if (random.chance(0.03)) return random.pick(BAD_NAMES);
  return random.chance(0.6) ? Buffer.from(random.pick(NAMES.slice(0, 5))) : Buffer.from(random.pick(NAMES));
}
