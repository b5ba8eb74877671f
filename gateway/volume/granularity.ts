// The units in which a volume is looked at, in bytes. What is stored counts in them: they never change.

/** Of checksums, dirty bits in memory, and copies. */
export const REGION_BYTES = 64 * 1024;
/** Of marks, durable dirty bits, and records of checksums and lost ranges. */
export const EXTENT_BYTES = 4 * 1024 * 1024;
