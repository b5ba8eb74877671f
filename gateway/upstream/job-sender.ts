// Puts jobs on the connections, and does for a node what it cannot do itself: large payloads and zeroes in parts (rule 6), a
// FUA write as one that a flush follows, an answer where it knows none. Pools and numbers the jobs. Nothing is allocated
// for a job that the node can take as it is.
import { ERRNO, OP } from '../../replication/device.js';
import type { Clock } from '../../replication/world.js';
import type { Backlog } from './backlog.js';
import type { Connections } from './connections.js';
import type { Guards } from './guards.js';
import { Job } from './job.js';
import { splitJob } from './splitter.js';
import type { Witnesses } from './witnesses.js';

export interface SenderOptions {
  connections: Connections;
  guards: Guards;
  backlog: Backlog;
  witnesses: Witnesses | null;
  clock: Clock;
}

export interface SenderHost {
  /** Whether a job that need not be admitted is sent now, kept until it can be, or is wanted by nobody any more. */
  turnOf(job: Job): 'now' | 'later' | 'never';
  /** Takes a FLUSH on its way. */
  flush(job: Job): void;
  finish(job: Job, errno: number): void;
}

export class JobSender {
  readonly #connections: Connections;
  readonly #guards: Guards;
  readonly #backlog: Backlog;
  readonly #witnesses: Witnesses | null;
  readonly #clock: Clock;
  readonly #host: SenderHost;
  readonly #pool: Job[] = [];
  #sequence = 0;

  constructor(options: SenderOptions, host: SenderHost) {
    this.#connections = options.connections;
    this.#guards = options.guards;
    this.#backlog = options.backlog;
    this.#witnesses = options.witnesses;
    this.#clock = options.clock;
    this.#host = host;
  }

  takeJob(): Job {
    return this.#pool.pop() ?? new Job();
  }

  /** Nobody refers to the job any more. */
  recycle(job: Job): void {
    job.clear();
    this.#pool.push(job);
  }

  /** Gives a job its place in the order of submission. */
  number(job: Job): void {
    this.#sequence += 1;
    job.sequence = this.#sequence;
    job.submittedMs = this.#clock.nowMs();
    job.askedMs = job.request?.askedMs ?? job.whole?.askedMs ?? job.submittedMs;
  }

  /** Takes the upstream's own requests, and parts of admitted ones: they never wait for memory. */
  sendPart(job: Job): void {
    this.number(job);
    const turn = this.#host.turnOf(job);
    if (turn === 'now') this.transmit(job);
    else if (turn === 'later') this.#backlog.sendAgain(job);
  }

  /** Sends a job now; only while a connection stands. */
  transmit(job: Job): void {
    const features = this.#connections.features!;
    if (job.writes) this.#witnesses?.forget(job.offset, job.length);
    if (job.op === OP.FLUSH) {
      this.#host.flush(job);
      return;
    }
    // Where bytes are kept for the node, what it says of its holes may be wrong: nothing is said then.
    if (job.op === OP.STATUS && (!features.status || !this.#guards.empty)) {
      job.extents = [{ lengthBytes: job.length, hole: false, zero: false }];
      this.#host.finish(job, ERRNO.OK);
      return;
    }
    // An answer may stop early.
    if (job.op === OP.STATUS) job.length = Math.min(job.length, features.rangeBytesMax);
    if (job.op === OP.ZEROES && job.fast && !features.fastZero) {
      this.#host.finish(job, ERRNO.ENOTSUP);
      return;
    }
    const carries = job.op === OP.READ || job.op === OP.WRITE;
    if ((job.op === OP.ZEROES && !features.zeroes) || job.length > (carries ? features.payloadBytesMax : features.rangeBytesMax)) {
      splitJob(job, features, this, (whole, errno) => this.#host.finish(whole, errno));
      return;
    }
    if (job.fua && !features.fua) {
      job.fua = false;
      job.flushAfter = features.flush;
    }
    job.sentMs = this.#clock.nowMs();
    this.#connections.pick(job.lane).send(job);
  }
}
