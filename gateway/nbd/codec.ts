// NBD transmission headers in both directions, as pure functions over a buffer and a position: nothing is
// allocated, decoders fill an object of the caller. Cookies are two 32-bit halves and offsets are numbers, so that
// no BigInt is made per request; the caller sees to it that the buffer holds the whole header.
//
//   request           magic32 flags16 command16 cookie64 offset64 length32         28 bytes
//   simple reply      magic32 error32 cookie64                                     16 bytes
//   chunk             magic32 flags16 type16 cookie64 length32                     20 bytes
//   extended request  magic32 flags16 command16 cookie64 offset64 length64         32 bytes
//   extended chunk    magic32 flags16 type16 cookie64 offset64 length64            32 bytes
import assert from 'node:assert/strict';
import { EXTENDED_REPLY_MAGIC, EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from './constants.js';

const TWO_32 = 0x1_0000_0000;

/** What both sides agreed on: simple replies only, chunks for what has data, or extended headers both ways. */
export type HeaderStyle = 'simple' | 'structured' | 'extended';

export function readUint16(buffer: Uint8Array, at: number): number {
  return (buffer[at] << 8) | buffer[at + 1];
}

export function readUint32(buffer: Uint8Array, at: number): number {
  return ((buffer[at] << 24) | (buffer[at + 1] << 16) | (buffer[at + 2] << 8) | buffer[at + 3]) >>> 0;
}

/** Exact up to 2^53; beyond that rounded, but never to below 2^53, so that a bounds check still refuses it. */
export function readUint64(buffer: Uint8Array, at: number): number {
  return readUint32(buffer, at) * TWO_32 + readUint32(buffer, at + 4);
}

export function writeUint16(buffer: Uint8Array, at: number, value: number): void {
  buffer[at] = value >>> 8;
  buffer[at + 1] = value;
}

export function writeUint32(buffer: Uint8Array, at: number, value: number): void {
  buffer[at] = value >>> 24;
  buffer[at + 1] = value >>> 16;
  buffer[at + 2] = value >>> 8;
  buffer[at + 3] = value;
}

/** `value` is an integer from 0 to 2^53 - 1. */
export function writeUint64(buffer: Uint8Array, at: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, 'a 64-bit field needs an integer from 0 to 2^53 - 1');
  writeUint32(buffer, at, Math.floor(value / TWO_32));
  writeUint32(buffer, at + 4, value >>> 0);
}

/** A request's header, reused from one decode to the next. */
export class RequestHeader {
  flags = 0;
  command = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** Bytes; see `readUint64` for values over 2^53. */
  offset = 0;
  /** The same to the last bit, for the reply's echo. */
  offsetHigh = 0;
  offsetLow = 0;
  /** Bytes that the request is about or that follow it; of an extended one up to 2^64, rounded as `readUint64` does. */
  length = 0;
}

/** A simple reply's header, reused from one decode to the next. */
export class SimpleReplyHeader {
  error = 0;
  cookieHigh = 0;
  cookieLow = 0;
}

/** A structured reply chunk's header, reused from one decode to the next. `length` counts the bytes after it. */
export class ChunkHeader {
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** Of an extended one: the request's offset, as it came back. */
  offset = 0;
  length = 0;
}

/** Writes the 28 bytes of a request at `at`. */
export function encodeRequest(
  buffer: Uint8Array,
  at: number,
  flags: number,
  command: number,
  cookieHigh: number,
  cookieLow: number,
  offset: number,
  length: number,
): void {
  writeUint32(buffer, at, REQUEST_MAGIC);
  encodeRequestStart(buffer, at, flags, command, cookieHigh, cookieLow, offset);
  writeUint32(buffer, at + 24, length);
}

/** Writes the 32 bytes of an extended request at `at`. */
export function encodeExtendedRequest(
  buffer: Uint8Array,
  at: number,
  flags: number,
  command: number,
  cookieHigh: number,
  cookieLow: number,
  offset: number,
  length: number,
): void {
  writeUint32(buffer, at, EXTENDED_REQUEST_MAGIC);
  encodeRequestStart(buffer, at, flags, command, cookieHigh, cookieLow, offset);
  writeUint64(buffer, at + 24, length);
}

/** What both kinds of request have in common. */
function encodeRequestStart(
  buffer: Uint8Array,
  at: number,
  flags: number,
  command: number,
  cookieHigh: number,
  cookieLow: number,
  offset: number,
): void {
  writeUint16(buffer, at + 4, flags);
  writeUint16(buffer, at + 6, command);
  writeUint32(buffer, at + 8, cookieHigh);
  writeUint32(buffer, at + 12, cookieLow);
  writeUint64(buffer, at + 16, offset);
}

/** Reads the 28 bytes at `at`. False: the magic is wrong and `into` is untouched. */
export function decodeRequest(buffer: Uint8Array, at: number, into: RequestHeader): boolean {
  if (readUint32(buffer, at) !== REQUEST_MAGIC) return false;
  decodeRequestStart(buffer, at, into);
  into.length = readUint32(buffer, at + 24);
  return true;
}

/** Reads the 32 bytes at `at`. False: the magic is wrong and `into` is untouched. */
export function decodeExtendedRequest(buffer: Uint8Array, at: number, into: RequestHeader): boolean {
  if (readUint32(buffer, at) !== EXTENDED_REQUEST_MAGIC) return false;
  decodeRequestStart(buffer, at, into);
  into.length = readUint64(buffer, at + 24);
  return true;
}

/** What both kinds of request have in common. */
function decodeRequestStart(buffer: Uint8Array, at: number, into: RequestHeader): void {
  into.flags = readUint16(buffer, at + 4);
  into.command = readUint16(buffer, at + 6);
  into.cookieHigh = readUint32(buffer, at + 8);
  into.cookieLow = readUint32(buffer, at + 12);
  into.offsetHigh = readUint32(buffer, at + 16);
  into.offsetLow = readUint32(buffer, at + 20);
  into.offset = into.offsetHigh * TWO_32 + into.offsetLow;
}

/** Writes the 16 bytes of a simple reply at `at`. */
export function encodeSimpleReply(buffer: Uint8Array, at: number, error: number, cookieHigh: number, cookieLow: number): void {
  writeUint32(buffer, at, SIMPLE_REPLY_MAGIC);
  writeUint32(buffer, at + 4, error);
  writeUint32(buffer, at + 8, cookieHigh);
  writeUint32(buffer, at + 12, cookieLow);
}

/** Reads the 16 bytes at `at`. False: the magic is wrong and `into` is untouched. */
export function decodeSimpleReply(buffer: Uint8Array, at: number, into: SimpleReplyHeader): boolean {
  if (readUint32(buffer, at) !== SIMPLE_REPLY_MAGIC) return false;
  into.error = readUint32(buffer, at + 4);
  into.cookieHigh = readUint32(buffer, at + 8);
  into.cookieLow = readUint32(buffer, at + 12);
  return true;
}

/** Writes the 20 bytes of a chunk's header at `at`; `length` counts the bytes that follow. */
export function encodeChunkHeader(
  buffer: Uint8Array,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  length: number,
): void {
  writeUint32(buffer, at, STRUCTURED_REPLY_MAGIC);
  writeUint16(buffer, at + 4, flags);
  writeUint16(buffer, at + 6, type);
  writeUint32(buffer, at + 8, cookieHigh);
  writeUint32(buffer, at + 12, cookieLow);
  writeUint32(buffer, at + 16, length);
}

/** Writes the 32 bytes of an extended chunk's header at `at`: `offset` is the request's, in halves; `length` counts the bytes that follow. */
export function encodeExtendedChunkHeader(
  buffer: Uint8Array,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  offsetHigh: number,
  offsetLow: number,
  length: number,
): void {
  writeUint32(buffer, at, EXTENDED_REPLY_MAGIC);
  writeUint16(buffer, at + 4, flags);
  writeUint16(buffer, at + 6, type);
  writeUint32(buffer, at + 8, cookieHigh);
  writeUint32(buffer, at + 12, cookieLow);
  writeUint32(buffer, at + 16, offsetHigh);
  writeUint32(buffer, at + 20, offsetLow);
  writeUint64(buffer, at + 24, length);
}

/** Reads the 20 bytes at `at`. False: the magic is wrong and `into` is untouched. */
export function decodeChunkHeader(buffer: Uint8Array, at: number, into: ChunkHeader): boolean {
  if (readUint32(buffer, at) !== STRUCTURED_REPLY_MAGIC) return false;
  into.flags = readUint16(buffer, at + 4);
  into.type = readUint16(buffer, at + 6);
  into.cookieHigh = readUint32(buffer, at + 8);
  into.cookieLow = readUint32(buffer, at + 12);
  into.length = readUint32(buffer, at + 16);
  return true;
}

/** Reads the 32 bytes at `at`. False: the magic is wrong and `into` is untouched. */
export function decodeExtendedChunkHeader(buffer: Uint8Array, at: number, into: ChunkHeader): boolean {
  if (readUint32(buffer, at) !== EXTENDED_REPLY_MAGIC) return false;
  into.flags = readUint16(buffer, at + 4);
  into.type = readUint16(buffer, at + 6);
  into.cookieHigh = readUint32(buffer, at + 8);
  into.cookieLow = readUint32(buffer, at + 12);
  into.offset = readUint64(buffer, at + 16);
  into.length = readUint64(buffer, at + 24);
  return true;
}
