// The system calls Node.js has no name for: fallocate, and lseek with SEEK_DATA and SEEK_HOLE. They go through koffi,
// which is an optional dependency: without it, or off 64-bit Linux, there is no Libc and callers fall back. They run on
// worker threads and never block the event loop.

/** Linux error numbers of what these calls answer and the callers tell apart. */
export const SYSTEM_ERRNO = {
  EINTR: 4,
  ENXIO: 6,
  ENODEV: 19,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
  EDQUOT: 122,
} as const;

export const FALLOCATE = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 16 } as const;
export const WHENCE = { SEEK_DATA: 3, SEEK_HOLE: 4 } as const;

export interface Libc {
  /** `done(errno)`: 0 is success. Offsets and lengths are bytes, up to 2^53. */
  fallocate(fd: number, mode: number, offset: number, length: number, done: (errno: number) => void): void;
  /** `done(errno, position)`: the position is bytes from the start of the file. */
  seek(fd: number, offset: number, whence: number, done: (errno: number, position: number) => void): void;
}

/** koffi throws above 256 calls under way in the whole process; what is over this bound waits here. */
const CALLS_MAX = 64;

type Start = () => void;
type IntegerCall = ((...numbers: number[]) => number) & {
  async(...numbersAndDone: [...number[], (error: Error | null, result: number) => void]): void;
};

class KoffiLibc implements Libc {
  #running = 0;
  #waiting: Start[] = [];

  constructor(
    private readonly calls: { fallocate: IntegerCall; lseek: IntegerCall },
    private readonly errno: () => number,
  ) {}

  fallocate(fd: number, mode: number, offset: number, length: number, done: (errno: number) => void): void {
    this.#start(() => {
      this.calls.fallocate.async(fd, mode, offset, length, (error, result) => {
        const errno = this.#errnoOf(error, result);
        this.#ended();
        done(errno);
      });
    });
  }

  seek(fd: number, offset: number, whence: number, done: (errno: number, position: number) => void): void {
    this.#start(() => {
      this.calls.lseek.async(fd, offset, whence, (error, result) => {
        const errno = this.#errnoOf(error, result);
        this.#ended();
        done(errno, result);
      });
    });
  }

  /** koffi keeps the thread's errno of an asynchronous call for its callback: read it there, before any other call. */
  #errnoOf(error: Error | null, result: number): number {
    if (error) throw error;
    return result < 0 ? this.errno() : 0;
  }

  #start(start: Start): void {
    if (this.#running >= CALLS_MAX) {
      this.#waiting.push(start);
      return;
    }
    this.#running += 1;
    start();
  }

  #ended(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#running -= 1;
  }
}

let loaded: Promise<Libc | null> | undefined;

/** The system's calls, or null where they cannot be had. One for the process: the bound on calls is the process's. */
export function loadLibc(): Promise<Libc | null> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<Libc | null> {
  if (process.platform !== 'linux' || !SIXTY_FOUR_BITS.has(process.arch)) return null;
  try {
    const { default: koffi } = await import('koffi');
    const program = koffi.load(null);
    const calls = {
      fallocate: program.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)') as IntegerCall,
      lseek: program.func('int64_t lseek(int fd, int64_t offset, int whence)') as IntegerCall,
    };
    return new KoffiLibc(calls, () => koffi.errno());
  } catch {
    return null;
  }
}

/** Where off_t is 64 bits wide under the plain names. */
const SIXTY_FOUR_BITS = new Set(['x64', 'arm64', 'ppc64', 'riscv64', 'loong64', 's390x']);
