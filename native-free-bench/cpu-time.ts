// How much CPU time another process has used, on Linux; elsewhere nobody knows. Beside throughput it tells what a proxy
// costs, with far less noise than a clock on a busy machine.
import { readFileSync } from 'node:fs';

/** Linux counts in these in /proc, whatever its own tick is. */
const TICKS_PER_SECOND = 100;

/** User and system time of all its threads, past ones too, in microseconds; null: cannot be known here. */
export function cpuTimeUs(pid: number): number | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The program's name, in parentheses, may hold anything: what is counted are the fields after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks) ? (ticks * 1e6) / TICKS_PER_SECOND : null;
}
