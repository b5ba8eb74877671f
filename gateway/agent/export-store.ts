// The exports of one directory: creates, grows, claims and deletes them so that a kill at any moment leaves each either as
// it was or as it was asked to be (the order of the steps is in export-scan.ts, which finishes what was cut short).
// One store at a time has the directory (`agent.lock` in it). Says no by returning the reason; a failing disk is `storage-error`.
import { mkdir, open, realpath, rename, stat, statfs, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Log } from '../../replication/world.js';
import { type Outcome, refuse } from '../control.js';
import { FileLock, loadFlock } from '../store/file-lock.js';
import type { ExportView } from './agent-schema.js';
import { removeFile, replaceFile, syncDirectory } from './durable-file.js';
import { type FileSystemFeatures, probeFileSystem } from './export-features.js';
import { checkExportName, type ExportRecord, encodeRecord } from './export-record.js';
import { DATA_SUFFIX, locate, NEW_DATA_SUFFIX, RECORD_SUFFIX, readRecord, type ScannedExport, scanExports } from './export-scan.js';
import type { FileDevice } from './file-device.js';
import type { IoCounters } from './io-counters.js';
import type { Libc } from './libc.js';
import { type Claim, claim, mayDelete } from './ownership.js';
import { StoredExport } from './stored-export.js';

const EXPORTS_MAX = 4096;
const LOCK_NAME = 'agent.lock';

export interface ExportStoreOptions {
  dir: string;
  libc: Libc | null;
  log: Log;
  clock: Pick<Clock, 'wallMs'>;
  counters: IoCounters;
}

export interface NewExport {
  name: string;
  sizeBytes: number;
  volume: string;
  epoch: number;
  role?: 'active' | 'mirror';
}

export interface Change extends Claim {
  sizeBytes?: number;
}

export class ExportStore {
  #exports = new Map<string, StoredExport>();
  #closed = false;

  private constructor(
    private readonly options: ExportStoreOptions,
    private readonly lock: FileLock,
    readonly features: FileSystemFeatures,
    scanned: ScannedExport[],
  ) {
    for (const found of scanned) this.#exports.set(found.name, this.#stored(found));
  }

  /** Opens (and makes) the directory. Refused with `directory-in-use` or `directory-unusable`. */
  static async open(options: ExportStoreOptions): Promise<Outcome<ExportStore>> {
    try {
      await mkdir(options.dir, { recursive: true });
      const dir = await realpath(options.dir);
      const taken = FileLock.take(join(dir, LOCK_NAME), await loadFlock());
      if (!taken.ok) return inUse(dir, taken.holder?.pid ?? null);
      try {
        const features = await probeFileSystem(dir, options.libc);
        return { ok: true, value: new ExportStore({ ...options, dir }, taken.lock, features, await scanExports(dir, options.log)) };
      } catch (error) {
        taken.lock.release();
        throw error;
      }
    } catch (error) {
      return refuse('directory-unusable', `${options.dir} cannot be used as an agent's directory: ${(error as Error).message}`);
    }
  }

  get dir(): string {
    return this.options.dir;
  }

  get size(): number {
    return this.#exports.size;
  }

  names(): string[] {
    return [...this.#exports.keys()].sort();
  }

  get(name: string): StoredExport | undefined {
    return this.#exports.get(name);
  }

  views(): Promise<ExportView[]> {
    return Promise.all(this.names().map((name) => this.#exports.get(name)!.view()));
  }

  /** Bytes of the file system: all, and those an unprivileged program may still use. */
  async space(): Promise<{ capacityBytes: number; freeBytes: number }> {
    const { blocks, bavail, bsize } = await statfs(this.dir);
    return { capacityBytes: blocks * bsize, freeBytes: bavail * bsize };
  }

  /** The device of an export that somebody holds. */
  device(stored: StoredExport): Promise<Outcome<FileDevice>> {
    const { log, libc, counters } = this.options;
    const name = stored.record.name;
    const failed = (call: string, error: NodeJS.ErrnoException): void => {
      const consequence = call === 'fdatasync' ? 'flushes fail until the agent is started again' : 'requests are answered with an error';
      log.error({ export: name, call, code: error.code, error: error.message }, `the storage below an export failed; ${consequence}`);
    };
    return stored.device({ libc, counters, failed });
  }

  /**
   * A blank export: every byte reads as zero, nothing is allocated. Asking again for the same is no error and creates nothing.
   * Codes: `invalid-name`, `export-exists`, `too-many-exports`, `no-space`, `too-large`, `storage-error`.
   */
  async create(wish: NewExport): Promise<Outcome<{ stored: StoredExport; created: boolean }>> {
    const name = checkExportName(wish.name);
    if (!name.ok) return name;
    if (this.#closed) return closed();
    const known = this.#exports.get(wish.name);
    if (known) {
      const answer = await known.change(async () => (known.retired ? null : sameExport(known, wish)));
      return answer ?? this.create(wish);
    }
    if (this.#exports.size >= EXPORTS_MAX) return refuse('too-many-exports', `an agent serves at most ${EXPORTS_MAX} exports`);
    const createdAt = new Date(this.options.clock.wallMs()).toISOString();
    const stored = new StoredExport({ format: 1, ...wish, createdAt, origin: 'created', state: 'kept' }, null, 'it is being created', true);
    this.#exports.set(wish.name, stored);
    return stored.change(async () => {
      const made = await this.#attempt(() => this.#create(stored));
      if (!made.ok) {
        await this.#undoCreation(stored);
        return made;
      }
      return { ok: true, value: { stored, created: true } };
    });
  }

  /** Claims, grows or both. Codes: those of `claim`, `export-unknown`, `shrink-refused`, `size-fixed`, `export-unusable`, `no-space`, `too-large`, `storage-error`. */
  async update(name: string, wish: Change): Promise<Outcome<StoredExport>> {
    const stored = this.#exports.get(name);
    if (!stored) return unknown(name);
    return stored.change(async () => {
      if (stored.retired) return unknown(name);
      if (stored.problem !== null) return unusable(stored);
      const claimed = claim(stored.record, wish, stored.clients);
      if (!claimed.ok) return claimed;
      const sizeBytes = wish.sizeBytes ?? stored.record.sizeBytes;
      if (sizeBytes > stored.record.sizeBytes) await this.#measure(stored);
      const flaw = sizeFlaw(stored, sizeBytes);
      if (flaw !== null) return flaw;
      const done = await this.#attempt(async () => {
        if (sizeBytes > stored.record.sizeBytes && stored.place?.kind === 'file') await this.#growFile(stored, sizeBytes);
        await this.#keep(stored, { ...claimed.value, sizeBytes });
        (await stored.openDevice())?.grow(sizeBytes);
      });
      if (!done.ok) await this.#reread(stored);
      return done.ok ? { ok: true, value: stored } : done;
    });
  }

  /** Deletes an export and its data; data that was found here stays and is offered again as nobody's. Codes: those of `mayDelete`, `export-unknown`, `storage-error`. */
  async delete(name: string, wish: { epoch?: number; volume?: string }): Promise<Outcome<{ removed: boolean }>> {
    const stored = this.#exports.get(name);
    if (!stored) return unknown(name);
    return stored.change(async () => {
      if (stored.retired) return unknown(name);
      if (!stored.understood) return unusable(stored);
      const allowed = mayDelete(stored.record, wish, stored.clients);
      if (!allowed.ok) return allowed;
      stored.retired = true;
      const done = await this.#attempt(() => this.#delete(stored));
      if (!done.ok) {
        await this.#reread(stored);
        if (stored.record.state === 'deleting') stored.problem = `its deletion is not finished: ${done.message}`;
        stored.retired = false;
        return done;
      }
      return { ok: true, value: { removed: stored.record.origin === 'created' } };
    });
  }

  /** Ends changes under way, then flushes and closes every device. What was not flushed is named in the log. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const stored of this.#exports.values()) {
      await stored.change(async () => {
        stored.retired = true;
        const errno = await stored.closeDevice();
        if (errno !== 0) this.options.log.error({ export: stored.record.name, errno }, 'the last flush of an export failed');
      });
    }
    this.lock.release();
  }

  #stored({ name, record, place, problem }: ScannedExport): StoredExport {
    const createdAt = new Date(this.options.clock.wallMs()).toISOString();
    const sizeBytes = place?.sizeBytes ?? 0;
    const unclaimed: ExportRecord = { format: 1, name, sizeBytes, volume: '', epoch: 0, createdAt, origin: 'found', state: 'kept' };
    return new StoredExport(record ?? unclaimed, place, problem, record !== null || problem === null);
  }

  #path(name: string, suffix: string): string {
    return join(this.dir, name + suffix);
  }

  async #create(stored: StoredExport): Promise<void> {
    const { name, sizeBytes } = stored.record;
    const newPath = this.#path(name, NEW_DATA_SUFFIX);
    const path = this.#path(name, DATA_SUFFIX);
    const file = await open(newPath, 'w', 0o600);
    try {
      await file.truncate(sizeBytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await this.#keep(stored, stored.record);
    await rename(newPath, path);
    await syncDirectory(this.dir);
    stored.place = { path, kind: 'file', sizeBytes, logicalBlockBytes: 1 };
    stored.problem = null;
  }

  /** What a failed creation leaves is a deletion cut short, for now and for the next start. */
  async #undoCreation(stored: StoredExport): Promise<void> {
    stored.retired = true;
    const { name } = stored.record;
    await this.#attempt(async () => {
      await removeFile(this.#path(name, RECORD_SUFFIX));
      await removeFile(this.#path(name, NEW_DATA_SUFFIX));
    });
    this.#exports.delete(name);
  }

  async #delete(stored: StoredExport): Promise<void> {
    const { name, origin } = stored.record;
    await this.#keep(stored, { ...stored.record, state: 'deleting' });
    if (origin === 'created') await stored.discardDevice();
    else await stored.closeDevice();
    if (origin === 'created') await removeFile(this.#path(name, DATA_SUFFIX));
    await removeFile(this.#path(name, RECORD_SUFFIX));
    this.#exports.delete(name);
    if (origin === 'found' && stored.place !== null) await this.#offerAgain(name, stored.place.path);
  }

  async #offerAgain(name: string, path: string): Promise<void> {
    const place = await locate(path);
    if (place !== null) this.#exports.set(name, this.#stored({ name, record: null, place, problem: null }));
  }

  /** A block device may have been made larger since it was found. */
  async #measure(stored: StoredExport): Promise<void> {
    if (stored.place?.kind !== 'block') return;
    const place = await locate(stored.place.path).catch(() => null);
    if (place?.kind === 'block') stored.place = place;
  }

  /** What lies beyond the recorded size was never served (a growth that was cut short): it is dropped, so that the new part is a hole. */
  async #growFile(stored: StoredExport, sizeBytes: number): Promise<void> {
    const { path } = stored.place!;
    if ((await stat(path)).size > stored.record.sizeBytes) await truncate(path, stored.record.sizeBytes);
    const file = await open(path, 'r+');
    try {
      await file.truncate(sizeBytes);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #keep(stored: StoredExport, record: ExportRecord): Promise<void> {
    await replaceFile(this.#path(record.name, RECORD_SUFFIX), encodeRecord(record));
    stored.record = record;
  }

  /** After a failed write nobody knows which record is on disk: what a restart would find holds. */
  async #reread(stored: StoredExport): Promise<void> {
    const record = await readRecord(this.dir, stored.record.name);
    if (record.ok) stored.record = record.value;
  }

  async #attempt(action: () => Promise<void>): Promise<Outcome<void>> {
    try {
      await action();
      return { ok: true, value: undefined };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      this.options.log.error({ code, error: message }, 'the storage below the agent failed');
      if (code === 'ENOSPC' || code === 'EDQUOT') return refuse('no-space', `there is no space: ${message}`);
      if (code === 'EFBIG' || code === 'EINVAL') return refuse('too-large', `the file system takes no file of this size: ${message}`);
      return refuse('storage-error', `the storage below the agent failed: ${message}`);
    }
  }
}

function inUse(directory: string, pid: number | null): Outcome<never> {
  const holder = pid === null ? 'another process' : `process ${pid}`;
  return refuse('directory-in-use', `${directory} is in use by an agent in ${holder}; one directory has one agent`, { directory, pid });
}

function unknown(name: string): Outcome<never> {
  return refuse('export-unknown', `there is no export named ${JSON.stringify(name)}`, { name });
}

function unusable({ record, problem }: StoredExport): Outcome<never> {
  return refuse('export-unusable', `export ${record.name} cannot be used: ${problem}`, { problem });
}

function closed(): Outcome<never> {
  return refuse('shutting-down', 'the agent is shutting down');
}

function sameExport(stored: StoredExport, wish: NewExport): Outcome<{ stored: StoredExport; created: boolean }> {
  const { record } = stored;
  const same = !stored.retired && record.sizeBytes === wish.sizeBytes && record.volume === wish.volume && record.epoch === wish.epoch;
  if (same) return { ok: true, value: { stored, created: false } };
  const { sizeBytes, volume, epoch } = record;
  return refuse('export-exists', `export ${wish.name} exists and is another: ${sizeBytes} bytes, volume "${volume}", epoch ${epoch}`, {
    sizeBytes,
    volume,
    epoch,
  });
}

function sizeFlaw(stored: StoredExport, sizeBytes: number): Outcome<never> | null {
  const { record, place } = stored;
  if (sizeBytes === record.sizeBytes) return null;
  if (place?.kind === 'block' && sizeBytes > place.sizeBytes)
    return refuse('size-fixed', `export ${record.name} is a block device of ${place.sizeBytes} bytes: make that larger first`, {
      sizeBytes: place.sizeBytes,
    });
  if (sizeBytes > record.sizeBytes) return null;
  const message = `export ${record.name} has ${record.sizeBytes} bytes; an export only grows`;
  return refuse('shrink-refused', message, { sizeBytes: record.sizeBytes });
}
