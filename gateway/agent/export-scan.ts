// Reads an agent's directory at its start: which exports there are, and what a kill has left half done. Finishes each
// creation and deletion that was under way; never removes data that this agent did not make.
//   <name>.json      metadata; its presence means the export exists          <name>.json.tmp  a write of it that was killed
//   <name>.img       its data                                               <name>.img.new   data whose creation was killed
//   other block devices or links to them, by their own name: offered as they are, and so is <name>.img without metadata
import { readdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../../replication/world.js';
import { blockDeviceSize } from './block-device.js';
import { removeFile, syncDirectory, TEMPORARY_SUFFIX } from './durable-file.js';
import { type Outcome, refuse } from '../control.js';
import { type ExportRecord, isExportName, parseRecord } from './export-record.js';

export const DATA_SUFFIX = '.img';
export const NEW_DATA_SUFFIX = '.img.new';
export const RECORD_SUFFIX = '.json';

export interface ExportPlace {
  path: string;
  kind: 'file' | 'block';
  /** Bytes the file or device really has. */
  sizeBytes: number;
  /** Of a block device; 1 for a file. */
  logicalBlockBytes: number;
}

export interface ScannedExport {
  name: string;
  /** Null: nobody has claimed what was found here. */
  record: ExportRecord | null;
  place: ExportPlace | null;
  /** Why it cannot be used, or null. */
  problem: string | null;
}

/** Every export of `dir`, by name. Rejects only when the directory itself cannot be read or written. */
export async function scanExports(dir: string, log: Log): Promise<ScannedExport[]> {
  await finishCreationsAndDeletions(dir, log);
  const files = await readdir(dir);
  const records = new Map<string, ScannedExport>();
  for (const file of files) {
    const name = nameOf(file, RECORD_SUFFIX);
    if (name !== null) records.set(name, await scanRecord(dir, name));
  }
  for (const file of files) {
    const name = nameOf(file, DATA_SUFFIX);
    if (name !== null) await addPlace(records, name, join(dir, file), log);
  }
  for (const file of files) {
    if (isExportName(file) && !records.get(file)?.place) await addBlockDevice(records, file, join(dir, file), log);
  }
  for (const { name, record, place } of records.values()) {
    // Somebody's JSON file, not ours and with no data beside it.
    if (record === null && place === null) records.delete(name);
  }
  for (const found of records.values()) found.problem ??= problemOf(found);
  for (const { name, problem } of records.values()) if (problem !== null) log.error({ export: name, problem }, 'export cannot be used');
  return [...records.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The export's name if `file` is one with that suffix. */
function nameOf(file: string, suffix: string): string | null {
  const name = file.slice(0, -suffix.length);
  return file.endsWith(suffix) && isExportName(name) ? name : null;
}

async function finishCreationsAndDeletions(dir: string, log: Log): Promise<void> {
  for (const file of await readdir(dir)) {
    if (nameOf(file, RECORD_SUFFIX + TEMPORARY_SUFFIX) !== null) await removeFile(join(dir, file));
    const recorded = nameOf(file, RECORD_SUFFIX);
    if (recorded !== null) await finishDeletion(dir, recorded, log);
    const created = nameOf(file, NEW_DATA_SUFFIX);
    if (created !== null) await finishCreation(dir, created, log);
  }
}

async function finishDeletion(dir: string, name: string, log: Log): Promise<void> {
  const path = join(dir, name + RECORD_SUFFIX);
  const record = await readRecord(dir, name);
  if (!record.ok || record.value.state !== 'deleting') return;
  log.warn({ export: name }, 'finishing a deletion that was cut short');
  try {
    if (record.value.origin === 'created') {
      await removeFile(join(dir, name + NEW_DATA_SUFFIX));
      await removeFile(join(dir, name + DATA_SUFFIX));
    }
    await removeFile(path);
  } catch (error) {
    // The others are served all the same; this one shows what is wrong with it.
    log.error({ export: name, error: (error as Error).message }, 'a deletion cannot be finished');
  }
}

/** With metadata the creation goes on to its end; without, nobody was told of it, and the file, never served, goes. */
async function finishCreation(dir: string, name: string, log: Log): Promise<void> {
  const path = join(dir, name + NEW_DATA_SUFFIX);
  const files = new Set(await readdir(dir));
  log.warn({ export: name }, 'finishing a creation that was cut short');
  if (!files.has(name + RECORD_SUFFIX) || files.has(name + DATA_SUFFIX)) {
    await removeFile(path);
    return;
  }
  await rename(path, join(dir, name + DATA_SUFFIX));
  await syncDirectory(dir);
}

/** What the metadata file of `name` says now; refused with `bad-metadata`. */
export async function readRecord(dir: string, name: string): Promise<Outcome<ExportRecord>> {
  try {
    return parseRecord(await readFile(join(dir, name + RECORD_SUFFIX), 'utf8'), name);
  } catch (error) {
    return refuse('bad-metadata', `its metadata cannot be read: ${(error as Error).message}`);
  }
}

async function scanRecord(dir: string, name: string): Promise<ScannedExport> {
  const record = await readRecord(dir, name);
  if (record.ok) return { name, record: record.value, place: null, problem: null };
  return { name, record: null, place: null, problem: record.message };
}

async function addPlace(exports: Map<string, ScannedExport>, name: string, path: string, log: Log): Promise<void> {
  const place = await locate(path).catch((error: Error) => {
    log.warn({ path, error: error.message }, 'passed over');
    return null;
  });
  if (place === null) return;
  const known = exports.get(name) ?? { name, record: null, place: null, problem: null };
  known.place = place;
  exports.set(name, known);
}

async function addBlockDevice(exports: Map<string, ScannedExport>, name: string, path: string, log: Log): Promise<void> {
  const stats = await stat(path).catch(() => null);
  if (stats?.isBlockDevice()) await addPlace(exports, name, path, log);
}

/** Null: neither a file nor a block device. */
export async function locate(path: string): Promise<ExportPlace | null> {
  const stats = await stat(path);
  if (stats.isFile()) return { path, kind: 'file', sizeBytes: stats.size, logicalBlockBytes: 1 };
  if (!stats.isBlockDevice()) return null;
  return { path, kind: 'block', ...(await blockDeviceSize(stats)) };
}

/** What is wrong with an export whose metadata is readable or absent. A file larger than its metadata says is a growth that was cut short. */
function problemOf({ record, place }: ScannedExport): string | null {
  if (record?.state === 'deleting') return 'its deletion is not finished';
  if (place === null) return 'its data is missing';
  if (record === null) return place.sizeBytes > 0 ? null : 'it is empty';
  if (place.sizeBytes < record.sizeBytes) return `its data has ${place.sizeBytes} bytes and its metadata says ${record.sizeBytes}`;
  return null;
}
