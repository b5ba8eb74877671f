// Who a process is: its number alone says little, since numbers are used again. Together with the time it started
// and the boot it started in it names one process for ever. Outside Linux only the number is known.
import { readFileSync } from 'node:fs';

export interface ProcessIdentity {
  pid: number;
  /** Clock ticks from boot to its start, from /proc; null where that is not known. */
  startTicks: string | null;
  boot: string | null;
}

function readProc(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function startTicksOf(pid: number): string | null {
  const stat = readProc(`/proc/${pid}/stat`);
  // The second field is the program's name in parentheses and may hold anything; the start time is the 22nd field.
  return stat === null ? null : (stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null);
}

function bootId(): string | null {
  return readProc('/proc/sys/kernel/random/boot_id')?.trim() ?? null;
}

export function ownIdentity(): ProcessIdentity {
  return { pid: process.pid, startTicks: startTicksOf(process.pid), boot: bootId() };
}

function answersSignals(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** False only when that process is certainly gone. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.boot !== null && identity.boot !== bootId()) {
    return false;
  }
  if (identity.startTicks !== null) {
    const now = startTicksOf(identity.pid);
    return now === identity.startTicks || (now === null && readProc('/proc/self/stat') === null);
  }
  return answersSignals(identity.pid);
}

/** What a lock file holds; null when it holds nothing that names a process. */
export function parseIdentity(text: string): ProcessIdentity | null {
  try {
    const { pid, startTicks = null, boot = null } = JSON.parse(text) as Partial<ProcessIdentity>;
    return Number.isSafeInteger(pid) && pid! > 0 ? { pid: pid!, startTicks, boot } : null;
  } catch {
    return null;
  }
}
