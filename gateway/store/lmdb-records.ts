// Durable records over LMDB: one sorted map in one file, `records.mdb` in the data directory.
// Guarantees: a commit is atomic and resolves only after it is on stable storage; a record reads back as it was put or
// the read throws. Commits run in LMDB's own thread: nothing here blocks the event loop for an fsync.
// Must not be opened twice: the data directory's lock sees to that.
import assert from 'node:assert/strict';
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open as openLmdb, type RootDatabase } from 'lmdb';
import type { Change, RecordKey, Records, RecordValue } from '../../replication/world.js';
import { type Outcome, refuse } from '../control.js';
import { DamagedRecord, decodeRecord, encodeRecord } from './record-codec.js';
import { inspectRecordsFile } from './records-file.js';

const FILE_NAME = 'records.mdb';
/** Stands beside the records once they were made: with it and without them, they were lost, not never made. */
const MARK_NAME = 'FORMAT';
const FORMAT_KEY = 'meta/format';
/** Version of the keys and values all parts of the gateway keep here. */
export const FORMAT_VERSION = 1;
const KEY_BYTES_MAX = 512;
/** LMDB maps its lock file: its blocks must exist, or a full disk ends the process by a signal. */
const LOCK_FILE_BYTES = 16_384;
const COMMIT_ERROR_WAIT_MS = 1_000;

/** The records cannot be read or written; the message says where and why. */
export class RecordsError extends Error {}

type Store = RootDatabase<Buffer, string>;

function openStore(path: string): Store {
  const lockPath = `${path}-lock`;
  if (!existsSync(lockPath)) {
    writeFileSync(lockPath, Buffer.alloc(LOCK_FILE_BYTES), { mode: 0o600, flush: true });
  }
  // overlappingSync would resolve commits before they are durable. With eventTurnBatching a failed commit also
  // rejects a promise that nobody can see, which ends the process.
  return openLmdb<Buffer, string>({ path, encoding: 'binary', overlappingSync: false, eventTurnBatching: false });
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A crash inside leaves either no records or whole ones: they are made under another name. */
async function create(directory: string): Promise<void> {
  const fresh = join(directory, 'records-new.mdb');
  rmSync(fresh, { force: true });
  rmSync(`${fresh}-lock`, { force: true });
  const store = openStore(fresh);
  const records = new LmdbRecords(directory, store);
  await records.commit([{ put: FORMAT_KEY, value: { product: 'forestall', version: FORMAT_VERSION } }]);
  await records.close();
  rmSync(`${fresh}-lock`, { force: true });
  renameSync(fresh, join(directory, FILE_NAME));
  syncDirectory(directory);
}

function mark(directory: string): void {
  const path = join(directory, MARK_NAME);
  if (!existsSync(path)) {
    writeFileSync(path, `forestall ${FORMAT_VERSION}\n`, { mode: 0o600, flush: true });
    syncDirectory(directory);
  }
}

function damaged(path: string, reason: string): Outcome<never> {
  return refuse('store-damaged', `The records in ${path} are damaged: ${reason}. Restore the data directory from a backup.`, { path });
}

function checkFormat(path: string, format: RecordValue | undefined): Outcome<null> {
  const { product, version } = (format ?? {}) as { product?: unknown; version?: unknown };
  if (product !== 'forestall' || typeof version !== 'number' || !Number.isSafeInteger(version) || version < 1) {
    return damaged(path, 'they have no format record');
  }
  if (version > FORMAT_VERSION) {
    return refuse(
      'store-newer',
      `The records in ${path} have format ${version}; this Forestall knows formats up to ${FORMAT_VERSION}. Run the version that wrote them, or a later one.`,
      { path, version },
    );
  }
  return { ok: true, value: null };
}

export class LmdbRecords implements Records {
  readonly #directory: string;
  readonly #store: Store;
  readonly #pending = new Set<Promise<unknown>>();
  #closed = false;

  /** Use `LmdbRecords.open`. */
  constructor(directory: string, store: Store) {
    this.#directory = directory;
    this.#store = store;
  }

  /**
   * Opens the records of a data directory and makes them when it is new. Refuses with `store-damaged`, `store-missing`,
   * `store-newer` or `store-unusable` (read-only, no permission, full).
   */
  static async open(directory: string): Promise<Outcome<LmdbRecords>> {
    const path = join(directory, FILE_NAME);
    try {
      if (!existsSync(path)) {
        if (existsSync(join(directory, MARK_NAME))) {
          const message = `The records are missing: ${path} does not exist, but ${MARK_NAME} beside it says they were made.`;
          return refuse('store-missing', `${message} Restore it from a backup; to start anew, empty the directory.`, { path });
        }
        await create(directory);
      }
      const opened = await openChecked(directory, path);
      if (opened.ok) {
        mark(directory);
      }
      return opened;
    } catch (error) {
      if (error instanceof DamagedRecord || (error as Error).message.startsWith('MDB_')) {
        return damaged(path, (error as Error).message);
      }
      return refuse('store-unusable', `The records in ${path} cannot be opened: ${(error as Error).message}.${freeSpace(directory)}`, {
        path,
      });
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
    const committed = this.#store.batch(() => {
      for (const { key, bytes } of ready) {
        if (bytes === null) {
          this.#store.remove(key);
        } else {
          this.#store.put(key, bytes);
        }
      }
    });
    this.#pending.add(committed);
    try {
      await committed;
    } catch (error) {
      throw new RecordsError(
        `The records in ${this.#directory} could not be written: ${await commitReason(error)}.${freeSpace(this.#directory)}`,
        { cause: error },
      );
    } finally {
      this.#pending.delete(committed);
    }
  }

  /** Waits for commits under way. Reads and commits after it are bugs or rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#pending);
    await this.#store.close();
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

async function openChecked(directory: string, path: string): Promise<Outcome<LmdbRecords>> {
  const file = inspectRecordsFile(path);
  if (file.state === 'damaged') {
    return damaged(path, file.reason);
  }
  const records = new LmdbRecords(directory, openStore(path));
  try {
    const format = checkFormat(path, records.get(FORMAT_KEY));
    if (!format.ok) {
      await records.close();
      return format;
    }
    if (file.state === 'short') {
      for (const _ of records.list('')) {
        // Reading is the check: what is missing throws.
      }
    }
    return { ok: true, value: records };
  } catch (error) {
    await records.close();
    throw error;
  }
}

function checkKey(key: RecordKey): void {
  const bytes = Buffer.byteLength(key);
  assert(bytes > 0 && bytes <= KEY_BYTES_MAX, `a record's key has 1 to ${KEY_BYTES_MAX} bytes: ${key.slice(0, 80)}`);
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
