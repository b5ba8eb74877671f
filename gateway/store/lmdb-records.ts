// Durable records over LMDB: one sorted map in one file, `records.mdb` in the data directory.
// Guarantees: a commit is atomic and resolves only after it is on stable storage; a record reads back as it was put or
// the read throws. Commits run in LMDB's own thread: nothing here blocks the event loop for an fsync.
// Must not be opened twice: the data directory's lock sees to that.
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open as openLmdb, type RootDatabase } from 'lmdb';
import { type Change, RECORD_KEY_BYTES_MAX, type RecordKey, type Records, type RecordValue } from '../../replication/world.js';
import type { Outcome } from '../control.js';
import { FileRoom } from './file-room.js';
import { DamagedRecord, decodeRecord, encodeRecord } from './record-codec.js';
import { damagedStore, FORMAT_RECORD, FORMAT_VERSION, FRESH_NAME, MARK_NAME, RECORDS_NAME, unusableStore } from './store-format.js';
import { missingStore, verifyStore } from './store-verification.js';
import { syncDirectory } from './sync-directory.js';

/** LMDB maps its lock file: its blocks must exist, or a full disk ends the process by a signal. */
const LOCK_FILE_BYTES = 16_384;
const COMMIT_ERROR_WAIT_MS = 1_000;

/** The records cannot be read or written; the message says where and why. */
export class RecordsError extends Error {}

type Store = RootDatabase<Buffer, string>;

function openStore(path: string): Store {
  const lockPath = `${path}-lock`;
  if (!existsSync(lockPath)) {
    try {
      writeFileSync(lockPath, Buffer.alloc(LOCK_FILE_BYTES), { mode: 0o600, flush: true });
    } catch (error) {
      rmSync(lockPath, { force: true });
      throw error;
    }
  }
  // overlappingSync would resolve commits before they are durable. With eventTurnBatching a failed commit also
  // rejects a promise that nobody can see, which ends the process.
  return openLmdb<Buffer, string>({ path, encoding: 'binary', overlappingSync: false, eventTurnBatching: false });
}

/**
 * Makes whole records of what `fill` commits under another name, then puts them in place: a crash inside leaves what was
 * there before. Whoever calls this has seen to it that nothing is lost by that. Throws the system's error, and what `fill` does.
 */
export async function createRecords(directory: string, fill: (records: LmdbRecords) => Promise<void>): Promise<void> {
  const fresh = join(directory, FRESH_NAME);
  const discard = () => {
    rmSync(fresh, { force: true });
    rmSync(`${fresh}-lock`, { force: true });
  };
  discard();
  try {
    const records = await LmdbRecords.over(directory, fresh);
    try {
      await fill(records);
    } finally {
      await records.close();
    }
    rmSync(`${fresh}-lock`, { force: true });
    renameSync(fresh, join(directory, RECORDS_NAME));
  } catch (error) {
    discard();
    throw error;
  }
  syncDirectory(directory);
  mark(directory);
}

/** Also for records that were made before it was: a crash came between. */
function mark(directory: string): void {
  const path = join(directory, MARK_NAME);
  if (!existsSync(path)) {
    writeFileSync(
      path,
      `forestall ${FORMAT_VERSION}
`,
      { mode: 0o600, flush: true },
    );
    syncDirectory(directory);
  }
}

export class LmdbRecords implements Records {
  readonly #directory: string;
  readonly #store: Store;
  readonly #room: FileRoom;
  readonly #pending = new Set<Promise<unknown>>();
  /** Commits that wait until the file is longer, one after the other. */
  #line: Promise<unknown> = Promise.resolve();
  #inLine = 0;
  #closed = false;

  private constructor(directory: string, store: Store, room: FileRoom) {
    this.#directory = directory;
    this.#store = store;
    this.#room = room;
  }

  /** Over a file that is known to be sound, or is made. Rejects with the system's error, or LMDB's. Others use `LmdbRecords.open`. */
  static async over(directory: string, path: string): Promise<LmdbRecords> {
    const store = openStore(path);
    try {
      return new LmdbRecords(directory, store, await FileRoom.open(path));
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /**
   * Opens the records of a data directory and makes them when it is new. Refuses with `store-damaged`, `store-missing`,
   * `store-newer`, `store-older` or `store-unusable` (read-only, no permission, full).
   */
  static async open(directory: string): Promise<Outcome<LmdbRecords>> {
    const path = join(directory, RECORDS_NAME);
    try {
      if (!existsSync(path)) {
        const missing = missingStore(directory);
        if (missing !== null) return missing;
        await createRecords(directory, (records) => records.commit([FORMAT_RECORD]));
      }
      // LMDB trusts its file and reports less, so this comes first.
      const verified = verifyStore(directory);
      if (!verified.ok) return verified;
      // What cannot be written is said before LMDB says it less clearly.
      closeSync(openSync(path, 'r+'));
      const records = await LmdbRecords.over(directory, path);
      mark(directory);
      return { ok: true, value: records };
    } catch (error) {
      if ((error as Error).message.startsWith('MDB_')) return damagedStore(path, (error as Error).message);
      return unusableStore(path, `${(error as Error).message}.${freeSpace(directory)}`);
    }
  }

  get(key: RecordKey): RecordValue | undefined {
    checkKey(key);
    const bytes = this.#store.get(key);
    return bytes === undefined ? undefined : this.#decode(key, bytes);
  }

  *list(prefix: string): Iterable<[RecordKey, RecordValue]> {
    const range = prefix === '' ? this.#store.getRange({}) : this.#store.getRange({ start: prefix });
    for (const { key, value } of range) {
      if (!key.startsWith(prefix)) {
        return;
      }
      yield [key, this.#decode(key, value)];
    }
  }

  async commit(changes: Change[]): Promise<void> {
    // All that may throw comes before the batch: an exception inside it would commit its first half.
    const ready = changes.map((change) => {
      const put = 'put' in change;
      const key = put ? change.put : change.remove;
      checkKey(key);
      return { key, bytes: put ? encodeRecord(change.value) : null };
    });
    if (this.#closed) {
      throw new RecordsError('The records are closed.');
    }
    if (ready.length === 0) {
      return;
    }
    const work = this.#commit(ready);
    this.#pending.add(work);
    try {
      await work;
    } catch (error) {
      throw new RecordsError(
        `The records in ${this.#directory} could not be written: ${await commitReason(error)}.${freeSpace(this.#directory)}`,
        { cause: error },
      );
    } finally {
      this.#pending.delete(work);
    }
  }

  /** In the order of the calls. */
  async #commit(ready: readonly { key: RecordKey; bytes: Uint8Array | null }[]): Promise<void> {
    const room = this.#room;
    const cost = room.cost(ready.map(({ bytes }) => bytes?.length ?? null));
    if (this.#inLine > 0 || !room.take(cost)) {
      this.#inLine += 1;
      const turn = this.#line.then(async () => {
        // What was made may be used up at once, by a commit that has just ended.
        while (!room.take(cost)) await room.make(cost);
      });
      this.#line = turn.catch(() => {});
      try {
        await turn;
      } finally {
        this.#inLine -= 1;
      }
    }
    try {
      await this.#store.batch(() => {
        for (const { key, bytes } of ready) {
          if (bytes === null) {
            this.#store.remove(key);
          } else {
            this.#store.put(key, bytes as Buffer);
          }
        }
      });
    } finally {
      room.give(cost);
    }
  }

  /** Waits for commits under way. Reads and commits after it are bugs or rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#pending);
    await this.#store.close();
    await this.#room.close();
  }

  #decode(key: RecordKey, bytes: Buffer): RecordValue {
    try {
      return decodeRecord(bytes);
    } catch (error) {
      if (error instanceof DamagedRecord) {
        throw new DamagedRecord(`record ${JSON.stringify(key)}: ${error.message}`, { cause: error });
      }
      throw error;
    }
  }
}

function checkKey(key: RecordKey): void {
  const bytes = Buffer.byteLength(key);
  assert(bytes > 0 && bytes <= RECORD_KEY_BYTES_MAX, `a record's key has 1 to ${RECORD_KEY_BYTES_MAX} bytes: ${key.slice(0, 80)}`);
}

/** LMDB rejects with a promise of the reason inside. */
async function commitReason(error: unknown): Promise<string> {
  const { commitError, message } = error as Error & { commitError?: Promise<never> };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, COMMIT_ERROR_WAIT_MS, message);
  });
  const reason = Promise.resolve(commitError).then(
    () => message,
    (cause: Error) => cause.message,
  );
  try {
    return await Promise.race([reason, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** LMDB reports a full disk as a plain input/output error: say what is left. */
function freeSpace(directory: string): string {
  try {
    const { bavail, bsize } = statfsSync(directory);
    const freeBytes = bavail * bsize;
    return freeBytes < 1024 * 1024 ? ` The file system is full: ${freeBytes} bytes are free.` : '';
  } catch {
    return '';
  }
}
