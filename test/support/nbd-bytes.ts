// NBD messages as bytes for tests of the state machines, built and taken apart with Node's own readers and BigInt, so that
// they share nothing with the codec under test.
import assert from 'node:assert/strict';

/** Bytes from hex digits; blanks are for the reader. */
export function hex(digits: string): Buffer {
  return Buffer.from(digits.replaceAll(/\s/g, ''), 'hex');
}

export function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function uint64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** One option as a client sends it; `length` is what its header claims. */
export function optionBytes(option: number, data: Buffer = Buffer.alloc(0), length = data.length): Buffer {
  return Buffer.concat([hex('49484156454f5054'), uint32(option), uint32(length), data]);
}

/** The data of INFO and GO. */
export function infoData(name: string | Buffer, ...asked: number[]): Buffer {
  const bytes = Buffer.from(name);
  return Buffer.concat([uint32(bytes.length), bytes, uint16(asked.length), ...asked.map(uint16)]);
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextData(name: string, ...queries: string[]): Buffer {
  const parts = queries.map((query) => Buffer.concat([uint32(Buffer.byteLength(query)), Buffer.from(query)]));
  return Buffer.concat([uint32(Buffer.byteLength(name)), Buffer.from(name), uint32(queries.length), ...parts]);
}

/** One reply to an option as a server sends it. */
export function optionReplyBytes(option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([hex('0003e889045565a9'), uint32(option), uint32(type), uint32(data.length), data]);
}

export interface OptionReply {
  option: number;
  type: number;
  data: Buffer;
}

/** Takes apart nothing but whole option replies. */
export function parseOptionReplies(bytes: Buffer): OptionReply[] {
  const replies: OptionReply[] = [];
  for (let at = 0; at < bytes.length; ) {
    assert.equal(bytes.readBigUInt64BE(at), 0x3e889045565a9n, 'the magic of an option reply');
    const length = bytes.readUInt32BE(at + 16);
    assert(at + 20 + length <= bytes.length, 'a whole option reply');
    replies.push({
      option: bytes.readUInt32BE(at + 8),
      type: bytes.readUInt32BE(at + 12),
      data: bytes.subarray(at + 20, at + 20 + length),
    });
    at += 20 + length;
  }
  return replies;
}

export interface RequestFields {
  command: number;
  flags?: number;
  cookie?: bigint;
  offset?: bigint | number;
  length?: bigint | number;
  payload?: Buffer;
}

/** A request as a client sends it, after extended headers were agreed or without; `length` defaults to the payload's. */
export function requestBytes(fields: RequestFields, extended = false): Buffer {
  const payload = fields.payload ?? Buffer.alloc(0);
  const length = fields.length ?? payload.length;
  const head = [hex(extended ? '21e41c71' : '25609513'), uint16(fields.flags ?? 0), uint16(fields.command), uint64(fields.cookie ?? 1n)];
  return Buffer.concat([...head, uint64(fields.offset ?? 0), extended ? uint64(length) : uint32(Number(length)), payload]);
}

export interface Reply {
  cookie: bigint;
  /** simple, or the type of the chunk. */
  type: 'simple' | number;
  /** The chunk's flags; 1 for a simple reply, which is always the last. */
  flags: number;
  errno: number;
  payload: Buffer;
  /** The request's, which extended replies echo. */
  offset?: bigint;
}

/** Takes apart nothing but whole replies. `readLength` gives the data behind a simple reply (0 for all but READ). */
export function parseReplies(bytes: Buffer, readLength: (cookie: bigint) => number = () => 0): Reply[] {
  const replies: Reply[] = [];
  for (let at = 0; at < bytes.length; ) {
    const magic = bytes.readUInt32BE(at);
    const simple = magic === 0x67446698;
    const extended = magic === 0x6e8a278c;
    assert(simple || extended || magic === 0x668e33ef, `the magic of a reply, not ${magic.toString(16)}`);
    const cookie = bytes.readBigUInt64BE(at + 8);
    const head = simple ? 16 : extended ? 32 : 20;
    const simpleErrno = simple ? bytes.readUInt32BE(at + 4) : 0;
    const length = simple
      ? simpleErrno === 0
        ? readLength(cookie)
        : 0
      : extended
        ? Number(bytes.readBigUInt64BE(at + 24))
        : bytes.readUInt32BE(at + 16);
    const payload = bytes.subarray(at + head, at + head + length);
    assert.equal(payload.length, length, 'a whole reply');
    const type = simple ? 'simple' : bytes.readUInt16BE(at + 6);
    const flags = simple ? 1 : bytes.readUInt16BE(at + 4);
    const errno = type !== 'simple' && type >= 0x8000 ? payload.readUInt32BE(0) : simpleErrno;
    replies.push({ cookie, type, flags, errno, payload, ...(extended ? { offset: bytes.readBigUInt64BE(at + 16) } : {}) });
    at += head + length;
  }
  return replies;
}
