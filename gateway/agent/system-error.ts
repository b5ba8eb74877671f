// What the system calls an error, as NBD carries it. A full disk, a quota and a file-size limit are all "no space":
// the client can act on that; everything else is EIO.
import { ERRNO } from '../../replication/device.js';
import { SYSTEM_ERRNO } from './libc.js';

const NO_SPACE = new Set<string | number>(['ENOSPC', 'EDQUOT', 'EFBIG', SYSTEM_ERRNO.ENOSPC, SYSTEM_ERRNO.EDQUOT, SYSTEM_ERRNO.EFBIG]);

/** `cause`: the code of a Node.js error (`ENOSPC`), or a Linux errno above 0. */
export function protocolErrno(cause: string | number | undefined): number {
  return cause !== undefined && NO_SPACE.has(cause) ? ERRNO.ENOSPC : ERRNO.EIO;
}
