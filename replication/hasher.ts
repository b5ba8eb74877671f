// Checksums of regions. `sum` is for bytes that pass by (a region takes some 10 us); `sums` is for bulk work and may run
// on other threads: it takes the buffer away from the caller.

export interface Hasher {
  /** xxh64 with seed 0. */
  sum(bytes: Uint8Array): bigint;
  /** The checksum of each `regionBytes` of `bytes`, the last piece may be short. `bytes` must not be used afterwards. Rejects when the threads fail or are ended. */
  sums(bytes: Buffer, regionBytes: number): Promise<bigint[]>;
}
