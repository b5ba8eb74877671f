// Changes to inputs that were worth keeping: at the level of bits, of fields, of messages and of their order.
import type { Random } from '../sim/random.js';
import { edge32, edge64, number32 } from './grammar.js';
import { FILL_BYTES_MAX, STEP, type Step } from './input.js';

/** Longer inputs grow no further. */
const STEPS_MAX = 64;
const STEP_BYTES_MAX = 4096;

/** `other`: steps to take some of. `steps` itself stays as it is. */
export function varied(steps: readonly Step[], other: readonly Step[], random: Random): Step[] {
  const result = [...steps];
  const changes = 1 + random.int(random.chance(0.2) ? 8 : 3);
  for (let change = 0; change < changes; change += 1) changeOnce(result, other, random);
  return result;
}

function changeOnce(steps: Step[], other: readonly Step[], random: Random): void {
  const at = random.int(Math.max(1, steps.length));
  const step = steps[at] as Step | undefined;
  const way = random.int(16);
  if (step === undefined || (way === 0 && steps.length < STEPS_MAX)) insertSome(steps, at, other, random);
  else if (way === 1) steps.splice(at, 1 + random.int(Math.min(3, steps.length)));
  else if (way === 2 && steps.length < STEPS_MAX) steps.splice(random.int(steps.length + 1), 0, step);
  else if (way === 3) swap(steps, at, random.int(steps.length));
  else if (way === 4) splitStep(steps, at, random);
  else if (way === 5) joinWithNext(steps, at);
  else if (way === 6) steps.length = at + 1;
  else if (way === 7) steps[at] = { ...step, data: resized(step.data, random) };
  else if (way === 8 && other.length > 0) steps[at] = random.pick(other);
  else if (way === 9 && steps.length < STEPS_MAX) steps.splice(at, 0, { kind: STEP.FILL, data: fillData(random) });
  else if (way === 10) steps[at] = { ...step, kind: random.chance(0.8) ? step.kind : STEP.OWN + random.int(8) };
  else steps[at] = { ...step, data: damaged(step.data, random) };
}

function insertSome(steps: Step[], at: number, other: readonly Step[], random: Random): void {
  if (other.length === 0) return;
  const from = random.int(other.length);
  steps.splice(at, 0, ...other.slice(from, from + 1 + random.int(4)));
}

function swap(steps: Step[], one: number, two: number): void {
  const step = steps[one];
  steps[one] = steps[two];
  steps[two] = step;
}

function splitStep(steps: Step[], at: number, random: Random): void {
  const { kind, data } = steps[at];
  if (kind !== STEP.BYTES || data.length < 2 || steps.length >= STEPS_MAX) return;
  const cut = 1 + random.int(data.length - 1);
  steps.splice(at, 1, { kind, data: data.subarray(0, cut) }, { kind, data: data.subarray(cut) });
}

function joinWithNext(steps: Step[], at: number): void {
  const next = steps[at + 1] as Step | undefined;
  if (next === undefined || next.kind !== STEP.BYTES || steps[at].kind !== STEP.BYTES) return;
  const data = Buffer.concat([steps[at].data, next.data]);
  if (data.length <= STEP_BYTES_MAX) steps.splice(at, 2, { kind: STEP.BYTES, data });
}

function resized(data: Buffer, random: Random): Buffer {
  if (random.chance(0.5)) return data.subarray(0, random.int(data.length + 1));
  const more = Buffer.alloc(1 + random.int(16), random.int(256));
  return data.length + more.length > STEP_BYTES_MAX ? data : Buffer.concat([data, more]);
}

function fillData(random: Random): Buffer {
  const count = Math.min(FILL_BYTES_MAX, number32(random, 4096));
  return Buffer.from([random.int(256), count >>> 16, count >>> 8, count]);
}

/** One bit, one byte, or a field of 16, 32 or 64 bits. */
function damaged(data: Buffer, random: Random): Buffer {
  if (data.length === 0) return Buffer.from([random.int(256)]);
  const result = Buffer.from(data);
  const at = random.int(result.length);
  const room = result.length - at;
  switch (random.int(7)) {
    case 0:
      result[at] ^= 1 << random.int(8);
      break;
    case 1:
      result[at] = random.int(256);
      break;
    case 2:
      result[at] += random.pick([1, 0xff]);
      break;
    case 3:
      if (room >= 2) result.writeUInt16BE(random.chance(0.5) ? random.int(16) : edge32(random) & 0xffff, at);
      break;
    case 4:
      if (room >= 4) result.writeUInt32BE(edge32(random), at);
      break;
    case 5:
      if (room >= 4) result.writeUInt32BE((result.readUInt32BE(at) + random.between(-4, 4)) >>> 0, at);
      break;
    default:
      if (room >= 8) result.writeBigUInt64BE(edge64(random), at);
  }
  return result;
}
