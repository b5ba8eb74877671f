// The server's handshake as a table of bytes in and bytes out, both written down from the protocol: every option, every kind of answer,
// every error. Each row is said whole, cut in two at every byte, and byte by byte; what comes back must be the same to the last byte.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ServerHandshake, type ServerStep } from '../../gateway/nbd/server-handshake.js';
import { cutsOf, golden } from '../support/golden-bytes.js';
import { MemoryDevice } from '../support/memory-device.js';
import { MemoryExports, memoryExport } from '../support/memory-exports.js';

const test = suite('nbd golden handshake');

const NAMES = { OPT: '49484156454f5054', REP: '0003e889045565a9' };
/** Sent unasked, before everything in `out`: NBDMAGIC, IHAVEOPT, fixed newstyle and no zeroes. */
const GREETING = '4e42444d41474943 49484156454f5054 0003';
/** Client flags: fixed newstyle and no zeroes, the first alone, none. */
const [FLAGS, ZEROES, OLD] = ['00000003', '00000001', '00000000'];

const device = new MemoryDevice(1 << 20);
const table = new MemoryExports(
  memoryExport('disk', device, { description: 'a disk', contexts: [{ name: 'x-test:odd', runs: () => [] }] }),
  memoryExport('rot', device, { features: { readOnly: true, rotational: true, cache: false, multiConn: false }, block: { minimum: 512 } }),
);

interface Row {
  name: string;
  /** With TLS: what is said in plain, then what is said in TLS. */
  in: string | [plain: string, secured: string];
  out: string;
  /** What is left when all is said; reading on by default. */
  end?: 'transmit' | 'close' | 'starttls';
  tls?: 'optional' | 'required';
  shuttingDown?: boolean;
  /** Why an attachment is refused. */
  busy?: string;
  /** Why whoever came in TLS gets nothing. */
  unwelcome?: string;
}

// 0d6d: HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN, SEND_CACHE, SEND_FAST_ZERO; 0ded: SEND_DF too;
// 1ded: BLOCK_STATUS_PAYLOAD too. 001f: HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL.
const INFO_EXPORT = '0000 0000000000100000 0d6d';
const EXPORT_NAME = `OPT 00000001 00000004 'disk'`;
const LIST = 'OPT 00000003 00000000';
const STARTTLS = 'OPT 00000005 00000000';
const STRUCTURED = 'OPT 00000008 00000000';
const EXTENDED = 'OPT 0000000b 00000000';
const INFO = `OPT 00000006 0000000a 00000004 'disk' 0000`;
const GO = `OPT 00000007 0000000a 00000004 'disk' 0000`;
const SET_BASE = `OPT 0000000a 0000001f 00000004 'disk' 00000001 0000000f 'base:allocation'`;
const STRUCTURED_ACK = 'REP 00000008 00000001 00000000';
const EXTENDED_ACK = 'REP 0000000b 00000001 00000000';
const STARTTLS_ACK = 'REP 00000005 00000001 00000000';
const INFO_REPLIES = `REP 00000006 00000003 0000000c ${INFO_EXPORT} REP 00000006 00000001 00000000`;
const SET_BASE_REPLIES = `REP 0000000a 00000004 00000013 00000001 'base:allocation' REP 0000000a 00000001 00000000`;

const ROWS: Row[] = [
  { name: 'flags alone', in: FLAGS, out: '' },
  { name: 'flags without NO_ZEROES', in: ZEROES, out: '' },
  { name: 'unknown client flags', in: '00000007', out: '', end: 'close' },
  { name: 'a wrong magic before an option', in: `${FLAGS} 49484156454f5055 00000003 00000000`, out: '', end: 'close' },

  { name: 'EXPORT_NAME with NO_ZEROES: 10 bytes', in: `${FLAGS} ${EXPORT_NAME}`, out: '0000000000100000 0d6d', end: 'transmit' },
  {
    name: 'EXPORT_NAME without NO_ZEROES: 134 bytes',
    in: `${ZEROES} ${EXPORT_NAME}`,
    out: `0000000000100000 0d6d ${'00'.repeat(124)}`,
    end: 'transmit',
  },
  {
    name: 'EXPORT_NAME from an old client: 134 bytes',
    in: `${OLD} ${EXPORT_NAME}`,
    out: `0000000000100000 0d6d ${'00'.repeat(124)}`,
    end: 'transmit',
  },
  {
    name: 'EXPORT_NAME after STRUCTURED_REPLY: DF is offered',
    in: `${FLAGS} ${STRUCTURED} ${EXPORT_NAME}`,
    out: `${STRUCTURED_ACK} 0000000000100000 0ded`,
    end: 'transmit',
  },
  { name: 'EXPORT_NAME of an unknown export', in: `${FLAGS} OPT 00000001 00000002 'no'`, out: '', end: 'close' },
  { name: 'EXPORT_NAME after EXTENDED_HEADERS', in: `${FLAGS} ${EXTENDED} ${EXPORT_NAME}`, out: EXTENDED_ACK, end: 'close' },
  { name: 'another option from an old client', in: `${OLD} ${LIST}`, out: '', end: 'close' },

  { name: 'ABORT', in: `${FLAGS} OPT 00000002 00000000`, out: 'REP 00000002 00000001 00000000', end: 'close' },
  {
    name: 'LIST',
    in: `${FLAGS} ${LIST}`,
    out: `REP 00000003 00000002 00000008 00000004 'disk' REP 00000003 00000002 00000007 00000003 'rot' REP 00000003 00000001 00000000`,
  },
  {
    name: 'LIST with data: INVALID',
    in: `${FLAGS} OPT 00000003 00000001 00 ${INFO}`,
    out: `REP 00000003 80000003 "LIST takes no data" ${INFO_REPLIES}`,
  },
  {
    name: 'an option over 1 MiB: TOO_BIG',
    in: `${FLAGS} OPT 00000003 00100001`,
    out: 'REP 00000003 80000009 "1048577 bytes of option data are too many"',
    end: 'close',
  },
  {
    name: 'an unknown option: UNSUP',
    in: `${FLAGS} OPT 00000063 00000003 010203 ${INFO}`,
    out: `REP 00000063 80000001 "option 99 is not supported" ${INFO_REPLIES}`,
  },

  {
    name: 'STARTTLS where TLS is off: POLICY',
    in: `${FLAGS} ${STARTTLS} ${INFO}`,
    out: `REP 00000005 80000002 "TLS is off on this server" ${INFO_REPLIES}`,
  },
  { name: 'STARTTLS where TLS is optional', tls: 'optional', in: `${FLAGS} ${STARTTLS}`, out: STARTTLS_ACK, end: 'starttls' },
  {
    name: 'STARTTLS with data: INVALID',
    tls: 'optional',
    in: `${FLAGS} OPT 00000005 00000001 00 ${INFO}`,
    out: `REP 00000005 80000003 "STARTTLS takes no data" ${INFO_REPLIES}`,
  },
  {
    name: 'STARTTLS forgets what was agreed on in plain',
    tls: 'optional',
    in: [`${FLAGS} ${STRUCTURED} ${SET_BASE} ${STARTTLS}`, GO],
    out: `${STRUCTURED_ACK} ${SET_BASE_REPLIES} ${STARTTLS_ACK} REP 00000007 00000003 0000000c ${INFO_EXPORT} REP 00000007 00000001 00000000`,
    end: 'transmit',
  },
  {
    name: 'STARTTLS in TLS: INVALID',
    tls: 'required',
    in: [`${FLAGS} ${STARTTLS}`, `${STARTTLS} ${INFO}`],
    out: `${STARTTLS_ACK} REP 00000005 80000003 "TLS is there already" ${INFO_REPLIES}`,
  },
  {
    name: 'everything else where TLS is required: TLS_REQD',
    tls: 'required',
    in: [`${FLAGS} ${LIST} ${GO} OPT 00000063 00000001 00 ${STARTTLS}`, INFO],
    out: `
      REP 00000003 80000005 "this server wants TLS first" REP 00000007 80000005 "this server wants TLS first"
      REP 00000063 80000005 "this server wants TLS first" ${STARTTLS_ACK} ${INFO_REPLIES}
    `,
  },
  { name: 'EXPORT_NAME where TLS is required', tls: 'required', in: `${FLAGS} ${EXPORT_NAME}`, out: '', end: 'close' },
  {
    name: 'ABORT where TLS is required',
    tls: 'required',
    in: `${FLAGS} OPT 00000002 00000000`,
    out: 'REP 00000002 00000001 00000000',
    end: 'close',
  },
  {
    name: 'whoever is not welcome in TLS: POLICY',
    tls: 'required',
    unwelcome: 'a stranger',
    in: [`${FLAGS} ${STARTTLS}`, `${LIST} ${GO}`],
    out: `${STARTTLS_ACK} REP 00000003 80000002 "a stranger" REP 00000007 80000002 "a stranger"`,
  },

  { name: 'INFO that asks for nothing', in: `${FLAGS} ${INFO}`, out: INFO_REPLIES },
  {
    name: 'INFO: EXPORT',
    in: `${FLAGS} OPT 00000006 0000000c 00000004 'disk' 0001 0000`,
    out: INFO_REPLIES,
  },
  {
    name: 'INFO: NAME',
    in: `${FLAGS} OPT 00000006 0000000c 00000004 'disk' 0001 0001`,
    out: `REP 00000006 00000003 0000000c ${INFO_EXPORT} REP 00000006 00000003 00000006 0001 'disk' REP 00000006 00000001 00000000`,
  },
  {
    name: 'INFO: DESCRIPTION',
    in: `${FLAGS} OPT 00000006 0000000c 00000004 'disk' 0001 0002`,
    out: `REP 00000006 00000003 0000000c ${INFO_EXPORT} REP 00000006 00000003 00000008 0002 'a disk' REP 00000006 00000001 00000000`,
  },
  {
    name: 'INFO: BLOCK_SIZE',
    in: `${FLAGS} OPT 00000006 0000000c 00000004 'disk' 0001 0003`,
    out: `
      REP 00000006 00000003 0000000c ${INFO_EXPORT} REP 00000006 00000003 0000000e 0003 00000001 00001000 02000000
      REP 00000006 00000001 00000000
    `,
  },
  { name: 'INFO: one that nobody knows', in: `${FLAGS} OPT 00000006 0000000c 00000004 'disk' 0001 ffff`, out: INFO_REPLIES },
  {
    name: 'INFO of an export with a block size of its own, unasked, and no description',
    in: `${FLAGS} OPT 00000006 0000000b 00000003 'rot' 0001 0002`,
    out: `
      REP 00000006 00000003 0000000c 0000 0000000000100000 001f REP 00000006 00000003 0000000e 0003 00000200 00001000 02000000
      REP 00000006 00000001 00000000
    `,
  },
  {
    name: 'INFO of an unknown export: UNKNOWN',
    in: `${FLAGS} OPT 00000006 00000008 00000002 'no' 0000 ${INFO}`,
    out: `REP 00000006 80000006 00000017 'no export is named ' 226e6f22 ${INFO_REPLIES}`,
  },
  {
    name: 'INFO one byte short: INVALID',
    in: `${FLAGS} OPT 00000006 00000009 00000004 'disk' 00 ${INFO}`,
    out: `REP 00000006 80000003 "the number of information requests is missing" ${INFO_REPLIES}`,
  },
  {
    name: 'GO with every info',
    in: `${FLAGS} OPT 00000007 00000012 00000004 'disk' 0004 0000 0001 0002 0003`,
    out: `
      REP 00000007 00000003 0000000c ${INFO_EXPORT} REP 00000007 00000003 00000006 0001 'disk'
      REP 00000007 00000003 00000008 0002 'a disk' REP 00000007 00000003 0000000e 0003 00000001 00001000 02000000
      REP 00000007 00000001 00000000
    `,
    end: 'transmit',
  },
  {
    name: 'GO without NO_ZEROES: no zeroes either',
    in: `${ZEROES} ${GO}`,
    out: `REP 00000007 00000003 0000000c ${INFO_EXPORT} REP 00000007 00000001 00000000`,
    end: 'transmit',
  },
  {
    name: 'GO to an unknown export: UNKNOWN',
    in: `${FLAGS} OPT 00000007 00000008 00000002 'no' 0000 ${INFO}`,
    out: `REP 00000007 80000006 00000017 'no export is named ' 226e6f22 ${INFO_REPLIES}`,
  },
  {
    name: 'GO to a name with NUL: INVALID',
    in: `${FLAGS} OPT 00000007 00000008 00000002 6100 0000 ${INFO}`,
    out: `REP 00000007 80000003 "an export name holds no NUL" ${INFO_REPLIES}`,
  },
  {
    name: 'GO to an export that cannot be used now: POLICY',
    busy: 'not yet',
    in: `${FLAGS} ${GO} ${INFO}`,
    out: `REP 00000007 80000002 "not yet" ${INFO_REPLIES}`,
  },

  {
    name: 'STRUCTURED_REPLY',
    in: `${FLAGS} ${STRUCTURED} ${GO}`,
    out: `${STRUCTURED_ACK} REP 00000007 00000003 0000000c 0000 0000000000100000 0ded REP 00000007 00000001 00000000`,
    end: 'transmit',
  },
  {
    name: 'STRUCTURED_REPLY with data: INVALID',
    in: `${FLAGS} OPT 00000008 00000002 0000 ${INFO}`,
    out: `REP 00000008 80000003 "STRUCTURED_REPLY takes no data" ${INFO_REPLIES}`,
  },
  {
    name: 'EXTENDED_HEADERS',
    in: `${FLAGS} ${EXTENDED} ${GO}`,
    out: `${EXTENDED_ACK} REP 00000007 00000003 0000000c 0000 0000000000100000 0ded REP 00000007 00000001 00000000`,
    end: 'transmit',
  },
  {
    name: 'EXTENDED_HEADERS with a context: its BLOCK_STATUS takes a payload',
    in: `${FLAGS} ${EXTENDED} ${SET_BASE} ${GO}`,
    out: `
      ${EXTENDED_ACK} ${SET_BASE_REPLIES}
      REP 00000007 00000003 0000000c 0000 0000000000100000 1ded REP 00000007 00000001 00000000
    `,
    end: 'transmit',
  },
  {
    name: 'EXTENDED_HEADERS with data: INVALID',
    in: `${FLAGS} OPT 0000000b 00000001 00 ${INFO}`,
    out: `REP 0000000b 80000003 "EXTENDED_HEADERS takes no data" ${INFO_REPLIES}`,
  },
  {
    name: 'STRUCTURED_REPLY after EXTENDED_HEADERS: EXT_HEADER_REQD',
    in: `${FLAGS} ${EXTENDED} ${STRUCTURED}`,
    out: `${EXTENDED_ACK} REP 00000008 8000000a "extended headers are agreed on, there is no way back to structured replies"`,
  },

  {
    name: 'LIST_META_CONTEXT without a query: all, with id 0',
    in: `${FLAGS} ${STRUCTURED} OPT 00000009 0000000c 00000004 'disk' 00000000`,
    out: `
      ${STRUCTURED_ACK} REP 00000009 00000004 00000013 00000000 'base:allocation' REP 00000009 00000004 0000000e 00000000 'x-test:odd'
      REP 00000009 00000001 00000000
    `,
  },
  {
    name: 'LIST_META_CONTEXT of a namespace',
    in: `${FLAGS} ${STRUCTURED} OPT 00000009 00000017 00000004 'disk' 00000001 00000007 'x-test:'`,
    out: `${STRUCTURED_ACK} REP 00000009 00000004 0000000e 00000000 'x-test:odd' REP 00000009 00000001 00000000`,
  },
  {
    name: 'LIST_META_CONTEXT before STRUCTURED_REPLY: INVALID',
    in: `${FLAGS} OPT 00000009 0000000c 00000004 'disk' 00000000 ${INFO}`,
    out: `REP 00000009 80000003 "metadata contexts need structured replies first" ${INFO_REPLIES}`,
  },
  {
    name: 'SET_META_CONTEXT of two contexts, each with its id',
    in: `${FLAGS} ${STRUCTURED} OPT 0000000a 0000002d 00000004 'disk' 00000002 0000000f 'base:allocation' 0000000a 'x-test:odd'`,
    out: `
      ${STRUCTURED_ACK} REP 0000000a 00000004 00000013 00000001 'base:allocation' REP 0000000a 00000004 0000000e 00000002 'x-test:odd'
      REP 0000000a 00000001 00000000
    `,
  },
  {
    name: 'SET_META_CONTEXT of a wildcard: none',
    in: `${FLAGS} ${STRUCTURED} OPT 0000000a 00000015 00000004 'disk' 00000001 00000005 'base:'`,
    out: `${STRUCTURED_ACK} REP 0000000a 00000001 00000000`,
  },
  {
    name: 'SET_META_CONTEXT with a query that overruns: INVALID',
    in: `${FLAGS} ${STRUCTURED} OPT 0000000a 00000011 00000004 'disk' 00000001 00000002 'b'`,
    out: `${STRUCTURED_ACK} REP 0000000a 80000003 "query 1 of 1 is longer than the data"`,
  },
  {
    name: 'SET_META_CONTEXT of an unknown export: UNKNOWN',
    in: `${FLAGS} ${STRUCTURED} OPT 0000000a 0000000a 00000002 'no' 00000000`,
    out: `${STRUCTURED_ACK} REP 0000000a 80000006 00000017 'no export is named ' 226e6f22`,
  },

  {
    name: 'GO while the server shuts down: SHUTDOWN',
    shuttingDown: true,
    in: `${FLAGS} ${GO}`,
    out: 'REP 00000007 80000007 "the server is shutting down"',
    end: 'close',
  },
  { name: 'EXPORT_NAME while the server shuts down', shuttingDown: true, in: `${FLAGS} ${EXPORT_NAME}`, out: '', end: 'close' },
];

/** What a handshake says to `pieces`, and what it wants then. */
function talk(row: Row, ...phases: Buffer[][]): { out: Buffer; end: string; left: number } {
  const handshake = new ServerHandshake(table, row.tls ?? 'off');
  if (row.shuttingDown) handshake.shutDown();
  const out = [handshake.greeting()];
  let end = 'read';
  let left = 0;
  const take = (answer: ServerStep): void => {
    let step = answer;
    for (;;) {
      out.push(...step.send);
      if (step.next.kind !== 'attach') break;
      step = row.busy === undefined ? handshake.attached(table.find(step.next.name)) : handshake.attachRefused(row.busy);
    }
    end = step.next.kind;
    if (step.next.kind === 'transmit') left = step.next.agreement.leftover.length;
  };
  for (const [i, pieces] of phases.entries()) {
    if (i > 0) {
      assert.equal(end, 'starttls');
      take(handshake.secured(row.unwelcome ?? null));
    }
    for (const piece of pieces) {
      assert.equal(end, 'read', 'nothing is left to be said once it has ended');
      take(handshake.receive(piece));
    }
  }
  return { out: Buffer.concat(out), end, left };
}

for (const row of ROWS) {
  test(row.name, () => {
    const [first, second] = (typeof row.in === 'string' ? [row.in] : row.in).map((part) => golden(part, NAMES));
    const expected = golden(`${GREETING} ${row.out}`, NAMES).toString('hex');
    const phases: [what: string, said: Buffer[][]][] = cutsOf(first).map(([what, pieces]) => [
      what,
      second === undefined ? [pieces] : [pieces, [second]],
    ]);
    if (second !== undefined) for (const [what, pieces] of cutsOf(second)) phases.push([`in TLS ${what}`, [[first], pieces]]);
    for (const [what, said] of phases) {
      const { out, end, left } = talk(row, ...said);
      assert.equal(out.toString('hex'), expected, what);
      assert.equal(end, row.end ?? 'read', what);
      assert.equal(left, 0, what);
    }
  });
}

test.run();
