// The bytes of one record's value. Guarantees that what is decoded is exactly what was encoded: every record carries
// a checksum, and damage is an error, never another value. Pure: no file is touched here.
//
//   0  u32 LE  CRC-32 (zlib's) of all bytes that follow
//   4  u32 LE  J: length of the JSON text in bytes
//   8  J bytes JSON, UTF-8; a byte array stands in it as {"$bytes": length}; an object's own keys that start
//              with "$" have one more "$" in front
//   8+J        the byte arrays, one after the other, in the order in which they stand in the text
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import type { RecordValue } from '../../replication/world.js';

const HEADER_BYTES = 8;
const DEPTH_MAX = 64;
const BYTES_KEY = '$bytes';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The bytes are not what `encodeRecord` made. */
export class DamagedRecord extends Error {}

function toJson(value: RecordValue, blobs: Uint8Array[], depth: number): Json | undefined {
  assert(depth < DEPTH_MAX, 'a record is nested too deeply or refers to itself');
  if (value === null || value === undefined || typeof value === 'boolean' || typeof value === 'string') {
    return value;
  }
  if (typeof value === 'number') {
    assert(Number.isFinite(value), `a record cannot hold the number ${value}`);
    return value;
  }
  assert(typeof value === 'object', `a record cannot hold a ${typeof value}`);
  if (value instanceof Uint8Array) {
    blobs.push(value);
    return { [BYTES_KEY]: value.length };
  }
  if (Array.isArray(value)) {
    return value.map((item) => {
      assert(item !== undefined, 'a record cannot hold undefined in an array');
      return toJson(item, blobs, depth + 1) as Json;
    });
  }
  const prototype = Object.getPrototypeOf(value);
  assert(prototype === Object.prototype || prototype === null, `a record cannot hold a ${prototype?.constructor?.name}`);
  const out: { [key: string]: Json } = Object.create(null);
  for (const [key, item] of Object.entries(value)) {
    const json = toJson(item, blobs, depth + 1);
    if (json !== undefined) {
      out[key.startsWith('$') ? `$${key}` : key] = json;
    }
  }
  return out;
}

/**
 * `value`: plain data (null, booleans, finite numbers, strings, Uint8Array, arrays and plain objects of these); anything
 * else is a bug and throws. Properties that are undefined are left out. The result shares no bytes with `value`.
 */
export function encodeRecord(value: RecordValue): Buffer {
  const blobs: Uint8Array[] = [];
  const json = toJson(value, blobs, 0);
  assert(json !== undefined, 'a record cannot be undefined');
  return joinRecord(Buffer.from(JSON.stringify(json), 'utf8'), Buffer.concat(blobs));
}

class BlobReader {
  constructor(
    readonly bytes: Buffer,
    public at: number,
  ) {}

  take(lengthBytes: number): Uint8Array {
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes < 0 || this.at + lengthBytes > this.bytes.length) {
      throw new DamagedRecord('its byte arrays are cut off');
    }
    const out = Uint8Array.prototype.slice.call(this.bytes, this.at, this.at + lengthBytes);
    this.at += lengthBytes;
    return new Uint8Array(out.buffer, out.byteOffset, out.length);
  }
}

function fromJson(json: Json, blobs: BlobReader): RecordValue {
  if (json === null || typeof json !== 'object') {
    return json;
  }
  if (Array.isArray(json)) {
    return json.map((item) => fromJson(item, blobs));
  }
  if (Object.hasOwn(json, BYTES_KEY)) {
    return blobs.take(json[BYTES_KEY] as number);
  }
  const out: Record<string, RecordValue> = {};
  for (const [key, item] of Object.entries(json)) {
    const name = key.startsWith('$') ? key.slice(1) : key;
    const value = fromJson(item, blobs);
    // A key named __proto__ would set the prototype if it were assigned.
    Object.defineProperty(out, name, { value, writable: true, enumerable: true, configurable: true });
  }
  return out;
}

/** The two parts of a record, views of it: its JSON text, and its byte arrays one after the other. Throws `DamagedRecord`. */
export function splitRecord(bytes: Buffer): { text: Buffer; arrays: Buffer } {
  if (bytes.length < HEADER_BYTES) {
    throw new DamagedRecord('it is shorter than a header');
  }
  if (crc32(bytes.subarray(4)) !== bytes.readUInt32LE(0)) {
    throw new DamagedRecord('its checksum is wrong');
  }
  const end = HEADER_BYTES + bytes.readUInt32LE(4);
  if (end > bytes.length) {
    throw new DamagedRecord('its text is cut off');
  }
  return { text: bytes.subarray(HEADER_BYTES, end), arrays: bytes.subarray(end) };
}

/** What `splitRecord` took apart. */
export function joinRecord(text: Buffer, arrays: Buffer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(text.length, 4);
  const bytes = Buffer.concat([header, text, arrays]);
  bytes.writeUInt32LE(crc32(bytes.subarray(4)), 0);
  return bytes;
}

/** Throws `DamagedRecord`. Byte arrays come back as Uint8Array of their own. */
export function decodeRecord(bytes: Buffer): RecordValue {
  const parts = splitRecord(bytes);
  const text = parts.text.toString('utf8');
  const json = JSON.parse(text) as Json;
  if (!text.includes('$') && !text.includes('__proto__')) {
    return json;
  }
  return fromJson(json, new BlobReader(parts.arrays, 0));
}
