// The batches in a journal's ring that somebody still needs, in order, and where the next one goes.
import type { Place } from './journal-format.js';
import type { LiveBatch } from './journal-scan.js';

export class JournalRing {
  #batches: LiveBatch[];
  #from = 0;
  /** Where the batch that is written next goes, and how it begins. */
  readonly next: Place;
  /** Up to this address records were let go. */
  #freedTo = 0;

  constructor(batches: LiveBatch[], next: Place) {
    this.#batches = batches;
    this.next = next;
  }

  /** The first batch that is needed; without one, the next. */
  get tail(): Place {
    const { address, number, sequence, chain } = this.#batches[this.#from] ?? this.next;
    return { address, number, sequence, chain };
  }

  /** Behind the last batch with records that was let go. */
  get freedTo(): number {
    return this.#freedTo;
  }

  /** Batches with records up to `sequence`, oldest first. */
  upTo(sequence: number): LiveBatch[] {
    return this.#batches.slice(this.#from).filter((batch) => batch.sequence <= sequence);
  }

  push(batch: LiveBatch): void {
    this.#batches.push(batch);
    this.next.address += batch.bytes;
    this.next.number = batch.number + 1;
    this.next.sequence = batch.sequence + batch.recordCount;
    this.next.chain = batch.sum;
  }

  /** Lets go of batches that hold nothing after this record. */
  release(sequence: number): void {
    while (this.#from < this.#batches.length) {
      const batch = this.#batches[this.#from];
      if (batch.sequence + batch.recordCount - 1 > sequence) break;
      if (batch.recordCount > 0) this.#freedTo = batch.address + batch.bytes;
      this.#from += 1;
    }
    if (this.#from > 1024 && this.#from * 2 > this.#batches.length) {
      this.#batches = this.#batches.slice(this.#from);
      this.#from = 0;
    }
  }
}
