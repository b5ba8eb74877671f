// The portable form of a store: JSON lines, each with a checksum of its own, with a last line that counts and sums up all of it. docs/store.md describes it line by line. Pure: lines in, records or the reason out.
//
//   {"crc":"8 hex","forestall":"store","version":1,"format":1,"by":"0.1.0","at":"2026-01-01T00:00:00.000Z"}
//   {"crc":"8 hex","key":"volume/vol0","value":{...},"bytes":"base64"}
//   {"crc":"8 hex","records":2,"leftOut":0,"sha256":"64 hex"}
//
// `crc` is zlib's CRC-32 of the line's bytes after `"crc":"8 hex",` up to the newline. `value` is the record's JSON text as
// `record-codec.ts` has it; `bytes`, where there are any, its byte arrays one after the other. `leftOut` counts damaged records
// that a salvage left out. `sha256` is that of all lines before it, with their newlines.
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { DamagedRecord, decodeRecord, encodeRecord, joinRecord, splitRecord } from './record-codec.js';

/** Version of the lines; that of the records is `format`. */
export const EXPORT_VERSION = 1;
/** A line longer than this is none of ours. */
export const LINE_BYTES_MAX = 256 * 1024 * 1024;
const HEAD = /^\{"crc":"([0-9a-f]{8})",/;
const HEAD_BYTES = 18;

export interface ExportHead {
  version: number;
  /** Of the records. */
  format: number;
  by: string;
  at: string;
}

/** What a line says is wrong with it; a sentence's part. */
export class BadLine extends Error {}

function line(rest: string): Buffer {
  const bytes = Buffer.from(rest, 'utf8');
  return Buffer.concat([Buffer.from(`{"crc":"${crc32(bytes).toString(16).padStart(8, '0')}",`), bytes, Buffer.from('\n')]);
}

export class ExportWriter {
  readonly #hash = createHash('sha256');
  #records = 0;

  get records(): number {
    return this.#records;
  }

  head({ format, by, at }: Omit<ExportHead, 'version'>): Buffer {
    return this.#summed(line(JSON.stringify({ forestall: 'store', version: EXPORT_VERSION, format, by, at }).slice(1)));
  }

  /** `bytes` as `encodeRecord` made them. Throws DamagedRecord. */
  record(key: string, bytes: Buffer): Buffer {
    const { text, arrays } = splitRecord(bytes);
    this.#records += 1;
    const tail = arrays.length === 0 ? '' : `,"bytes":"${arrays.toString('base64')}"`;
    return this.#summed(line(`"key":${JSON.stringify(key)},"value":${text.toString('utf8')}${tail}}`));
  }

  end(leftOut: number): Buffer {
    return line(JSON.stringify({ records: this.#records, leftOut, sha256: this.#hash.digest('hex') }).slice(1));
  }

  #summed(bytes: Buffer): Buffer {
    this.#hash.update(bytes);
    return bytes;
  }
}

export type ExportLine =
  | { type: 'head'; head: ExportHead }
  | { type: 'record'; key: string; value: unknown }
  | { type: 'end'; records: number; leftOut: number };

export class ExportReader {
  readonly #hash = createHash('sha256');
  #state: 'head' | 'records' | 'over' = 'head';
  #records = 0;

  /** The last line was there. */
  get complete(): boolean {
    return this.#state === 'over';
  }

  /** The next line without its newline. Throws BadLine. */
  next(bytes: Buffer): ExportLine {
    if (this.#state === 'over') throw new BadLine('there is something behind the last line');
    const json = this.#parse(bytes);
    if (this.#state === 'head') return { type: 'head', head: this.#head(json, bytes) };
    if (Object.hasOwn(json, 'sha256')) return this.#end(json);
    this.#hash.update(bytes).update('\n');
    return this.#record(json);
  }

  #parse(bytes: Buffer): Record<string, unknown> {
    const head = HEAD.exec(bytes.toString('latin1', 0, HEAD_BYTES));
    if (head === null) throw new BadLine(this.#state === 'head' ? 'this is no export of a store' : 'it does not begin as a line does');
    if (crc32(bytes.subarray(HEAD_BYTES)) !== Number.parseInt(head[1], 16)) throw new BadLine('its checksum is wrong');
    try {
      return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Record<string, unknown>;
    } catch (error) {
      throw new BadLine(`it is no JSON: ${(error as Error).message}`);
    }
  }

  #head(json: Record<string, unknown>, bytes: Buffer): ExportHead {
    const { forestall, version, format, by, at } = json;
    if (forestall !== 'store' || typeof version !== 'number' || typeof format !== 'number')
      throw new BadLine('this is no export of a store');
    if (version > EXPORT_VERSION) {
      throw new BadLine(
        `this export has version ${version}; this Forestall knows versions up to ${EXPORT_VERSION}: use the one that made it, or a later one`,
      );
    }
    this.#hash.update(bytes).update('\n');
    this.#state = 'records';
    return { version, format, by: String(by), at: String(at) };
  }

  #record({ key, value, bytes = '' }: Record<string, unknown>): ExportLine {
    if (typeof key !== 'string' || value === undefined || typeof bytes !== 'string') throw new BadLine('it is no record');
    this.#records += 1;
    try {
      const joined = joinRecord(Buffer.from(JSON.stringify(value)), Buffer.from(bytes, 'base64'));
      const decoded = decodeRecord(joined);
      if (!encodeRecord(decoded).equals(joined)) throw new DamagedRecord('its bytes do not fit its value');
      return { type: 'record', key, value: decoded };
    } catch (error) {
      if (!(error instanceof DamagedRecord)) throw error;
      throw new BadLine(`record ${JSON.stringify(key)}: ${error.message}`);
    }
  }

  #end({ records, leftOut, sha256 }: Record<string, unknown>): ExportLine {
    if (records !== this.#records) throw new BadLine(`${this.#records} records came before it, but it says ${String(records)}`);
    if (sha256 !== this.#hash.digest('hex')) throw new BadLine('the lines before it are not those that were written');
    this.#state = 'over';
    return { type: 'end', records: this.#records, leftOut: typeof leftOut === 'number' ? leftOut : 0 };
  }
}
