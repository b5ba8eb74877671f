// What a client is told of an export before it may use it: transmission flags, block sizes, name and description.
// Announces exactly what `request-rules.ts` lets through; the two are changed together.
import { type HeaderStyle, writeUint16, writeUint32, writeUint64 } from './codec.js';
import { DEFAULT_PAYLOAD_BYTES_MAX, EXPORT_FLAG, INFO, SIZE } from './constants.js';
import type { Export } from './export.js';

/**
 * Bits of EXPORT_FLAG for `target`; DF only where replies come in chunks, BLOCK_STATUS_PAYLOAD only with extended headers and
 * for who has selected a context (`blockStatus`).
 */
export function transmissionFlags(target: Export, headers: HeaderStyle, blockStatus: boolean): number {
  const { features } = target;
  let flags: number = EXPORT_FLAG.HAS_FLAGS;
  if (features.readOnly) flags |= EXPORT_FLAG.READ_ONLY;
  if (features.flush) flags |= EXPORT_FLAG.SEND_FLUSH;
  if (features.fua) flags |= EXPORT_FLAG.SEND_FUA;
  if (features.rotational) flags |= EXPORT_FLAG.ROTATIONAL;
  if (features.trim && !features.readOnly) flags |= EXPORT_FLAG.SEND_TRIM;
  if (features.zeroes && !features.readOnly) flags |= EXPORT_FLAG.SEND_WRITE_ZEROES;
  if (features.zeroes && features.fastZero && !features.readOnly) flags |= EXPORT_FLAG.SEND_FAST_ZERO;
  if (headers !== 'simple') flags |= EXPORT_FLAG.SEND_DF;
  if (features.multiConn) flags |= EXPORT_FLAG.CAN_MULTI_CONN;
  if (features.cache) flags |= EXPORT_FLAG.SEND_CACHE;
  if (headers === 'extended' && blockStatus) flags |= EXPORT_FLAG.BLOCK_STATUS_PAYLOAD;
  return flags;
}

/** The most a READ may ask for and a WRITE may carry, in bytes: the export's own bound, and never more than 32 MiB. */
export function payloadBytesMax(target: Export): number {
  return Math.min(target.block.maximumPayload, DEFAULT_PAYLOAD_BYTES_MAX);
}

/** The answer to EXPORT_NAME: size64 flags16, and 124 zero bytes unless the client declined them. */
export function encodeExportReply(target: Export, flags: number, zeroes: boolean): Buffer {
  const reply = Buffer.alloc(SIZE.EXPORT_REPLY + (zeroes ? SIZE.EXPORT_REPLY_ZEROES : 0));
  writeUint64(reply, 0, target.sizeBytes);
  writeUint16(reply, 8, flags);
  return reply;
}

/** The data of the INFO replies to INFO and GO: always EXPORT, the others when `asked` for or when the client has to know. */
export function encodeInfos(target: Export, flags: number, asked: ReadonlySet<number>): Buffer[] {
  const infos = [encodeExportInfo(target, flags)];
  if (asked.has(INFO.NAME)) infos.push(encodeTextInfo(INFO.NAME, target.name));
  if (asked.has(INFO.DESCRIPTION) && target.description !== '') infos.push(encodeTextInfo(INFO.DESCRIPTION, target.description));
  const enforced = target.block.minimum > 1 || payloadBytesMax(target) < DEFAULT_PAYLOAD_BYTES_MAX;
  if (asked.has(INFO.BLOCK_SIZE) || enforced) infos.push(encodeBlockInfo(target));
  return infos;
}

function encodeExportInfo(target: Export, flags: number): Buffer {
  const data = Buffer.alloc(12);
  writeUint16(data, 0, INFO.EXPORT);
  writeUint64(data, 2, target.sizeBytes);
  writeUint16(data, 10, flags);
  return data;
}

function encodeTextInfo(info: number, text: string): Buffer {
  const head = Buffer.alloc(2);
  writeUint16(head, 0, info);
  return Buffer.concat([head, Buffer.from(text)]);
}

function encodeBlockInfo(target: Export): Buffer {
  const data = Buffer.alloc(14);
  writeUint16(data, 0, INFO.BLOCK_SIZE);
  writeUint32(data, 2, target.block.minimum);
  writeUint32(data, 6, target.block.preferred);
  writeUint32(data, 10, payloadBytesMax(target));
  return data;
}
