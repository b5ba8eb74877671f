// Reads telemetry in the column layout of Backblaze's Drive Stats CSVs, plain or gzipped, as a stream.
// Guarantees constant memory, columns found by name (any subset of smart_N_raw), and an error with the line number for a damaged row.
// It must not interpret the values beyond turning cells into numbers.

import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';

/** One row; the object is reused for the next one. */
export interface DriveRow {
  line: number;
  date: string;
  /** Midnight UTC of the date, epoch milliseconds. */
  atMs: number;
  serial: string;
  model: string;
  capacityBytes: number;
  failure: boolean;
  /** Raw values in the order of `DriveStatsHeader.smartIds`; NaN where the cell is empty. */
  raw: Float64Array;
}

export interface DriveStatsHeader {
  smartIds: number[];
}

type OnRow = (row: DriveRow, header: DriveStatsHeader) => void;

const LINE_CHARS_MAX = 64 * 1024;

/** Calls `onRow` for every row in file order; resolves with the number of rows. Rejects on a file that is not in this layout. */
export async function readDriveStats(path: string, onRow: OnRow): Promise<number> {
  const file = createReadStream(path, { highWaterMark: 2 ** 20 });
  const source = path.endsWith('.gz') ? file.pipe(createGunzip({ chunkSize: 2 ** 20 })) : file;
  file.on('error', (error) => source.destroy(error));
  const reader = new RowReader(onRow);
  let pending = '';
  for await (const chunk of source) {
    const text: string = pending + (chunk as Buffer).toString('latin1');
    let from = 0;
    for (let to = text.indexOf('\n', from); to >= 0; to = text.indexOf('\n', from)) {
      reader.take(text.slice(from, text[to - 1] === '\r' ? to - 1 : to));
      from = to + 1;
    }
    pending = text.slice(from);
    if (pending.length > LINE_CHARS_MAX) throw new Error(`${path}: line ${reader.line + 1} is longer than ${LINE_CHARS_MAX} characters`);
  }
  if (pending !== '') reader.take(pending);
  if (reader.line === 0) throw new Error(`${path}: the file is empty`);
  return reader.line - 1;
}

class RowReader {
  line = 0;
  #columns: { date: number; serial: number; model: number; capacity: number; failure: number; raw: number[] } | null = null;
  #cells = 0;
  #header: DriveStatsHeader = { smartIds: [] };
  #row: DriveRow = {
    line: 0,
    date: '',
    atMs: 0,
    serial: '',
    model: '',
    capacityBytes: Number.NaN,
    failure: false,
    raw: new Float64Array(0),
  };

  constructor(readonly onRow: OnRow) {}

  take(text: string): void {
    this.line++;
    if (text === '') return;
    const cells = text.split(',');
    if (this.#columns === null) {
      this.#takeHeader(cells);
      return;
    }
    if (cells.length !== this.#cells) throw new Error(`line ${this.line}: ${cells.length} cells where the header has ${this.#cells}`);
    const { date, serial, model, capacity, failure, raw } = this.#columns;
    const row = this.#row;
    row.line = this.line;
    if (cells[date] !== row.date) {
      row.date = cells[date];
      row.atMs = Date.parse(`${row.date}T00:00:00Z`);
      if (!Number.isFinite(row.atMs)) throw new Error(`line ${this.line}: "${row.date}" is no date (YYYY-MM-DD)`);
    }
    row.serial = cells[serial];
    row.model = model < 0 ? '' : cells[model];
    row.capacityBytes = capacity < 0 ? Number.NaN : cell(cells[capacity]);
    row.failure = failure >= 0 && cells[failure] === '1';
    for (let i = 0; i < raw.length; i++) row.raw[i] = cell(cells[raw[i]]);
    this.onRow(row, this.#header);
  }

  #takeHeader(cells: string[]): void {
    const raw: number[] = [];
    const smartIds: number[] = [];
    for (const [index, name] of cells.entries()) {
      const match = /^smart_(\d+)_raw$/.exec(name);
      if (!match) continue;
      raw.push(index);
      smartIds.push(Number(match[1]));
    }
    const find = (name: string): number => cells.indexOf(name);
    this.#columns = {
      date: find('date'),
      serial: find('serial_number'),
      model: find('model'),
      capacity: find('capacity_bytes'),
      failure: find('failure'),
      raw,
    };
    if (this.#columns.date < 0 || this.#columns.serial < 0)
      throw new Error('line 1: the header has no date and serial_number; this is not a Drive Stats CSV');
    if (raw.length === 0) throw new Error('line 1: the header has no smart_N_raw column');
    this.#cells = cells.length;
    this.#header = { smartIds };
    this.#row.raw = new Float64Array(raw.length);
  }
}

function cell(text: string): number {
  return text === '' ? Number.NaN : Number(text);
}
