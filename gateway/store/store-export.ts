// Writes all records of a store that no gateway uses into one portable file, one record in memory at a time. The file
// appears under its name only when it is whole and on stable storage.
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Outcome, refuse } from '../control.js';
import { ExportWriter } from './export-text.js';
import { DamagedRecord, decodeRecord } from './record-codec.js';
import { RecordsFile } from './records-file.js';
import { checkFormat, damagedStore, FORMAT_KEY, FORMAT_VERSION, RECORDS_NAME } from './store-format.js';
import { requireRecords } from './store-verification.js';
import { syncDirectory } from './sync-directory.js';

export interface ExportOptions {
  /** Leave out what is damaged instead of refusing. */
  salvage: boolean;
  /** Version of this program, and the time, as the first line says them. */
  by: string;
  at: string;
}

export interface Exported {
  records: number;
  /** What a salvage left out: records, or pages of unknown contents, in words. */
  leftOut: string[];
}

/**
 * The directory's lock must be held. Refuses with `export-exists`, `store-damaged`, `store-missing`, `store-none`,
 * `store-newer`, `store-older`. Throws the system's error; no file is left then.
 */
export function exportStore(directory: string, file: string, options: ExportOptions): Outcome<Exported> {
  const path = join(directory, RECORDS_NAME);
  const there = requireRecords(directory);
  if (!there.ok) return there;
  if (existsSync(file)) return refuse('export-exists', `${file} exists already: remove it, or choose another name.`, { file });
  const source = RecordsFile.open(path);
  if (typeof source === 'string') return damagedStore(path, source);
  const partial = `${file}.partial`;
  const fd = openSync(partial, 'w', 0o600);
  let whole = false;
  try {
    const written = writeAll(source, path, fd, options);
    if (!written.ok) return written;
    fsyncSync(fd);
    renameSync(partial, file);
    whole = true;
    syncDirectory(dirname(resolve(file)));
    return written;
  } finally {
    closeSync(fd);
    source.close();
    if (!whole) rmSync(partial, { force: true });
  }
}

function writeAll(source: RecordsFile, path: string, fd: number, { salvage, by, at }: ExportOptions): Outcome<Exported> {
  const writer = new ExportWriter();
  const leftOut: string[] = [];
  const put = (bytes: Buffer): void => {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  };
  const { format, fault } = formatOf(source);
  const known = checkFormat(path, format);
  if (!known.ok && known.code !== 'store-damaged') return known;
  if (!known.ok && !salvage) return fault === null ? known : damagedStore(path, fault);
  put(writer.head({ format: known.ok ? known.value : FORMAT_VERSION, by, at }));
  if (!known.ok) leftOut.push(`record ${JSON.stringify(FORMAT_KEY)}: it is not there`);
  for (const { key, bytes } of source.records((reason) => leftOut.push(reason))) {
    try {
      put(writer.record(key, bytes));
    } catch (error) {
      if (!(error instanceof DamagedRecord)) throw error;
      leftOut.push(`record ${JSON.stringify(key)}: ${error.message}`);
    }
    if (!salvage && leftOut.length > 0) break;
  }
  if (!salvage && leftOut.length > 0) return damagedStore(path, leftOut[0]);
  put(writer.end(leftOut.length));
  return { ok: true, value: { records: writer.records, leftOut } };
}

/** Undefined when it cannot be read; then with the first flaw, if there is any. */
function formatOf(source: RecordsFile): { format: unknown; fault: string | null } {
  let fault: string | null = null;
  const say = (reason: string) => {
    fault ??= reason;
  };
  try {
    for (const { key, bytes } of source.records(say)) if (key === FORMAT_KEY) return { format: decodeRecord(bytes), fault };
  } catch (error) {
    if (!(error instanceof DamagedRecord)) throw error;
    say(`record ${JSON.stringify(FORMAT_KEY)}: ${error.message}`);
  }
  return { format: undefined, fault };
}
