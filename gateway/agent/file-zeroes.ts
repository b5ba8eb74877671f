// Makes a range of a file or block device read as zeroes by the cheapest means it has: a punched hole, a zeroed
// allocated range, or written zeroes in pieces of at most 1 MiB, one after the other. What the file system turns out not
// to have is remembered and not tried again. Nothing here blocks the event loop.
import { write } from 'node:fs';
import { ERRNO } from '../../replication/device.js';
import { FALLOCATE, type Libc, SYSTEM_ERRNO } from './libc.js';
import { protocolErrno } from './system-error.js';

const PIECE = Buffer.alloc(1024 * 1024);
const PUNCH = FALLOCATE.PUNCH_HOLE | FALLOCATE.KEEP_SIZE;
const ZERO = FALLOCATE.ZERO_RANGE | FALLOCATE.KEEP_SIZE;

const UNSUPPORTED = new Set<number>([SYSTEM_ERRNO.EOPNOTSUPP, SYSTEM_ERRNO.ENOSYS, SYSTEM_ERRNO.ENODEV, SYSTEM_ERRNO.EINVAL]);

export interface ZeroFile {
  fd: number;
  kind: 'file' | 'block';
  /** fallocate on a block device takes whole blocks of this size (a power of two); the edges are written. 1 for a file. */
  blockBytes: number;
}

type Done = (errno: number) => void;

export class FileZeroes {
  #canPunch: boolean;
  #canZero: boolean;

  constructor(
    private readonly file: ZeroFile,
    private readonly libc: Libc | null,
  ) {
    this.#canPunch = libc !== null;
    this.#canZero = libc !== null;
  }

  /** Whether space is given back, as far as is known. */
  get punches(): boolean {
    return this.#canPunch;
  }

  /** Whether zeroing may be promised to be fast. A block device may write each block out for all we know. */
  get fast(): boolean {
    return this.#canZero && this.file.kind === 'file';
  }

  /**
   * Zeroes `length` bytes at `offset`. `punch`: the range may become a hole. `fast`: ENOTSUP rather than write zeroes.
   * Errors: ENOSPC, EIO, and ENOTSUP only for `fast`; after an error the range's content is unknown.
   */
  zero(offset: number, length: number, punch: boolean, fast: boolean, done: Done): void {
    if (!punch || !this.#canPunch) {
      this.#zeroAllocated(offset, length, fast, done);
      return;
    }
    this.#allocate(PUNCH, offset, length, (errno) => {
      this.#canPunch = !UNSUPPORTED.has(errno);
      if (this.#canPunch) done(errno);
      else this.#zeroAllocated(offset, length, fast, done);
    });
  }

  #zeroAllocated(offset: number, length: number, fast: boolean, done: Done): void {
    if (!this.#canZero || (fast && !this.fast)) {
      this.#write(offset, length, fast, done);
      return;
    }
    this.#allocate(ZERO, offset, length, (errno) => {
      this.#canZero = !UNSUPPORTED.has(errno);
      if (this.#canZero) done(errno);
      else this.#write(offset, length, fast, done);
    });
  }

  #write(offset: number, length: number, fast: boolean, done: Done): void {
    if (fast) done(ERRNO.ENOTSUP);
    else writeZeroes(this.file.fd, offset, length, done);
  }

  /**
   * fallocate over the whole blocks of the range, zeroes written to its edges. `done` gets what a request is answered
   * with, or one of UNSUPPORTED.
   */
  #allocate(mode: number, offset: number, length: number, done: Done): void {
    const { fd, blockBytes } = this.file;
    const end = offset + length;
    const firstWhole = Math.ceil(offset / blockBytes) * blockBytes;
    const endWhole = Math.floor(end / blockBytes) * blockBytes;
    if (firstWhole >= endWhole) {
      writeZeroes(fd, offset, length, done);
      return;
    }
    this.#call(mode, firstWhole, endWhole - firstWhole, (errno) => {
      if (errno !== ERRNO.OK) done(UNSUPPORTED.has(errno) ? errno : protocolErrno(errno));
      else
        writeZeroes(fd, offset, firstWhole - offset, (headErrno) => {
          if (headErrno !== ERRNO.OK) done(headErrno);
          else writeZeroes(fd, endWhole, end - endWhole, done);
        });
    });
  }

  #call(mode: number, offset: number, length: number, done: Done): void {
    this.libc!.fallocate(this.file.fd, mode, offset, length, (errno) => {
      if (errno === SYSTEM_ERRNO.EINTR) this.#call(mode, offset, length, done);
      else done(errno);
    });
  }
}

/** Writes zeroes piece by piece; `done` gets 0, ENOSPC or EIO. */
function writeZeroes(fd: number, offset: number, length: number, done: Done): void {
  if (length === 0) {
    done(ERRNO.OK);
    return;
  }
  write(fd, PIECE, 0, Math.min(length, PIECE.length), offset, (error, written) => {
    if (error) done(protocolErrno(error.code));
    else if (written === 0) done(ERRNO.EIO);
    else writeZeroes(fd, offset + written, length - written, done);
  });
}
