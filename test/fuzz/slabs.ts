// Large buffers are given out again with the next input: a machine makes slabs of 256 KiB, and with tens of thousands of
// machines a second nothing else would be done. What is in them is what the input before left there, never zeroes.

const SLAB_BYTES = 256 * 1024;

/** Takes over the making of slabs; what it gives is called before each input, when nobody uses those of the last any more. */
export function reuseSlabs(): () => void {
  const slabs: Buffer[] = [];
  let used = 0;
  const make = Buffer.allocUnsafeSlow;
  Buffer.allocUnsafeSlow = (bytes: number): ReturnType<typeof make> => {
    if (bytes !== SLAB_BYTES) return make(bytes);
    if (used === slabs.length) slabs.push(make(bytes));
    used += 1;
    return slabs[used - 1] as ReturnType<typeof make>;
  };
  return () => {
    used = 0;
    if (slabs.length > 64) slabs.length = 64;
  };
}
