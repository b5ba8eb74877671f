// xxh64 with seed 0 over bytes, as checksums of regions are made everywhere.
import xxhash from 'xxhash-wasm';

export async function createHash64(): Promise<(bytes: Uint8Array) => bigint> {
  const { h64Raw } = await xxhash();
  return (bytes) => h64Raw(bytes, 0n);
}
