// The numbers of the NBD protocol: one table a field, named as the protocol document names them.
// 64-bit magics are kept as two 32-bit halves, because nothing here uses BigInt.

/** First half of the greeting, "NBDMAGIC". */
export const NBD_MAGIC = { HIGH: 0x4e42444d, LOW: 0x41474943 } as const;
/** "IHAVEOPT": second half of the greeting, and the start of each option a client sends. */
export const OPTION_MAGIC = { HIGH: 0x49484156, LOW: 0x454f5054 } as const;
/** Second half of the greeting of the old style, which nobody should speak any more. */
export const OLDSTYLE_MAGIC = { HIGH: 0x00004202, LOW: 0x81861253 } as const;
export const OPTION_REPLY_MAGIC = { HIGH: 0x0003e889, LOW: 0x045565a9 } as const;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** Bits of the server's 16-bit handshake flags and of the client's 32-bit ones: the same two. */
export const HANDSHAKE_FLAG = { FIXED_NEWSTYLE: 1 << 0, NO_ZEROES: 1 << 1 } as const;

export const OPTION = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

/** Option replies; those with the top bit set are errors. */
export const OPTION_REPLY = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_POLICY: 0x80000002,
  ERR_INVALID: 0x80000003,
  ERR_PLATFORM: 0x80000004,
  ERR_TLS_REQD: 0x80000005,
  ERR_UNKNOWN: 0x80000006,
  ERR_SHUTDOWN: 0x80000007,
  ERR_BLOCK_SIZE_REQD: 0x80000008,
  ERR_TOO_BIG: 0x80000009,
  ERR_EXT_HEADER_REQD: 0x8000000a,
} as const;
export const OPTION_REPLY_ERROR_BIT = 0x80000000;

export const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/** Bits of an export's 16-bit transmission flags. */
export const EXPORT_FLAG = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  ROTATIONAL: 1 << 4,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_RESIZE: 1 << 9,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
  BLOCK_STATUS_PAYLOAD: 1 << 12,
} as const;

export const COMMAND = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
  RESIZE: 8,
} as const;

/** Bits of a request's 16-bit flags. */
export const COMMAND_FLAG = {
  FUA: 1 << 0,
  NO_HOLE: 1 << 1,
  DF: 1 << 2,
  REQ_ONE: 1 << 3,
  FAST_ZERO: 1 << 4,
  PAYLOAD_LEN: 1 << 5,
} as const;

/** Types of a structured reply's chunk; those with the top bit set are errors. */
export const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;
export const CHUNK_ERROR_BIT = 0x8000;
/** Bit of a chunk's 16-bit flags: the last chunk of its reply. */
export const CHUNK_FLAG_DONE = 1 << 0;

/** Bits of an extent's 32-bit flags in the context "base:allocation". */
export const EXTENT_FLAG = { HOLE: 1 << 0, ZERO: 1 << 1 } as const;
export const BASE_ALLOCATION = 'base:allocation';

/** Bytes of each fixed part on the wire. */
export const SIZE = {
  GREETING: 18,
  CLIENT_FLAGS: 4,
  OPTION_HEADER: 16,
  OPTION_REPLY_HEADER: 20,
  EXPORT_REPLY: 10,
  EXPORT_REPLY_ZEROES: 124,
  REQUEST: 28,
  EXTENDED_REQUEST: 32,
  SIMPLE_REPLY: 16,
  CHUNK_HEADER: 20,
  EXTENDED_CHUNK_HEADER: 32,
} as const;

/** The protocol's bound on names, descriptions and messages. */
export const STRING_BYTES_MAX = 4096;
/** What a client may send or ask for at once when the server announced nothing else: 32 MiB. */
export const DEFAULT_PAYLOAD_BYTES_MAX = 32 * 1024 * 1024;
