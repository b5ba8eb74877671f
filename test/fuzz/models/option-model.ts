// The data of options, taken apart as plainly as possible: null where it is not to the last byte what the protocol says.
import { STRING_BYTES_MAX } from '../../../gateway/nbd/constants.js';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A name; null: too long, with a NUL, or no UTF-8. */
export function parseText(bytes: Buffer): string | null {
  if (bytes.length > STRING_BYTES_MAX || bytes.includes(0)) return null;
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/** Takes strings that say how long they are. */
class Cursor {
  #at = 0;
  readonly #data: Buffer;

  constructor(data: Buffer) {
    this.#data = data;
  }

  get left(): number {
    return this.#data.length - this.#at;
  }

  number(bytes: 2 | 4): number | null {
    if (this.left < bytes) return null;
    this.#at += bytes;
    return this.#data.readUIntBE(this.#at - bytes, bytes);
  }

  string(): Buffer | null {
    const length = this.number(4);
    if (length === null || length > this.left) return null;
    this.#at += length;
    return this.#data.subarray(this.#at - length, this.#at);
  }
}

export function parseInfo(data: Buffer): { name: string; asked: Set<number> } | null {
  const cursor = new Cursor(data);
  const bytes = cursor.string();
  const name = bytes === null ? null : parseText(bytes);
  const count = cursor.number(2);
  if (name === null || count === null || cursor.left !== 2 * count) return null;
  return { name, asked: new Set(Array.from({ length: count }, () => cursor.number(2)!)) };
}

export function parseMeta(data: Buffer): { name: string; queries: string[] } | null {
  const cursor = new Cursor(data);
  const bytes = cursor.string();
  const name = bytes === null ? null : parseText(bytes);
  const count = cursor.number(4);
  if (name === null || count === null) return null;
  const queries: string[] = [];
  for (let i = 0; i < count; i += 1) {
    const query = cursor.string();
    if (query === null) return null;
    queries.push(query.toString('utf8'));
  }
  return cursor.left === 0 ? { name, queries } : null;
}

/** The payload of a BLOCK_STATUS: ids of `known`, each once, and a length. */
export function parseSelection(payload: Buffer, known: readonly number[]): { length: bigint; ids: number[] } | null {
  if (payload.length < 12 || payload.length % 4 !== 0) return null;
  const ids: number[] = [];
  for (let at = 8; at < payload.length; at += 4) ids.push(payload.readUInt32BE(at));
  if (new Set(ids).size !== ids.length || ids.some((id) => !known.includes(id))) return null;
  return { length: payload.readBigUInt64BE(0), ids };
}
