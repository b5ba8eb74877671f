// An exclusive lock on a file for the life of this process. With koffi it is flock(2), which the kernel lets go of
// however the process ends. Without it the file names its holder and a holder that is gone is passed over.
// Either way the file names the holder, so that both kinds refuse each other. Not for file systems shared by machines.
import { closeSync, constants, ftruncateSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { isAlive, ownIdentity, type ProcessIdentity, parseIdentity } from './process-identity.js';

const LOCK_EX_NB = 2 | 4;
/** A claim is held for some system calls; one older than this was left by a process that was killed inside. */
const CLAIM_STALE_MS = 10_000;
/** The file always has this length, so that a full disk keeps nobody from taking the lock. */
const IDENTITY_BYTES = 256;

type Flock = (fd: number, operation: number) => number;

/** The system's flock; null without koffi (an optional dependency) or where the system has none. */
export async function loadFlock(): Promise<Flock | null> {
  try {
    const { default: koffi } = await import('koffi');
    return koffi.load(null).func('int flock(int fd, int operation)') as Flock;
  } catch {
    return null;
  }
}

/** `holder` is null when it is locked but does not say by whom. */
export type LockResult = { ok: true; lock: FileLock } | { ok: false; holder: ProcessIdentity | null };

export class FileLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws the system's error when the file cannot be opened or written. */
  static take(path: string, flock: Flock | null): LockResult {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const result = flock === null ? withClaim(`${path}.claim`, () => claim(fd, path)) : claimLocked(fd, path, flock);
      if (!result.ok) {
        closeSync(fd);
        return result;
      }
      return { ok: true, lock: new FileLock(fd) };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  release(): void {
    writeIdentity(this.#fd, '');
    closeSync(this.#fd);
  }
}

function writeIdentity(fd: number, text: string): void {
  writeSync(fd, `${text.padEnd(IDENTITY_BYTES - 1)}\n`, 0);
  ftruncateSync(fd, IDENTITY_BYTES);
}

type Claimed = { ok: true } | { ok: false; holder: ProcessIdentity | null };

function claimLocked(fd: number, path: string, flock: Flock): Claimed {
  if (flock(fd, LOCK_EX_NB) !== 0) {
    return { ok: false, holder: parseIdentity(readFileSync(path, 'utf8')) };
  }
  return claim(fd, path);
}

function claim(fd: number, path: string): Claimed {
  const holder = parseIdentity(readFileSync(path, 'utf8'));
  if (holder !== null && isAlive(holder)) {
    return { ok: false, holder };
  }
  writeIdentity(fd, JSON.stringify(ownIdentity()));
  return { ok: true };
}

/** Without flock: the look at the holder and the change of it are one step only under a file made exclusively. */
function withClaim(path: string, run: () => Claimed): Claimed {
  try {
    if (Date.now() - statSync(path).mtimeMs > CLAIM_STALE_MS) {
      rmSync(path, { force: true });
    }
  } catch {
    // There is no claim: the usual case.
  }
  let fd: number;
  try {
    fd = openSync(path, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      return { ok: false, holder: null };
    }
    throw error;
  }
  try {
    return run();
  } finally {
    closeSync(fd);
    rmSync(path, { force: true });
  }
}
