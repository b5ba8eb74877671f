// fdatasync for one open file, shared: everyone who asks while one is running is answered by the next, which starts
// after they asked, so each answer covers all that was written before the question.
// After a failure every answer is an error until the file is opened anew: the kernel reports lost pages once and then
// forgets them, so a later success would be a lie. The agent's restart is a new incarnation, and owners replay.
import { ERRNO } from '../../replication/device.js';
import { protocolErrno } from './system-error.js';

export interface FlushWaiter {
  /** 0: all that was written before `join` is on stable storage. */
  flushed(errno: number): void;
}

export class FileFlusher {
  #waiting: FlushWaiter[] = [];
  #covered: FlushWaiter[] = [];
  #running = false;
  #failedErrno: number = ERRNO.OK;

  /** `sync` is fdatasync on the file; it never answers from inside the call. `failed` is told once, with the system's error. */
  constructor(
    private readonly sync: (done: (error: NodeJS.ErrnoException | null) => void) => void,
    private readonly failed: (error: NodeJS.ErrnoException) => void,
  ) {}

  join(waiter: FlushWaiter): void {
    this.#waiting.push(waiter);
    if (!this.#running) this.#run();
  }

  #run(): void {
    this.#running = true;
    this.#covered = this.#waiting;
    this.#waiting = [];
    this.sync(this.#ended);
  }

  #ended = (error: NodeJS.ErrnoException | null): void => {
    if (error && this.#failedErrno === ERRNO.OK) {
      this.#failedErrno = protocolErrno(error.code);
      this.failed(error);
    }
    const covered = this.#covered;
    this.#running = false;
    // The next round starts before these are answered, so that an answer that leads to another flush joins a later one.
    if (this.#waiting.length > 0) this.#run();
    for (const waiter of covered) waiter.flushed(this.#failedErrno);
  };
}
