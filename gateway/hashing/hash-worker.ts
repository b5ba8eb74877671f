// Hashes regions on another thread. Runs as a piscina worker: takes the bytes over, gives back the checksums.
import { createHash64 } from './xxh64.js';

const hash = await createHash64();

/** `bytes`, cut every `regionBytes`; the last piece may be short. Gives 8 bytes for each, native order. */
export default function hashRegions({ bytes, regionBytes }: { bytes: Uint8Array; regionBytes: number }): BigUint64Array {
  const sums = new BigUint64Array(Math.ceil(bytes.length / regionBytes));
  for (let at = 0; at < sums.length; at += 1) sums[at] = hash(bytes.subarray(at * regionBytes, (at + 1) * regionBytes));
  return sums;
}
