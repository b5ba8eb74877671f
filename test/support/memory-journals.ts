// Journal files in memory: what was synced outlives `crashed`, by fault a call is refused.
import { type Outcome, refuse } from '../../gateway/control.js';
import type { JournalFiles, VolumeJournalFile } from '../../gateway/volume/journaling.js';
import { BLOCK_BYTES, encodeSuperblock, FIRST_SEQUENCE } from '../../replication/journal-format.js';
import { TestHasher } from './path-rig.js';

const RING_BYTES = 256 * BLOCK_BYTES;

export class MemoryJournals implements JournalFiles {
  readonly batchBytesMax = 16 * BLOCK_BYTES;
  readonly files = new Map<string, MemoryJournalFile>();
  /** Every call that changes something fails from now on. */
  refusing = false;
  /** Every read fails from now on. */
  unreadable = false;
  /** Calls that change a file wait until this is given up. */
  held: (() => void)[] | null = null;
  #ids = 1n;

  async open(volume: string): Promise<Outcome<VolumeJournalFile>> {
    const file = this.files.get(volume);
    return file === undefined ? refuse('journal-missing', 'there is none') : { ok: true, value: file };
  }

  async create(volume: string): Promise<Outcome<VolumeJournalFile>> {
    if (this.refusing) return refuse('journal-no-space', 'there is no space');
    const superblock = encodeSuperblock(
      { ringBytes: RING_BYTES, generation: 1, id: this.newId(), firstSequence: FIRST_SEQUENCE, volume },
      new TestHasher().sum,
    );
    const file = new MemoryJournalFile(this, Buffer.concat([superblock, superblock, Buffer.alloc(RING_BYTES)]));
    this.files.set(volume, file);
    return { ok: true, value: file };
  }

  newId(): bigint {
    this.#ids += 1n;
    return this.#ids;
  }

  /** What is there when the power fails now. */
  crashed(): MemoryJournals {
    const journals = new MemoryJournals();
    for (const [volume, { durable }] of this.files) journals.files.set(volume, new MemoryJournalFile(journals, Buffer.from(durable)));
    return journals;
  }

  /** Lets held calls go. */
  go(): void {
    const held = this.held ?? [];
    this.held = null;
    for (const run of held) run();
  }
}

class MemoryJournalFile implements VolumeJournalFile {
  readonly #journals: MemoryJournals;
  readonly #current: Buffer;
  durable: Buffer;
  closed = false;

  constructor(journals: MemoryJournals, bytes: Buffer) {
    this.#journals = journals;
    this.#current = Buffer.from(bytes);
    this.durable = bytes;
  }

  get sizeBytes(): number {
    return this.#current.length;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    // The superblocks can be read: what is behind them is refused.
    if (this.#journals.unreadable && offset >= 2 * BLOCK_BYTES) throw new Error('the disk refuses');
    return Buffer.from(this.#current.subarray(offset, offset + length));
  }

  async write(offset: number, buffers: Buffer[]): Promise<void> {
    await this.#allowed();
    Buffer.concat(buffers).copy(this.#current, offset);
  }

  async sync(): Promise<void> {
    await this.#allowed();
    this.durable = Buffer.from(this.#current);
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  async #allowed(): Promise<void> {
    const { held } = this.#journals;
    if (held !== null) await new Promise<void>((resolve) => held.push(resolve));
    if (this.#journals.refusing) throw new Error('the disk refuses');
  }
}
