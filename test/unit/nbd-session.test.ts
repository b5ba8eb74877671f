// A session over a wire under control and a device in memory: every command, every reply, both kinds of backpressure, and
// every way for it to end.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { HeaderStyle } from '../../gateway/nbd/codec.js';
import { ServerCounters } from '../../gateway/nbd/counters.js';
import { SessionMemory } from '../../gateway/nbd/memory-share.js';
import type { SelectedContext } from '../../gateway/nbd/meta-context.js';
import { Session } from '../../gateway/nbd/session.js';
import { OP } from '../../replication/device.js';
import { HeldWire } from '../support/held-wire.js';
import { MemoryDevice, type MemoryDeviceOptions } from '../support/memory-device.js';
import { type ExportWish, memoryExport } from '../support/memory-exports.js';
import { hex, parseReplies, type Reply, type RequestFields, requestBytes, uint32, uint64 } from '../support/nbd-bytes.js';

const test = suite('nbd session');

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [EIO, EINVAL, ESHUTDOWN] = [5, 22, 108];
const PAYLOAD_LEN = 32;
const MIB = 1024 * 1024;

interface Wish extends ExportWish, MemoryDeviceOptions {
  headers?: HeaderStyle;
  /** Those that were selected; default base:allocation, where that may be. */
  selected?: SelectedContext[];
  deviceBytes?: number;
  memory?: SessionMemory;
  later?: (run: () => void) => void;
}

/** A session, what it said and what became of it. */
class Bench {
  readonly wire = new HeldWire();
  readonly counters = new ServerCounters();
  readonly memory: SessionMemory;
  readonly device: MemoryDevice;
  readonly events: string[] = [];
  readonly session: Session;
  /** Of READs that are answered simply, so that their data can be told from the next reply. */
  #readLengths = new Map<bigint, number>();
  readonly headers: HeaderStyle;

  constructor(wish: Wish = {}) {
    this.memory = wish.memory ?? new SessionMemory();
    this.device = new MemoryDevice(wish.deviceBytes ?? MIB, wish);
    this.headers = wish.headers ?? 'structured';
    const agreement = {
      export: memoryExport('disk', this.device, wish),
      headers: this.headers,
      contexts: wish.selected ?? (this.headers === 'simple' ? [] : [{ id: 1, known: null }]),
      leftover: Buffer.alloc(0),
    };
    this.session = new Session(
      this.wire,
      agreement,
      7,
      { counters: this.counters, memory: this.memory, inFlightMax: 1024, later: wish.later ?? queueMicrotask },
      {
        ended: (reason) => this.events.push(`ended: ${reason}`),
        over: () => this.events.push('over'),
      },
    );
  }

  say(...requests: (RequestFields | Buffer)[]): this {
    const bytes = requests.map((request) => {
      if (Buffer.isBuffer(request)) return request;
      if (request.command === READ && this.headers === 'simple') this.#readLengths.set(request.cookie ?? 1n, Number(request.length ?? 0));
      return requestBytes(request, this.headers === 'extended');
    });
    this.session.receive(Buffer.concat(bytes));
    return this;
  }

  /** What the session answered in this turn. */
  async replies(): Promise<Reply[]> {
    return parseReplies(await this.bytes(), (cookie) => this.#readLengths.get(cookie) ?? 0);
  }

  async bytes(): Promise<Buffer> {
    await turn();
    return this.wire.take();
  }

  /** The error numbers of this turn's replies, in order. */
  async errnos(): Promise<number[]> {
    return (await this.replies()).map(({ errno }) => errno);
  }
}

/** Every microtask of this turn has run. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test('simple replies have their golden bytes', async () => {
  const bench = new Bench({ headers: 'simple' });
  bench.device.bytes.write('abcd', 512);
  bench.say({ command: READ, cookie: 0x0102030405060708n, offset: 512, length: 4 });
  assert.deepEqual(await bench.bytes(), hex('67446698 00000000 0102030405060708 61626364'));
  bench.say({ command: WRITE, cookie: 0xffffffffffffffffn, offset: 0, payload: Buffer.from('x') });
  assert.deepEqual(await bench.bytes(), hex('67446698 00000000 ffffffffffffffff'));
  bench.say({ command: READ, cookie: 3n, offset: MIB, length: 1 });
  assert.deepEqual(await bench.bytes(), hex('67446698 00000016 0000000000000003'));
});

test('structured replies have their golden bytes', async () => {
  const bench = new Bench();
  bench.device.bytes.write('abcd', 512);
  bench.say({ command: READ, cookie: 0x0102030405060708n, offset: 512, length: 4 });
  assert.deepEqual(await bench.bytes(), hex('668e33ef 0001 0001 0102030405060708 0000000c 0000000000000200 61626364'));
  bench.say({ command: STATUS, cookie: 2n, offset: 0, length: 4096 });
  assert.deepEqual(await bench.bytes(), hex('668e33ef 0001 0005 0000000000000002 0000000c 00000001 00001000 00000000'));
  bench.say({ command: READ, cookie: 3n, offset: MIB, length: 1 });
  const message = Buffer.from('the range ends past the end of the export');
  assert.deepEqual(await bench.bytes(), Buffer.concat([hex('668e33ef 0001 8001 0000000000000003 0000002f 00000016 0029'), message]));
});

test('extended replies have their golden bytes, every one a chunk with the offset of its request', async () => {
  const bench = new Bench({ headers: 'extended' });
  bench.device.bytes.write('abcd', 512);
  bench.say({ command: READ, cookie: 0x0102030405060708n, offset: 512, length: 4 });
  assert.deepEqual(
    await bench.bytes(),
    hex('6e8a278c 0001 0001 0102030405060708 0000000000000200 000000000000000c 0000000000000200 61626364'),
  );
  bench.say({ command: WRITE, flags: PAYLOAD_LEN, cookie: 2n, offset: 7, payload: Buffer.from('x') });
  assert.deepEqual(await bench.bytes(), hex('6e8a278c 0001 0000 0000000000000002 0000000000000007 0000000000000000'));
  bench.say({ command: STATUS, cookie: 3n, offset: 4096, length: 4096 });
  assert.deepEqual(
    await bench.bytes(),
    hex('6e8a278c 0001 0006 0000000000000003 0000000000001000 0000000000000018 00000001 00000001 0000000000001000 0000000000000000'),
  );
  bench.say({ command: FLUSH, cookie: 4n, offset: 0xfedcba9876543210n });
  assert.deepEqual(await bench.bytes(), hex('6e8a278c 0001 0000 0000000000000004 fedcba9876543210 0000000000000000'));
  bench.say({ command: READ, cookie: 5n, offset: 0xffffffffffffffffn, length: 0xffffffffffffffffn });
  const message = Buffer.from('the range ends past the end of the export');
  const head = hex('6e8a278c 0001 8001 0000000000000005 ffffffffffffffff 000000000000002f 00000016 0029');
  assert.deepEqual(await bench.bytes(), Buffer.concat([head, message]));
});

test('zeroes and trims of any length are given to the device in parts, one after the other, and answered once', async () => {
  const GIB = 2 ** 30;
  for (const [command, flags, first, later] of [
    [ZEROES, 1 | 16, { fua: true, fast: true }, { fua: true }],
    [TRIM, 0, {}, {}],
  ] as const) {
    const bench = new Bench({ headers: 'extended', deviceBytes: 64 * GIB, keptBytes: 0, completion: 'held' });
    bench.say({ command, flags, cookie: 9n, offset: 4096, length: 5 * GIB });
    const base = { op: OP.ZEROES, fua: false, punch: true, fast: false, one: false, lane: 7 };
    const parts = [
      { ...base, ...first, offset: 4096, length: 2 * GIB },
      { ...base, ...later, offset: 4096 + 2 * GIB, length: 2 * GIB },
      { ...base, ...later, offset: 4096 + 4 * GIB, length: GIB },
    ];
    for (let done = 0; done < parts.length; done++) {
      assert.deepEqual(bench.device.asked, parts.slice(0, done + 1));
      assert.deepEqual(await bench.replies(), []);
      assert.equal(bench.session.inFlight, 1);
      bench.device.release();
      await turn();
    }
    const [reply, ...more] = await bench.replies();
    assert.deepEqual([reply.cookie, reply.errno, reply.offset, more.length], [9n, 0, 4096n, 0]);
    assert.equal(bench.session.inFlight, 0);
  }
});

test('of a long request that fails nothing more is done, nor of one whose host has gone', async () => {
  const wish = { headers: 'extended', deviceBytes: 2 ** 40, keptBytes: 0, completion: 'held' } as const;
  const failed = new Bench(wish);
  failed.say({ command: ZEROES, offset: 0, length: 2 ** 33 });
  failed.device.release();
  await turn();
  failed.device.release(0, EIO);
  assert.deepEqual(await failed.errnos(), [EIO]);
  assert.equal(failed.device.asked.length, 2);

  const gone = new Bench(wish);
  gone.say({ command: ZEROES, offset: 0, length: 2 ** 33 });
  gone.session.closed();
  gone.device.release();
  await turn();
  assert.equal(gone.device.asked.length, 1);
  assert.deepEqual(gone.events, ['over']);
});

test('a BLOCK_STATUS may be longer than 32 bits can say', async () => {
  const bench = new Bench({ headers: 'extended', deviceBytes: 2 ** 40, keptBytes: 0, completion: 'held' });
  bench.say({ command: STATUS, offset: 0, length: 2 ** 40 });
  bench.device.release();
  const [{ type, payload }] = await bench.replies();
  assert.equal(type, 6);
  assert(payload.readBigUInt64BE(8) >= 2n ** 31n && payload.readBigUInt64BE(8) <= 2n ** 40n);
});

test('a payload that its command does not take is drained and refused, in step', async () => {
  const payload = Buffer.alloc(512, 0x25);
  const bench = new Bench({ headers: 'extended' });
  for (const command of [READ, FLUSH, TRIM, CACHE, ZEROES, 99]) bench.say({ command, flags: PAYLOAD_LEN, payload });
  bench.say({ command: FLUSH, cookie: 2n });
  assert.deepEqual(await bench.errnos(), [EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, 0]);
  assert.deepEqual(
    bench.device.asked.map(({ op }) => op),
    [OP.FLUSH],
  );
  bench.say({ command: TRIM, flags: PAYLOAD_LEN, length: 2 ** 40 });
  await turn();
  assert.deepEqual(bench.events, [`ended: the host broke the protocol: a payload of ${2 ** 40} bytes`]);
});

test('with extended headers a WRITE without PAYLOAD_LEN ends the session: whether a payload follows, nobody knows', async () => {
  const bench = new Bench({ headers: 'extended' });
  bench.say({ command: WRITE, payload: Buffer.alloc(512, 0x25) });
  bench.say({ command: FLUSH, cookie: 2n });
  await turn();
  assert.deepEqual(bench.device.asked, []);
  assert.deepEqual(bench.events, ['ended: the host broke the protocol: a WRITE without the flag PAYLOAD_LEN, with extended headers']);
});

test('a BLOCK_STATUS may name the contexts it wants: known ones, each once, whatever the cuts', async () => {
  const selection = (effect: number, ...ids: number[]): Buffer => Buffer.concat([uint64(effect), ...ids.map(uint32)]);
  const said: [Buffer, number][] = [
    [selection(4096, 1), 0],
    [selection(4096), EINVAL],
    [selection(4096, 2), EINVAL],
    [selection(4096, 1, 1), EINVAL],
    [selection(4096, 1).subarray(0, 11), EINVAL],
    [Buffer.alloc(0), EINVAL],
    [Buffer.alloc(4096, 1), EINVAL],
    [selection(2 * MIB, 1), EINVAL],
    [selection(0, 1), 0],
  ];
  const bytes = Buffer.concat(said.map(([payload]) => requestBytes({ command: STATUS, flags: PAYLOAD_LEN, payload }, true)));
  for (const piece of [bytes.length, 1, 7, 33]) {
    const bench = new Bench({ headers: 'extended' });
    for (let at = 0; at < bytes.length; at += piece) bench.say(bytes.subarray(at, at + piece));
    const replies = await bench.replies();
    assert.deepEqual(
      replies.map(({ errno }) => errno),
      said.map(([, errno]) => errno),
    );
    assert.deepEqual(replies[0].payload, hex('00000001 00000001 0000000000001000 0000000000000000'));
    assert.deepEqual(
      bench.device.asked.map(({ length }) => length),
      [4096],
    );
  }
  const without = new Bench({ headers: 'extended', selected: [] });
  without.say({ command: STATUS, flags: PAYLOAD_LEN, payload: selection(4096, 1) }, { command: FLUSH });
  assert.deepEqual(await without.errnos(), [EINVAL, 0]);
});

/** Of a device of 1 MiB: the status is the number of the 4 KiB block. */
const NUMBERED = {
  name: 'x-test:number',
  runs: (offset: number, length: number) =>
    Array.from({ length: Math.ceil(length / 4096) }, (_, i) => ({ lengthBytes: 4096, status: offset / 4096 + i })),
};

test('each selected context gets its chunk, the last one says that it is; what is known is not asked of the device', async () => {
  const base = { id: 1, known: null };
  const number = { id: 5, known: NUMBERED };
  const both = new Bench({ selected: [base, number] });
  both.say({ command: STATUS, offset: 8192, length: 8192 });
  const replies = await both.replies();
  assert.deepEqual(
    replies.map(({ type, flags, payload }) => [type, flags, payload]),
    [
      [5, 0, hex('00000001 00002000 00000000')],
      [5, 1, hex('00000005 00001000 00000002 00001000 00000003')],
    ],
  );
  both.say({ command: STATUS, flags: 8, offset: 8192, length: 8192 });
  assert.deepEqual(
    (await both.replies()).map(({ payload }) => payload),
    [hex('00000001 00002000 00000000'), hex('00000005 00001000 00000002')],
  );
  assert.equal(both.device.asked.length, 2);
  both.device.fail = () => EIO;
  both.say({ command: STATUS, offset: 8192, length: 8192 });
  assert.deepEqual(await both.errnos(), [EIO]);

  const known = new Bench({ selected: [number], headers: 'extended' });
  known.say({ command: STATUS, offset: 8192, length: 4096 });
  const [reply] = await known.replies();
  assert.deepEqual([reply.type, reply.flags, reply.payload], [6, 1, hex('00000005 00000001 0000000000001000 0000000000000002')]);
  assert.deepEqual([known.device.asked.length, known.session.inFlight], [0, 0]);
});

test('a BLOCK_STATUS that names some of the contexts gets those, and the next one all again', async () => {
  const selected = [
    { id: 1, known: null },
    { id: 5, known: NUMBERED },
  ];
  const bench = new Bench({ selected, headers: 'extended' });
  const naming = (...ids: number[]) => ({
    command: STATUS,
    flags: PAYLOAD_LEN,
    payload: Buffer.concat([uint64(4096), ...ids.map(uint32)]),
  });
  const ids = async () => (await bench.replies()).map(({ errno, payload }) => (errno === 0 ? payload.readUInt32BE(0) : `error ${errno}`));
  bench.say(naming(5));
  assert.deepEqual(await ids(), [5]);
  bench.say({ command: STATUS, length: 4096 });
  assert.deepEqual(await ids(), [1, 5]);
  bench.say(naming(5, 1));
  assert.deepEqual(await ids(), [1, 5]);
  bench.say({ ...naming(1), offset: MIB }, { command: STATUS, length: 4096 });
  assert.deepEqual(await ids(), ['error 22', 1, 5]);
  assert.equal(bench.device.asked.length, 3);
});

test('each command becomes the device request it means', async () => {
  const bench = new Bench();
  bench.say(
    { command: READ, offset: 4096, length: 512, flags: 4 },
    { command: WRITE, offset: 512, payload: Buffer.alloc(512, 1), flags: 1 },
    { command: FLUSH, offset: 77, length: 99 },
    { command: TRIM, offset: 1024, length: 512 },
    { command: TRIM, offset: 1024, length: 512, flags: 1 },
    { command: ZEROES, offset: 2048, length: 512 },
    { command: ZEROES, offset: 2048, length: 512, flags: 1 | 2 | 16 },
    { command: STATUS, offset: 0, length: 512 },
    { command: STATUS, offset: 0, length: 512, flags: 8 },
  );
  const base = { fua: false, punch: true, fast: false, one: false, lane: 7 };
  assert.deepEqual(bench.device.asked, [
    { ...base, op: OP.READ, offset: 4096, length: 512 },
    { ...base, op: OP.WRITE, offset: 512, length: 512, fua: true },
    { ...base, op: OP.FLUSH, offset: 0, length: 0 },
    { ...base, op: OP.ZEROES, offset: 1024, length: 512 },
    { ...base, op: OP.ZEROES, offset: 1024, length: 512, fua: true },
    { ...base, op: OP.ZEROES, offset: 2048, length: 512 },
    { ...base, op: OP.ZEROES, offset: 2048, length: 512, fua: true, punch: false, fast: true },
    { ...base, op: OP.STATUS, offset: 0, length: 512 },
    { ...base, op: OP.STATUS, offset: 0, length: 512, one: true },
  ]);
  assert.deepEqual(await bench.errnos(), new Array(9).fill(0));
});

test('CACHE and empty requests succeed without the device', async () => {
  const bench = new Bench();
  bench.say({ command: CACHE, offset: 0, length: 4096 });
  for (const command of [READ, WRITE, TRIM, CACHE, ZEROES, STATUS]) bench.say({ command, offset: 4096, length: 0 });
  const replies = await bench.replies();
  assert.equal(bench.device.asked.length, 0);
  assert.deepEqual(
    replies.map(({ type, errno, payload }) => [type, errno, payload.length]),
    [
      ['simple', 0, 0],
      [0, 0, 0],
      ['simple', 0, 0],
      ['simple', 0, 0],
      ['simple', 0, 0],
      ['simple', 0, 0],
      [0, 0, 0],
    ],
  );
});

test('an empty READ without structured replies is answered simply', async () => {
  const bench = new Bench({ headers: 'simple' });
  bench.say({ command: READ, cookie: 5n, length: 0 });
  assert.deepEqual(await bench.bytes(), hex('67446698 00000000 0000000000000005'));
});

test('answers the same wherever the requests are cut', async () => {
  const said = [
    { command: WRITE, cookie: 1n, offset: 100, payload: Buffer.from('hello world') },
    { command: READ, cookie: 2n, offset: 100, length: 11 },
    { command: 99, cookie: 3n, offset: 0, length: 8 },
    { command: WRITE, cookie: 4n, offset: MIB, payload: Buffer.from('past the end') },
    { command: FLUSH, cookie: 5n },
    { command: READ, cookie: 6n, offset: 0, length: 3 },
  ].map((fields) => requestBytes(fields));
  const whole = new Bench();
  const all = Buffer.concat(said);
  whole.say(all);
  const expected = await whole.bytes();
  for (let cut = 1; cut < all.length; cut++) {
    const bench = new Bench();
    bench.say(all.subarray(0, cut)).say(all.subarray(cut));
    assert.deepEqual(await bench.bytes(), expected, `cut at ${cut}`);
    assert.deepEqual(bench.device.asked, whole.device.asked);
  }
  const bytewise = new Bench();
  for (const byte of all) bytewise.say(Buffer.from([byte]));
  assert.deepEqual(await bytewise.bytes(), expected);
});

test('payloads arrive whole, small or large, in one chunk or in many', async () => {
  for (const length of [1, 16 * 1024, 16 * 1024 + 1, 40_000, 300_000]) {
    for (const piece of [length + 100, 65_536, 1000, 7919]) {
      const bench = new Bench();
      const payload = Buffer.from(Array.from({ length }, (_, i) => (i * 31) & 0xff));
      const bytes = requestBytes({ command: WRITE, offset: 5, payload });
      for (let at = 0; at < bytes.length; at += piece) bench.say(bytes.subarray(at, at + piece));
      assert.deepEqual(await bench.errnos(), [0]);
      assert(bench.device.bytes.subarray(5, 5 + length).equals(payload), `${length} bytes in pieces of ${piece}`);
    }
  }
});

test("a payload is the device's to keep: later requests do not change it", async () => {
  const bench = new Bench({ completion: 'held' });
  for (let i = 0; i < 200; i++) bench.say({ command: WRITE, offset: i * 4096, payload: Buffer.alloc(4096, i) });
  assert(bench.device.held.every(({ data }, i) => data!.equals(Buffer.alloc(4096, i))));
});

test('a small payload does not hold on to the chunk it came in', () => {
  const bench = new Bench({ completion: 'held' });
  const chunk = Buffer.concat([requestBytes({ command: WRITE, payload: Buffer.alloc(512, 1) }), Buffer.alloc(60_000)]);
  bench.say(chunk.subarray(0, 28 + 512));
  assert.notEqual(bench.device.held[0].data!.buffer, chunk.buffer);
});

test('completions in any order are answered in that order, each with its cookie', async () => {
  const bench = new Bench({ completion: 'held' });
  bench.device.bytes.write('abc');
  for (const i of [0, 1, 2]) bench.say({ command: READ, cookie: BigInt(10 + i), offset: i, length: 1 });
  bench.device.release(2);
  bench.device.release(0);
  bench.device.release(0, EIO);
  const replies = await bench.replies();
  assert.deepEqual(
    replies.map(({ cookie, errno }) => [cookie, errno]),
    [
      [12n, 0],
      [10n, 0],
      [11n, EIO],
    ],
  );
  assert.equal(replies[0].payload.toString('latin1', 8), 'c');
  assert.equal(replies[1].payload.toString('latin1', 8), 'a');
});

test('cookies may repeat once answered', async () => {
  const bench = new Bench();
  bench.say({ command: FLUSH, cookie: 5n }, { command: FLUSH, cookie: 5n });
  assert.deepEqual(await bench.errnos(), [0, 0]);
});

test('all replies of a turn leave as one piece', async () => {
  const bench = new Bench();
  for (let i = 0; i < 50; i++) bench.say({ command: READ, offset: 0, length: 512 });
  await turn();
  assert.equal(bench.wire.held.length, 1);
  assert.equal((await bench.replies()).length, 50);
});

test('large reads leave by reference, in order with the small ones', async () => {
  const bench = new Bench();
  bench.device.bytes.fill(9, 0, 100_000);
  bench.say({ command: READ, cookie: 1n, offset: 0, length: 100_000 }, { command: FLUSH, cookie: 2n });
  await turn();
  assert.equal(bench.wire.held.length, 3);
  const replies = await bench.replies();
  assert.deepEqual(
    replies.map(({ cookie, payload }) => [cookie, payload.length]),
    [
      [1n, 100_008],
      [2n, 0],
    ],
  );
});

test('device errors are told in NBD numbers, with a message, on chunks', async () => {
  const bench = new Bench();
  bench.device.fail = () => 122;
  bench.say({ command: WRITE, payload: Buffer.alloc(512) });
  const [reply] = await bench.replies();
  assert.equal(reply.errno, 28);
  assert.equal(reply.type, 0x8001);
  assert.equal(reply.payload.toString('utf8', 6), 'the device has no space left');
  assert.equal(reply.payload.readUInt16BE(4), reply.payload.length - 6);
});

test('ENOTSUP is for FAST_ZERO alone', async () => {
  const bench = new Bench();
  bench.device.fail = () => 95;
  bench.say({ command: ZEROES, length: 512, flags: 16 }, { command: ZEROES, length: 512 });
  assert.deepEqual(await bench.errnos(), [95, EIO]);
});

test('a refused WRITE has its payload skipped and stays in step', async () => {
  const bench = new Bench({ block: { maximumPayload: 65_536 }, deviceBytes: 4 * MIB });
  bench.say({ command: WRITE, cookie: 1n, payload: Buffer.alloc(131_072, 1) });
  bench.say({ command: WRITE, cookie: 2n, offset: 4 * MIB, payload: Buffer.alloc(100, 1) });
  bench.say({ command: WRITE, cookie: 3n, flags: 32, payload: Buffer.alloc(100, 1) });
  bench.say({ command: FLUSH, cookie: 4n });
  assert.deepEqual(
    (await bench.replies()).map(({ cookie, errno }) => [cookie, errno]),
    [
      [1n, EINVAL],
      [2n, 28],
      [3n, EINVAL],
      [4n, 0],
    ],
  );
  assert.equal(bench.device.asked.length, 1, 'only FLUSH reached the device');
  assert(bench.device.bytes.every((byte) => byte === 0));
});

test('a WRITE over twice the maximum payload ends the connection, whatever follows', async () => {
  for (const length of [131_073, 0xffffffff]) {
    const bench = new Bench({ block: { maximumPayload: 65_536 } });
    bench.say({ command: WRITE, length }, { command: FLUSH });
    assert.equal(bench.wire.destroyed, true);
    assert.match(bench.events[0], /broke the protocol: a payload of/);
    assert.equal(bench.device.asked.length, 0);
    assert.equal(bench.counters.violations, 1);
  }
});

test('a READ over the maximum payload is EINVAL and the connection is kept', async () => {
  const bench = new Bench({ block: { maximumPayload: 65_536 } });
  bench.say({ command: READ, length: 65_537 }, { command: FLUSH });
  assert.deepEqual(await bench.errnos(), [EINVAL, 0]);
});

test('an unknown command is EINVAL, in step, no payload assumed', async () => {
  const bench = new Bench();
  bench.say({ command: 8, length: 4096 }, { command: 0xffff, length: 4096 }, { command: FLUSH });
  assert.deepEqual(await bench.errnos(), [EINVAL, EINVAL, 0]);
  assert.equal(bench.counters.requests[8], 1);
  assert.equal(bench.counters.unknownCommands, 1);
});

test('a wrong request magic ends the connection', () => {
  const bench = new Bench();
  bench.say(hex('25609514').fill(0, 3), Buffer.alloc(24));
  assert.equal(bench.wire.destroyed, true);
  assert.match(bench.events[0], /wrong magic 25609500/);
});

test('BLOCK_STATUS clips what the device says to the request', async () => {
  const bench = new Bench();
  bench.device.extents = () => [
    { lengthBytes: 1000, hole: false, zero: false },
    { lengthBytes: MIB, hole: true, zero: true },
  ];
  bench.say({ command: STATUS, length: 4096 });
  const [reply] = await bench.replies();
  assert.deepEqual(reply.payload, hex('00000001 000003e8 00000000 00000c18 00000003'));
});

test('no more than 1024 requests are in flight; reading goes on when they are answered', async () => {
  const bench = new Bench({ completion: 'held' });
  for (let i = 0; i < 1030; i++) bench.say({ command: FLUSH, cookie: BigInt(i) });
  assert.equal(bench.session.inFlight, 1024);
  assert.equal(bench.device.held.length, 1024);
  assert.equal(bench.wire.paused, true);
  bench.device.release();
  await turn();
  assert.equal(bench.device.held.length, 1024);
  assert.equal(bench.wire.paused, true);
  for (let i = 0; i < 6; i++) bench.device.release();
  await turn();
  assert.equal(bench.wire.paused, false);
  bench.device.releaseAll();
  const cookies = (await bench.replies()).map(({ cookie }) => cookie);
  assert.equal(new Set(cookies).size, 1030);
});

test('what waits for room reaches the device in the order it came, however often it has to wait', async () => {
  const bench = new Bench({ completion: 'held' });
  for (let i = 0; i < 1024; i++) bench.say({ command: FLUSH });
  const read = (offset: number): Buffer => requestBytes({ command: READ, offset, length: 1 });
  for (let i = 0; i < 30; i += 3) bench.say(Buffer.concat([read(i), read(i + 1), read(i + 2)]));
  for (let i = 0; i < 30; i++) {
    bench.device.release();
    await turn();
  }
  assert.deepEqual(
    bench.device.asked.slice(1024).map(({ offset }) => offset),
    Array.from({ length: 30 }, (_, i) => i),
  );
});

test('no more than 65 MiB are in flight, and what waits keeps its order', async () => {
  const bench = new Bench({ completion: 'held', deviceBytes: 33 * MIB });
  for (let i = 0; i < 3; i++) bench.say({ command: READ, cookie: BigInt(i), length: 32 * MIB });
  bench.say({ command: READ, cookie: 9n, length: 2 * MIB });
  assert.equal(bench.device.held.length, 2);
  assert.equal(bench.wire.paused, true);
  bench.device.release(0, EIO);
  await turn();
  assert.deepEqual(
    bench.device.asked.map(({ length }) => length),
    [32 * MIB, 32 * MIB, 32 * MIB],
  );
  bench.device.release(0, EIO);
  await turn();
  assert.deepEqual(bench.device.asked.at(-1)!.length, 2 * MIB);
  assert.equal(bench.wire.paused, false);
  bench.device.release(0, EIO);
  bench.device.release(0, EIO);
  assert.equal((await bench.errnos()).length, 4);
});

test('hosts that take no replies leave memory for the others, and what all hold is bounded', async () => {
  const memory = new SessionMemory(64 * MIB);
  const greedy = Array.from({ length: 12 }, () => new Bench({ completion: 'held', deviceBytes: MIB, memory }));
  for (const bench of greedy) {
    for (let i = 0; i < 100; i++) bench.say({ command: READ, length: MIB });
    await turn();
    bench.device.releaseAll();
    await turn();
  }
  assert(memory.heldBytes > 40 * MIB && memory.heldBytes <= 76 * MIB, `${memory.heldBytes} bytes`);
  const modest = new Bench({ completion: 'held', deviceBytes: MIB, memory });
  for (let i = 0; i < 64; i++) modest.say({ command: READ, length: 4096 });
  assert.equal(modest.device.held.length, 64, 'a host that takes its replies still has a queue');
  for (const bench of greedy) {
    bench.session.closed();
    bench.device.releaseAll();
    await turn();
  }
  modest.device.releaseAll();
  await turn();
  modest.wire.take();
  modest.session.drained();
  await turn();
  assert.equal(memory.heldBytes, 0);
});

test('large requests of hosts that hold nothing wait for memory, in the order of asking, until others give some back', async () => {
  const memory = new SessionMemory(8 * MIB);
  const hosts = Array.from({ length: 5 }, () => new Bench({ completion: 'held', deviceBytes: 4 * MIB, memory }));
  for (const host of hosts) {
    host.say({ command: READ, length: 4 * MIB });
    await turn();
  }
  const asked = (): number[] => hosts.map(({ device }) => device.asked.length);
  assert.deepEqual(asked(), [1, 1, 0, 0, 0]);
  assert.equal(memory.heldBytes, 8 * MIB);
  assert(memory.pressed);
  hosts[2].session.closed();
  hosts[0].device.releaseAll();
  await turn();
  assert.deepEqual(asked(), [1, 1, 0, 0, 0], 'a reply that nobody takes is memory too');
  hosts[0].wire.take();
  hosts[0].session.drained();
  await turn();
  assert.deepEqual(asked(), [1, 1, 0, 1, 0]);
  hosts[1].session.closed();
  hosts[1].device.releaseAll();
  await turn();
  assert.deepEqual(asked(), [1, 1, 0, 1, 1]);
  assert(!memory.pressed);
});

test('a flood of requests that need no device is not read on while its replies are not taken', async () => {
  const memory = new SessionMemory(2 * MIB);
  const greedy = new Bench({ completion: 'held', deviceBytes: 2 * MIB, memory });
  greedy.say({ command: READ, length: MIB + MIB / 2 });
  await turn();
  const bench = new Bench({ memory });
  bench.wire.windowBytes = 65_536;
  const flood = Buffer.concat(Array.from({ length: 2340 }, () => requestBytes({ command: 99 })));
  for (let chunk = 0; chunk < 100 && !bench.wire.paused; chunk++) {
    bench.say(flood);
    await turn();
  }
  assert.equal(bench.wire.paused, true);
  assert(bench.wire.queuedBytes < MIB, `${bench.wire.queuedBytes} bytes`);
  bench.wire.take();
  bench.session.drained();
  await turn();
  assert.equal(bench.wire.paused, false);
});

test('of large reads no more than 64 MiB are with the device, of all hosts together; small ones pass them', async () => {
  const memory = new SessionMemory();
  const hosts = Array.from({ length: 4 }, () => new Bench({ completion: 'held', deviceBytes: 32 * MIB, memory }));
  for (const host of hosts) host.say({ command: READ, length: 32 * MIB });
  const asked = (): number[] => hosts.map(({ device }) => device.asked.length);
  assert.deepEqual(asked(), [1, 1, 0, 0]);
  const modest = new Bench({ completion: 'held', deviceBytes: MIB, memory });
  modest.say({ command: READ, length: MIB }, { command: WRITE, length: 5, payload: Buffer.alloc(5) });
  assert.equal(modest.device.held.length, 2);
  hosts[0].device.release(0, EIO);
  await turn();
  assert.deepEqual(asked(), [1, 1, 1, 0]);
  hosts[1].session.closed();
  hosts[1].device.release();
  await turn();
  assert.deepEqual(asked(), [1, 1, 1, 1]);
});

test('of requests that need no device 64 are answered before others have their turn', async () => {
  const resting: (() => void)[] = [];
  const bench = new Bench({ later: (run) => resting.push(run) });
  bench.say(Buffer.concat(Array.from({ length: 200 }, (_, i) => requestBytes({ command: 99, cookie: BigInt(i) }))));
  const answered: number[] = [];
  for (let turns = 0; turns < 10; turns++) {
    answered.push((await bench.replies()).length);
    assert.equal(bench.wire.paused, resting.length > 0);
    resting.shift()?.();
  }
  assert.deepEqual(answered, [64, 64, 64, 8, 0, 0, 0, 0, 0, 0]);
});

test('a WRITE that waits for room is carried out whole when there is some', async () => {
  const bench = new Bench({ completion: 'held' });
  for (let i = 0; i < 1024; i++) bench.say({ command: FLUSH });
  const bytes = requestBytes({ command: WRITE, offset: 3, payload: Buffer.from('waited') });
  bench.say(bytes.subarray(0, 10)).say(bytes.subarray(10, 30)).say(bytes.subarray(30));
  bench.device.completion = 'sync';
  bench.device.releaseAll();
  await turn();
  assert.equal(bench.device.bytes.toString('latin1', 3, 9), 'waited');
  assert.equal((await bench.errnos()).length, 1025);
});

test('a host that does not take its replies is not read from, and is again once it does', async () => {
  const bench = new Bench({ deviceBytes: 8 * MIB });
  bench.wire.windowBytes = 65_536;
  for (let i = 0; i < 5; i++) bench.say({ command: READ, length: MIB });
  await turn();
  assert.equal(bench.wire.paused, true);
  bench.say({ command: FLUSH });
  assert.equal(bench.device.asked.length, 5, 'what arrives meanwhile waits');
  bench.wire.take();
  bench.session.drained();
  await turn();
  assert.equal(bench.device.asked.length, 6);
  assert.equal(bench.wire.paused, false);
});

test('replies are not changed while a slow wire holds them', async () => {
  const bench = new Bench();
  bench.device.bytes.fill(1, 0, 4096);
  bench.say({ command: READ, cookie: 1n, offset: 0, length: 4096 });
  await turn();
  bench.device.bytes.fill(2, 0, 4096);
  bench.say({ command: READ, cookie: 2n, offset: 0, length: 4096 });
  const replies = await bench.replies();
  assert.deepEqual(
    replies.map(({ cookie, payload }) => [cookie, payload[8], payload.at(-1)]),
    [
      [1n, 1, 1],
      [2n, 2, 2],
    ],
  );
});

test('DISC: what is outstanding is answered, then the wire is ended; what follows is ignored', async () => {
  const bench = new Bench({ completion: 'held' });
  bench.say({ command: FLUSH, cookie: 1n }, { command: DISC }, { command: FLUSH, cookie: 2n });
  await turn();
  assert.equal(bench.wire.ended, false);
  bench.say({ command: FLUSH, cookie: 3n });
  bench.device.release();
  assert.deepEqual(
    (await bench.replies()).map(({ cookie }) => cookie),
    [1n],
  );
  assert.equal(bench.wire.ended, true);
  assert.deepEqual(bench.events, ['ended: the host disconnected']);
  bench.session.closed();
  assert.deepEqual(bench.events, ['ended: the host disconnected', 'over']);
});

test('DISC is heard only after the requests before it, even while they wait for room', async () => {
  const bench = new Bench({ completion: 'held' });
  for (let i = 0; i < 1100; i++) bench.say({ command: FLUSH });
  bench.say({ command: DISC });
  for (let i = 0; i < 1100; i++) {
    bench.device.release();
    await turn();
  }
  assert.equal((await bench.replies()).length, 1100);
  assert.equal(bench.wire.ended, true);
});

test('a host that only closes its sending side gets its answers', async () => {
  const bench = new Bench({ completion: 'held' });
  for (let i = 0; i < 1100; i++) bench.say({ command: FLUSH });
  bench.say(requestBytes({ command: WRITE, payload: Buffer.alloc(100) }).subarray(0, 60));
  bench.session.peerEnded();
  await turn();
  assert.equal(bench.wire.ended, false);
  bench.device.completion = 'sync';
  bench.device.releaseAll();
  assert.equal((await bench.replies()).length, 1100);
  assert.equal(bench.wire.ended, true);
  assert.equal(bench.session.inFlight, 0, 'the piece of a WRITE is forgotten');
});

test('a wire that closes with requests in flight is over when the device has completed them', async () => {
  const bench = new Bench({ completion: 'held' });
  bench.say({ command: FLUSH }, { command: READ, length: 512 });
  bench.say(requestBytes({ command: WRITE, payload: Buffer.alloc(100) }).subarray(0, 60));
  bench.session.closed();
  assert.deepEqual(bench.events, []);
  bench.device.release();
  assert.deepEqual(bench.events, []);
  bench.device.release();
  assert.deepEqual(bench.events, ['over']);
  assert.equal((await bench.bytes()).length, 0, 'nothing is written to a closed wire');
});

test('shutting down: what is in flight is answered, what is new gets ESHUTDOWN, then the wire is ended', async () => {
  const bench = new Bench({ completion: 'held' });
  bench.say({ command: FLUSH, cookie: 1n });
  bench.session.shutDown();
  bench.say({ command: WRITE, cookie: 2n, payload: Buffer.alloc(512, 1) }, { command: READ, cookie: 3n, length: 512 });
  assert.deepEqual(
    (await bench.replies()).map(({ cookie, errno }) => [cookie, errno]),
    [
      [2n, ESHUTDOWN],
      [3n, ESHUTDOWN],
    ],
  );
  assert.equal(bench.wire.ended, false);
  bench.device.release();
  assert.deepEqual(await bench.errnos(), [0]);
  assert.equal(bench.wire.ended, true);
  assert.deepEqual(bench.events, ['ended: the server is shutting down']);
});

test('shutting down an idle session ends it at once', async () => {
  const bench = new Bench();
  bench.session.shutDown();
  await turn();
  assert.equal(bench.wire.ended, true);
});

test('shutting down a session whose host does not read still hears the host leave', async () => {
  const bench = new Bench({ deviceBytes: 8 * MIB });
  bench.wire.windowBytes = 65_536;
  bench.say({ command: READ, length: 5 * MIB });
  await turn();
  assert.equal(bench.wire.paused, true);
  bench.session.shutDown();
  await turn();
  assert.equal(bench.wire.paused, false);
  assert.equal(bench.wire.ended, true);
});

test('a device that completes a request twice is a bug that crashes', () => {
  const bench = new Bench({ completion: 'held' });
  bench.say({ command: FLUSH });
  const [request] = bench.device.held;
  bench.device.release();
  assert.throws(() => request.complete(0), /exactly once/);
});

test('a device that gives too few bytes is a bug that crashes', () => {
  const bench = new Bench({ completion: 'held' });
  bench.say({ command: READ, length: 512 });
  const [request] = bench.device.held;
  request.data = Buffer.alloc(511);
  assert.throws(() => request.complete(0), /as many bytes as were asked for/);
});

test('counts requests, bytes and errors by command', async () => {
  const bench = new Bench();
  bench.say({ command: READ, length: 512 }, { command: READ, length: 1024 }, { command: READ, offset: MIB, length: 9 });
  bench.say({ command: WRITE, payload: Buffer.alloc(100) }, { command: ZEROES, length: 4096 }, { command: DISC });
  assert.equal(bench.counters.requests[READ], 3);
  assert.equal(bench.counters.bytes[READ], 1536);
  assert.equal(bench.counters.errors[READ], 1);
  assert.equal(bench.counters.requests[WRITE], 1);
  assert.equal(bench.counters.bytes[WRITE], 100);
  assert.equal(bench.counters.bytes[ZEROES], 4096);
  assert.equal(bench.counters.requests[DISC], 1);
});

test.run();
