// The protocol's numbers as the simulated nodes use them. A table of its own, taken from the protocol's document and not
// from the gateway's constants: a wrong number there must not be answered by the same wrong number here.

export const MAGIC = {
  HELLO: 0x4e42444d41474943n,
  OPTION: 0x49484156454f5054n,
  OPTION_REPLY: 0x3e889045565a9n,
  REQUEST: 0x25609513,
  SIMPLE: 0x67446698,
  CHUNK: 0x668e33ef,
} as const;

export const CMD = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3, TRIM: 4, CACHE: 5, ZEROES: 6, STATUS: 7 } as const;
export const CMD_FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const;
export const OPT = { EXPORT_NAME: 1, ABORT: 2, LIST: 3, INFO: 6, GO: 7, STRUCTURED: 8, LIST_META: 9, SET_META: 10 } as const;
export const REP = { ACK: 1, INFO: 3, META: 4, UNSUP: 0x80000001, INVALID: 0x80000003, UNKNOWN: 0x80000006 } as const;
export const FLAG = { HAS: 1, READ_ONLY: 2, FLUSH: 4, FUA: 8, TRIM: 32, ZEROES: 64, DF: 128, MULTI: 256, CACHE: 1024, FAST: 2048 } as const;
export const CHUNK_TYPE = { NONE: 0, DATA: 1, HOLE: 2, STATUS: 5, ERROR: 0x8001, ERROR_AT: 0x8002 } as const;
export const STATUS_BIT = { HOLE: 1, ZERO: 2 } as const;
export const NBD_ERROR = { PERM: 1, IO: 5, INVAL: 22, NOSPC: 28, NOTSUP: 95, SHUTDOWN: 108 } as const;
export const META_ID = 77;
