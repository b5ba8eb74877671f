// Makes the records of a data directory from an export, one line in memory at a time. They are made under another name and
// put in place as the last step: a crash anywhere leaves what was there before. What was there is kept beside.
//
// An export that is older than what the nodes hold would make a volume's copies look equal that are not. So records of an
// outdated or salvaged export are not believed where that could harm (`Distrust`): mirrors are copied anew, checksums and
// what depends on them are learnt anew.
import { copyFileSync, createReadStream, existsSync, linkSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DirtyRecord } from '../../replication/dirty-record.js';
import type { Change, Records } from '../../replication/world.js';
import { type Outcome, refuse } from '../control.js';
import { readVolume, type VolumeRecord } from '../volume/volume-record.js';
import { EXTENT_BYTES } from '../volume/granularity.js';
import { BadLine, type ExportHead, ExportReader, LINE_BYTES_MAX } from './export-text.js';
import { createRecords, type LmdbRecords } from './lmdb-records.js';
import { checkFormat, FORMAT_KEY, FORMAT_RECORD, RECORDS_NAME } from './store-format.js';
import { syncDirectory } from './sync-directory.js';

const BATCH_RECORDS_MAX = 500;
const BATCH_BYTES_MAX = 8 * 1024 * 1024;
/** What a directory may hold that is still new: its lock, and what a file system puts there. */
const NEW_DIRECTORY = new Set(['lock', 'lost+found']);

export interface ImportOptions {
  /** The directory's own records are kept beside under another name. */
  replace: boolean;
  /** The gateway ran since the export was made. */
  outdated: boolean;
  /** For the name of what is kept. */
  at: Date;
}

export interface Imported {
  records: number;
  head: ExportHead;
  /** Records that the salvage which made the export had left out. */
  leftOut: number;
  /** The old records; null: there were none. */
  kept: string | null;
  volumes: { name: string; epoch: number; active: { node: string; export: string } }[];
}

class Refused extends Error {
  constructor(readonly outcome: Outcome<never>) {
    super('refused');
  }
}

/**
 * The directory's lock must be held. Refuses with `import-not-empty`, `import-damaged`, `import-newer` and what `checkFormat`
 * refuses with; nothing has changed then. Throws the system's error.
 */
export async function importStore(file: string, directory: string, options: ImportOptions): Promise<Outcome<Imported>> {
  const found = readdirSync(directory);
  const strange = found.filter((name) => !NEW_DIRECTORY.has(name));
  if (strange.length > 0 && !options.replace) {
    return refuse(
      'import-not-empty',
      `${directory} is not empty (${strange.slice(0, 5).join(', ')}): give a new directory, or --replace to keep its records beside and take these.`,
    );
  }
  const intake = new Intake(file, options);
  let kept: string | null = null;
  try {
    await createRecords(directory, async (records) => {
      await intake.fill(records);
      // Until the new records take their name, the old ones have both.
      kept = existsSync(join(directory, RECORDS_NAME)) ? keep(directory, options.at) : null;
    });
  } catch (error) {
    if (error instanceof Refused) return error.outcome;
    throw error;
  }
  const { records, head, leftOut, volumes } = intake;
  return { ok: true, value: { records, head: head!, leftOut, kept, volumes } };
}

function keep(directory: string, at: Date): string {
  const name = `${RECORDS_NAME}.before-${at.toISOString().replaceAll(/[:.]/g, '-')}`;
  try {
    linkSync(join(directory, RECORDS_NAME), join(directory, name));
  } catch {
    // A file system without links.
    copyFileSync(join(directory, RECORDS_NAME), join(directory, name));
  }
  syncDirectory(directory);
  return name;
}

class Intake {
  readonly #file: string;
  readonly #outdated: boolean;
  head: ExportHead | null = null;
  records = 0;
  leftOut = 0;
  readonly volumes: Imported['volumes'] = [];
  #volumeRecords: VolumeRecord[] = [];
  #sawFormat = false;

  constructor(file: string, { outdated }: ImportOptions) {
    this.#file = file;
    this.#outdated = outdated;
  }

  async fill(records: LmdbRecords): Promise<void> {
    const reader = new ExportReader();
    let batch: Change[] = [];
    let batchBytes = 0;
    let number = 0;
    for await (const bytes of linesOf(this.#file)) {
      number += 1;
      batch.push(...this.#take(reader, bytes, number));
      batchBytes += bytes.length;
      if (batch.length < BATCH_RECORDS_MAX && batchBytes < BATCH_BYTES_MAX) continue;
      await records.commit(batch);
      batch = [];
      batchBytes = 0;
    }
    if (!reader.complete) throw this.#damaged(number + 1, 'the file is cut off: the last line is not there');
    if (!this.#sawFormat && this.leftOut === 0) throw this.#damaged(number, 'there is no format record in it');
    if (!this.#sawFormat) batch.push(FORMAT_RECORD);
    await records.commit(batch);
    if (this.#outdated || this.leftOut > 0) await this.#distrust(records);
  }

  #take(reader: ExportReader, bytes: Buffer, number: number): Change[] {
    try {
      const line = reader.next(bytes);
      if (line.type === 'head') this.head = line.head;
      else if (line.type === 'end') this.leftOut = line.leftOut;
      else return this.#record(line.key, line.value);
      return [];
    } catch (error) {
      if (error instanceof BadLine) throw this.#damaged(number, error.message);
      throw error;
    }
  }

  #record(key: string, value: unknown): Change[] {
    this.records += 1;
    if (key === FORMAT_KEY) {
      const known = checkFormat(this.#file, value);
      if (!known.ok) throw new Refused(known);
      this.#sawFormat = true;
    } else if (key.startsWith('volume/')) {
      const one: Pick<Records, 'get'> = { get: () => value };
      const read = readVolume(one as Records, key.slice('volume/'.length));
      if (!read.ok) throw new Refused(read);
      const { name, epoch, active } = read.value!;
      this.volumes.push({ name, epoch, active });
      this.#volumeRecords.push(read.value!);
    } else if (this.#outdated && /^(doubt|protection)\//.test(key)) return [];
    return [{ put: key, value }];
  }

  /** Nothing may be believed of copies but where they are: mirrors are dirty from end to end, checksums unknown. */
  async #distrust(records: LmdbRecords): Promise<void> {
    for (const prefix of ['sum/', 'dirty/']) {
      for (let more = true; more; ) {
        const keys: string[] = [];
        for (const [key] of records.list(prefix)) if (keys.push(key) === BATCH_RECORDS_MAX) break;
        await records.commit(keys.map((remove) => ({ remove })));
        more = keys.length === BATCH_RECORDS_MAX;
      }
    }
    for (const volume of this.#volumeRecords) {
      const extents = Math.ceil(volume.sizeBytes / EXTENT_BYTES);
      const dirty = volume.mirrors.flatMap(({ id }) => new DirtyRecord(records, volume.name, id, extents).addAll());
      const value = { ...volume, mirrors: volume.mirrors.map((mirror) => ({ ...mirror, synced: false })) };
      await records.commit([{ put: `volume/${volume.name}`, value }, ...dirty]);
    }
  }

  #damaged(number: number, reason: string): Refused {
    return new Refused(
      refuse('import-damaged', `${this.#file}, line ${number}: ${reason}. Nothing was changed.`, { file: this.#file, line: number }),
    );
  }
}

/** The lines without their newlines; bytes behind the last newline are a line too. */
async function* linesOf(file: string): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, start)) {
      yield Buffer.concat([...rest, chunk.subarray(start, end)]);
      rest = [];
      restBytes = 0;
      start = end + 1;
    }
    if (start < chunk.length) {
      rest.push(chunk.subarray(start));
      restBytes += chunk.length - start;
    }
    // Its checksum cannot fit: no line of ours is so long.
    if (restBytes > LINE_BYTES_MAX) break;
  }
  if (restBytes > 0) yield Buffer.concat(rest);
}
