// Reads the whole store before LMDB opens it: every page of the tree, the checksum of every record, the format. So a gateway
// never finds out in the middle of its work that a record is damaged, and LMDB never follows a page that leads nowhere.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Outcome, refuse } from '../control.js';
import { DamagedRecord, decodeRecord, splitRecord } from './record-codec.js';
import { RecordsFile } from './records-file.js';
import { checkFormat, damagedStore, FORMAT_KEY, lostStore, MARK_NAME, RECORDS_NAME } from './store-format.js';

/** What says that there once were records: they are made before any of these. */
const EVIDENCE = [MARK_NAME, `${RECORDS_NAME}-lock`];

/** Null: there never were records in this directory. Throws the system's error. */
export function missingStore(directory: string): Outcome<never> | null {
  const found = readdirSync(directory);
  const evidence = EVIDENCE.find((name) => found.includes(name)) ?? found.find((name) => name.includes('journal'));
  return evidence === undefined ? null : lostStore(join(directory, RECORDS_NAME), evidence);
}

/** Refuses with `store-missing`, or with `store-none` where there never were any. */
export function requireRecords(directory: string): Outcome<null> {
  const path = join(directory, RECORDS_NAME);
  if (existsSync(path)) return { ok: true, value: null };
  return missingStore(directory) ?? refuse('store-none', `There are no records in ${directory}.`, { path });
}

/** Refuses with `store-missing`, `store-none`, `store-damaged` (with the first flaw), `store-newer` or `store-older`. Throws the system's error. */
export function verifyStore(directory: string): Outcome<null> {
  const path = join(directory, RECORDS_NAME);
  const there = requireRecords(directory);
  if (!there.ok) return there;
  const file = RecordsFile.open(path);
  if (typeof file === 'string') return damagedStore(path, file);
  try {
    let first: string | null = null;
    let format: unknown;
    const fault = (reason: string) => {
      first ??= reason;
    };
    for (const { key, bytes } of file.records(fault)) {
      try {
        if (key === FORMAT_KEY) format = decodeRecord(bytes);
        else splitRecord(bytes);
      } catch (error) {
        if (!(error instanceof DamagedRecord)) throw error;
        fault(`record ${JSON.stringify(key)}: ${error.message}`);
      }
    }
    const known = checkFormat(path, format);
    // What another version wrote may look damaged to this one.
    if (!known.ok && known.code !== 'store-damaged') return known;
    if (first !== null) return damagedStore(path, first);
    return known.ok ? { ok: true, value: null } : known;
  } finally {
    file.close();
  }
}
