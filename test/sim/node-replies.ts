// How a simulated node words its answers: simple or structured, whole or in several chunks in any order, holes as holes
// or as zeroes. All are legal; which one is drawn from the seed.
import { CHUNK_TYPE, MAGIC, META_ID, NBD_ERROR, STATUS_BIT } from './nbd-words.js';
import type { Random } from './random.js';

const DONE = 1;
const UNIT = 512;
const ZEROES = Buffer.alloc(4 * 1024 * 1024);

/** What a request is known by in its connection. */
export interface Cookie {
  high: number;
  low: number;
}

export interface Run {
  bytes: number;
  hole: boolean;
  zero: boolean;
}

export function simpleReply(cookie: Cookie, errno: number, data: Buffer | null): Buffer[] {
  const head = Buffer.alloc(16);
  head.writeUInt32BE(MAGIC.SIMPLE, 0);
  head.writeUInt32BE(errno, 4);
  writeCookie(head, 8, cookie);
  return data === null || errno !== 0 ? [head] : [head, data];
}

/** A structured answer to anything but READ and STATUS that succeeded. */
export function errorOrDone(cookie: Cookie, errno: number): Buffer[] {
  if (errno === 0) return [chunk(cookie, DONE, CHUNK_TYPE.NONE, Buffer.alloc(0))];
  return [chunk(cookie, DONE, CHUNK_TYPE.ERROR, errorBody(errno))];
}

/** READ: the data in one or several chunks, out of order unless `whole` (DF). */
export function readChunks(cookie: Cookie, offset: number, data: Buffer, whole: boolean, random: Random): Buffer[] {
  const pieces: { from: number; to: number }[] = [];
  const units = data.length / UNIT;
  if (whole || units < 2 || random.chance(0.5)) pieces.push({ from: 0, to: data.length });
  else {
    const cut = random.between(1, units - 1) * UNIT;
    pieces.push({ from: 0, to: cut }, { from: cut, to: data.length });
    random.shuffle(pieces);
  }
  const out: Buffer[] = [];
  const extraDone = random.chance(0.2);
  for (const [index, { from, to }] of pieces.entries()) {
    const flags = index === pieces.length - 1 && !extraDone ? DONE : 0;
    const bytes = data.subarray(from, to);
    const asHole = !whole && random.chance(0.5) && isZero(bytes);
    const place = Buffer.alloc(asHole ? 12 : 8);
    place.writeBigUInt64BE(BigInt(offset + from), 0);
    if (asHole) {
      place.writeUInt32BE(bytes.length, 8);
      out.push(chunk(cookie, flags, CHUNK_TYPE.HOLE, place));
    } else out.push(header(cookie, flags, CHUNK_TYPE.DATA, 8 + bytes.length), place, bytes);
  }
  if (extraDone) out.push(chunk(cookie, DONE, CHUNK_TYPE.NONE, Buffer.alloc(0)));
  return out;
}

/** READ that fails half way: some data may come first and counts for nothing. */
export function readError(cookie: Cookie, offset: number, length: number, random: Random): Buffer[] {
  const out: Buffer[] = [];
  if (length >= 2 * UNIT && random.chance(0.3)) {
    const body = Buffer.alloc(8 + UNIT, 0xee);
    body.writeBigUInt64BE(BigInt(offset), 0);
    out.push(chunk(cookie, 0, CHUNK_TYPE.DATA, body));
  }
  if (random.chance(0.5)) {
    const body = Buffer.alloc(14);
    errorBody(NBD_ERROR.IO).copy(body);
    body.writeBigUInt64BE(BigInt(offset + length - UNIT), 6);
    out.push(chunk(cookie, DONE, CHUNK_TYPE.ERROR_AT, body));
  } else out.push(chunk(cookie, DONE, CHUNK_TYPE.ERROR, errorBody(NBD_ERROR.IO)));
  return out;
}

export function statusChunk(cookie: Cookie, runs: Run[]): Buffer[] {
  const body = Buffer.alloc(4 + 8 * runs.length);
  body.writeUInt32BE(META_ID, 0);
  for (const [index, run] of runs.entries()) {
    body.writeUInt32BE(run.bytes, 4 + 8 * index);
    body.writeUInt32BE((run.hole ? STATUS_BIT.HOLE : 0) | (run.zero ? STATUS_BIT.ZERO : 0), 8 + 8 * index);
  }
  return [chunk(cookie, DONE, CHUNK_TYPE.STATUS, body)];
}

function isZero(bytes: Buffer): boolean {
  return bytes[0] === 0 && bytes[bytes.length - 1] === 0 && ZEROES.subarray(0, bytes.length).equals(bytes);
}

function chunk(cookie: Cookie, flags: number, type: number, body: Buffer): Buffer {
  return Buffer.concat([header(cookie, flags, type, body.length), body]);
}

function header(cookie: Cookie, flags: number, type: number, bodyBytes: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt32BE(MAGIC.CHUNK, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(type, 6);
  writeCookie(bytes, 8, cookie);
  bytes.writeUInt32BE(bodyBytes, 16);
  return bytes;
}

function errorBody(errno: number): Buffer {
  const body = Buffer.alloc(6);
  body.writeUInt32BE(errno, 0);
  return body;
}

function writeCookie(bytes: Buffer, at: number, cookie: Cookie): void {
  bytes.writeUInt32BE(cookie.high, at);
  bytes.writeUInt32BE(cookie.low, at + 4);
}
