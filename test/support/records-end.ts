// Where the part of a records file ends that LMDB uses: behind it is room for what is to come.
import assert from 'node:assert/strict';
import { RecordsFile } from '../../gateway/store/records-file.js';

/** In bytes from its start. */
export function usedEnd(path: string): number {
  const file = RecordsFile.open(path);
  assert(typeof file !== 'string', `no records file: ${file}`);
  file.close();
  return (file.meta.lastPage + 1) * file.meta.pageBytes;
}
