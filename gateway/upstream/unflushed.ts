// The writes a target has answered since its last flush, in the order of their answers (rule 9): they are replayed
// when the target comes back as a new incarnation. Parallel arrays, so that an answered write allocates nothing.
import assert from 'node:assert';

const INITIAL_ENTRIES = 256;
/** What an entry costs beside its payload; counted so that many small zeroes are bounded too. */
const ENTRY_BYTES = 64;

export interface UnflushedWrite {
  offset: number;
  length: number;
  /** Null: zeroes. */
  data: Buffer | null;
  punch: boolean;
}

export class Unflushed {
  #capacity = INITIAL_ENTRIES;
  #offsets = new Float64Array(INITIAL_ENTRIES);
  #lengths = new Float64Array(INITIAL_ENTRIES);
  #punches = new Uint8Array(INITIAL_ENTRIES);
  #data: (Buffer | null)[] = new Array(INITIAL_ENTRIES).fill(null);
  /** Sequence numbers of the first entry kept and of the next to come; entry s stands at s modulo capacity. */
  #head = 0;
  #tail = 0;
  #bytes = 0;

  /** Bytes of memory the entries hold. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many writes are kept. */
  get count(): number {
    return this.#tail - this.#head;
  }

  /** The sequence number the next write gets; a flush that succeeds covers every number below the one read when it was sent. */
  get next(): number {
    return this.#tail;
  }

  get first(): number {
    return this.#head;
  }

  add(offset: number, length: number, data: Buffer | null, punch: boolean): void {
    if (this.#tail - this.#head === this.#capacity) this.#grow();
    const at = this.#tail % this.#capacity;
    this.#offsets[at] = offset;
    this.#lengths[at] = length;
    this.#data[at] = data;
    this.#punches[at] = punch ? 1 : 0;
    this.#tail += 1;
    this.#bytes += ENTRY_BYTES + (data === null ? 0 : data.length);
  }

  /** Forgets every write below `sequence`: a flush has proven them. */
  dropBelow(sequence: number): void {
    assert(sequence <= this.#tail, 'what is flushed was sent');
    while (this.#head < sequence) {
      const at = this.#head % this.#capacity;
      const data = this.#data[at];
      this.#bytes -= ENTRY_BYTES + (data === null ? 0 : data.length);
      this.#data[at] = null;
      this.#head += 1;
    }
  }

  get(sequence: number): UnflushedWrite {
    assert(sequence >= this.#head && sequence < this.#tail, 'an entry is asked for while it is in the list');
    const at = sequence % this.#capacity;
    return { offset: this.#offsets[at], length: this.#lengths[at], data: this.#data[at], punch: this.#punches[at] === 1 };
  }

  clear(): void {
    this.dropBelow(this.#tail);
  }

  #grow(): void {
    const capacity = this.#capacity * 2;
    const offsets = new Float64Array(capacity);
    const lengths = new Float64Array(capacity);
    const punches = new Uint8Array(capacity);
    const data: (Buffer | null)[] = new Array(capacity).fill(null);
    for (let sequence = this.#head; sequence < this.#tail; sequence += 1) {
      const from = sequence % this.#capacity;
      const to = sequence % capacity;
      offsets[to] = this.#offsets[from];
      lengths[to] = this.#lengths[from];
      punches[to] = this.#punches[from];
      data[to] = this.#data[from];
    }
    this.#capacity = capacity;
    this.#offsets = offsets;
    this.#lengths = lengths;
    this.#punches = punches;
    this.#data = data;
  }
}
