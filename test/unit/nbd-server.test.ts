// The server with its connections, from greeting to detaching, over wires in memory and a clock that the test moves.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { ClientHandshake } from '../../gateway/nbd/client-handshake.js';
import { NbdServer, type NbdServerOptions } from '../../gateway/nbd/server.js';
import { HeldWire } from '../support/held-wire.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryDevice } from '../support/memory-device.js';
import { MemoryExports, memoryExport } from '../support/memory-exports.js';
import { hex, infoData, optionBytes, parseOptionReplies, parseReplies, requestBytes } from '../support/nbd-bytes.js';
import { QuietLog } from '../support/quiet-log.js';
import { type WireEnd, type WirePairOptions, wirePair } from '../support/wire-pair.js';

const test = suite('nbd server');

const [WRITE, DISC, FLUSH, READ] = [1, 2, 3, 0];
const FLAGS = hex('00000003');
const GO = optionBytes(7, infoData('disk'));
const GREETING_BYTES = 18;
/** What GO is answered: EXPORT and ACK. */
const GO_REPLY_BYTES = 32 + 20;

/** A client that collects what it hears. */
class Host {
  received = Buffer.alloc(0);
  closed = false;
  ended = false;
  #end: WireEnd;
  #waiting: { done: () => boolean; resolve: () => void }[] = [];

  constructor(end: WireEnd) {
    this.#end = end;
    end.handle({
      data: (chunk) => {
        this.received = Buffer.concat([this.received, chunk]);
        this.#check();
      },
      drain: () => {},
      end: () => {
        this.ended = true;
        end.wire.end();
        this.#check();
      },
      close: () => {
        this.closed = true;
        this.#check();
      },
    });
  }

  say(...bytes: Buffer[]): void {
    for (const each of bytes) this.#end.wire.write(each);
  }

  /** Closes the sending side only. */
  finish(): void {
    this.#end.wire.end();
  }

  /** Reads nothing until `accept`. */
  refuse(): void {
    this.#end.wire.pause();
  }

  accept(): void {
    this.#end.wire.resume();
  }

  vanish(): void {
    this.#end.wire.destroy();
  }

  /** Resolves when so many bytes have come in all. */
  heard(bytes: number): Promise<void> {
    return this.#until(() => this.received.length >= bytes);
  }

  gone(): Promise<void> {
    return this.#until(() => this.closed);
  }

  #until(done: () => boolean): Promise<void> {
    if (done()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ done, resolve }));
  }

  #check(): void {
    for (const waiter of this.#waiting.filter(({ done }) => done())) waiter.resolve();
    this.#waiting = this.#waiting.filter(({ done }) => !done());
  }
}

class Stage {
  readonly clock = new ManualClock();
  readonly log = new QuietLog();
  readonly device: MemoryDevice;
  readonly exports: MemoryExports;
  readonly server: NbdServer;

  constructor(options: Partial<NbdServerOptions> & { completion?: 'sync' | 'later' | 'held' } = {}) {
    this.device = new MemoryDevice(1 << 20, options);
    this.exports = new MemoryExports(memoryExport('disk', this.device));
    this.server = new NbdServer({ exports: this.exports, clock: this.clock, log: this.log, ...options });
  }

  connect(options: WirePairOptions = {}): Host {
    const [ours, theirs] = wirePair(options);
    ours.handle(this.server.accept(ours.wire));
    return new Host(theirs);
  }

  /** A host in transmission. */
  async attach(): Promise<Host> {
    const host = this.connect();
    host.say(FLAGS, GO);
    await host.heard(GREETING_BYTES + GO_REPLY_BYTES);
    host.received = Buffer.alloc(0);
    return host;
  }
}

/** The event loop has gone round a few times: whatever was on its way has arrived. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

test('a host attaches, works and leaves; its table hears all of it', async () => {
  const stage = new Stage();
  const host = await stage.attach();
  assert.deepEqual(stage.server.clients(), [{ lane: 1, client: 'left', export: 'disk', inFlight: 0 }]);
  host.say(requestBytes({ command: WRITE, offset: 3, payload: Buffer.from('abc') }));
  await host.heard(16);
  assert.equal(stage.device.bytes.toString('latin1', 3, 6), 'abc');
  host.say(requestBytes({ command: DISC }));
  await host.gone();
  await settle();
  assert.deepEqual(stage.exports.log, ['attach disk 1', 'ended disk 1', 'detach disk 1']);
  assert.equal(stage.server.connections, 0);
  assert.deepEqual(stage.server.clients(), []);
  assert.equal(stage.clock.pending, 0, 'no timer is left');
  assert.equal(stage.server.counters.attached, 1);
});

test('a host that closes its sending side first is told of once', async () => {
  const stage = new Stage({ completion: 'held' });
  const host = await stage.attach();
  host.say(requestBytes({ command: FLUSH }));
  await stage.device.submitted(1);
  host.finish();
  await settle();
  assert.deepEqual(stage.exports.log, ['attach disk 1', 'ended disk 1']);
  stage.device.release();
  await host.gone();
  await settle();
  assert.deepEqual(stage.exports.log, ['attach disk 1', 'ended disk 1', 'detach disk 1']);
});

test('each connection has a lane of its own', async () => {
  const stage = new Stage();
  await stage.attach();
  const second = await stage.attach();
  assert.deepEqual(
    stage.server.clients().map(({ lane }) => lane),
    [1, 2],
  );
  second.say(requestBytes({ command: FLUSH }));
  await second.heard(16);
  assert.equal(stage.device.asked[0].lane, 2);
});

test('a handshake that takes too long is cut off, however busy the client is', async () => {
  const stage = new Stage({ handshakeMs: 5000 });
  const idle = stage.connect();
  const busy = stage.connect();
  busy.say(FLAGS);
  await settle();
  stage.clock.advance(4999);
  busy.say(optionBytes(3));
  await settle();
  assert.equal(busy.closed, false);
  stage.clock.advance(1);
  await Promise.all([idle.gone(), busy.gone()]);
  await settle();
  assert.equal(stage.server.connections, 0);
  assert.equal(stage.server.counters.handshakesFailed, 2);
});

test('a session outlives the deadline of its handshake', async () => {
  const stage = new Stage({ handshakeMs: 5000 });
  const host = await stage.attach();
  stage.clock.advance(1_000_000);
  host.say(requestBytes({ command: FLUSH }));
  await host.heard(16);
});

test('waiting for the export does not count against the client, unless it stays in the handshake', async () => {
  for (const name of ['disk', 'nope']) {
    const stage = new Stage({ handshakeMs: 5000 });
    let open = (): void => {};
    stage.exports.gate = new Promise((resolve) => {
      open = resolve;
    });
    const host = stage.connect();
    host.say(FLAGS, optionBytes(7, infoData(name)));
    await settle();
    stage.clock.advance(60_000);
    await settle();
    assert.equal(host.closed, false);
    open();
    await settle();
    assert.equal(host.closed, name === 'nope');
    assert.equal(stage.server.clients().length, name === 'nope' ? 0 : 1);
  }
});

test('what a client sends while its export is attached is read afterwards', async () => {
  const stage = new Stage();
  let open = (): void => {};
  stage.exports.gate = new Promise((resolve) => {
    open = resolve;
  });
  const host = stage.connect({ cut: () => 7 });
  host.say(FLAGS, GO, requestBytes({ command: WRITE, payload: Buffer.from('early') }));
  await settle();
  open();
  await host.heard(GREETING_BYTES + GO_REPLY_BYTES + 16);
  assert.equal(stage.device.bytes.toString('latin1', 0, 5), 'early');
});

test('nothing is read while an export is attached, even when replies drain', async () => {
  const stage = new Stage();
  let open = (): void => {};
  stage.exports.gate = new Promise((resolve) => {
    open = resolve;
  });
  const wire = new HeldWire();
  const handlers = stage.server.accept(wire);
  handlers.data(Buffer.concat([FLAGS, optionBytes(3), GO]));
  assert.equal(wire.paused, true);
  wire.take();
  handlers.drain();
  assert.equal(wire.paused, true);
  open();
  await settle();
  assert.equal(wire.paused, false);
});

test('a client that leaves while its export is attached has it detached', async () => {
  const stage = new Stage();
  let open = (): void => {};
  stage.exports.gate = new Promise((resolve) => {
    open = resolve;
  });
  const host = stage.connect();
  host.say(FLAGS, GO);
  await settle();
  host.vanish();
  await settle();
  assert.equal(stage.server.connections, 1, 'until the table has answered');
  open();
  await settle();
  assert.deepEqual(stage.exports.log, ['attach disk 1', 'detach disk 1']);
  assert.equal(stage.server.connections, 0);
});

test('a table that refuses an export has its reason told', async () => {
  const stage = new Stage();
  stage.exports.gate = Promise.reject(new Error('older requests did not end'));
  stage.exports.gate.catch(() => {});
  const host = stage.connect();
  host.say(FLAGS, GO);
  await host.heard(GREETING_BYTES + 20 + 26);
  const [reply] = parseOptionReplies(host.received.subarray(GREETING_BYTES));
  assert.equal(reply.type, 0x80000002);
  assert.equal(reply.data.toString(), 'older requests did not end');
  assert.equal(host.closed, false);
});

test('connections over the bound are closed without a byte; when one leaves, the next is taken', async () => {
  const stage = new Stage({ connectionsMax: 2 });
  const first = await stage.attach();
  stage.connect();
  const third = stage.connect();
  await third.gone();
  assert.equal(third.received.length, 0);
  assert.equal(stage.server.counters.turnedAway, 1);
  first.vanish();
  await settle();
  const fourth = stage.connect();
  await fourth.heard(GREETING_BYTES);
});

test('one client has its share of them; what it may not have others may', async () => {
  const stage = new Stage({ connectionsPerClientMax: 2 });
  const mine = [stage.connect({ peer: '10.0.0.1:1001' }), stage.connect({ peer: '10.0.0.1:1002' })];
  const refused = [stage.connect({ peer: '10.0.0.1:1003' })];
  const others = [
    stage.connect({ peer: '10.0.0.2:1001' }),
    stage.connect({ peer: '[fe80::1]:1001' }),
    stage.connect({ peer: '[fe80::1]:1002' }),
    stage.connect({ peer: 'unix' }),
  ];
  refused.push(stage.connect({ peer: '[fe80::1]:1003' }));
  for (const each of refused) await each.gone();
  for (const each of [...mine, ...others]) await each.heard(GREETING_BYTES);
  assert.deepEqual([stage.server.connections, stage.server.counters.turnedAway], [6, 2]);
  mine[0].vanish();
  await settle();
  await stage.connect({ peer: '10.0.0.1:1004' }).heard(GREETING_BYTES);
});

test('limits may be changed; connections that are there stay', async () => {
  const stage = new Stage();
  const hosts = [stage.connect({ peer: '10.0.0.1:1' }), stage.connect({ peer: '10.0.0.1:2' })];
  for (const host of hosts) await host.heard(GREETING_BYTES);
  const rest = { inFlightMax: 2, memoryBytesMax: 2 ** 26, stallMs: 1000 };
  stage.server.setLimits({ connectionsMax: 3, connectionsPerClientMax: 1, handshakeMs: 50, ...rest });
  assert.equal(stage.server.memory.bytesMax, 2 ** 26);
  await stage.connect({ peer: '10.0.0.1:3' }).gone();
  const other = stage.connect({ peer: '10.0.0.2:1' });
  await other.heard(GREETING_BYTES);
  await stage.connect({ peer: '10.0.0.3:1' }).gone();
  stage.clock.advance(60);
  await other.gone();
  assert.deepEqual(
    hosts.map(({ closed }) => closed),
    [false, false],
  );
});

test('a host that takes no replies is cut off in the end, one that takes them slowly is not', async () => {
  const stage = new Stage({ stallMs: 16_000 });
  const read = requestBytes({ command: READ, length: 1 << 20 });
  const stuck = stage.connect();
  const slow = stage.connect();
  for (const host of [stuck, slow]) {
    host.say(FLAGS, GO);
    await host.heard(GREETING_BYTES + GO_REPLY_BYTES);
  }
  stuck.refuse();
  slow.refuse();
  stuck.say(read, read);
  slow.say(read, read);
  await settle();
  for (let minutes = 0; minutes < 3; minutes++) {
    stage.clock.advance(10_000);
    slow.accept();
    await settle();
    slow.refuse();
    slow.say(read);
    await settle();
  }
  await stuck.gone();
  assert.equal(slow.closed, false);
  assert.equal(stage.server.counters.stalled, 1);
});

test('a host that sends a payload byte by byte is cut off in the end, one that is silent between requests never', async () => {
  const stage = new Stage({ stallMs: 16_000 });
  const idle = await stage.attach();
  const halting = await stage.attach();
  halting.say(requestBytes({ command: WRITE, length: 1 << 19 }));
  idle.say(requestBytes({ command: FLUSH }).subarray(0, 5));
  for (let seconds = 0; seconds < 20; seconds++) {
    halting.say(Buffer.alloc(1));
    await settle();
    stage.clock.advance(1000);
  }
  await halting.gone();
  stage.clock.advance(10 * 60_000);
  await settle();
  assert.equal(idle.closed, false);
  assert.equal(stage.server.counters.stalled, 1);
});

test('while others wait for memory, who holds it and does nothing is cut off sooner', async () => {
  const stage = new Stage({ stallMs: 160_000, memoryBytesMax: 1 << 20 });
  const read = requestBytes({ command: READ, length: 1 << 20 });
  const stuck = await stage.attach();
  stuck.refuse();
  stuck.say(read);
  await settle();
  stage.clock.advance(60_000);
  await settle();
  assert.equal(stuck.closed, false, 'it stands still, as it may');
  const other = await stage.attach();
  other.say(read);
  await settle();
  stage.clock.advance(10_000);
  await stuck.gone();
  await other.heard(16 + (1 << 20));
});

test('where stalling is no reason, a host may stand still for ever', async () => {
  const stage = new Stage({ stallMs: null });
  const stuck = await stage.attach();
  stuck.refuse();
  stuck.say(requestBytes({ command: READ, length: 1 << 20 }));
  await settle();
  stage.clock.advance(24 * 3_600_000);
  await settle();
  assert.equal(stuck.closed, false);
});

test('a storm of connections that are turned away is told once a second', async () => {
  const stage = new Stage({ connectionsMax: 1 });
  await stage.connect().heard(GREETING_BYTES);
  for (let i = 0; i < 50; i++) stage.connect();
  const told = (): number => stage.log.lines.filter((line) => line.includes('turned away')).length;
  assert.deepEqual([told(), stage.server.counters.turnedAway], [1, 50]);
  stage.clock.advance(1000);
  stage.connect();
  assert.equal(told(), 2);
});

test('a connection whose requests are not answered yet counts, though its wire is gone', async () => {
  const stage = new Stage({ completion: 'held' });
  const host = await stage.attach();
  host.say(requestBytes({ command: FLUSH }));
  await stage.device.submitted(1);
  host.vanish();
  await settle();
  assert.deepEqual(stage.exports.log, ['attach disk 1', 'ended disk 1']);
  assert.equal(stage.server.connections, 1);
  stage.device.release();
  assert.deepEqual(stage.exports.log, ['attach disk 1', 'ended disk 1', 'detach disk 1']);
  assert.equal(stage.server.connections, 0);
});

test('a client that never closes its side after ABORT or DISC is cut off in the end', async () => {
  const stage = new Stage();
  const [ours, theirs] = wirePair();
  ours.handle(stage.server.accept(ours.wire));
  let closed = false;
  theirs.handle({ data: () => {}, drain: () => {}, end: () => {}, close: () => (closed = true) });
  theirs.wire.write(Buffer.concat([FLAGS, optionBytes(2)]));
  await settle();
  assert.equal(closed, false);
  stage.clock.advance(15_000);
  await settle();
  assert.equal(closed, true);
  assert.equal(stage.server.connections, 0);
});

test('a client that asks without reading is not read from', async () => {
  const stage = new Stage();
  const many = new MemoryExports(...Array.from({ length: 400 }, (_, i) => memoryExport(`${i}-${'x'.repeat(1000)}`, stage.device)));
  const server = new NbdServer({ exports: many, clock: stage.clock, log: stage.log });
  const [ours, theirs] = wirePair();
  ours.handle(server.accept(ours.wire));
  theirs.wire.pause();
  theirs.handle({ data: () => {}, drain: () => {}, close: () => {} });
  theirs.wire.write(FLAGS);
  for (let i = 0; i < 100; i++) {
    theirs.wire.write(optionBytes(3));
    await settle();
  }
  assert(ours.wire.queuedBytes < 2_000_000, `${ours.wire.queuedBytes} bytes are queued`);
  assert(theirs.wire.queuedBytes > 0, 'options wait unread');
});

test('close: answers what is in flight, refuses what is new, ends every connection', async () => {
  const stage = new Stage({ completion: 'held' });
  const busy = await stage.attach();
  const idle = await stage.attach();
  const handshaking = stage.connect();
  await handshaking.heard(GREETING_BYTES);
  busy.say(requestBytes({ command: FLUSH, cookie: 1n }));
  await stage.device.submitted(1);
  const closing = stage.server.close({ graceMs: 10_000 });
  await idle.gone();
  handshaking.say(FLAGS, GO);
  await handshaking.gone();
  busy.say(requestBytes({ command: READ, cookie: 2n, length: 512 }));
  await busy.heard(16);
  assert.deepEqual(
    parseReplies(busy.received).map(({ cookie, errno }) => [cookie, errno]),
    [[2n, 108]],
  );
  assert.equal(busy.closed, false);
  stage.device.release();
  assert.equal(await closing, 0);
  assert.deepEqual(
    parseReplies(busy.received).map(({ cookie, errno }) => [cookie, errno]),
    [
      [2n, 108],
      [1n, 0],
    ],
  );
  const late = stage.connect();
  await late.gone();
  assert.equal(stage.clock.pending, 0, 'no timer is left');
});

test('close: a client in the handshake is told with its next option, whatever it is, and every option after it goes unread', async () => {
  const LIST = optionBytes(3);
  const [LIST_META_CONTEXT, UNKNOWN, TOO_LONG] = [optionBytes(9), optionBytes(99), optionBytes(6, Buffer.alloc(17_000))];
  for (const [option, code] of [
    [GO, 7],
    [LIST, 3],
    [LIST_META_CONTEXT, 9],
    [UNKNOWN, 99],
    [TOO_LONG, 6],
  ] as const) {
    const stage = new Stage();
    const host = stage.connect();
    host.say(FLAGS, optionBytes(3).subarray(0, 5));
    await host.heard(GREETING_BYTES);
    const closing = stage.server.close({ graceMs: 10_000 });
    host.say(optionBytes(3).subarray(5), GO);
    await host.gone();
    assert.equal(await closing, 0);
    const [told, ...more] = parseOptionReplies(host.received.subarray(GREETING_BYTES));
    assert.deepEqual([told.option, told.type, more.length], [3, 0x80000007, 0]);
    assert.match(told.data.toString(), /shutting down/);
    assert.equal(stage.clock.pending, 0);

    const other = new Stage();
    const late = other.connect();
    late.say(FLAGS);
    await late.heard(GREETING_BYTES);
    void other.server.close({ graceMs: 10_000 });
    late.say(option);
    await late.gone();
    const replies = parseOptionReplies(late.received.subarray(GREETING_BYTES));
    assert.deepEqual(
      replies.map(({ option: asked, type }) => [asked, type]),
      [[code, 0x80000007]],
    );
    assert.deepEqual(other.exports.log, []);
  }
});

test('close: ABORT is acknowledged, EXPORT_NAME has no answer but the end, silence ends after half a second', async () => {
  for (const [option, replies] of [
    [optionBytes(2), [[2, 1]]],
    [optionBytes(1, Buffer.from('disk')), []],
    [null, []],
  ] as const) {
    const stage = new Stage();
    const host = stage.connect();
    host.say(FLAGS);
    await host.heard(GREETING_BYTES);
    const closing = stage.server.close({ graceMs: 10_000 });
    if (option !== null) host.say(option);
    await settle();
    assert.equal(host.closed, option !== null);
    stage.clock.advance(500);
    await host.gone();
    assert.equal(await closing, 0);
    assert.deepEqual(
      parseOptionReplies(host.received.subarray(GREETING_BYTES)).map(({ option: asked, type }) => [asked, type]),
      replies,
    );
  }
});

test('close: a client whose export is just being attached is refused it, and it is detached', async () => {
  const stage = new Stage();
  let open = () => {};
  stage.exports.gate = new Promise((resolve) => {
    open = resolve;
  });
  const host = stage.connect();
  host.say(FLAGS, GO);
  await settle();
  const closing = stage.server.close({ graceMs: 10_000 });
  await settle();
  assert.equal(host.closed, false, 'its option will be answered');
  open();
  await host.gone();
  assert.equal(await closing, 0);
  const replies = parseOptionReplies(host.received.subarray(GREETING_BYTES));
  assert.deepEqual(
    replies.map(({ option, type }) => [option, type]),
    [[7, 0x80000007]],
  );
  assert.deepEqual(stage.exports.log, ['attach disk 1', 'detach disk 1']);
});

test('close: after the grace period what does not end is cut off, and said to be', async () => {
  const stage = new Stage({ completion: 'held' });
  const host = await stage.attach();
  host.say(requestBytes({ command: FLUSH }));
  await stage.device.submitted(1);
  const closing = stage.server.close({ graceMs: 3000 });
  await settle();
  stage.clock.advance(2999);
  await settle();
  assert.equal(host.closed, false);
  stage.clock.advance(1);
  assert.equal(await closing, 1);
  await host.gone();
  stage.device.release();
  await settle();
  assert.equal(stage.exports.log.at(-1), 'detach disk 1');
});

test('close of a server without connections is done at once', async () => {
  assert.equal(await new Stage().server.close({ graceMs: 1000 }), 0);
});

test('our client understands our server, however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(fc.infiniteStream(fc.integer({ min: 1, max: 50 })), fc.boolean(), async (cuts, structured) => {
      const stage = new Stage();
      const [ours, theirs] = wirePair({ cut: () => cuts.next().value });
      ours.handle(stage.server.accept(ours.wire));
      const handshake = new ClientHandshake({ exportName: 'disk', structured });
      const outcome = await new Promise<unknown>((resolve) => {
        theirs.handle({
          data: (chunk) => {
            const step = handshake.receive(chunk);
            for (const bytes of step.send) theirs.wire.write(bytes);
            if (step.outcome !== null) resolve(step.outcome);
          },
          drain: () => {},
          close: () => resolve('closed'),
        });
      });
      assert.deepEqual(outcome, {
        ok: true,
        value: {
          sizeBytes: 1 << 20,
          flags: structured ? 0x1ded : 0xd6d,
          structured,
          extended: structured,
          metaContextId: structured ? 1 : null,
          block: { minimum: 1, preferred: 4096, maximumPayload: 32 * 1024 * 1024 },
          leftover: Buffer.alloc(0),
        },
      });
    }),
    { numRuns: 30 },
  );
});

test.run();
