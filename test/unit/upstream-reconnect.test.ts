// An upstream over a node that breaks its connections, restarts, refuses and comes back: nothing is answered twice or with
// an invented error, and what the node may have forgotten is written again in order (rules 8, 9, 12).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { ERRNO, OP } from '../../replication/device.js';
import { FLAG, ScriptedNode, ALL_FLAGS, turns } from '../support/scripted-node.js';
import { filled, UpstreamRig, WatchedRequest } from '../support/upstream-rig.js';

const test = suite('upstream reconnect');

test('requests given before the node answers wait, and are answered once it does', async () => {
  const rig = new UpstreamRig();
  rig.node.up = false;
  const write = rig.write(0, filled(1));
  rig.upstream.start();
  await rig.reconnect(3);
  assert.equal(write.errno, null);
  rig.node.up = true;
  await rig.reconnect();
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.told, ['connected']);
});

test('a request of a lost connection is sent again and answered once', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.hold = () => true;
  const write = rig.write(512, filled(2));
  const read = rig.read(0, 512);
  await turns();
  assert.equal(rig.node.held.length, 2);
  rig.node.cut();
  rig.node.hold = () => false;
  await rig.reconnect();
  assert.equal(write.errno, 0);
  assert.equal(read.errno, 0);
  assert.deepEqual(rig.node.read(512, 512), filled(2));
  assert.equal(rig.told.length, 3, rig.told.join());
});

test('reads wait until the writes that were lost with the connection are answered', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.hold = () => true;
  rig.write(0, filled(3));
  const read = rig.read(0, 512);
  await turns();
  rig.node.cut();
  rig.node.held.length = 0;
  await rig.reconnect(2);
  assert.deepEqual(
    rig.node.held.map((request) => request.text),
    ['write 0+512'],
  );
  assert.equal(rig.upstream.state, 'resending');
  rig.node.held[0].answer();
  await turns();
  rig.node.answerAll();
  await turns();
  assert.deepEqual(read.data, filled(3));
});

test('of writes since the last flush the newest bytes are written again, before anything else, when the node forgot them', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.volatile = true;
  rig.write(0, filled(1));
  await turns();
  assert.equal(rig.flush().errno, null);
  await turns();
  rig.write(512, filled(2));
  await turns();
  rig.write(512, filled(3, 1024));
  await turns();
  rig.write(1024, filled(4));
  await turns();
  rig.node.crash();
  assert.deepEqual(rig.node.read(512, 512), filled(0));
  rig.node.log.length = 0;
  const read = rig.read(512, 1024);
  await rig.reconnect();
  assert.deepEqual(rig.node.log.slice(0, -1).sort(), ['write 1024+512', 'write 512+512']);
  assert.equal(rig.node.log.at(-1), 'read 512+1024');
  assert.deepEqual(read.data, Buffer.concat([filled(3), filled(4)]));
  assert.deepEqual(rig.node.read(0, 512), filled(1));
});

test('a replay that is cut off starts over with the next connection', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.volatile = true;
  for (let at = 0; at < 40; at += 1) rig.write(at * 512, filled(at + 1));
  await turns();
  rig.node.crash();
  rig.node.hold = (request) => request.offset === 20 * 512;
  await rig.reconnect(2);
  assert.equal(rig.upstream.state, 'replaying');
  rig.node.crash();
  rig.node.hold = () => false;
  await rig.reconnect();
  for (let at = 0; at < 40; at += 1) assert.deepEqual(rig.node.read(at * 512, 512), filled(at + 1), `block ${at}`);
});

test('a flush proves only writes answered before it, on the incarnation that answers it', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.volatile = true;
  rig.write(0, filled(1));
  await turns();
  rig.node.hold = (request) => request.command === 3;
  const flush = rig.flush();
  await turns();
  rig.write(512, filled(2));
  await turns();
  rig.node.crash();
  rig.node.hold = () => false;
  rig.node.log.length = 0;
  await rig.reconnect();
  assert.equal(flush.errno, 0);
  assert.deepEqual(rig.node.log.slice(0, -1).sort(), ['write 0+512', 'write 512+512']);
  assert.equal(rig.node.log.at(-1), 'flush');
  assert.deepEqual(rig.node.durable.subarray(0, 1024), Buffer.concat([filled(1), filled(2)]));
  assert.equal(rig.upstream.unflushedBytes, 0);
});

test('a write answered while a flush is under way is not covered by it', async () => {
  const rig = await UpstreamRig.ready();
  rig.write(0, filled(1));
  await turns();
  rig.node.hold = (request) => request.command === 3;
  rig.flush();
  await turns();
  rig.write(512, filled(2));
  await turns();
  rig.node.answerAll();
  await turns();
  assert(rig.upstream.unflushedBytes >= 512 && rig.upstream.unflushedBytes < 1024);
});

test('a flush goes to every connection that took writes, and answers when the last did', async () => {
  const rig = await UpstreamRig.ready({ connections: 3 });
  assert.equal(rig.upstream.connections, 3);
  rig.write(0, filled(1), 0);
  rig.write(512, filled(1), 1);
  await turns();
  rig.node.hold = (request) => request.command === 3;
  const flush = rig.flush();
  await turns();
  assert.equal(rig.node.held.length, 2);
  assert.notEqual(rig.node.held[0].connection, rig.node.held[1].connection);
  rig.node.held[0].answer();
  await turns();
  assert.equal(flush.errno, null);
  rig.node.held[0].answer();
  await turns();
  assert.equal(flush.errno, 0);
});

test('a flush over several connections of which one is lost is sent again as a whole', async () => {
  const rig = await UpstreamRig.ready({ connections: 2 });
  rig.node.volatile = true;
  rig.write(0, filled(1), 0);
  rig.write(512, filled(2), 1);
  await turns();
  rig.node.hold = (request) => request.command === 3;
  const flush = rig.flush();
  await turns();
  rig.node.held[0].answer();
  await turns();
  rig.node.crash();
  rig.node.hold = () => false;
  await rig.reconnect();
  assert.equal(flush.errno, 0);
  assert.deepEqual(rig.node.durable.subarray(0, 1024), Buffer.concat([filled(1), filled(2)]));
});

test('one lost connection ends them all, and the node gets what any of them may have lost', async () => {
  const rig = await UpstreamRig.ready({ connections: 4 });
  rig.node.hold = () => true;
  const writes = [0, 1, 2, 3].map((lane) => rig.write(lane * 512, filled(lane + 1), lane));
  await turns();
  assert.equal(new Set(rig.node.held.map((request) => request.connection)).size, 4);
  [...rig.node.connections][2].cut();
  rig.node.hold = () => false;
  await turns();
  assert.equal(rig.upstream.connections, 0);
  await rig.reconnect();
  assert(writes.every((write) => write.errno === 0));
  assert.equal(rig.upstream.connections, 4);
});

test('a connection still shaking hands when another is lost does not carry requests before the rest has closed', async () => {
  for (let lag = 0; lag < 6; lag += 1) {
    const node = new ScriptedNode(1024 * 1024);
    const rig = new UpstreamRig({ connections: 3, node });
    rig.upstream.start();
    // Two stand, the third stops in its handshake.
    while (rig.upstream.connections === 0) await turns(1);
    while (rig.node.connections.size < 3) await turns(1);
    node.stallHandshakes = true;
    await turns();
    if (node.stalled.length === 2) node.stalled.shift()?.();
    await turns();
    assert.equal(rig.upstream.connections, 2);
    node.hold = () => true;
    const writes = [rig.write(0, filled(8), 0), rig.write(512, filled(9), 1)];
    await turns();
    node.hold = () => false;
    node.stallHandshakes = false;
    [...node.connections][0].cut();
    await turns(lag);
    node.stalled.shift()?.();
    await rig.reconnect();
    assert.deepEqual(
      writes.map((write) => write.errno),
      [0, 0],
      `lag ${lag}`,
    );
  }
});

test('an answer of ESHUTDOWN is no error for the host: the request is sent again on the next connection', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.fail = () => ERRNO.ESHUTDOWN;
  const write = rig.write(0, filled(5));
  await turns();
  assert.equal(write.errno, null);
  rig.node.fail = () => 0;
  await rig.reconnect();
  assert.equal(write.errno, 0);
  assert.deepEqual(rig.node.read(0, 512), filled(5));
});

test('what is given while a connection is being closed waits for the next one', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.hold = () => true;
  const first = rig.write(0, filled(1));
  let second: WatchedRequest | null = null;
  const read = rig.read(4096, 512);
  const complete = read.complete.bind(read);
  read.complete = (errno) => {
    complete(errno);
    // As a range lock does: the answer of one request lets the next one go.
    second = rig.write(4096, filled(2));
  };
  await turns();
  // Both answers arrive in one piece: the first makes the upstream close the connection.
  const [write, readAsked] = [...rig.node.held];
  rig.node.hold = () => false;
  write.answer(ERRNO.ESHUTDOWN);
  readAsked.answer();
  await turns();
  await rig.reconnect();
  assert.equal(first.errno, 0);
  assert.equal(read.errno, 0);
  assert.equal(second!.errno, 0);
  assert.deepEqual(rig.node.read(4096, 512), filled(2));
});

test('what is given just after the node broke the protocol waits for the next connection', async () => {
  const rig = await UpstreamRig.ready();
  const closes = rig.node.connections.values().next().value!;
  closes.send(Buffer.alloc(64, 0xff));
  const given: WatchedRequest[] = [];
  for (let turn = 0; turn < 10; turn += 1) {
    given.push(rig.write(turn * 512, filled(turn + 1)));
    await turns(1);
  }
  await rig.reconnect();
  assert(given.every((request) => request.errno === 0));
  assert(
    rig.told.some((line) => line.includes('no reply magic')),
    rig.told.join(),
  );
});

test('an error the node gave goes to the host as it is, and counts', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.fail = (request) => (request.command === 1 ? ERRNO.ENOSPC : 0);
  const write = rig.write(0, filled(1));
  await turns();
  assert.equal(write.errno, ERRNO.ENOSPC);
  assert.equal(rig.upstream.counters.errors, 1);
  assert.equal(rig.upstream.unflushedBytes, 0);
});

test('a replay the node refuses makes flushes fail and reads come from memory until it takes them', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.volatile = true;
  rig.write(0, filled(1));
  await turns();
  rig.node.crash();
  rig.node.fail = (request) => (request.command === 1 ? ERRNO.EIO : 0);
  await rig.reconnect();
  const refused = rig.flush();
  const read = rig.read(0, 512);
  await turns();
  assert.equal(refused.errno, ERRNO.EIO);
  assert.deepEqual(rig.node.read(0, 512), filled(0), 'the node has it not');
  assert.deepEqual(read.data, filled(1));
  rig.node.fail = () => 0;
  for (let second = 0; second < 3; second += 1) {
    rig.clock.advance(1000);
    await turns();
  }
  const flush = rig.flush();
  await turns();
  assert.equal(flush.errno, 0);
  assert.deepEqual(rig.node.durable.subarray(0, 512), filled(1));
});

test('a write that is sent again and refused does not take the acknowledged one before it along', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.volatile = true;
  rig.write(0, filled(1));
  await turns();
  rig.node.hold = () => true;
  const second = rig.write(0, filled(2));
  await turns();
  rig.node.crash();
  rig.node.hold = () => false;
  rig.node.fail = (request) => (request.command === 1 && request.data[0] === 2 ? ERRNO.EIO : 0);
  await rig.reconnect();
  assert.equal(second.errno, ERRNO.EIO);
  const flush = rig.flush();
  await turns();
  const read = rig.read(0, 512);
  await turns();
  if (flush.errno === 0) assert.notEqual(rig.node.durable[0], 0, 'a flush that succeeds proves the first write or the second');
  assert.notEqual(read.data![0], 0);
});

test('a flush before all is sent again proves nothing of what the node may have forgotten', async () => {
  const rig = await UpstreamRig.ready();
  rig.node.volatile = true;
  rig.write(0, filled(1));
  await turns();
  rig.node.hold = () => true;
  const refused = rig.write(0, filled(2));
  const slow = rig.write(4096, filled(3));
  await turns();
  rig.node.crash();
  rig.node.hold = (request) => request.command === 1 && request.data[0] === 3;
  rig.node.fail = (request) => (request.command === 1 && request.data[0] === 2 ? ERRNO.EIO : 0);
  await rig.reconnect();
  assert.deepEqual([refused.errno, slow.errno, rig.upstream.state], [ERRNO.EIO, null, 'resending']);
  rig.node.hold = () => false;
  rig.node.answerAll();
  await turns();
  const read = rig.read(0, 512);
  await turns();
  assert.deepEqual([slow.errno, read.data], [0, filled(1)]);
});

test('a write that expires before it is sent again does not take the acknowledged one before it along', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 1000 });
  rig.node.volatile = true;
  rig.write(0, filled(1));
  await turns();
  rig.write(4096, filled(1));
  await turns();
  rig.node.hold = () => true;
  const second = rig.write(0, filled(2));
  await turns();
  rig.node.crash();
  // The node holds the replay of the other range: the write that was lost waits behind it, and is given up there.
  await rig.reconnect(3);
  assert.equal(rig.upstream.state, 'replaying');
  rig.clock.advance(60_000);
  rig.upstream.expire(1000);
  assert.equal(second.errno, ERRNO.EIO);
  rig.node.hold = () => false;
  rig.node.answerAll();
  await turns();
  rig.clock.advance(5000);
  await turns();
  const flush = rig.flush();
  await turns();
  const read = rig.read(0, 512);
  await turns();
  if (flush.errno === 0) assert.notEqual(rig.node.durable[0], 0, 'a flush that succeeds proves the first write or the second');
  assert.notEqual(read.data![0], 0);
});

test('a node whose flush disappears with a restart loses nothing and holds nobody up', async () => {
  const rig = await UpstreamRig.ready({ unflushedBytesMax: 4096 });
  rig.node.hold = (request) => request.command === 3;
  for (let at = 0; at < 12; at += 1) {
    rig.write(at * 512, filled(at + 1));
    await turns(4);
  }
  rig.node.hold = () => false;
  rig.node.flags = ALL_FLAGS & ~FLAG.FLUSH;
  rig.node.crash();
  await rig.reconnect();
  const writes = [];
  for (let at = 0; at < 40; at += 1) writes.push(rig.write(at * 512, filled(at + 1)));
  await turns(60);
  assert(writes.every((write) => write.errno === 0));
  const flush = rig.flush();
  await turns();
  assert.equal(flush.errno, 0);
});

test('writes wait for a flush when the memory for unflushed ones is full, and none is lost or sent out of bounds', async () => {
  const rig = await UpstreamRig.ready({ unflushedBytesMax: 8 * 1024 });
  rig.node.hold = (request) => request.command === 3;
  const writes = [];
  for (let at = 0; at < 40; at += 1) {
    writes.push(rig.write(at * 512, filled(at + 1)));
    await turns(4);
  }
  assert(rig.upstream.unflushedBytes <= 8 * 1024 + 1024);
  assert(
    writes.some((write) => write.errno === null),
    'some wait',
  );
  for (let round = 0; round < 20; round += 1) {
    rig.node.answerAll();
    await turns(6);
  }
  assert(writes.every((write) => write.errno === 0));
  for (let at = 0; at < 40; at += 1) assert.deepEqual(rig.node.read(at * 512, 512), filled(at + 1));
});

test('a node that is too small blocks, says so once, and serves when it has grown', async () => {
  const rig = new UpstreamRig({ node: new ScriptedNode(4096), sizeBytes: 1024 * 1024 });
  const write = rig.write(0, filled(1));
  rig.upstream.start();
  await turns();
  assert.equal(rig.upstream.state, 'blocked');
  for (let round = 0; round < 3; round += 1) {
    rig.clock.advance(6000);
    await turns();
  }
  assert.equal(rig.told.length, 1);
  assert.match(rig.told[0], /blocked: .*4096 bytes/);
  assert.equal(write.errno, null);
  rig.node.sizeBytes = 1024 * 1024;
  rig.node.bytes = Buffer.alloc(1024 * 1024);
  rig.node.durable = Buffer.alloc(1024 * 1024);
  rig.clock.advance(6000);
  await turns();
  assert.equal(write.errno, 0);
});

for (const [what, change] of [
  [
    'read-only',
    (node: ScriptedNode) => {
      node.flags |= FLAG.READ_ONLY;
    },
  ],
  [
    'a coarser block',
    (node: ScriptedNode) => {
      node.blockMinimum = 512;
    },
  ],
] as const) {
  test(`an export with ${what} blocks`, async () => {
    const node = new ScriptedNode(1024 * 1024);
    change(node);
    const rig = new UpstreamRig({ node });
    rig.upstream.start();
    await turns();
    assert.equal(rig.upstream.state, 'blocked');
  });
}

test('what a node cannot do is done for it: FUA by a flush, zeroes by writes, fast zeroes refused, big payloads in parts', async () => {
  const node = new ScriptedNode(4 * 1024 * 1024);
  node.flags = 0x0001 | FLAG.FLUSH;
  node.payloadBytesMax = 64 * 1024;
  node.volatile = true;
  const rig = await UpstreamRig.ready({ node, sizeBytes: node.sizeBytes, unflushedBytesMax: 16 * 1024 * 1024 });
  const data = Buffer.alloc(1_000_000, 'forestall');
  const fua = new WatchedRequest(OP.WRITE, 512, data.length, data);
  fua.fua = true;
  rig.upstream.submit(fua);
  await turns(400);
  assert.equal(fua.errno, 0);
  assert.deepEqual(node.durable.subarray(512, 512 + data.length), data);
  assert(node.log.every((line) => !line.includes('fua')));
  const read = rig.read(512, data.length);
  await turns(200);
  assert.deepEqual(read.data, data);
  const fast = new WatchedRequest(OP.ZEROES, 0, 4096);
  fast.fast = true;
  rig.upstream.submit(fast);
  await turns();
  assert.equal(fast.errno, ERRNO.ENOTSUP);
  const zeroes = rig.submit(OP.ZEROES, 1000, 500_000);
  await turns(200);
  assert.equal(zeroes.errno, 0);
  assert(node.bytes.subarray(1000, 501_000).every((byte) => byte === 0));
  assert.equal(node.bytes[999], data[487]);
});

test('a request in parts whose connection breaks is finished on the next one', async () => {
  const node = new ScriptedNode(1024 * 1024);
  node.payloadBytesMax = 4096;
  const rig = await UpstreamRig.ready({ node });
  node.hold = (request) => request.offset >= 8192;
  const data = Buffer.alloc(100_000, 'parts');
  const write = rig.write(0, data);
  await turns();
  node.cut();
  node.held.length = 0;
  node.hold = () => false;
  await rig.reconnect();
  await turns(100);
  assert.equal(write.errno, 0);
  assert.deepEqual(node.read(0, data.length), data);
});

test('expire answers what is too old with EIO and nothing else', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 1000 });
  rig.node.hold = () => true;
  const old = rig.write(0, filled(1));
  await turns();
  rig.clock.advance(5000);
  await rig.hear();
  const young = rig.write(512, filled(2));
  await turns();
  assert.equal(rig.upstream.expire(4000), 1);
  assert.equal(old.errno, ERRNO.EIO);
  assert.equal(young.errno, null);
  rig.node.answerAll();
  await turns();
  assert.equal(young.errno, 0);
});

test('a write that expired while it was sent again does not keep the upstream from getting ready', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 0 });
  rig.node.hold = () => true;
  const write = rig.write(0, filled(1));
  rig.write(4096, filled(1));
  await turns();
  rig.node.cut();
  rig.node.held.length = 0;
  await rig.reconnect(2);
  assert.equal(rig.upstream.state, 'resending');
  rig.clock.advance(1);
  rig.node.held[1].answer();
  await turns();
  rig.clock.advance(60_000);
  assert.equal(rig.upstream.expire(1000), 1);
  assert.equal(write.errno, ERRNO.EIO);
  const read = rig.read(0, 512);
  rig.node.hold = () => false;
  rig.node.answerAll();
  await turns();
  assert.equal(rig.upstream.state, 'ready');
  assert.equal(read.errno, 0);
});

test('a node that vanished without a word is tried again once requests have expired, one that answers others is not cut off', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 1000 });
  rig.node.hold = () => true;
  rig.write(0, filled(1));
  await turns();
  await rig.hear();
  rig.clock.advance(60_000);
  assert.equal(rig.upstream.expire(1000), 1);
  await turns();
  assert.equal(rig.upstream.state, 'ready', 'it was heard of since');
  const young = rig.read(512, 512);
  const old = rig.read(1024, 512);
  await turns();
  rig.clock.advance(500);
  assert.equal(rig.upstream.expire(1000), 0);
  await turns();
  assert.equal(rig.upstream.state, 'ready', 'nothing has waited for long');
  rig.clock.advance(1000);
  assert.equal(rig.upstream.expire(1000), 2);
  rig.node.hold = () => false;
  await rig.reconnect();
  assert.deepEqual([young.errno, old.errno], [ERRNO.EIO, ERRNO.EIO]);
  assert(
    rig.told.some((line) => line.startsWith('lost: the node has not sent anything for more than 1000 ms')),
    rig.told.join(),
  );
  const next = rig.read(0, 512);
  await turns();
  assert.equal(next.errno, 0);
});

test('abandon hands back every request in order and tells when nothing old can land any more', async () => {
  const rig = await UpstreamRig.ready({ connections: 2, zombieMs: 3000 });
  rig.write(8192, filled(7));
  await turns();
  rig.node.hold = () => true;
  const requests = [rig.write(0, filled(1), 0), rig.read(512, 512), rig.write(1024, filled(2), 1), rig.flush()];
  await turns();
  let settled = 0;
  const { requests: back, doubtful } = rig.upstream.abandon(() => {
    settled += 1;
  });
  assert.deepEqual(back, requests);
  for (const offset of [0, 1024, 8192])
    assert(
      doubtful.some((range) => range.offset <= offset && range.offset + range.length >= offset + 512),
      `${offset}`,
    );
  assert(requests.every((request) => request.errno === null));
  await turns();
  assert.equal(settled, 0, 'its connections still carry requests');
  rig.node.answerAll();
  await turns();
  assert.equal(settled, 1);
  assert.equal(rig.node.connections.size, 0);
  assert(
    requests.every((request) => request.errno === null),
    'they belong to another now',
  );
  const late = rig.write(0, filled(1));
  assert.equal(late.errno, ERRNO.ESHUTDOWN);
});

test('abandon of a node whose connection breaks waits for what may land late', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 3000 });
  rig.node.hold = () => true;
  rig.write(0, filled(1));
  await turns();
  let settled = 0;
  rig.upstream.abandon(() => {
    settled += 1;
  });
  rig.node.cut();
  await turns();
  rig.clock.advance(2900);
  assert.equal(settled, 0);
  rig.clock.advance(200);
  assert.equal(settled, 1);
});

test('abandon tells also when a write had expired before', async () => {
  const rig = await UpstreamRig.ready({ zombieMs: 3000 });
  rig.node.hold = () => true;
  rig.write(0, filled(1));
  await turns();
  await rig.hear();
  rig.clock.advance(60_000);
  rig.upstream.expire(1000);
  let settled = 0;
  rig.upstream.abandon(() => {
    settled += 1;
  });
  rig.node.answerAll();
  await turns();
  rig.clock.advance(10);
  assert.equal(settled, 1);
  assert.equal(rig.clock.pending, 0);
});

test('abandon tells also while connections are being torn down', async () => {
  const rig = await UpstreamRig.ready({ connections: 3, zombieMs: 10 });
  rig.node.hold = () => true;
  for (const lane of [0, 1, 2]) rig.write(lane * 512, filled(1), lane);
  await turns();
  [...rig.node.connections][1].cut();
  while (!rig.told.some((line) => line.startsWith('lost'))) await turns(1);
  let settled = 0;
  const { requests } = rig.upstream.abandon(() => {
    settled += 1;
  });
  assert.equal(requests.length, 3);
  await turns();
  rig.clock.advance(20);
  assert.equal(settled, 1);
});

test('close answers what is not answered with ESHUTDOWN, once, but nothing that was handed back', async () => {
  const rig = await UpstreamRig.ready({ connections: 2 });
  rig.node.hold = () => true;
  const open = [rig.write(0, filled(1)), rig.read(512, 512), rig.flush()];
  await turns();
  rig.upstream.close();
  assert(open.every((request) => request.errno === ERRNO.ESHUTDOWN));
  await turns();
  assert.equal(rig.node.connections.size, 0);

  const other = await UpstreamRig.ready();
  other.node.hold = () => true;
  const write = other.write(0, filled(1));
  await turns();
  other.upstream.abandon(() => {});
  other.upstream.close();
  assert.equal(write.errno, null);
});

test('close ends the connections and tells nobody anything more', async () => {
  const rig = await UpstreamRig.ready({ connections: 2 });
  rig.upstream.close();
  await turns();
  assert.equal(rig.node.connections.size, 0);
  assert.equal(rig.clock.pending, 0);
  assert.deepEqual(rig.told, ['connected']);
  assert(rig.node.log.includes('disc'));
});

test.run();
