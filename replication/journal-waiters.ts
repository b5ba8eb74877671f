// Who waits for the journal to be on stable storage, and up to where: first come, first answered, many by one sync.

export interface SyncWaiter {
  /** 0: everything appended before the question is on stable storage. Else nobody knows what is. */
  journaled(errno: number): void;
}

export class SyncWaiters {
  /** Three arrays side by side, so that nothing is made for a waiter. */
  #waiters: SyncWaiter[] = [];
  #sequences: number[] = [];
  #versions: number[] = [];

  get size(): number {
    return this.#waiters.length;
  }

  add(waiter: SyncWaiter, sequence: number, version: number): void {
    this.#waiters.push(waiter);
    this.#sequences.push(sequence);
    this.#versions.push(version);
  }

  /** Is what the first of them waits for written? True when nobody waits. */
  writtenFor(sequence: number, version: number): boolean {
    return this.#waiters.length === 0 || (this.#sequences[0] <= sequence && this.#versions[0] <= version);
  }

  /** Takes out those that wait for no more than this. */
  take(sequence: number, version: number): SyncWaiter[] {
    let count = 0;
    while (count < this.#waiters.length && this.#sequences[count] <= sequence && this.#versions[count] <= version) count += 1;
    this.#sequences.splice(0, count);
    this.#versions.splice(0, count);
    return this.#waiters.splice(0, count);
  }
}
