// Wires over real sockets: both kinds of address, both ways of ending, backpressure, and what Unix socket files left behind.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, connect as netConnect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { suite } from 'uvu';
import { type Listener, listen, NetDialer } from '../../gateway/net-wire.js';
import type { Wire, WireAddress, WireHandlers } from '../../gateway/wire.js';

const test = suite('net wire');

let directory = '';
const listeners: Listener[] = [];
const wires: Wire[] = [];
const sockets: Socket[] = [];

test.before.each(async () => {
  directory = await mkdtemp(join(tmpdir(), 'net-wire-'));
});

test.after.each(async () => {
  for (const wire of wires.splice(0)) wire.destroy();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const listener of listeners.splice(0)) listener.close();
  await rm(directory, { recursive: true });
});

/** Handlers that write down what happens and let a test wait for it. */
class Recorder implements WireHandlers {
  readonly events: string[] = [];
  received = Buffer.alloc(0);
  error: Error | null = null;
  end?: () => void;
  #waiting: { event: string; resolve: () => void }[] = [];

  constructor(options: { halfOpen?: boolean } = {}) {
    if (options.halfOpen) this.end = () => this.#note('end');
  }

  open(): void {
    this.#note('open');
  }

  data(chunk: Buffer): void {
    this.received = Buffer.concat([this.received, chunk]);
    this.#note('data');
  }

  drain(): void {
    this.#note('drain');
  }

  close(error: Error | null): void {
    this.error = error;
    this.#note('close');
  }

  saw(event: string): Promise<void> {
    if (this.events.includes(event)) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ event, resolve }));
  }

  #note(event: string): void {
    this.events.push(event);
    for (const waiter of this.#waiting) if (waiter.event === event) waiter.resolve();
  }
}

async function serve(address: WireAddress, handlers: WireHandlers): Promise<{ address: WireAddress; accepted: Promise<Wire> }> {
  let accept: (wire: Wire) => void;
  const accepted = new Promise<Wire>((resolve) => {
    accept = resolve;
  });
  const listener = await listen(address, {
    accept: (wire) => {
      wires.push(wire);
      accept(wire);
      return handlers;
    },
  });
  listeners.push(listener);
  return { address: listener.address, accepted };
}

function dial(address: WireAddress, handlers: WireHandlers): Wire {
  const wire = new NetDialer().dial(address, handlers);
  wires.push(wire);
  return wire;
}

/** What a program that was stopped does: it neither reads nor closes. */
async function deafServer(): Promise<WireAddress> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => sockets.push(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  listeners.push({ address: TCP, close: () => void server.close() });
  return { host: '127.0.0.1', port: (server.address() as { port: number }).port };
}

test('a wire that was ended closes though the other end hangs', async () => {
  const near = new Recorder({ halfOpen: true });
  const wire = dial(await deafServer(), near);
  await near.saw('open');
  wire.write(Buffer.alloc(8 * 1024 * 1024));
  wire.end();
  await near.saw('close');
});

const TCP: WireAddress = { host: '127.0.0.1', port: 0 };

for (const kind of ['TCP', 'Unix'] as const) {
  const where = (): WireAddress => (kind === 'TCP' ? TCP : { path: join(directory, 'socket') });

  test(`${kind}: bytes go both ways, the dialler hears open first, names say who`, async () => {
    const near = new Recorder();
    const far = new Recorder();
    const { address, accepted } = await serve(where(), far);
    const wire = dial(address, near);
    await near.saw('open');
    const other = await accepted;
    wire.write(Buffer.from('ping'));
    await far.saw('data');
    other.write(Buffer.from('pong'));
    await near.saw('data');
    assert.equal(far.received.toString(), 'ping');
    assert.equal(near.received.toString(), 'pong');
    assert.equal(near.events[0], 'open');
    assert.match(other.peer, kind === 'TCP' ? /^127\.0\.0\.1:\d+$/ : /^unix$/);
  });

  test(`${kind}: end sends what is queued, then both sides close without an error`, async () => {
    const near = new Recorder();
    const far = new Recorder();
    const { address } = await serve(where(), far);
    const wire = dial(address, near);
    wire.write(Buffer.alloc(300_000, 1));
    wire.end();
    await Promise.all([near.saw('close'), far.saw('close')]);
    assert.equal(far.received.length, 300_000);
    assert.equal(near.error, null);
    assert.equal(near.events.filter((event) => event === 'close').length, 1);
  });

  test(`${kind}: a side that hears the end may still write`, async () => {
    const near = new Recorder({ halfOpen: true });
    const far = new Recorder({ halfOpen: true });
    const { address, accepted } = await serve(where(), far);
    const wire = dial(address, near);
    wire.write(Buffer.from('question'));
    wire.end();
    await far.saw('end');
    const other = await accepted;
    other.write(Buffer.from('answer'));
    other.end();
    await Promise.all([near.saw('close'), far.saw('close')]);
    assert.equal(near.received.toString(), 'answer');
  });

  test(`${kind}: a dial that fails is a close with the error`, async () => {
    const { address } = await serve(where(), new Recorder());
    listeners.pop()!.close();
    const near = new Recorder();
    dial(address, near);
    await near.saw('close');
    assert.match(near.error!.message, /ECONNREFUSED|ENOENT/);
    assert.deepEqual(near.events, ['close']);
  });
}

test('an address that cannot be dialled is a close with the error, not an exception', async () => {
  for (const address of [{ host: '127.0.0.1', port: 99_999 }, { path: '/'.padEnd(500, 'x') }]) {
    const near = new Recorder();
    dial(address, near);
    await near.saw('close');
    assert(near.error !== null);
  }
});

test('a reader that pauses makes the writer wait; drain comes when it reads on', async () => {
  const near = new Recorder();
  const far = new Recorder();
  const { address, accepted } = await serve(TCP, far);
  const wire = dial(address, near);
  const other = await accepted;
  other.pause();
  let written = 0;
  while (wire.write(Buffer.alloc(1024 * 1024)) || wire.queuedBytes < 16 * 1024 * 1024) written += 1024 * 1024;
  assert(wire.queuedBytes > 0);
  assert.equal(near.events.includes('drain'), false);
  other.resume();
  await near.saw('drain');
  assert.equal(wire.queuedBytes, 0);
  assert(written > 0);
});

test('what is corked leaves on uncork', async () => {
  const far = new Recorder();
  const { address } = await serve(TCP, far);
  const near = new Recorder();
  const wire = dial(address, near);
  await near.saw('open');
  wire.cork();
  wire.write(Buffer.from('a'));
  wire.write(Buffer.from('b'));
  assert.equal(wire.queuedBytes, 2);
  wire.uncork();
  await far.saw('data');
  assert.equal(far.received.toString(), 'ab');
  assert.equal(wire.queuedBytes, 0, 'the system took it, so the bytes are ours again');
});

test('destroy closes both sides', async () => {
  const near = new Recorder();
  const far = new Recorder();
  const { address } = await serve(TCP, far);
  const wire = dial(address, near);
  await near.saw('open');
  wire.destroy();
  await Promise.all([near.saw('close'), far.saw('close')]);
});

test('port 0 becomes the chosen port, which is taken while we listen', async () => {
  const { address } = await serve(TCP, new Recorder());
  assert('port' in address && address.port > 0);
  await assert.rejects(listen(address, { accept: () => new Recorder() }), /EADDRINUSE/);
});

test('a Unix socket whose program died is replaced', async () => {
  const path = join(directory, 'socket');
  const holder = spawn(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`]);
  await once(holder.stdout, 'data');
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  assert(existsSync(path), 'the dead program left its socket');
  const far = new Recorder();
  await serve({ path }, far);
  const near = new Recorder();
  dial({ path }, near);
  await near.saw('open');
});

test('a Unix socket that answers, and a file that is no socket, are left alone', async () => {
  const path = join(directory, 'socket');
  const living = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => living.listen(path, resolve));
  await assert.rejects(listen({ path }, { accept: () => new Recorder() }), /EADDRINUSE/);
  const probe = netConnect({ path });
  await once(probe, 'connect');
  probe.destroy();
  living.close();
  const file = join(directory, 'file');
  await writeFile(file, 'precious');
  await assert.rejects(listen({ path: file }, { accept: () => new Recorder() }), /EADDRINUSE/);
  assert(existsSync(file));
});

test('closing a listener removes its Unix socket and leaves open wires open', async () => {
  const path = join(directory, 'socket');
  const far = new Recorder();
  const { accepted } = await serve({ path }, far);
  const near = new Recorder();
  const wire = dial({ path }, near);
  await accepted;
  listeners.pop()!.close();
  assert.equal(existsSync(path), false);
  wire.write(Buffer.from('still here'));
  await far.saw('data');
});

test.run();
