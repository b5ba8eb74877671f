// Reads every record of a store that no gateway uses and says what is wrong: with the file, with each record's checksum and
// shape, and between records. Changes nothing.
import { join } from 'node:path';
import { type Outcome, refuse } from '../control.js';
import { CrossCheck, type VolumeSummary } from './cross-check.js';
import { DamagedRecord, decodeRecord } from './record-codec.js';
import { type Flaw, judgeRecord, type Severity } from './record-kinds.js';
import { RecordsFile } from './records-file.js';
import { checkFormat, damagedStore, FORMAT_KEY, RECORDS_NAME } from './store-format.js';
import { requireRecords } from './store-verification.js';

const FINDINGS_MAX = 1000;

export interface Finding {
  severity: Severity;
  /** The record, or the part of all keys that it is about; null: the file. */
  key: string | null;
  message: string;
}

export interface KindCount {
  kind: string;
  records: number;
  bytes: number;
  /** Records with a wrong checksum or shape, whatever the severity. */
  flawed: number;
}

export interface StoreReport {
  path: string;
  sizeBytes: number;
  /** Of the last commit. */
  transaction: number;
  /** No finding is damage. */
  sound: boolean;
  kinds: KindCount[];
  volumes: VolumeSummary[];
  /** The first 1000. */
  findings: Finding[];
  findingsLeftOut: number;
}

class Findings {
  readonly list: Finding[] = [];
  leftOut = 0;
  sound = true;

  readonly say = (key: string | null, { severity, message }: Flaw): void => {
    if (severity === 'damage') this.sound = false;
    if (this.list.length < FINDINGS_MAX) this.list.push({ severity, key, message });
    else this.leftOut += 1;
  };
}

/**
 * The directory's lock must be held. Refuses with `store-missing`, `store-none`, `store-newer`, `store-older`, and with
 * `store-damaged` only where nothing can be read at all. Throws the system's error.
 */
export function checkStore(directory: string): Outcome<StoreReport> {
  const path = join(directory, RECORDS_NAME);
  const there = requireRecords(directory);
  if (!there.ok) return there;
  const file = RecordsFile.open(path);
  if (typeof file === 'string') return damagedStore(path, file);
  try {
    const findings = new Findings();
    const cross = new CrossCheck();
    const kinds = new Map<string, KindCount>();
    let format: unknown;
    const fault = (message: string) => findings.say(null, { severity: 'damage', message });
    for (const { key, bytes } of file.records(fault)) {
      const { kind, rest, flaw, value } = judge(key, bytes);
      if (key === FORMAT_KEY) format = value;
      const count = kinds.get(kind) ?? { kind, records: 0, bytes: 0, flawed: 0 };
      kinds.set(kind, count);
      count.records += 1;
      count.bytes += key.length + bytes.length;
      if (flaw === null) cross.add(kind, rest, value);
      else {
        count.flawed += 1;
        findings.say(key, flaw);
      }
    }
    const known = checkFormat(path, format);
    if (!known.ok && known.code !== 'store-damaged') return known;
    if (format === undefined) findings.say(FORMAT_KEY, { severity: 'damage', message: 'it is missing' });
    cross.finish(findings.say);
    const { list, leftOut, sound } = findings;
    const report = { path, sizeBytes: file.sizeBytes, transaction: file.meta.transaction, sound, kinds: [...kinds.values()] };
    return { ok: true, value: { ...report, volumes: cross.summaries(), findings: list, findingsLeftOut: leftOut } };
  } catch (error) {
    if (error instanceof RangeError) return refuse('store-damaged', `The records in ${path} cannot be read: ${error.message}`, { path });
    throw error;
  } finally {
    file.close();
  }
}

function judge(key: string, bytes: Buffer): { kind: string; rest: string; flaw: Flaw | null; value: unknown } {
  try {
    const value = decodeRecord(bytes);
    return { ...judgeRecord(key, value), value };
  } catch (error) {
    if (!(error instanceof DamagedRecord)) throw error;
    const { kind, rest } = judgeRecord(key, undefined);
    return { kind, rest, flaw: { severity: 'damage', message: error.message }, value: undefined };
  }
}
