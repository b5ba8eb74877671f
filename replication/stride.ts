// Steps that visit each of some places once before they come back to the first.

/** The least stride, from `least` on, that does so over `count` places. */
export function coveringStride(least: number, count: number): number {
  let stride = least;
  while (!covers(stride, count)) stride += 1;
  return stride;
}

/** Does it: have the two no factor in common? */
export function covers(stride: number, count: number): boolean {
  return greatestCommonDivisor(stride, count) === 1;
}

function greatestCommonDivisor(one: number, other: number): number {
  return other === 0 ? one : greatestCommonDivisor(other, one % other);
}
