// All that an upstream was given and has not answered, wherever it is: on a connection, waiting for one or for memory, held up
// by a guard that is being settled, or answered by the node and not told yet. Only looks.
import type { DeviceRequest } from '../../replication/device.js';
import type { Backlog } from './backlog.js';
import type { Connections } from './connections.js';
import type { GuardKeeper } from './guard-keeper.js';
import type { GuardSettler } from './guard-settler.js';
import type { Job } from './job.js';

export class Outstanding {
  readonly #connections: Connections;
  readonly #backlog: Backlog;
  readonly #settler: GuardSettler;
  readonly #keeper: GuardKeeper;

  constructor(connections: Connections, backlog: Backlog, settler: GuardSettler, keeper: GuardKeeper) {
    this.#connections = connections;
    this.#backlog = backlog;
    this.#settler = settler;
    this.#keeper = keeper;
  }

  *jobs(): Iterable<Job> {
    yield* this.#connections.unanswered();
    yield* this.#backlog;
    yield* this.#settler.parked();
    yield* this.#keeper.delayed();
  }

  /** When the oldest was given; Infinity when there is none. What a target that comes back is asked and gets again was given by nobody, and has deadlines of its own. */
  oldestMs(): number {
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const job of this.jobs()) if (!job.replay) oldestMs = Math.min(oldestMs, job.submittedMs);
    return oldestMs;
  }

  /** The device requests among them, in the order in which they were given. */
  requests(): DeviceRequest[] {
    const owners = new Set<Job>();
    for (const job of this.jobs()) {
      let owner = job;
      while (owner.whole !== null) owner = owner.whole;
      if (owner.request !== null) owners.add(owner);
    }
    return [...owners].sort((one, other) => one.sequence - other.sequence).map((job) => job.request!);
  }

  /** Where nobody knows what the target holds while they are not answered. */
  writes(): { offset: number; length: number }[] {
    const writes: { offset: number; length: number }[] = [];
    for (const { writes: does, offset, length } of this.jobs()) if (does) writes.push({ offset, length });
    return writes;
  }
}
