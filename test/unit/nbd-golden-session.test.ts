// The transmission as a table of bytes in and bytes out, both written down from the protocol: every command in each style of headers,
// with success and with an error, with the flags that matter. Each row is said whole, cut in two at every byte, and byte by byte;
// what comes back, and what the device is asked, must be the same. A FLUSH behind each row shows that the session is in step.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { HeaderStyle } from '../../gateway/nbd/codec.js';
import { ServerCounters } from '../../gateway/nbd/counters.js';
import { SessionMemory } from '../../gateway/nbd/memory-share.js';
import type { SelectedContext } from '../../gateway/nbd/meta-context.js';
import { Session } from '../../gateway/nbd/session.js';
import type { Extent } from '../../replication/device.js';
import { cutsOf, golden } from '../support/golden-bytes.js';
import { HeldWire } from '../support/held-wire.js';
import { MemoryDevice } from '../support/memory-device.js';
import { type ExportWish, memoryExport } from '../support/memory-exports.js';

const test = suite('nbd golden session');

/** `#` is the cookie; the device has 1 MiB (100000), 'abcd' at 200, and takes payloads of up to 64 bytes. */
const NAMES = {
  REQ: '25609513',
  SIMPLE: '67446698',
  CHUNK: '668e33ef',
  XREQ: '21e41c71',
  XCHUNK: '6e8a278c',
  '#': '0102030405060708',
};
const PAYLOAD_MAX = 64;
const EXTENTS: Extent[] = [
  { lengthBytes: 4096, hole: false, zero: false },
  { lengthBytes: 4096, hole: true, zero: true },
];
const BASE: SelectedContext = { id: 1, known: null };
const ODD: SelectedContext = { id: 3, known: { name: 'x-test:odd', runs: () => [{ lengthBytes: 8192, status: 0xfedcba98 }] } };

function digits(value: number, bytes: number): string {
  return value.toString(16).padStart(2 * bytes, '0');
}

/** An error in each style (in chunks: errno32 messageLength16 message); `offset` is what the request said. */
function failed(errno: string, message: string, offset: string): Pick<Row, 'simple' | 'structured' | 'extended'> {
  const payload = `${errno} ${digits(message.length, 2)} '${message}'`;
  return {
    simple: `SIMPLE ${errno} #`,
    structured: `CHUNK 0001 8001 # ${digits(6 + message.length, 4)} ${payload}`,
    extended: `XCHUNK 0001 8001 # ${offset} ${digits(6 + message.length, 8)} ${payload}`,
  };
}

/** Success without data: simple where headers are compact. */
function done(offset: string): Pick<Row, 'simple' | 'structured' | 'extended'> {
  return { simple: 'SIMPLE 00000000 #', structured: 'SIMPLE 00000000 #', extended: `XCHUNK 0001 0000 # ${offset} 0000000000000000` };
}

interface Row {
  name: string;
  /** What is said with compact headers (28 bytes), and with extended ones (32). */
  compact?: string;
  wide?: string;
  /** What comes back in each style; a style without is not tried. */
  simple?: string;
  structured?: string;
  extended?: string;
  /** What the device is asked, in order. */
  asked?: string[];
  /** Open by default. */
  end?: 'ended' | 'destroyed';
  errno?: number;
  wish?: ExportWish;
  contexts?: SelectedContext[];
  shuttingDown?: boolean;
}

const AT_200 = '0000000000000200';
const AT_1000 = '0000000000001000';
const AT_END = '0000000000100000';
const FLAG = 'a flag that this command does not take or that was not offered';
const PAST_END = 'the range ends past the end of the export';
const SELECTION = 'the payload is a length and the ids of some negotiated contexts, each once';
const IO = 'the device reported an input/output error';

const ROWS: Row[] = [
  {
    name: 'READ',
    compact: `REQ 0000 0000 # ${AT_200} 00000004`,
    wide: `XREQ 0000 0000 # ${AT_200} 0000000000000004`,
    simple: `SIMPLE 00000000 # 'abcd'`,
    structured: `CHUNK 0001 0001 # 0000000c ${AT_200} 'abcd'`,
    extended: `XCHUNK 0001 0001 # ${AT_200} 000000000000000c ${AT_200} 'abcd'`,
    asked: ['READ 512 4'],
  },
  {
    name: 'READ of nothing',
    compact: `REQ 0000 0000 # ${AT_200} 00000000`,
    wide: `XREQ 0000 0000 # ${AT_200} 0000000000000000`,
    ...done(AT_200),
    structured: 'CHUNK 0001 0000 # 00000000',
  },
  {
    name: 'READ with DF: one chunk of data',
    compact: `REQ 0004 0000 # ${AT_200} 00000004`,
    wide: `XREQ 0004 0000 # ${AT_200} 0000000000000004`,
    ...failed('00000016', FLAG, AT_200),
    structured: `CHUNK 0001 0001 # 0000000c ${AT_200} 'abcd'`,
    extended: `XCHUNK 0001 0001 # ${AT_200} 000000000000000c ${AT_200} 'abcd'`,
  },
  {
    name: 'READ with FUA',
    compact: `REQ 0001 0000 # ${AT_200} 00000004`,
    wide: `XREQ 0001 0000 # ${AT_200} 0000000000000004`,
    simple: `SIMPLE 00000000 # 'abcd'`,
    structured: `CHUNK 0001 0001 # 0000000c ${AT_200} 'abcd'`,
    extended: `XCHUNK 0001 0001 # ${AT_200} 000000000000000c ${AT_200} 'abcd'`,
    asked: ['READ 512 4 fua'],
  },
  {
    name: 'READ past the end: EINVAL',
    compact: `REQ 0000 0000 # ${AT_END} 00000001`,
    wide: `XREQ 0000 0000 # ${AT_END} 0000000000000001`,
    ...failed('00000016', PAST_END, AT_END),
    asked: [],
  },
  {
    name: 'READ at the last offset there is: EINVAL, and every bit of the offset comes back',
    compact: 'REQ 0000 0000 # ffffffffffffffff ffffffff',
    wide: 'XREQ 0000 0000 # ffffffffffffffff ffffffffffffffff',
    ...failed('00000016', PAST_END, 'ffffffffffffffff'),
    asked: [],
  },
  {
    name: 'READ over the maximum payload: EINVAL',
    compact: `REQ 0000 0000 # ${AT_200} 00000041`,
    wide: `XREQ 0000 0000 # ${AT_200} 0000000000000041`,
    ...failed('00000016', 'the length is over the maximum payload', AT_200),
    asked: [],
  },
  {
    name: 'READ that the device fails: EIO',
    errno: 5,
    compact: `REQ 0000 0000 # ${AT_200} 00000004`,
    wide: `XREQ 0000 0000 # ${AT_200} 0000000000000004`,
    ...failed('00000005', IO, AT_200),
  },
  {
    name: 'READ with a payload: drained, EINVAL',
    wide: `XREQ 0020 0000 # ${AT_200} 0000000000000004 25609513`,
    extended: failed('00000016', FLAG, AT_200).extended,
    asked: [],
  },
  {
    name: 'READ while the server shuts down: ESHUTDOWN',
    shuttingDown: true,
    compact: `REQ 0000 0000 # ${AT_200} 00000004`,
    wide: `XREQ 0000 0000 # ${AT_200} 0000000000000004`,
    ...failed('0000006c', 'the server is shutting down', AT_200),
    asked: [],
    end: 'ended',
  },

  {
    name: 'WRITE, then READ what was written',
    compact: `REQ 0000 0001 # ${AT_1000} 00000003 'xyz' REQ 0000 0000 # ${AT_1000} 00000003`,
    wide: `XREQ 0020 0001 # ${AT_1000} 0000000000000003 'xyz' XREQ 0000 0000 # ${AT_1000} 0000000000000003`,
    simple: `SIMPLE 00000000 # SIMPLE 00000000 # 'xyz'`,
    structured: `SIMPLE 00000000 # CHUNK 0001 0001 # 0000000b ${AT_1000} 'xyz'`,
    extended: `XCHUNK 0001 0000 # ${AT_1000} 0000000000000000 XCHUNK 0001 0001 # ${AT_1000} 000000000000000b ${AT_1000} 'xyz'`,
    asked: ['WRITE 4096 3', 'READ 4096 3'],
  },
  {
    name: 'WRITE with FUA',
    compact: `REQ 0001 0001 # ${AT_1000} 00000003 'xyz'`,
    wide: `XREQ 0021 0001 # ${AT_1000} 0000000000000003 'xyz'`,
    ...done(AT_1000),
    asked: ['WRITE 4096 3 fua'],
  },
  {
    name: 'WRITE of nothing',
    compact: `REQ 0000 0001 # ${AT_1000} 00000000`,
    wide: `XREQ 0020 0001 # ${AT_1000} 0000000000000000`,
    ...done(AT_1000),
    asked: [],
  },
  {
    name: 'WRITE past the end: drained, ENOSPC',
    compact: `REQ 0000 0001 # ${AT_END} 00000004 25609513`,
    wide: `XREQ 0020 0001 # ${AT_END} 0000000000000004 21e41c71`,
    ...failed('0000001c', PAST_END, AT_END),
    asked: [],
  },
  {
    name: 'WRITE to a read-only export: drained, EPERM',
    wish: { features: { readOnly: true } },
    compact: `REQ 0000 0001 # ${AT_200} 00000004 25609513`,
    wide: `XREQ 0020 0001 # ${AT_200} 0000000000000004 21e41c71`,
    ...failed('00000001', 'the export is read-only', AT_200),
    asked: [],
  },
  {
    name: 'WRITE off the block size: drained, EINVAL',
    wish: { block: { minimum: 512 } },
    compact: `REQ 0000 0001 # ${AT_200} 00000004 25609513`,
    wide: `XREQ 0020 0001 # ${AT_200} 0000000000000004 21e41c71`,
    ...failed('00000016', 'offset and length must be multiples of the minimum block size', AT_200),
    asked: [],
  },
  {
    name: 'WRITE over the maximum payload: drained, EINVAL',
    compact: `REQ 0000 0001 # ${AT_200} 00000080 ${'25'.repeat(128)}`,
    wide: `XREQ 0020 0001 # ${AT_200} 0000000000000080 ${'21'.repeat(128)}`,
    ...failed('00000016', 'the length is over the maximum payload', AT_200),
    asked: [],
  },
  {
    name: 'WRITE over twice the maximum payload: the end',
    compact: `REQ 0000 0001 # ${AT_200} 00000081`,
    wide: `XREQ 0020 0001 # ${AT_200} 0000000000000081`,
    simple: '',
    structured: '',
    extended: '',
    asked: [],
    end: 'destroyed',
  },
  {
    name: 'WRITE with extended headers and without PAYLOAD_LEN: the end',
    wide: `XREQ 0000 0001 # ${AT_200} 0000000000000004`,
    extended: '',
    asked: [],
    end: 'destroyed',
  },
  {
    name: 'WRITE that the device fails: ENOSPC',
    errno: 28,
    compact: `REQ 0000 0001 # ${AT_200} 00000004 'wxyz'`,
    wide: `XREQ 0020 0001 # ${AT_200} 0000000000000004 'wxyz'`,
    ...failed('0000001c', 'the device has no space left', AT_200),
  },

  {
    name: 'DISC',
    compact: `REQ 0000 0002 # 0000000000000000 00000000`,
    wide: `XREQ 0000 0002 # 0000000000000000 0000000000000000`,
    simple: '',
    structured: '',
    extended: '',
    asked: [],
    end: 'ended',
  },
  {
    name: 'DISC behind a FLUSH, which is answered',
    compact: `REQ 0000 0003 # 0000000000000000 00000000 REQ 0000 0002 # 0000000000000000 00000000`,
    wide: `XREQ 0000 0003 # 0000000000000000 0000000000000000 XREQ 0000 0002 # 0000000000000000 0000000000000000`,
    ...done('0000000000000000'),
    asked: ['FLUSH 0 0'],
    end: 'ended',
  },

  {
    name: 'FLUSH, whatever its offset and length',
    compact: 'REQ 0000 0003 # fedcba9876543210 ffffffff',
    wide: 'XREQ 0000 0003 # fedcba9876543210 ffffffffffffffff',
    ...done('fedcba9876543210'),
    asked: ['FLUSH 0 0'],
  },
  {
    name: 'FLUSH that the device fails: EIO',
    errno: 5,
    compact: 'REQ 0000 0003 # 0000000000000000 00000000',
    wide: 'XREQ 0000 0003 # 0000000000000000 0000000000000000',
    ...failed('00000005', IO, '0000000000000000'),
  },

  {
    name: 'TRIM',
    compact: `REQ 0000 0004 # ${AT_1000} 00002000`,
    wide: `XREQ 0000 0004 # ${AT_1000} 0000000000002000`,
    ...done(AT_1000),
    asked: ['ZEROES 4096 8192 punch'],
  },
  {
    name: 'TRIM with FUA',
    compact: `REQ 0001 0004 # ${AT_1000} 00002000`,
    wide: `XREQ 0001 0004 # ${AT_1000} 0000000000002000`,
    ...done(AT_1000),
    asked: ['ZEROES 4096 8192 fua punch'],
  },
  {
    name: 'TRIM past the end: EINVAL',
    compact: `REQ 0000 0004 # ${AT_END} ffffffff`,
    wide: `XREQ 0000 0004 # ${AT_END} ffffffffffffffff`,
    ...failed('00000016', PAST_END, AT_END),
    asked: [],
  },
  {
    name: 'TRIM where it is not offered: EINVAL',
    wish: { features: { trim: false } },
    compact: `REQ 0000 0004 # ${AT_1000} 00002000`,
    wide: `XREQ 0000 0004 # ${AT_1000} 0000000000002000`,
    ...failed('00000016', 'the export does not offer this command', AT_1000),
    asked: [],
  },

  {
    name: 'CACHE',
    compact: `REQ 0000 0005 # ${AT_1000} 00002000`,
    wide: `XREQ 0000 0005 # ${AT_1000} 0000000000002000`,
    ...done(AT_1000),
    asked: [],
  },
  {
    name: 'CACHE past the end: EINVAL',
    compact: `REQ 0000 0005 # ${AT_END} 00000001`,
    wide: `XREQ 0000 0005 # ${AT_END} 0000000000000001`,
    ...failed('00000016', PAST_END, AT_END),
    asked: [],
  },

  {
    name: 'WRITE_ZEROES',
    compact: `REQ 0000 0006 # ${AT_200} 00000002 REQ 0000 0000 # ${AT_200} 00000004`,
    wide: `XREQ 0000 0006 # ${AT_200} 0000000000000002 XREQ 0000 0000 # ${AT_200} 0000000000000004`,
    simple: `SIMPLE 00000000 # SIMPLE 00000000 # 0000 'cd'`,
    structured: `SIMPLE 00000000 # CHUNK 0001 0001 # 0000000c ${AT_200} 0000 'cd'`,
    extended: `XCHUNK 0001 0000 # ${AT_200} 0000000000000000 XCHUNK 0001 0001 # ${AT_200} 000000000000000c ${AT_200} 0000 'cd'`,
    asked: ['ZEROES 512 2 punch', 'READ 512 4'],
  },
  {
    name: 'WRITE_ZEROES with FUA, NO_HOLE and FAST_ZERO',
    compact: `REQ 0013 0006 # ${AT_1000} 00002000`,
    wide: `XREQ 0013 0006 # ${AT_1000} 0000000000002000`,
    ...done(AT_1000),
    asked: ['ZEROES 4096 8192 fua fast'],
  },
  {
    name: 'WRITE_ZEROES with FAST_ZERO, and it is not fast: ENOTSUP',
    errno: 95,
    compact: `REQ 0010 0006 # ${AT_1000} 00002000`,
    wide: `XREQ 0010 0006 # ${AT_1000} 0000000000002000`,
    ...failed('0000005f', 'zeroing would not be faster than writing', AT_1000),
    asked: ['ZEROES 4096 8192 punch fast'],
  },
  {
    name: 'WRITE_ZEROES with FAST_ZERO where it is not offered: EINVAL',
    wish: { features: { fastZero: false } },
    compact: `REQ 0010 0006 # ${AT_1000} 00002000`,
    wide: `XREQ 0010 0006 # ${AT_1000} 0000000000002000`,
    ...failed('00000016', FLAG, AT_1000),
    asked: [],
  },
  {
    name: 'WRITE_ZEROES past the end: ENOSPC',
    compact: `REQ 0000 0006 # ${AT_END} 00000001`,
    wide: `XREQ 0000 0006 # ${AT_END} 0000000000000001`,
    ...failed('0000001c', PAST_END, AT_END),
    asked: [],
  },

  {
    name: 'BLOCK_STATUS in one context',
    compact: `REQ 0000 0007 # ${AT_1000} 00002000`,
    wide: `XREQ 0000 0007 # ${AT_1000} 0000000000002000`,
    structured: 'CHUNK 0001 0005 # 00000014 00000001 00001000 00000000 00001000 00000003',
    extended: `
      XCHUNK 0001 0006 # ${AT_1000} 0000000000000028
      00000001 00000002 0000000000001000 0000000000000000 0000000000001000 0000000000000003
    `,
    asked: ['STATUS 4096 8192'],
  },
  {
    name: 'BLOCK_STATUS in two contexts: a chunk each, the last one says so',
    contexts: [BASE, ODD],
    compact: `REQ 0000 0007 # ${AT_1000} 00002000`,
    wide: `XREQ 0000 0007 # ${AT_1000} 0000000000002000`,
    structured: `
      CHUNK 0000 0005 # 00000014 00000001 00001000 00000000 00001000 00000003
      CHUNK 0001 0005 # 0000000c 00000003 00002000 fedcba98
    `,
    extended: `
      XCHUNK 0000 0006 # ${AT_1000} 0000000000000028
      00000001 00000002 0000000000001000 0000000000000000 0000000000001000 0000000000000003
      XCHUNK 0001 0006 # ${AT_1000} 0000000000000018 00000003 00000001 0000000000002000 00000000fedcba98
    `,
  },
  {
    name: 'BLOCK_STATUS with REQ_ONE: one extent',
    compact: `REQ 0008 0007 # ${AT_1000} 00002000`,
    wide: `XREQ 0008 0007 # ${AT_1000} 0000000000002000`,
    structured: 'CHUNK 0001 0005 # 0000000c 00000001 00001000 00000000',
    extended: `XCHUNK 0001 0006 # ${AT_1000} 0000000000000018 00000001 00000001 0000000000001000 0000000000000000`,
    asked: ['STATUS 4096 8192 one'],
  },
  {
    name: 'BLOCK_STATUS of nothing',
    compact: `REQ 0000 0007 # ${AT_1000} 00000000`,
    wide: `XREQ 0000 0007 # ${AT_1000} 0000000000000000`,
    structured: 'CHUNK 0001 0000 # 00000000',
    extended: done(AT_1000).extended,
    asked: [],
  },
  {
    name: 'BLOCK_STATUS without a context: EINVAL',
    contexts: [],
    compact: `REQ 0000 0007 # ${AT_1000} 00002000`,
    wide: `XREQ 0000 0007 # ${AT_1000} 0000000000002000`,
    ...failed('00000016', 'no metadata context was negotiated', AT_1000),
    asked: [],
  },
  {
    name: 'BLOCK_STATUS past the end: EINVAL',
    compact: `REQ 0000 0007 # ${AT_END} 00000001`,
    wide: `XREQ 0000 0007 # ${AT_END} 0000000000000001`,
    ...failed('00000016', PAST_END, AT_END),
    simple: undefined,
    asked: [],
  },
  {
    name: 'BLOCK_STATUS that the device fails: EIO, one chunk for all contexts',
    errno: 5,
    contexts: [BASE, ODD],
    compact: `REQ 0000 0007 # ${AT_1000} 00002000`,
    wide: `XREQ 0000 0007 # ${AT_1000} 0000000000002000`,
    ...failed('00000005', IO, AT_1000),
    simple: undefined,
  },
  {
    name: 'BLOCK_STATUS with a payload that names one context, then one without',
    contexts: [BASE, ODD],
    wide: `XREQ 0020 0007 # ${AT_1000} 000000000000000c 0000000000002000 00000003 XREQ 0008 0007 # ${AT_1000} 0000000000002000`,
    extended: `
      XCHUNK 0001 0006 # ${AT_1000} 0000000000000018 00000003 00000001 0000000000002000 00000000fedcba98
      XCHUNK 0000 0006 # ${AT_1000} 0000000000000018 00000001 00000001 0000000000001000 0000000000000000
      XCHUNK 0001 0006 # ${AT_1000} 0000000000000018 00000003 00000001 0000000000002000 00000000fedcba98
    `,
    asked: ['STATUS 4096 8192 one'],
  },
  {
    name: 'BLOCK_STATUS with a payload that names both contexts, and REQ_ONE',
    contexts: [BASE, ODD],
    wide: `XREQ 0028 0007 # ${AT_1000} 0000000000000010 0000000000002000 00000003 00000001`,
    extended: `
      XCHUNK 0000 0006 # ${AT_1000} 0000000000000018 00000001 00000001 0000000000001000 0000000000000000
      XCHUNK 0001 0006 # ${AT_1000} 0000000000000018 00000003 00000001 0000000000002000 00000000fedcba98
    `,
    asked: ['STATUS 4096 8192 one'],
  },
  ...[
    ['a context that was not selected', '000000000000000c', '0000000000002000 00000002'],
    ['a context twice', '0000000000000010', '0000000000002000 00000001 00000001'],
    ['no context', '0000000000000008', '0000000000002000'],
    ['half an id', '000000000000000e', '0000000000002000 00000001 0000'],
    ['nothing at all', '0000000000000000', ''],
  ].map(([what, length, payload]) => ({
    name: `BLOCK_STATUS with a payload of ${what}: EINVAL`,
    wide: `XREQ 0020 0007 # ${AT_1000} ${length} ${payload}`,
    extended: failed('00000016', SELECTION, AT_1000).extended,
    asked: [],
  })),

  {
    name: 'BLOCK_STATUS with a payload that is too long to be looked at: drained, EINVAL',
    wish: { block: { maximumPayload: 136 } },
    wide: `XREQ 0020 0007 # ${AT_1000} 0000000000000110 ${'21'.repeat(0x110)}`,
    extended: failed('00000016', SELECTION, AT_1000).extended,
    asked: [],
  },

  {
    name: 'an unknown command: EINVAL, and no payload assumed',
    compact: `REQ 0000 0008 # ${AT_200} 00000004`,
    wide: `XREQ 0000 0008 # ${AT_200} 0000000000000004`,
    ...failed('00000016', 'unknown command', AT_200),
    asked: [],
  },
  {
    name: 'a wrong magic: the end',
    compact: `25609512 0000 0003 # 0000000000000000 00000000`,
    wide: 'REQ 0000 0003 # 0000000000000000 0000000000000000',
    simple: '',
    structured: '',
    extended: '',
    asked: [],
    end: 'destroyed',
  },
];

const OPS = ['READ', 'WRITE', 'FLUSH', 'ZEROES', 'STATUS'];
/** Behind each row that does not end the session: a FLUSH with a cookie of its own, which the device carries out, and its answer. */
const LAST: Record<HeaderStyle, [request: string, reply: string]> = {
  simple: ['REQ 0000 0003 fffefdfcfbfaf9f8 0000000000000000 00000000', 'SIMPLE 00000000 fffefdfcfbfaf9f8'],
  structured: ['REQ 0000 0003 fffefdfcfbfaf9f8 0000000000000000 00000000', 'SIMPLE 00000000 fffefdfcfbfaf9f8'],
  extended: [
    'XREQ 0000 0003 fffefdfcfbfaf9f8 0000000000000000 0000000000000000',
    'XCHUNK 0001 0000 fffefdfcfbfaf9f8 0000000000000000 0000000000000000',
  ],
};

class Talk {
  readonly wire = new HeldWire();
  readonly device = new MemoryDevice(1 << 20, { keptBytes: 8192 });

  constructor(row: Row, headers: HeaderStyle, pieces: Buffer[]) {
    this.device.bytes.write('abcd', 0x200);
    this.device.extents = () => EXTENTS;
    let asked = 0;
    this.device.fail = () => (asked++ === 0 ? (row.errno ?? 0) : 0);
    const block = { maximumPayload: PAYLOAD_MAX, ...row.wish?.block };
    const session = new Session(
      this.wire,
      {
        export: memoryExport('disk', this.device, { ...row.wish, block }),
        headers,
        contexts: headers === 'simple' ? [] : (row.contexts ?? [BASE]),
        leftover: Buffer.alloc(0),
      },
      0,
      { counters: new ServerCounters(), memory: new SessionMemory(), inFlightMax: 16, later: queueMicrotask },
      { ended: () => {}, over: () => {} },
    );
    if (row.shuttingDown) session.shutDown();
    for (const piece of pieces) session.receive(piece);
  }

  get end(): string {
    return this.wire.destroyed ? 'destroyed' : this.wire.ended ? 'ended' : 'open';
  }

  get asked(): string[] {
    return this.device.asked.map(({ op, offset, length, fua, punch, fast, one }) => {
      const flags = `${fua ? ' fua' : ''}${punch && op === 3 ? ' punch' : ''}${fast ? ' fast' : ''}${one ? ' one' : ''}`;
      return `${OPS[op]} ${offset} ${length}${flags}`;
    });
  }
}

for (const row of ROWS) {
  for (const style of ['simple', 'structured', 'extended'] as const) {
    const request = style === 'extended' ? row.wide : row.compact;
    const reply = row[style];
    if (request === undefined || reply === undefined) continue;
    test(`${style}: ${row.name}`, async () => {
      const [last, lastReply] = row.end === undefined ? LAST[style] : ['', ''];
      const expected = golden(`${reply} ${lastReply}`, NAMES).toString('hex');
      const talks = cutsOf(golden(`${request} ${last}`, NAMES)).map(([what, pieces]) => [what, new Talk(row, style, pieces)] as const);
      await new Promise((resolve) => setImmediate(resolve));
      for (const [what, talk] of talks) {
        assert.equal(talk.wire.take().toString('hex'), expected, what);
        assert.equal(talk.end, row.end ?? 'open', what);
        const asked = row.end === undefined ? [...(row.asked ?? []), 'FLUSH 0 0'] : row.asked;
        if (row.asked !== undefined) assert.deepEqual(talk.asked, asked, what);
      }
    });
  }
}

test.run();
