// How much memory another process uses, on Linux; elsewhere nobody knows.
import { readFileSync } from 'node:fs';

/** Bytes of its memory that are in RAM; null: cannot be known here. */
export function memoryUseBytes(pid: number): number | null {
  try {
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  } catch {
    return null;
  }
}
