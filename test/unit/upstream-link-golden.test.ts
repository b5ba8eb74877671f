// What a link says to a node, byte for byte: every request in each style of headers, small payloads beside their header and large
// ones behind it; and that our own server, in each style and with its bytes cut anywhere, is understood.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { SystemClock } from '../../gateway/clock.js';
import { NbdServer } from '../../gateway/nbd/server.js';
import { Job } from '../../gateway/upstream/job.js';
import { Link } from '../../gateway/upstream/link.js';
import type { Dialer } from '../../gateway/wire.js';
import { ERRNO, type Extent, OP } from '../../replication/device.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryDevice } from '../support/memory-device.js';
import { MemoryExports, memoryExport } from '../support/memory-exports.js';
import { hex, optionReplyBytes, uint16, uint32, uint64 } from '../support/nbd-bytes.js';
import { QuietLog } from '../support/quiet-log.js';
import { turns } from '../support/scripted-node.js';
import { wirePair } from '../support/wire-pair.js';

const test = suite('upstream/link golden');
const STYLES = ['simple', 'structured', 'extended'] as const;
type Style = (typeof STYLES)[number];

function jobOf(fields: Partial<Job>): Job {
  return Object.assign(new Job(), fields);
}

/** A link after its handshake with a node whose answers the test sends; `said` is what it has been told since. */
async function linkOf(style: Style) {
  const [ours, theirs] = wirePair();
  const said: Buffer[] = [];
  theirs.handle({ data: (bytes) => said.push(bytes), drain: () => {}, close: () => {} });
  const answers: [Job, number][] = [];
  const dialer: Dialer = {
    dial: (_address, handlers) => {
      ours.handle(handlers);
      return ours.wire;
    },
  };
  const link = new Link(
    { dialer, clock: new ManualClock(), address: { host: 'a', port: 1 }, exportName: 'disk', handshakeMs: 1000 },
    { ready: () => {}, answered: (_link, job, errno) => answers.push([job, errno]), closed: () => {} },
  );
  const context = Buffer.concat([uint32(7), Buffer.from('base:allocation')]);
  const refused = 0x80000001;
  for (const bytes of [
    hex('4e42444d41474943 49484156454f5054 0003'),
    optionReplyBytes(11, style === 'extended' ? 1 : refused),
    ...(style === 'extended' ? [] : [optionReplyBytes(8, style === 'structured' ? 1 : refused)]),
    ...(style === 'simple' ? [] : [optionReplyBytes(10, 4, context), optionReplyBytes(10, 1)]),
    optionReplyBytes(7, 3, Buffer.concat([uint16(0), uint64(2n ** 40n), uint16(0x0d6d)])),
    optionReplyBytes(7, 1),
  ]) {
    theirs.wire.write(bytes);
    await turns(3);
  }
  assert(link.open, 'the handshake is over');
  said.length = 0;
  const heard = async (): Promise<Buffer> => {
    await turns(4);
    return Buffer.concat(said.splice(0));
  };
  return { link, heard, answers, tell: (bytes: Buffer) => theirs.wire.write(bytes) };
}

const DATA = Buffer.from('forestall');
/** Flags, command, offset, length and payload of each request; the cookie is the slot, of generation 0. */
const REQUESTS: [what: string, job: Partial<Job>, compact: string, extended: string][] = [
  [
    'read',
    { op: OP.READ, offset: 0x1122334455, length: 4096 },
    '0000 0000 C 0000001122334455 00001000',
    '0000 0000 C 0000001122334455 0000000000001000',
  ],
  [
    'write',
    { op: OP.WRITE, offset: 512, length: 9, data: DATA },
    '0000 0001 C 0000000000000200 00000009',
    '0020 0001 C 0000000000000200 0000000000000009',
  ],
  [
    'write with FUA',
    { op: OP.WRITE, offset: 512, length: 9, data: DATA, fua: true },
    '0001 0001 C 0000000000000200 00000009',
    '0021 0001 C 0000000000000200 0000000000000009',
  ],
  ['flush', { op: OP.FLUSH }, '0000 0003 C 0000000000000000 00000000', '0000 0003 C 0000000000000000 0000000000000000'],
  [
    'zeroes that may not punch',
    { op: OP.ZEROES, offset: 1, length: 2 },
    '0002 0006 C 0000000000000001 00000002',
    '0002 0006 C 0000000000000001 0000000000000002',
  ],
  [
    'zeroes that may punch and must be fast, with FUA',
    { op: OP.ZEROES, offset: 1, length: 2, punch: true, fast: true, fua: true },
    '0011 0006 C 0000000000000001 00000002',
    '0011 0006 C 0000000000000001 0000000000000002',
  ],
  [
    'block status',
    { op: OP.STATUS, offset: 0, length: 65536 },
    '0000 0007 C 0000000000000000 00010000',
    '0000 0007 C 0000000000000000 0000000000010000',
  ],
  [
    'block status of one extent',
    { op: OP.STATUS, offset: 0, length: 65536, one: true },
    '0008 0007 C 0000000000000000 00010000',
    '0008 0007 C 0000000000000000 0000000000010000',
  ],
];

for (const style of STYLES) {
  test(`every request has its golden bytes with ${style} replies`, async () => {
    const { link, heard } = await linkOf(style);
    for (const [index, [what, fields, compact, extended]] of REQUESTS.entries()) {
      link.send(jobOf(fields));
      const golden = `${style === 'extended' ? `21e41c71 ${extended}` : `25609513 ${compact}`}`.replace(
        'C',
        `00000000 ${index.toString(16).padStart(8, '0')}`,
      );
      assert.deepEqual(await heard(), Buffer.concat([hex(golden), ...(fields.data ? [fields.data] : [])]), what);
    }
    assert.equal(link.unanswered().length, REQUESTS.length);
    link.close('over');
  });

  test(`several requests leave as one piece, large payloads where they belong, with ${style} replies`, async () => {
    const { link, heard } = await linkOf(style);
    const large = Buffer.alloc(100_000, 'large');
    link.send(jobOf({ op: OP.WRITE, offset: 0, length: 9, data: DATA }));
    link.send(jobOf({ op: OP.WRITE, offset: 512, length: large.length, data: large }));
    link.send(jobOf({ op: OP.FLUSH }));
    await turns(10);
    const bytes = await heard();
    const head = style === 'extended' ? 32 : 28;
    assert.equal(bytes.length, 3 * head + 9 + large.length);
    assert(bytes.subarray(head, head + 9).equals(DATA));
    assert(bytes.subarray(2 * head + 9, 2 * head + 9 + large.length).equals(large));
    assert.equal(bytes.readUInt16BE(2 * head + 9 + large.length + 6), 3, 'the flush is behind');
    link.close('over');
  });

  test(`an answered cookie is used again with another generation, and the good-bye has its golden bytes, with ${style} replies`, async () => {
    const { link, heard, answers, tell } = await linkOf(style);
    const reply = (generation: number): Buffer =>
      style === 'extended'
        ? hex(`6e8a278c 0001 0000 0000000${generation} 00000000 0000000000000000 0000000000000000`)
        : hex(`67446698 00000000 0000000${generation} 00000000`);
    for (const generation of [0, 1]) {
      link.send(jobOf({ op: OP.FLUSH }));
      const asked = await heard();
      assert.deepEqual([asked.readUInt32BE(8), asked.readUInt32BE(12)], [generation, 0]);
      tell(reply(generation));
      await turns(4);
    }
    assert.deepEqual(
      answers.map(([, errno]) => errno),
      [0, 0],
    );
    link.disconnect();
    const zero = '0000000000000000';
    assert.deepEqual(
      await heard(),
      hex(style === 'extended' ? `21e41c71 0000 0002 ${zero} ${zero} ${zero}` : `25609513 0000 0002 ${zero} ${zero} 00000000`),
    );
  });
}

/** A link to our own server in front of `device`, one request at a time. */
async function linkTo(device: MemoryDevice, style: Style, cut?: () => number) {
  const exports = new MemoryExports(memoryExport('disk', device));
  const server = new NbdServer({ exports, clock: new SystemClock(), log: new QuietLog() });
  const [ours, theirs] = wirePair({ cut });
  theirs.handle(server.accept(theirs.wire));
  const dialer: Dialer = {
    dial: (_address, handlers) => {
      ours.handle(handlers);
      return ours.wire;
    },
  };
  let settle: (errno: number | string) => void = () => {};
  const next = (): Promise<number | string> =>
    new Promise((resolve) => {
      settle = resolve;
    });
  const standing = next();
  const wishes = { structured: style !== 'simple', extended: style === 'extended' };
  const link = new Link(
    { dialer, clock: new ManualClock(), address: { host: 'a', port: 1 }, exportName: 'disk', handshakeMs: 1000, wishes },
    { ready: () => settle('ready'), answered: (_link, _job, errno) => settle(errno), closed: (_link, _jobs, reason) => settle(reason) },
  );
  assert.equal(await standing, 'ready');
  return {
    async ask(job: Job): Promise<void> {
      const answered = next();
      link.send(job);
      assert.equal(await answered, ERRNO.OK);
    },
    close: () => link.close('over'),
  };
}

test('our own server is understood in each style, whatever is asked of it and however the bytes are cut', async () => {
  const request = fc.record({
    op: fc.constantFrom(OP.READ, OP.WRITE, OP.ZEROES, OP.FLUSH, OP.STATUS),
    block: fc.nat(63),
    blocks: fc.integer({ min: 1, max: 8 }),
    byte: fc.integer({ min: 1, max: 255 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.infiniteStream(fc.integer({ min: 1, max: 700 })),
      fc.array(request, { minLength: 1, maxLength: 20 }),
      fc.constantFrom(...STYLES),
      async (cuts, requests, style) => {
        const sizeBytes = 64 * 512;
        const device = new MemoryDevice(sizeBytes);
        const link = await linkTo(device, style, () => cuts.next().value);
        const model = Buffer.alloc(sizeBytes);
        for (const { op, block, blocks, byte } of requests) {
          if (op === OP.STATUS && style === 'simple') continue;
          const offset = block * 512;
          const length = Math.min(blocks * 512, sizeBytes - offset);
          const job = jobOf({ op, offset: op === OP.FLUSH ? 0 : offset, length: op === OP.FLUSH ? 0 : length });
          if (op === OP.WRITE) job.data = Buffer.alloc(length, byte);
          await link.ask(job);
          if (op === OP.WRITE) model.fill(byte, offset, offset + length);
          else if (op === OP.ZEROES) model.fill(0, offset, offset + length);
          else if (op === OP.READ) assert(job.data!.equals(model.subarray(offset, offset + length)));
          else if (op === OP.STATUS) assert(job.extents!.length > 0);
        }
        link.close();
      },
    ),
    { numRuns: 60 },
  );
});

test('what our server tells of holes arrives as it was told, in each style that can tell', async () => {
  const runs = fc.array(fc.record({ blocks: fc.integer({ min: 1, max: 20 }), hole: fc.boolean(), zero: fc.boolean() }), {
    minLength: 1,
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(runs, fc.constantFrom(...STYLES.slice(1)), fc.nat(63), fc.boolean(), async (told, style, block, one) => {
      const sizeBytes = 64 * 512;
      const device = new MemoryDevice(sizeBytes);
      const offset = block * 512;
      const length = sizeBytes - offset;
      device.extents = () => told.map(({ blocks, hole, zero }) => ({ lengthBytes: blocks * 512, hole, zero }));
      const link = await linkTo(device, style);
      const job = jobOf({ op: OP.STATUS, offset, length, one });
      await link.ask(job);
      const flat = (extents: readonly Extent[]): string[] =>
        extents.flatMap(({ lengthBytes, hole, zero }) => new Array<string>(lengthBytes / 512).fill(`${hole} ${zero}`));
      const heard = flat(job.extents!);
      assert(heard.length > 0 && (!one || job.extents!.length === 1));
      assert.deepEqual(heard, flat(device.extents(job as never)).slice(0, heard.length));
      if (!one) assert.equal(heard.length, Math.min(length / 512, flat(device.extents(job as never)).length));
      link.close();
    }),
    { numRuns: 100 },
  );
});

test.run();
