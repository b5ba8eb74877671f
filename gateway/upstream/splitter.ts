// Makes one request into several that a node can take: payloads over its maximum, zeroes it cannot write itself (rule 6:
// what a node refuses is done slowly there) or that are longer than its headers can say. Parts run a few at a time; the first error is the request's.
import { ERRNO, OP } from '../../replication/device.js';
import type { Features } from './features.js';
import type { Job } from './job.js';

const PARTS_AT_ONCE = 4;
const ZERO_BYTES = 1024 * 1024;
const ZEROES = Buffer.alloc(ZERO_BYTES);

type Takes = Pick<Features, 'zeroes' | 'payloadBytesMax' | 'rangeBytesMax'>;

export interface PartSender {
  takeJob(): Job;
  /** Sends a part; `job.settled` is called with its outcome. */
  sendPart(job: Job): void;
}

/** Sends `whole` in parts that the node takes; `done` gets the first error, or 0 and for reads the gathered data in `whole.data`. */
export function splitJob(whole: Job, features: Takes, sender: PartSender, done: (whole: Job, errno: number) => void): void {
  const reading = whole.op === OP.READ;
  const zeroing = whole.op === OP.ZEROES && features.zeroes;
  const { payloadBytesMax, rangeBytesMax } = features;
  const partBytes = zeroing ? rangeBytesMax : whole.op === OP.ZEROES ? Math.min(payloadBytesMax, ZERO_BYTES) : payloadBytesMax;
  const gathered = reading ? Buffer.allocUnsafe(whole.length) : null;
  let next = 0;
  let running = 0;
  let errno: number = ERRNO.OK;

  let finished = false;

  const finish = (): void => {
    if (finished || running > 0 || (errno === 0 && next < whole.length)) return;
    finished = true;
    if (gathered !== null) whole.data = gathered;
    done(whole, errno);
  };
  const settled = (partErrno: number, part: Job): void => {
    running -= 1;
    if (partErrno !== 0 && errno === 0) errno = partErrno;
    if (gathered !== null && partErrno === 0) part.data!.copy(gathered, part.offset - whole.offset);
    start();
  };
  const start = (): void => {
    while (running < PARTS_AT_ONCE && next < whole.length && errno === 0) {
      const part = sender.takeJob();
      const length = Math.min(partBytes, whole.length - next);
      part.op = reading ? OP.READ : zeroing ? OP.ZEROES : OP.WRITE;
      part.punch = zeroing && whole.punch;
      // What has begun is not refused for being slow.
      part.fast = zeroing && whole.fast && next === 0;
      part.offset = whole.offset + next;
      part.length = length;
      part.fua = whole.fua;
      part.lane = whole.lane;
      if (part.op === OP.WRITE) part.data = whole.op === OP.ZEROES ? ZEROES.subarray(0, length) : whole.data!.subarray(next, next + length);
      part.whole = whole;
      part.replay = whole.replay;
      part.settled = settled;
      next += length;
      running += 1;
      sender.sendPart(part);
    }
    finish();
  };
  start();
}
