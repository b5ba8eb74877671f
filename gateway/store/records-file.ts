// Looks at an LMDB file before LMDB does. LMDB maps the file into memory and trusts it: a file that is cut off or is
// something else altogether would kill the process by a signal; here it becomes a reason in words.
// Reads the two meta pages only; the contents are checked record by record when they are read.
import { closeSync, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs';

// LMDB (data format 2, 64-bit): the file starts with two meta pages of one page each; the valid one with the higher
// transaction number counts. Offsets within a page: 24 magic (u32), 40 size of the map (u64), 48 page size (u32),
// 144 number of the last used page (u64), 152 transaction number (u64).
const MAGIC = 0xbeefc0de;
const META_BYTES = 160;
const PAGE_BYTES_MIN = 4096;
const PAGE_BYTES_MAX = 65536;

interface Meta {
  pageBytes: number;
  lastPage: number;
  transaction: number;
}

function readMeta(fd: number, offset: number): Meta | null {
  const page = Buffer.alloc(META_BYTES);
  if (readSync(fd, page, 0, META_BYTES, offset) < META_BYTES || page.readUInt32LE(24) !== MAGIC) {
    return null;
  }
  const pageBytes = page.readUInt32LE(48);
  if (pageBytes < PAGE_BYTES_MIN || pageBytes > PAGE_BYTES_MAX || (pageBytes & (pageBytes - 1)) !== 0) {
    return null;
  }
  const lastPage = Number(page.readBigUInt64LE(144));
  if ((lastPage + 1) * pageBytes > Number(page.readBigUInt64LE(40))) {
    return null;
  }
  return { pageBytes, lastPage, transaction: Number(page.readBigUInt64LE(152)) };
}

/**
 * sound: the file is as long as it says. short: it was shorter and has been lengthened with zeroes, so that reading
 * it is safe; every record must be read to know whether something is missing. damaged: not to be opened.
 */
export type FileState = { state: 'sound' } | { state: 'short' } | { state: 'damaged'; reason: string };

/** Throws the system's error when the file cannot be opened for reading and writing. */
export function inspectRecordsFile(path: string): FileState {
  const fd = openSync(path, 'r+');
  try {
    const sizeBytes = fstatSync(fd).size;
    const first = readMeta(fd, 0);
    const second = readMeta(fd, first?.pageBytes ?? PAGE_BYTES_MIN);
    if (first === null || second === null) {
      const reason = sizeBytes === 0 ? 'it is empty' : 'its first pages are not those of a records file';
      return { state: 'damaged', reason };
    }
    const newest = second.transaction > first.transaction ? second : first;
    const expectedBytes = (newest.lastPage + 1) * newest.pageBytes;
    if (sizeBytes >= expectedBytes) {
      return { state: 'sound' };
    }
    // Pages at the end that were taken and given back within one transaction are never written: not damage by itself.
    ftruncateSync(fd, expectedBytes);
    return { state: 'short' };
  } finally {
    closeSync(fd);
  }
}
