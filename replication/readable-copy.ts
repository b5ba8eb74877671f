// A copy that may be read where it lacks nothing (rule 17), and the search for one that has what another has wrong.
import { type DeviceRequest, OP, PromisedRequest } from './device.js';
import { type Clock, within } from './world.js';

/** It must answer within this: hosts' writes to the range wait for it. */
const ANSWER_MS = 1000;

export interface ReadableCopy {
  /** May it answer a read of this range now? Asked again when the answer is there. */
  mayRead(offset: number, length: number): boolean;
  read(request: DeviceRequest): void;
  /** Does it lack nothing there, whether it answers or not? What is on its way to it counts as there. */
  mayHave(offset: number, length: number): boolean;
}

/** The first of the copies whose bytes are right; null: none has them, or answers in time. Under the range's lock. */
export async function readElsewhere(
  copies: readonly ReadableCopy[],
  clock: Clock,
  offset: number,
  length: number,
  isRight: (data: Buffer) => boolean,
): Promise<Buffer | null> {
  for (const copy of copies) {
    if (!copy.mayRead(offset, length)) continue;
    const request = new PromisedRequest(OP.READ, offset, length);
    copy.read(request);
    const errno = await within(clock, ANSWER_MS, request.done);
    if (errno === 0 && copy.mayRead(offset, length) && isRight(request.data!)) return request.data;
  }
  return null;
}
