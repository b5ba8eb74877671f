// What is durable of a volume: which target is active, its epoch, its mirrors. One record, changed only in one
// transaction with what belongs to it, so that a crash at any step finds exactly one side (rule 11).
//
// Record `volume/<name>`: the object below, format 1; format 2 with a journal, format 3 with lost ranges (and perhaps a journal),
// which a version that knows of none must not overlook.
// Record `ours/<node>/<export>`: the volume whose copy was written there; what may be overwritten (rule 20).
import type { Change, Records } from '../../replication/world.js';
import type { FlipCertificate, Outcome, TargetRef } from '../control.js';
import { refuse } from '../control.js';

export const RECORD_FORMAT = 1;
const JOURNAL_FORMAT = 2;
const LOST_FORMAT = 3;
const FORMATS: readonly unknown[] = [RECORD_FORMAT, JOURNAL_FORMAT, LOST_FORMAT];

export interface MirrorRecord {
  /** Names the mirror's dirty record; never used twice in a volume. */
  id: string;
  target: TargetRef;
  reverse: boolean;
  /** It was in step once; only then may it take over. */
  synced: boolean;
  cause: string;
}

export interface VolumeRecord {
  format: typeof RECORD_FORMAT | typeof JOURNAL_FORMAT | typeof LOST_FORMAT;
  name: string;
  sizeBytes: number;
  /** The smallest unit hosts may use, fixed with the first target. */
  blockMinimum: number;
  epoch: number;
  active: TargetRef;
  mirrors: MirrorRecord[];
  nextMirror: number;
  lastFlip: FlipCertificate | null;
  /** What of the volume's journal counts: records of epochs up to the volume's, from this sequence on. Missing: there is none. */
  journal?: { firstSequence: number };
  /** Some of it no copy can give (`lost-ranges.ts`). Missing: all can be read. */
  lost?: true;
}

export function volumeKey(name: string): string {
  return `volume/${name}`;
}

export function oursKey(target: TargetRef): string {
  return `ours/${target.node}/${target.export}`;
}

export function putVolume(record: VolumeRecord): Change {
  return { put: volumeKey(record.name), value: { ...record, format: formatOf(record) } };
}

function formatOf({ journal, lost }: Partial<VolumeRecord>): VolumeRecord['format'] {
  if (lost === true) return LOST_FORMAT;
  return journal === undefined ? RECORD_FORMAT : JOURNAL_FORMAT;
}

/** Undefined: the volume was never served. A record of an unknown shape is refused, never guessed. */
export function readVolume(records: Records, name: string): Outcome<VolumeRecord | undefined> {
  const value = records.get(volumeKey(name));
  if (value === undefined) return { ok: true, value: undefined };
  const record = value as Partial<VolumeRecord>;
  if (!FORMATS.includes(record.format)) {
    return refuse(
      'record-format',
      `the stored record of volume ${name} has format ${String(record.format)}, this version reads formats ${FORMATS.join(', ')}: use the version that wrote it`,
    );
  }
  const sound =
    record.name === name &&
    Number.isSafeInteger(record.sizeBytes) &&
    Number.isSafeInteger(record.epoch) &&
    typeof record.active?.node === 'string' &&
    typeof record.active.export === 'string' &&
    Array.isArray(record.mirrors) &&
    formatOf(record) === record.format &&
    (record.lost === undefined || record.lost === true) &&
    (record.journal === undefined || Number.isSafeInteger(record.journal.firstSequence));
  if (!sound)
    return refuse(
      'record-damaged',
      `the stored record of volume ${name} is damaged: restore the data directory from a copy, or remove the record and name the volume's place in the configuration`,
    );
  return { ok: true, value: record as VolumeRecord };
}
