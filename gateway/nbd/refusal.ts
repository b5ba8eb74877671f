// Why a request is answered with an error: an NBD error number and a sentence for the client's log. All of them are
// made once, so that refusing costs nothing and a flood of bad requests allocates nothing.
import { ERRNO } from '../../replication/device.js';

export interface Refusal {
  readonly errno: number;
  readonly message: Buffer;
}

function refusal(errno: number, message: string): Refusal {
  return { errno, message: Buffer.from(message) };
}

export const REFUSAL = {
  unknownCommand: refusal(ERRNO.EINVAL, 'unknown command'),
  notOffered: refusal(ERRNO.EINVAL, 'the export does not offer this command'),
  noContext: refusal(ERRNO.EINVAL, 'no metadata context was negotiated'),
  badFlags: refusal(ERRNO.EINVAL, 'a flag that this command does not take or that was not offered'),
  noPayload: refusal(ERRNO.EINVAL, 'with extended headers a WRITE has the flag PAYLOAD_LEN'),
  badSelection: refusal(ERRNO.EINVAL, 'the payload is a length and the ids of some negotiated contexts, each once'),
  readOnly: refusal(ERRNO.EPERM, 'the export is read-only'),
  unaligned: refusal(ERRNO.EINVAL, 'offset and length must be multiples of the minimum block size'),
  pastEnd: refusal(ERRNO.EINVAL, 'the range ends past the end of the export'),
  noSpace: refusal(ERRNO.ENOSPC, 'the range ends past the end of the export'),
  tooLong: refusal(ERRNO.EINVAL, 'the length is over the maximum payload'),
  shuttingDown: refusal(ERRNO.ESHUTDOWN, 'the server is shutting down'),
} as const;

const BY_DEVICE_ERRNO: ReadonlyMap<number, Refusal> = new Map([
  [ERRNO.EPERM, refusal(ERRNO.EPERM, 'the device does not permit this')],
  [ERRNO.EIO, refusal(ERRNO.EIO, 'the device reported an input/output error')],
  [ERRNO.ENOMEM, refusal(ERRNO.ENOMEM, 'the device is out of memory')],
  [ERRNO.EINVAL, refusal(ERRNO.EINVAL, 'the device called the request invalid')],
  [ERRNO.ENOSPC, refusal(ERRNO.ENOSPC, 'the device has no space left')],
  [ERRNO.ESHUTDOWN, refusal(ERRNO.ESHUTDOWN, 'the device is shutting down')],
]);
const EIO = BY_DEVICE_ERRNO.get(ERRNO.EIO)!;
const ENOSPC = BY_DEVICE_ERRNO.get(ERRNO.ENOSPC)!;
const FAST_ZERO_REFUSED = refusal(ERRNO.ENOTSUP, 'zeroing would not be faster than writing');

/** Linux numbers that mean "no space" although NBD has no number for them: EFBIG and EDQUOT. */
const NO_SPACE_ERRNOS: ReadonlySet<number> = new Set([27, 122]);

/** What the client is told when the device completed with `errno` (not 0): only numbers that NBD knows and allows there. */
export function refusalOfDevice(errno: number, fastZero: boolean): Refusal {
  if (errno === ERRNO.ENOTSUP && fastZero) return FAST_ZERO_REFUSED;
  if (NO_SPACE_ERRNOS.has(errno)) return ENOSPC;
  return BY_DEVICE_ERRNO.get(errno) ?? EIO;
}
