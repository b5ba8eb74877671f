// Proves that a target holds nothing before it is overwritten (rule 20): its own account of holes where it gives one,
// and every byte of the rest read. The proof is what lets a copy skip zeroes (rule 6), so nothing is taken on trust but
// a node's word that a range reads as zero.
import { type Device, OP, PromisedRequest, perform } from '../../replication/device.js';
import type { Outcome } from '../control.js';
import { refuse } from '../control.js';

const WINDOW_BYTES = 1024 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
const ZEROES = Buffer.alloc(READ_BYTES);

/** True: every byte of the first `sizeBytes` reads as zero. False: it holds something. */
export async function proveBlank(device: Device, sizeBytes: number): Promise<Outcome<boolean>> {
  let at = 0;
  while (at < sizeBytes) {
    const status = new PromisedRequest(OP.STATUS, at, Math.min(WINDOW_BYTES, sizeBytes - at));
    const errno = await perform(device, status);
    const extent = errno === 0 ? status.extents![0] : { lengthBytes: READ_BYTES, zero: false };
    const length = Math.min(extent.lengthBytes, sizeBytes - at);
    if (!extent.zero) {
      const end = at + length;
      for (let from = at; from < end; from += READ_BYTES) {
        const read = new PromisedRequest(OP.READ, from, Math.min(READ_BYTES, end - from));
        const readErrno = await perform(device, read);
        if (readErrno !== 0)
          return refuse('target-unreadable', `the target refused to read ${read.length} bytes at ${from} (error ${readErrno})`);
        if (read.data!.compare(ZEROES, 0, read.length) !== 0) return { ok: true, value: false };
      }
    }
    at += length;
  }
  return { ok: true, value: true };
}
