// What a machine under test is given: steps one after the other, most of them bytes of the stream, the others what happens
// beside it (an answer of the device, a turn, a signal to shut down). Each target says what its own steps mean, and takes any
// step at any time: what makes no sense is nothing.
//
//   kind8 length24 data ...                                                          a step after the other

export interface Step {
  /** STEP, or what the target makes of it. */
  kind: number;
  data: Buffer;
}

export const STEP = {
  /** The next bytes of the stream, as one piece. */
  BYTES: 0,
  /** value8 count24: the same byte so many times, as one piece. */
  FILL: 1,
  /** How the machine is set up; counts where it is the first step. */
  SETUP: 2,
  /** count16 bytes: these bytes so many times, as one piece. */
  REPEAT: 3,
  /** From here on the target's own. */
  OWN: 4,
} as const;

export const FILL_BYTES_MAX = 160 * 1024;
/** More than any machine takes at once. */
const REPEATS_MAX = 1200;

export function bytesStep(...parts: Uint8Array[]): Step {
  return { kind: STEP.BYTES, data: parts.length === 1 ? Buffer.from(parts[0]) : Buffer.concat(parts) };
}

export function fillStep(value: number, count: number): Step {
  return { kind: STEP.FILL, data: Buffer.from([value, count >>> 16, count >>> 8, count]) };
}

export function repeatStep(count: number, bytes: Uint8Array): Step {
  return { kind: STEP.REPEAT, data: Buffer.concat([Buffer.from([count >>> 8, count]), bytes]) };
}

export function setupStep(...choices: number[]): Step {
  return { kind: STEP.SETUP, data: Buffer.from(choices) };
}

/** What a step adds to the stream; null: nothing. */
export function streamBytes({ kind, data }: Step): Buffer | null {
  if (kind === STEP.BYTES) return data;
  if (kind === STEP.REPEAT && data.length > 2) {
    const length = (data.length - 2) * Math.min(REPEATS_MAX, data.readUInt16BE());
    return Buffer.alloc(Math.min(FILL_BYTES_MAX, length), data.subarray(2));
  }
  if (kind !== STEP.FILL || data.length < 4) return null;
  return Buffer.alloc(Math.min(FILL_BYTES_MAX, data.readUIntBE(1, 3)), data[0]);
}

/** The choice at `index` of the set-up, 0 where there is none. */
export function setupOf(steps: readonly Step[], index: number): number {
  return steps.length > 0 && steps[0].kind === STEP.SETUP ? (steps[0].data[index] ?? 0) : 0;
}

export function packSteps(steps: readonly Step[]): Buffer {
  const parts: Buffer[] = [];
  for (const { kind, data } of steps) parts.push(Buffer.from([kind, data.length >>> 16, data.length >>> 8, data.length]), data);
  return Buffer.concat(parts);
}

export function unpackSteps(bytes: Buffer): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const end = at + 4 + bytes.readUIntBE(at + 1, 3);
    steps.push({ kind: bytes[at], data: bytes.subarray(at + 4, end) });
    at = end;
  }
  return steps;
}
