// From a connection in the handshake to one in the transmission phase, on the way a well-behaved client goes; what the server
// says on the way is taken apart here.
import type { HeaderStyle } from '../nbd/codec.js';
import { readUint16, readUint32 } from '../nbd/codec.js';
import { INFO, OPTION, OPTION_REPLY, SIZE } from '../nbd/constants.js';
import { uint16, uint32 } from './big-endian.js';
import type { OptionAnswer, RawLink } from './raw-link.js';
import { RawSession } from './raw-session.js';
import { RuleBroken } from './verdict.js';

export interface BlockSizes {
  minimum: number;
  preferred: number;
  maximum: number;
}

export interface Wishes {
  headers?: HeaderStyle;
  /** Contexts to select; all must be there. */
  contexts?: readonly string[];
  /** Use EXPORT_NAME, after which 124 zeroes come unless they were declined. */
  exportName?: boolean;
  zeroes?: boolean;
  /** What a harmless READ may ask for, where the server does not say it. */
  unit?: number;
}

/** The data of INFO and GO. */
export function infoData(name: string | Buffer, requests: readonly number[] = [INFO.BLOCK_SIZE]): Buffer {
  const bytes = Buffer.from(name);
  return Buffer.concat([uint32(bytes.length), bytes, uint16(requests.length), uint16(...requests)]);
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextData(name: string, queries: readonly string[]): Buffer {
  const strings = [...queries.map((query) => Buffer.from(query))].map((bytes) => Buffer.concat([uint32(bytes.length), bytes]));
  const bytes = Buffer.from(name);
  return Buffer.concat([uint32(bytes.length), bytes, uint32(queries.length), ...strings]);
}

/** The data behind the type of an information, or undefined if it did not come. */
export function infoOf(answer: OptionAnswer, info: number): Buffer | undefined {
  const found = answer.replies.find(({ type, data }) => type === OPTION_REPLY.INFO && data.length >= 2 && readUint16(data, 0) === info);
  return found?.data.subarray(2);
}

export function exportInfoOf(answer: OptionAnswer): { sizeBytes: number; flags: number } | null {
  const data = infoOf(answer, INFO.EXPORT);
  return data === undefined || data.length < 10 ? null : { sizeBytes: Number(data.readBigUInt64BE(0)), flags: readUint16(data, 8) };
}

export function blockSizesOf(answer: OptionAnswer): BlockSizes | null {
  const data = infoOf(answer, INFO.BLOCK_SIZE);
  if (data === undefined || data.length < 12) return null;
  return { minimum: readUint32(data, 0), preferred: readUint32(data, 4), maximum: readUint32(data, 8) };
}

/** Contexts by their ids, as META_CONTEXT replies name them. */
export function contextsOf(answer: OptionAnswer): Map<number, string> {
  const contexts = answer.replies.filter(({ type, data }) => type === OPTION_REPLY.META_CONTEXT && data.length >= 4);
  return new Map(contexts.map(({ data }) => [readUint32(data, 0), data.toString('utf8', 4)]));
}

/** Structured replies or extended headers, and contexts, as wished for. */
export async function negotiate(link: RawLink, name: string, { headers = 'simple', contexts = [] }: Wishes): Promise<Map<number, string>> {
  if (headers !== 'simple') {
    let answer = await link.option(headers === 'extended' ? OPTION.EXTENDED_HEADERS : OPTION.STRUCTURED_REPLY);
    if (headers === 'extended' && !answer.closed && !answer.acknowledged) {
      // Some may want structured replies first.
      await link.option(OPTION.STRUCTURED_REPLY);
      answer = await link.option(OPTION.EXTENDED_HEADERS);
    }
    if (!answer.acknowledged) throw new RuleBroken(`${headers} replies to be agreed on`, answer.words);
  }
  if (contexts.length === 0) return new Map();
  const answer = await link.option(OPTION.SET_META_CONTEXT, contextData(name, contexts));
  const selected = contextsOf(answer);
  if (!answer.acknowledged || selected.size < contexts.length) {
    throw new RuleBroken(`${contexts.join(', ')} to be selected`, `${answer.words}, after ${selected.size} contexts`);
  }
  return selected;
}

/** INFO requests that are not answered do not matter. */
export async function enter(link: RawLink, name: string, wishes: Wishes): Promise<RawSession> {
  const contexts = await negotiate(link, name, wishes);
  const headers = wishes.headers ?? 'simple';
  if (wishes.exportName === true) {
    const zeroes = wishes.zeroes === true ? SIZE.EXPORT_REPLY_ZEROES : 0;
    link.sendOption(OPTION.EXPORT_NAME, Buffer.from(name));
    const reply = await link.read(SIZE.EXPORT_REPLY + zeroes, 'the answer to EXPORT_NAME');
    const start = {
      headers,
      sizeBytes: Number(reply.readBigUInt64BE(0)),
      flags: readUint16(reply, 8),
      contexts,
      blockBytes: wishes.unit ?? 512,
    };
    return new RawSession(link, start);
  }
  const answer = await link.option(OPTION.GO, infoData(name));
  const info = exportInfoOf(answer);
  if (!answer.acknowledged || info === null) throw new RuleBroken('GO to succeed with INFO_EXPORT', answer.words);
  const blockBytes = Math.max(512, wishes.unit ?? 1, blockSizesOf(answer)?.minimum ?? 1);
  return new RawSession(link, { headers, ...info, contexts, blockBytes });
}
