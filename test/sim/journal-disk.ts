// The files of journals on the gateway's disk, in memory: calls take time, what was not synced may be lost when the gateway
// crashes (its machine with it, or the process alone), sector by sector; by fault a call is refused, and so are those after it.
import { type Outcome, refuse } from '../../gateway/control.js';
import type { JournalFiles, VolumeJournalFile } from '../../gateway/volume/journaling.js';
import { BLOCK_BYTES, encodeSuperblock, FIRST_SEQUENCE, type Sum } from '../../replication/journal-format.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

const RING_BYTES = 112 * BLOCK_BYTES;
const SECTOR_BYTES = 512;
/** After so many syncs since a sector was written, a batch on disk says that it was synced: before, damage cannot be told from a torn end. */
const CLAIMED_SYNCS = 4;

interface Image {
  current: Buffer;
  /** As it was before each sector that is not synced was written, oldest first. */
  undo: { at: number; bytes: Buffer }[];
  syncs: number;
  /** How many there had been when each sector was written; null: never. */
  written: (number | null)[];
}

/** What is on the gateway's disk; outlives its incarnations. */
export class SimJournals {
  /** Calls that will be refused from now on. */
  failures = 0;
  /** Calls before those. */
  spared = 0;
  /** When the gateway ends next, a sector of each file goes bad, though not one of its last moments. */
  damage = false;
  readonly images = new Map<string, Image>();
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #latencyMs: number;
  readonly #moment: (name: string) => void;

  constructor(scheduler: Scheduler, random: Random, latencyMs: number, moment: (name: string) => void) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#latencyMs = latencyMs;
    this.#moment = moment;
  }

  /** The files as one gateway incarnation sees them. */
  open(sum: Sum): SimJournalFiles {
    return new SimJournalFiles(this, sum);
  }

  /** Calls `done` when a call is over. */
  spend(done: () => void): void {
    const slow = this.#random.chance(0.03) ? 20 : 1;
    this.#scheduler.after(this.#random.range(0.05, 1) * this.#latencyMs * slow, done);
  }

  refuses(what: string): boolean {
    this.#moment(`journal ${what}`);
    if (this.failures === 0) return false;
    if (this.spared > 0) {
      this.spared -= 1;
      return false;
    }
    this.failures -= 1;
    this.#moment('journal refused');
    return true;
  }

  newId(): bigint {
    return (BigInt(this.#random.int(2 ** 31)) << 32n) | BigInt(this.#random.int(2 ** 31));
  }

  /** The process is gone, and perhaps the machine: then each sector that was not synced is there or as before. */
  crash(): void {
    const kept = this.#random.pick([1, 1, 0.9, 0.5, 0]);
    for (const image of this.images.values()) {
      const lost = image.undo.filter(() => !this.#random.chance(kept));
      for (const { at, bytes } of lost.reverse()) bytes.copy(image.current, at);
      image.undo = [];
      if (this.damage) this.#random.pick(sectorsInUse(image)).fill(0xdb);
    }
    if (this.damage) this.#moment('journal damaged');
    this.damage = false;
  }
}

/** The first one, and those of which a batch says that they were synced. */
function sectorsInUse({ current, syncs, written }: Image): Buffer[] {
  const sectors: Buffer[] = [];
  for (const [index, before] of written.entries()) {
    if (index > 0 && (before === null || before + CLAIMED_SYNCS > syncs)) continue;
    sectors.push(current.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES));
  }
  return sectors;
}

export class SimJournalFiles implements JournalFiles {
  readonly batchBytesMax = 16 * BLOCK_BYTES;
  readonly #disk: SimJournals;
  readonly #sum: Sum;
  #dead = false;

  constructor(disk: SimJournals, sum: Sum) {
    this.#disk = disk;
    this.#sum = sum;
  }

  get dead(): boolean {
    return this.#dead;
  }

  open(volume: string): Promise<Outcome<VolumeJournalFile>> {
    return this.call('open', () => {
      const image = this.#disk.images.get(volume);
      if (image === undefined) return refuse('journal-missing', 'there is none');
      return { ok: true, value: new SimJournalFile(this, image) };
    });
  }

  create(volume: string): Promise<Outcome<VolumeJournalFile>> {
    const create = (): Outcome<VolumeJournalFile> => {
      const superblock = encodeSuperblock(
        { ringBytes: RING_BYTES, generation: 1, id: this.#disk.newId(), firstSequence: FIRST_SEQUENCE, volume },
        this.#sum,
      );
      const current = Buffer.concat([superblock, superblock, Buffer.alloc(RING_BYTES)]);
      const written = new Array<number | null>(current.length / SECTOR_BYTES).fill(null);
      const image = { current, undo: [], syncs: 0, written };
      this.#disk.images.set(volume, image);
      return { ok: true, value: new SimJournalFile(this, image) };
    };
    return this.call('create', create).catch((error: Error) => refuse('journal-unusable', error.message));
  }

  /** The gateway is gone. */
  crash(): void {
    this.#dead = true;
    this.#disk.crash();
  }

  call<T>(what: string, act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#dead) return;
      const refused = this.#disk.refuses(what);
      this.#disk.spend(() => {
        if (this.#dead) return;
        if (refused) reject(new Error('simulated failure'));
        else resolve(act());
      });
    });
  }
}

class SimJournalFile implements VolumeJournalFile {
  readonly #files: SimJournalFiles;
  readonly #image: Image;

  constructor(files: SimJournalFiles, image: Image) {
    this.#files = files;
    this.#image = image;
  }

  get sizeBytes(): number {
    return this.#image.current.length;
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#files.call('read', () => Buffer.from(this.#image.current.subarray(offset, offset + length)));
  }

  write(offset: number, buffers: Buffer[]): Promise<void> {
    const bytes = Buffer.concat(buffers);
    const { current, undo, syncs, written } = this.#image;
    if (!this.#files.dead) {
      for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
        written[(offset + at) / SECTOR_BYTES] = syncs;
        undo.push({ at: offset + at, bytes: Buffer.from(current.subarray(offset + at, offset + at + SECTOR_BYTES)) });
      }
      bytes.copy(current, offset);
    }
    return this.#files.call('write', () => {});
  }

  sync(): Promise<void> {
    const covered = this.#image.undo.length;
    return this.#files.call('sync', () => {
      this.#image.undo.splice(0, covered);
      this.#image.syncs += 1;
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
