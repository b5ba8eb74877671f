// Room in the records' file behind what LMDB uses, written ahead, so that LMDB itself never meets a full disk. It would report
// one with a text longer than the memory it takes for it (lmdb 3.5.6, mdb.c, "Attempting to write page"): the process dies of
// that, or goes on with damaged memory. And a gateway whose disk is full can go on marking what hosts write.
import { readSync } from 'node:fs';
import { type FileHandle, open, statfs } from 'node:fs/promises';
import { META_BYTES, type Meta, readMeta } from './lmdb-layout.js';

/** Written ahead of what is needed; of a disk that is nearly full not more than this share of what is left. */
const AHEAD_BYTES = 1 << 20;
const AHEAD_SHARE = 0.25;
const PIECE = Buffer.alloc(1 << 18);
/** Of a commit, whatever is in it. */
const COMMIT_PAGES = 64;

export class FileRoom {
  readonly #path: string;
  /** Appends only: whatever LMDB has written meanwhile, nothing of it is written over. */
  readonly #file: FileHandle;
  #endBytes = 0;
  /** As it was last read. */
  #meta: Meta | null = null;
  /** What commits under way may need. */
  #takenBytes = 0;
  #growing = false;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** The file must be there, with LMDB's first pages. Rejects with the system's error. */
  static async open(path: string): Promise<FileRoom> {
    const room = new FileRoom(path, await open(path, 'a+'));
    // A full disk keeps nobody from reading.
    await room.make(0).catch(() => {});
    return room;
  }

  /** More bytes than a commit of values with these lengths adds to the file (null: a removal). */
  cost(lengths: readonly (number | null)[]): number {
    const { pageBytes, records, free } = this.#look();
    const treePages = (tree: Meta['records']): number => tree.branchPages + tree.leafPages;
    const touched = Math.min(lengths.length * (records.depth + 2), treePages(records) + lengths.length);
    let valuePages = 0;
    for (const length of lengths) valuePages += Math.ceil((2 * (length ?? 0)) / pageBytes);
    return (COMMIT_PAGES + touched + valuePages + treePages(free) + free.overflowPages) * pageBytes;
  }

  /** Sets room aside for a commit; false: there is not enough. */
  take(bytes: number): boolean {
    if (this.#usedBytes() + this.#takenBytes + bytes > this.#endBytes) return false;
    this.#takenBytes += bytes;
    return true;
  }

  /** The commit is over. The next ones should find room, too. */
  give(bytes: number): void {
    this.#takenBytes -= bytes;
    if (this.#growing || this.#endBytes - this.#usedBytes() - this.#takenBytes >= AHEAD_BYTES / 2) return;
    this.#growing = true;
    this.make(0)
      .catch(() => {})
      .finally(() => {
        this.#growing = false;
      });
  }

  /** Makes the file long enough for a commit of so many bytes, and longer where that is possible. Rejects with the system's error. */
  async make(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#path);
    this.#endBytes = (await this.#file.stat()).size;
    const neededBytes = this.#usedBytes() + this.#takenBytes + bytes;
    const goalBytes = neededBytes + Math.floor(Math.min(AHEAD_BYTES, bavail * bsize * AHEAD_SHARE));
    try {
      while (this.#endBytes < goalBytes) {
        const { bytesWritten } = await this.#file.write(PIECE, 0, Math.min(PIECE.length, goalBytes - this.#endBytes));
        this.#endBytes += bytesWritten;
      }
    } catch (error) {
      if (this.#endBytes < neededBytes) throw error;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #usedBytes(): number {
    const { lastPage, pageBytes } = this.#look();
    return (lastPage + 1) * pageBytes;
  }

  /** LMDB may be writing one of the two at this moment: then what was read before, or in the other, counts. */
  #look(): Meta {
    const first = this.#read(0, 0);
    const pageBytes = (first ?? this.#meta)?.pageBytes;
    const second = pageBytes === undefined ? null : this.#read(1, pageBytes);
    for (const meta of [first, second]) if (meta !== null && meta.transaction >= (this.#meta?.transaction ?? 0)) this.#meta = meta;
    if (this.#meta === null) throw new Error('its first pages are not those of a records file');
    return this.#meta;
  }

  #read(number: 0 | 1, offset: number): Meta | null {
    const page = Buffer.alloc(META_BYTES);
    return readSync(this.#file.fd, page, 0, META_BYTES, offset) < META_BYTES ? null : readMeta(page, number);
  }
}
