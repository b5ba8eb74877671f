// The data of a client's options, taken apart: names, information requests, metadata context queries. Every length is
// checked against what is there; data that does not add up to the last byte is refused with its reason, never guessed at.
//
//   INFO, GO                       nameLength32 name requests16 { request16 }
//   LIST_META, SET_META_CONTEXT    nameLength32 name queries32 { queryLength32 query }
import { isUtf8 } from 'node:buffer';
import { readUint16, readUint32 } from './codec.js';
import { OPTION_REPLY, STRING_BYTES_MAX } from './constants.js';

/** Why an option is refused: an error of OPTION_REPLY and a sentence for the client's log. */
export interface OptionFlaw {
  reply: number;
  message: string;
}

export type Parsed<T> = { flaw: null; value: T } | { flaw: OptionFlaw };

export interface InfoRequest {
  name: string;
  asked: Set<number>;
}

export interface MetaContextRequest {
  name: string;
  queries: string[];
}

export function parseName(bytes: Buffer): Parsed<string> {
  if (bytes.length > STRING_BYTES_MAX) return flawed(OPTION_REPLY.ERR_TOO_BIG, `an export name has at most ${STRING_BYTES_MAX} bytes`);
  if (bytes.includes(0)) return invalid('an export name holds no NUL');
  if (!isUtf8(bytes)) return invalid('an export name is valid UTF-8');
  return { flaw: null, value: bytes.toString('utf8') };
}

export function parseInfoRequest(data: Buffer): Parsed<InfoRequest> {
  const name = parseLeadingName(data);
  if (name.flaw !== null) return name;
  const at = name.value.end;
  if (data.length < at + 2) return invalid('the number of information requests is missing');
  const count = readUint16(data, at);
  if (data.length !== at + 2 + count * 2) return invalid(`the data does not hold exactly ${count} information requests`);
  const asked = new Set<number>();
  for (let i = 0; i < count; i++) asked.add(readUint16(data, at + 2 + i * 2));
  return { flaw: null, value: { name: name.value.name, asked } };
}

export function parseMetaContextRequest(data: Buffer): Parsed<MetaContextRequest> {
  const name = parseLeadingName(data);
  if (name.flaw !== null) return name;
  let at = name.value.end;
  if (data.length < at + 4) return invalid('the number of queries is missing');
  const count = readUint32(data, at);
  at += 4;
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    if (data.length < at + 4) return invalid(`query ${i + 1} of ${count} is missing`);
    const length = readUint32(data, at);
    at += 4;
    if (length > data.length - at) return invalid(`query ${i + 1} of ${count} is longer than the data`);
    queries.push(data.toString('utf8', at, at + length));
    at += length;
  }
  if (at !== data.length) return invalid(`${data.length - at} bytes too many after the last query`);
  return { flaw: null, value: { name: name.value.name, queries } };
}

/** The name that starts `data` behind its length, and where it ends. */
function parseLeadingName(data: Buffer): Parsed<{ name: string; end: number }> {
  if (data.length < 4) return invalid('the length of the export name is missing');
  const length = readUint32(data, 0);
  if (length > data.length - 4) return invalid('the export name is longer than the data');
  const name = parseName(data.subarray(4, 4 + length));
  if (name.flaw !== null) return name;
  return { flaw: null, value: { name: name.value, end: 4 + length } };
}

function invalid(message: string): { flaw: OptionFlaw } {
  return flawed(OPTION_REPLY.ERR_INVALID, message);
}

function flawed(reply: number, message: string): { flaw: OptionFlaw } {
  return { flaw: { reply, message } };
}
