// What a simulated node's server can and cannot, drawn from the seed: unlike nodes must serve one volume alike.
import type { NodeFeatures } from './node-handshake.js';
import type { Random } from './random.js';

/** `fencing`: an agent, which always offers what ours does. */
export function drawFeatures(random: Random, fencing: boolean): NodeFeatures {
  const structured = random.chance(0.7);
  const zeroes = fencing || random.chance(0.7);
  const go = fencing || random.chance(0.8);
  return {
    go,
    structured,
    status: structured && random.chance(0.7),
    fua: random.chance(0.6),
    zeroes,
    fastZero: zeroes && random.chance(0.5),
    trim: random.chance(0.5),
    multiConn: fencing || random.chance(0.5),
    blockMinimum: random.pick([1, 512]),
    // Only GO can say that it is less than everybody takes.
    maximumPayload: go ? random.pick([262_144, 33_554_432]) : 33_554_432,
  };
}
