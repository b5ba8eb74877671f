// Every way in which a node can break the protocol, through a whole upstream: the connection ends with a reason, requests wait and
// are answered rightly once the node behaves, nothing wrong is passed on, and the log, the counters and the views tell of it once.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { ViolationKind } from '../../gateway/upstream/violation.js';
import { ERRNO, OP, type Op } from '../../replication/device.js';
import { hex, optionReplyBytes, uint16, uint32, uint64 } from '../support/nbd-bytes.js';
import { ALL_FLAGS, FLAG, type NodeRequest, ScriptedNode, turns } from '../support/scripted-node.js';
import { filled, UpstreamRig, WatchedRequest } from '../support/upstream-rig.js';

const test = suite('upstream violations');

const SIZE = 1024 * 1024;
type Style = 'simple' | 'structured' | 'extended';
const STYLES: Style[] = ['simple', 'structured', 'extended'];
const CHUNKED: Style[] = ['structured', 'extended'];

function nodeOf(style: Style): ScriptedNode {
  const node = new ScriptedNode(SIZE);
  node.structured = style !== 'simple';
  node.extended = style === 'extended';
  node.bytes = Buffer.alloc(SIZE, 'forestall');
  return node;
}

const broken = (rig: UpstreamRig): { kind: string; reason: string; node: string; target: { node: string } }[] =>
  rig.log.lines.flatMap((line, at) => (line === 'error: a node broke the protocol' ? [rig.log.fields[at] as never] : []));

const simple = ({ cookie }: NodeRequest, errno = 0, data: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([hex('67446698'), uint32(errno), uint64(cookie), data]);
const data = (request: NodeRequest, offset: number, length: number, done = true): Buffer =>
  request.connection.chunk(request, 1, Buffer.concat([uint64(offset), Buffer.alloc(length, 0xbad)]), done);
const extents = (request: NodeRequest, ...list: [length: number, flags: number][]): Buffer => {
  const wide = request.connection.extended;
  const words = list.flatMap(([length, flags]) => (wide ? [uint64(length), uint64(flags)] : [uint32(length), uint32(flags)]));
  return request.connection.chunk(request, wide ? 6 : 5, Buffer.concat([uint32(7), ...(wide ? [uint32(list.length)] : []), ...words]));
};
const error = (request: NodeRequest, type: number, body: Buffer): Buffer => request.connection.chunk(request, type, body);

/** What a node sends instead of its answer to a request of 4096 bytes at 8192. */
const ANSWERS: [what: string, styles: Style[], op: Op, bytes: (request: NodeRequest) => Buffer, reason: RegExp, kind: ViolationKind][] = [
  ['begins a reply with nonsense', STYLES, OP.WRITE, () => Buffer.alloc(48, 0x77), /no reply magic/, 'magic'],
  [
    'answers what was never sent',
    STYLES,
    OP.WRITE,
    (r) =>
      r.connection.extended ? r.connection.chunk({ ...r, cookie: 99n } as NodeRequest, 0) : simple({ ...r, cookie: 99n } as NodeRequest),
    /never sent/,
    'cookie',
  ],
  ['answers twice', ['simple', 'structured'], OP.WRITE, (r) => Buffer.concat([simple(r), simple(r)]), /answered already/, 'cookie'],
  ['answers a read without chunks', ['structured'], OP.READ, (r) => simple(r, 0, Buffer.alloc(4096)), /by a simple reply/, 'reply'],
  ['answers in chunks nobody negotiated', ['simple'], OP.READ, (r) => data(r, 8192, 4096), /none were negotiated/, 'magic'],
  [
    'answers without extended headers',
    ['extended'],
    OP.WRITE,
    (r) => Buffer.concat([simple(r), Buffer.alloc(64)]),
    /simple reply came/,
    'magic',
  ],
  [
    'echoes another offset',
    ['extended'],
    OP.WRITE,
    (r) => r.connection.chunk({ ...r, offset: 8191 } as NodeRequest, 0),
    /back with offset 8191/,
    'offset',
  ],
  ['sends data before the request', CHUNKED, OP.READ, (r) => data(r, 8191, 4096), /outside its request/, 'data'],
  ['sends data behind the request', CHUNKED, OP.READ, (r) => data(r, 8193, 4096), /outside its request/, 'data'],
  ['leaves a gap', CHUNKED, OP.READ, (r) => Buffer.concat([data(r, 8192, 1000, false), data(r, 9193, 3095)]), /answered with 4095/, 'data'],
  [
    'sends pieces that overlap',
    CHUNKED,
    OP.READ,
    (r) => Buffer.concat([data(r, 8192, 1000, false), data(r, 9191, 3097)]),
    /overlap/,
    'data',
  ],
  ['sends data for a write', CHUNKED, OP.WRITE, (r) => data(r, 8192, 4096), /no read/, 'reply'],
  ['sends a chunk of an unknown type', CHUNKED, OP.READ, (r) => r.connection.chunk(r, 0x77), /unknown type 119/, 'reply'],
  [
    'sends an empty chunk that ends nothing',
    CHUNKED,
    OP.WRITE,
    (r) => r.connection.chunk(r, 0, Buffer.alloc(0), false),
    /does not end/,
    'reply',
  ],
  [
    'tells of an error with no number',
    CHUNKED,
    OP.WRITE,
    (r) => error(r, 0x8001, Buffer.concat([uint32(0), uint16(0)])),
    /error 0/,
    'error',
  ],
  [
    'tells of an error in too many words',
    CHUNKED,
    OP.WRITE,
    (r) => error(r, 0x8001, Buffer.concat([uint32(5), uint16(9), Buffer.from('short')])),
    /message of 9 bytes/,
    'error',
  ],
  [
    'tells of an error elsewhere',
    CHUNKED,
    OP.WRITE,
    (r) => error(r, 0x8002, Buffer.concat([uint32(5), uint16(0), uint64(0)])),
    /outside its request/,
    'error',
  ],
  ['tells of an extent of no length', CHUNKED, OP.STATUS, (r) => extents(r, [0, 3]), /length 0/, 'status'],
  ['tells of extents behind the request', CHUNKED, OP.STATUS, (r) => extents(r, [4096, 0], [4096, 3]), /behind the 4096/, 'status'],
  [
    'tells of an extent that is no multiple of its block',
    CHUNKED,
    OP.STATUS,
    (r) => extents(r, [1000, 3]),
    /minimum block size is 512/,
    'status',
  ],
  [
    'tells of a context nobody chose',
    CHUNKED,
    OP.STATUS,
    (r) => Buffer.from(extents(r, [4096, 3]).fill(8, r.connection.extended ? 35 : 23, r.connection.extended ? 36 : 24)),
    /not negotiated/,
    'status',
  ],
];

for (const [what, styles, op, bytes, reason, kind] of ANSWERS) {
  for (const style of styles) {
    test(`a node that ${what} (${style}) loses its connection, and nothing wrong is passed on`, async () => {
      const node = nodeOf(style);
      node.blockMinimum = 512;
      const rig = await UpstreamRig.ready({ node, needs: { sizeBytes: SIZE, blockMinimum: 512 } });
      let twists = 1;
      // What it does not do is answered as it is due; a read of what a wrong answer was about is the same as before.
      node.twist = (request) => (twists-- > 0 ? bytes(request) : null);
      const request = rig.submit(op, 8192, 4096, op === OP.WRITE ? filled(7, 4096) : null);
      await turns();
      const early = kind === 'cookie' && what === 'answers twice' ? 0 : null;
      assert.equal(request.errno, early, 'it waits');
      assert.equal(request.data === null || op === OP.WRITE, true);
      assert.equal(rig.told.length, 2);
      assert.match(rig.told[1], /^lost: protocol error: /);
      assert.match(rig.told[1], reason);
      assert.match(rig.upstream.reason!, reason);
      assert.equal(rig.upstream.misbehaves, true);
      assert.equal(rig.upstream.counters.violations[kind], 1);
      const [line, ...more] = broken(rig);
      assert.deepEqual([line.node, line.target, line.kind, more.length], ['a', { node: 'a', export: '' }, kind, 0]);
      assert.match(line.reason, reason);
      assert.equal(node.dials, 1, 'it is not tried again at once');
      await rig.reconnect();
      assert.equal(request.errno, 0);
      assert.equal(rig.upstream.misbehaves, false);
      if (op === OP.READ) assert(request.data!.equals(node.read(8192, 4096)));
      if (op === OP.STATUS) assert.deepEqual(request.extents, [{ lengthBytes: 4096, hole: false, zero: false }]);
      if (op === OP.WRITE) assert.deepEqual(node.read(8192, 4096), filled(7, 4096));
    });
  }
}

test('one extent is one extent: more, or a longer one, is a violation', async () => {
  for (const style of CHUNKED) {
    for (const list of [
      [
        [512, 0],
        [512, 3],
      ],
      [[8192, 3]],
    ] as [number, number][][]) {
      const node = nodeOf(style);
      const rig = await UpstreamRig.ready({ node });
      node.twist = (request) => extents(request, ...list);
      const request = new WatchedRequest(OP.STATUS, 8192, 4096);
      request.one = true;
      rig.upstream.submit(request);
      await turns();
      assert.equal(request.errno, null);
      assert.equal(rig.upstream.counters.violations.status, 1);
    }
  }
});

test('a node that gets block status wrong is not asked for it again: hosts hear of data', async () => {
  for (const style of CHUNKED) {
    const node = nodeOf(style);
    const rig = await UpstreamRig.ready({ node });
    node.twist = (request) => (request.command === 7 ? extents(request, [0, 3]) : null);
    const first = rig.submit(OP.STATUS, 0, 4096);
    await turns();
    await rig.reconnect();
    const second = rig.submit(OP.STATUS, 0, 8192);
    await turns();
    assert.deepEqual([first.errno, second.errno], [0, 0]);
    assert.deepEqual(second.extents, [{ lengthBytes: 8192, hole: false, zero: false }]);
    assert.equal(node.dials, 2);
    assert.equal(rig.upstream.features!.rangeBytesMax > 2 ** 32, style === 'extended', 'what it does right is still used');
  }
});

test('a node that offers extended headers badly is served without them', async () => {
  const node = nodeOf('extended');
  const rig = await UpstreamRig.ready({ node });
  node.twist = (request) => (request.connection.extended ? request.connection.chunk({ ...request, offset: 1 } as NodeRequest, 0) : null);
  const write = rig.write(8192, filled(7));
  await turns();
  assert.equal(write.errno, null);
  await rig.reconnect();
  assert.equal(write.errno, 0);
  assert.deepEqual(node.read(8192, 512), filled(7));
  assert.equal(node.dials, 2);
});

test('a node that hangs up, or says nothing, when it is asked for extended headers is asked without them', async () => {
  for (const silent of [false, true]) {
    const node = nodeOf('structured');
    node.optionReply = (option) => {
      if (option !== 11) return null;
      if (!silent) setImmediate(() => node.cut());
      return Buffer.alloc(0);
    };
    const rig = new UpstreamRig({ node });
    rig.upstream.start();
    await turns();
    if (silent) rig.clock.advance(10_000);
    await rig.reconnect();
    assert.equal(rig.upstream.state, 'ready');
    assert.equal(node.dials, 2);
  }
});

test('a node that always answers wrong is tried more and more rarely, tells of itself once a minute, and is never believed', async () => {
  for (const style of STYLES) {
    const node = nodeOf(style);
    const rig = await UpstreamRig.ready({ node });
    node.twist = () => Buffer.alloc(48, 0x77);
    const read = rig.read(0, 4096);
    const write = rig.write(8192, filled(7));
    for (let second = 0; second < 600; second += 1) {
      await turns(8);
      rig.clock.advance(1000);
    }
    assert.deepEqual([read.errno, write.errno], [null, null]);
    assert(node.dials > 10 && node.dials < 30, `${node.dials} connections in ten minutes`);
    assert(broken(rig).length <= 11, `${broken(rig).length} lines in ten minutes`);
    assert.equal(rig.upstream.counters.violations.magic, node.dials);
    const { unsaid } = broken(rig).at(-1) as unknown as { unsaid: number };
    assert(unsaid >= 1, 'a line says how often it was not told');
    node.twist = () => null;
    for (let second = 0; second < 40; second += 1) {
      rig.clock.advance(1000);
      await turns(8);
    }
    assert.deepEqual([read.errno, write.errno], [0, 0]);
    assert(read.data!.equals(Buffer.alloc(4096, 'forestall')));
  }
});

test('a node that hangs up as soon as it is asked anything is not tried a hundred times a second', async () => {
  const node = nodeOf('structured');
  const rig = await UpstreamRig.ready({ node });
  node.hold = () => {
    node.cut();
    return true;
  };
  const read = rig.read(0, 4096);
  for (let tick = 0; tick < 600; tick += 1) {
    await turns(8);
    rig.clock.advance(100);
  }
  assert.equal(read.errno, null);
  assert(node.dials < 80, `${node.dials} connections in a minute`);
});

test('a node that ends in the middle of a reply is told of as such, wherever that is, and the request is sent again', async () => {
  for (const style of STYLES) {
    for (const cut of [1, 4, 15, 20, 31, 40, 1000]) {
      const node = nodeOf(style);
      const rig = await UpstreamRig.ready({ node });
      let twists = 1;
      node.twist = (request) => {
        if (twists-- <= 0) return null;
        const { connection } = request;
        const whole =
          style === 'simple'
            ? simple(request, 0, node.read(8192, 4096))
            : connection.chunk(request, 1, Buffer.concat([uint64(8192), node.read(8192, 4096)]));
        return whole.subarray(0, cut);
      };
      const read = rig.read(8192, 4096);
      await turns();
      node.cut();
      await turns();
      assert.equal(read.errno, null);
      assert.match(rig.told[1], /in the middle of a reply: /);
      assert.equal(rig.upstream.counters.violations.truncated, 1);
      assert.equal(rig.upstream.misbehaves, false, 'a node that dies breaks no protocol');
      rig.clock.advance(10);
      await turns();
      assert.equal(read.errno, 0, 'it is tried again at once');
      assert(read.data!.equals(node.read(8192, 4096)));
    }
  }
});

test('a reply without an end is waited for, and given up like any other', async () => {
  for (const style of CHUNKED) {
    const node = nodeOf(style);
    const rig = await UpstreamRig.ready({ node });
    let twists = 1;
    node.twist = (request) => (twists-- > 0 ? data(request, 8192, 4096, false) : null);
    const read = rig.read(8192, 4096);
    await turns();
    assert.equal(read.errno, null, 'all its bytes are here and it is not answered');
    const other = rig.read(0, 512);
    await turns();
    assert.equal(other.errno, 0, 'what is whole is');
    node.cut();
    await turns();
    await rig.reconnect();
    assert.equal(read.errno, 0);
    assert(read.data!.equals(node.read(8192, 4096)), 'not the bytes of the reply without an end');
  }
});

test('an error number where it cannot be is EIO, is told of, and ends nothing', async () => {
  for (const style of STYLES) {
    const node = nodeOf(style);
    const rig = await UpstreamRig.ready({ node });
    node.fail = (request) => (request.command === 0 ? ERRNO.EOVERFLOW : ERRNO.ENOTSUP);
    const write = rig.write(0, filled(1));
    const zeroes = rig.submit(OP.ZEROES, 0, 512);
    const fast = new WatchedRequest(OP.ZEROES, 0, 512);
    fast.fast = true;
    rig.upstream.submit(fast);
    const read = rig.read(8192, 512);
    await turns();
    assert.deepEqual([write.errno, zeroes.errno, fast.errno, read.errno], [ERRNO.EIO, ERRNO.EIO, ERRNO.ENOTSUP, ERRNO.EIO]);
    assert.equal(rig.upstream.counters.violations.errno, 3);
    assert.equal(broken(rig).length, 1);
    assert.equal(rig.upstream.ready, true);
    assert.equal(node.dials, 1);
  }
});

const GREETING = nodeOf('simple').greeting;
const info = (type: number, ...words: Buffer[]): Buffer => optionReplyBytes(7, 3, Buffer.concat([uint16(type), ...words]));
for (const [what, change, reason] of [
  [
    'greets with nonsense',
    (node: ScriptedNode) => {
      node.greeting = Buffer.from('HTTP/1.1 400 Bad Request\r\n');
    },
    /not an NBD server/,
  ],
  [
    'greets in the old style',
    (node: ScriptedNode) => {
      node.greeting = hex('4e42444d41474943 0000420281861253 0000000000100000');
    },
    /old style/,
  ],
  [
    'answers another option',
    (node: ScriptedNode) => {
      node.optionReply = () => optionReplyBytes(3, 1);
    },
    /an answer to option 3/,
  ],
  [
    'answers an option without end',
    (node: ScriptedNode) => {
      node.optionReply = (option) =>
        Buffer.concat(new Array(100).fill(optionReplyBytes(option, 3, Buffer.concat([uint16(9), Buffer.alloc(9)]))));
    },
    /reply type 3|more than 64/,
  ],
  [
    'describes the export without end',
    (node: ScriptedNode) => {
      node.optionReply = (option) => (option === 7 ? Buffer.concat(new Array(100).fill(info(9))) : null);
    },
    /more than 64 replies/,
  ],
  [
    'answers an option in 4 GiB',
    (node: ScriptedNode) => {
      node.optionReply = (option) => Buffer.concat([hex('0003e889045565a9'), uint32(option), uint32(1), uint32(0xffffffff)]);
    },
    /4294967295 bytes/,
  ],
  [
    'answers an option with nonsense',
    (node: ScriptedNode) => {
      node.optionReply = () => Buffer.alloc(40, 0x41);
    },
    /wrong magic/,
  ],
  [
    'describes no export',
    (node: ScriptedNode) => {
      node.optionReply = (option) => (option === 7 ? optionReplyBytes(7, 1) : null);
    },
    /without the export being described/,
  ],
  [
    'describes an export of 2^63 bytes',
    (node: ScriptedNode) => {
      node.optionReply = (option) => (option === 7 ? Buffer.concat([info(0, uint64(2n ** 63n), uint16(1)), optionReplyBytes(7, 1)]) : null);
    },
    /more than can be addressed/,
  ],
  [
    'describes blocks of 3 bytes',
    (node: ScriptedNode) => {
      node.blockMinimum = 3;
    },
    /minimum block size of 3/,
  ],
  [
    'sends a reply before it is asked',
    (node: ScriptedNode) => {
      node.optionReply = (option) =>
        option === 7
          ? Buffer.concat([info(0, uint64(SIZE), uint16(ALL_FLAGS)), optionReplyBytes(7, 1), simple({ cookie: 0n } as NodeRequest)])
          : null;
    },
    /nobody asked for/,
  ],
] as const) {
  test(`a node that ${what} is not used: requests wait, and are served once it behaves`, async () => {
    const node = nodeOf('extended');
    change(node);
    const rig = new UpstreamRig({ node });
    const read = rig.read(0, 4096);
    rig.upstream.start();
    for (let second = 0; second < 60; second += 1) {
      await turns(10);
      rig.clock.advance(1000);
    }
    assert.equal(read.errno, null);
    assert.equal(rig.upstream.misbehaves, true);
    assert.match(rig.upstream.reason!, reason);
    assert(node.dials > 3 && node.dials < 12, `${node.dials} connections in a minute`);
    assert.equal(broken(rig).length, 1);
    assert.match(broken(rig)[0].reason, reason);
    assert.equal(rig.upstream.counters.violations.handshake, node.dials);
    Object.assign(node, { greeting: GREETING, optionReply: () => null, blockMinimum: 1 });
    await rig.reconnect(40);
    assert.equal(read.errno, 0);
    assert(read.data!.equals(node.read(0, 4096)));
  });
}

for (const [what, change, reason, back] of [
  [
    'has shrunk',
    (node: ScriptedNode) => {
      node.sizeBytes = SIZE / 2;
    },
    /the export has .*524288 bytes.*the volume needs/,
    (node: ScriptedNode) => {
      node.sizeBytes = SIZE;
    },
  ],
  [
    'became read-only',
    (node: ScriptedNode) => {
      node.flags |= FLAG.READ_ONLY;
    },
    /read-only/,
    (node: ScriptedNode) => {
      node.flags = ALL_FLAGS;
    },
  ],
  [
    'has larger blocks',
    (node: ScriptedNode) => {
      node.blockMinimum = 4096;
    },
    /multiples of 4096/,
    (node: ScriptedNode) => {
      node.blockMinimum = 1;
    },
  ],
  [
    'is gone',
    (node: ScriptedNode) => {
      node.optionReply = (option) => (option === 7 ? optionReplyBytes(7, 0x80000006, Buffer.from('no such disk')) : null);
    },
    /export not known: "" \(the server says: no such disk\)/,
    (node: ScriptedNode) => {
      node.optionReply = () => null;
    },
  ],
] as const) {
  test(`an export that ${what} when its node is back is not used: requests wait, and the reason is told once`, async () => {
    const node = nodeOf('extended');
    const rig = await UpstreamRig.ready({ node });
    change(node);
    node.cut();
    await turns();
    const write = rig.write(8192, filled(7));
    for (let second = 0; second < 60; second += 1) {
      rig.clock.advance(1000);
      await turns(10);
    }
    assert.equal(write.errno, null);
    assert.match(rig.upstream.reason!, reason);
    const lines = rig.log.lines.filter(
      (line, at) =>
        /a target (answers and is not|cannot be used)/.test(line) && reason.test((rig.log.fields[at] as { reason: string }).reason),
    );
    assert.equal(lines.length, 1, rig.log.lines.join('\n'));
    assert(node.dials < 80);
    back(node);
    for (let second = 0; second < 10; second += 1) {
      rig.clock.advance(1000);
      await turns(10);
    }
    assert.equal(write.errno, 0);
    assert.deepEqual(node.read(8192, 512), filled(7));
  });
}

test('an export that has grown is used as before; one that lost its flush, too, and both are told', async () => {
  const node = nodeOf('extended');
  const rig = await UpstreamRig.ready({ node });
  node.sizeBytes = 2 * SIZE;
  node.bytes = Buffer.concat([node.bytes, Buffer.alloc(SIZE)]);
  node.durable = Buffer.from(node.bytes);
  node.cut();
  await turns();
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'ready');
  assert.equal(rig.upstream.sizeBytes, SIZE);
  node.flags = ALL_FLAGS & ~FLAG.FLUSH;
  node.cut();
  await turns();
  await rig.reconnect();
  assert.equal(rig.upstream.state, 'ready');
  const at = rig.log.lines.indexOf('warn: an export is not what it was before');
  assert.match((rig.log.fields[at] as { what: string }).what, /flush false instead of true/);
});

test('a further connection to another export than the first is not used, and the first goes on', async () => {
  const node = nodeOf('structured');
  const rig = new UpstreamRig({ node, connections: 3 });
  node.stallHandshakes = true;
  rig.upstream.start();
  await turns();
  node.stallHandshakes = false;
  node.stalled.shift()!();
  // By the time the others shake hands it serves something else.
  node.structured = false;
  await turns();
  assert.equal(rig.upstream.state, 'ready');
  assert.equal(rig.upstream.connections, 1);
  assert.equal(rig.upstream.counters.violations.handshake, 2);
  assert.match(broken(rig)[0].reason, /not like the first: status false instead of true/);
  node.structured = true;
  const statuses = [0, 1, 2].map((lane) => rig.submit(OP.STATUS, 0, 4096, null, lane));
  await turns();
  assert(statuses.every(({ errno }) => errno === 0));
});

test('what is longer than 4 GiB is asked at once only with extended headers', async () => {
  for (const style of CHUNKED) {
    const node = nodeOf(style);
    const sizeBytes = 2 ** 34;
    node.sizeBytes = sizeBytes;
    node.carryOut = () => {};
    const rig = await UpstreamRig.ready({ node, sizeBytes });
    const zeroes = new WatchedRequest(OP.ZEROES, 0, sizeBytes);
    zeroes.punch = true;
    rig.upstream.submit(zeroes);
    const status = rig.submit(OP.STATUS, 512, sizeBytes - 512);
    await turns(60);
    assert.deepEqual([zeroes.errno, status.errno], [0, 0]);
    const [{ lengthBytes }] = status.extents!;
    const asked = node.seen.filter(({ command }) => command === 6);
    assert.equal(
      asked.reduce((sum, { length }) => sum + length, 0),
      sizeBytes,
    );
    if (style === 'extended') {
      assert.equal(asked.length, 1);
      assert.equal(lengthBytes, sizeBytes - 512);
    } else {
      assert(asked.length > 1 && asked.every(({ length, flags }) => length < 2 ** 32 && flags === 0));
      assert(lengthBytes < 2 ** 32);
    }
  }
});

test('every operation works in every style, and carries what it must', async () => {
  for (const style of STYLES) {
    const node = nodeOf(style);
    const rig = await UpstreamRig.ready({ node });
    const big = Buffer.alloc(100_000, 'large');
    const requests = [
      rig.write(512, filled(5)),
      rig.write(100_000, big),
      rig.submit(OP.ZEROES, 4096, 512),
      rig.flush(),
      rig.submit(OP.STATUS, 0, 4096),
    ];
    await turns(60);
    assert(
      requests.every(({ errno }) => errno === 0),
      style,
    );
    const read = rig.read(100_000, 100_000);
    await turns();
    assert(read.data!.equals(big), style);
    assert.deepEqual(node.read(512, 512), filled(5));
    assert.deepEqual(node.read(4096, 512), filled(0));
    rig.upstream.close();
    await turns();
    assert.equal(node.log.at(-1), 'disc', style);
  }
});

test.run();
