// The load generator against servers over real sockets: it fills and reads back a good node, and says why it could not
// measure a bad one. No waiting for a result: every failure here comes at once.
import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { suite } from 'uvu';
import { LoadGenerator, type LoadJob } from '../../native-free-bench/load-job.js';
import { MemorySession } from '../../native-free-bench/memory-session.js';
import { CHECK, PREPARE, WORKLOADS, type Workload } from '../../native-free-bench/workload.js';

const test = suite('bench load');
const SIZE_BYTES = 8 * 1024 * 1024;

/** Serves each connection by `handle` while `body` runs. */
async function withServer(handle: (socket: Socket) => void, body: (port: number) => Promise<void>): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    handle(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await body((server.address() as AddressInfo).port);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

function serveMemory(memory: Buffer): (socket: Socket) => void {
  return (socket) => {
    const session = new MemorySession(memory, (bytes) => socket.write(bytes));
    socket.on('data', (chunk) => {
      session.receive(chunk);
      if (session.ended) socket.end();
    });
  };
}

function job(port: number, workload: Workload, extent: LoadJob['extent']): LoadJob {
  return { endpoint: { host: '127.0.0.1', port, exportName: '' }, workload, extent, seed: 1 };
}
const PASS = { kind: 'pass' } as const;
const WINDOW = { kind: 'window', warmupMs: 5, measureMs: 30 } as const;

test('it fills the node, measures every workload and finds at the end what it wrote', async () => {
  const memory = Buffer.alloc(SIZE_BYTES);
  await withServer(serveMemory(memory), async (port) => {
    const generator = new LoadGenerator();
    const filled = await generator.run(job(port, PREPARE, PASS));
    assert.equal(filled.ok && filled.value.allOperations, SIZE_BYTES / PREPARE.blockBytes);
    for (const workload of WORKLOADS) {
      const outcome = await generator.run(job(port, workload, WINDOW));
      assert.ok(outcome.ok, workload.id);
      assert.deepEqual([outcome.value.errors, outcome.value.mismatches], [0, 0]);
      assert.ok(outcome.value.allOperations >= workload.connections * workload.depth);
    }
    const checked = await generator.run(job(port, CHECK, PASS));
    assert.deepEqual(checked.ok && [checked.value.mismatches, checked.value.allOperations], [0, SIZE_BYTES / CHECK.blockBytes]);
    memory[3_000_000] ^= 1;
    const again = await generator.run(job(port, CHECK, PASS));
    assert.equal(again.ok && again.value.mismatches, 1);
  });
});

test('a port nobody listens on, and a server that is none, are reasons', async () => {
  let port = 0;
  await withServer(
    () => {},
    async (free) => {
      port = free;
    },
  );
  const refused = await new LoadGenerator().run(job(port, CHECK, PASS));
  assert.match(refused.ok ? '' : refused.message, /ECONNREFUSED/);
  await withServer(
    (socket) => socket.write('220 mail ready, what can I do for you'),
    async (other) => {
      const outcome = await new LoadGenerator().run(job(other, CHECK, PASS));
      assert.match(outcome.ok ? '' : outcome.message, /no NBD server/);
    },
  );
});

test('a server that closes in the middle is a reason, also when only one of four connections is hit', async () => {
  const memory = Buffer.alloc(SIZE_BYTES);
  const serve = serveMemory(memory);
  let connections = 0;
  const workload = WORKLOADS.find(({ id }) => id === 'randwrite-4k-4x16')!;
  await withServer(
    (socket) => {
      serve(socket);
      let chunks = 0;
      const doomed = ++connections === 3;
      socket.on('data', () => {
        if (doomed && ++chunks === 6) socket.destroy();
      });
    },
    async (port) => {
      const outcome = await new LoadGenerator().run(job(port, workload, { ...WINDOW, measureMs: 60_000 }));
      assert.match(outcome.ok ? '' : outcome.message, /closed the connection|ECONNRESET|EPIPE/);
    },
  );
});

test('a server that does not greet and one that stops to answer are given up', async () => {
  const limits = { attachMs: 20, drainMs: 20, passMs: 20 };
  await withServer(
    () => {},
    async (port) => {
      const outcome = await new LoadGenerator(limits).run(job(port, CHECK, PASS));
      assert.match(outcome.ok ? '' : outcome.message, /not attached within 20 ms/);
    },
  );
  const memory = Buffer.alloc(SIZE_BYTES);
  await withServer(
    (socket) => {
      const session = new MemorySession(memory, (bytes) => socket.write(bytes));
      // It hears the handshake (flags and GO together) and nothing after it.
      socket.once('data', (chunk) => session.receive(chunk));
      socket.resume();
    },
    async (port) => {
      const outcome = await new LoadGenerator({ ...limits, attachMs: 10_000 }).run(job(port, CHECK, PASS));
      assert.match(outcome.ok ? '' : outcome.message, /8 requests were not answered in time/);
    },
  );
});

test('an export of another size than on the first path is a reason', async () => {
  const generator = new LoadGenerator();
  await withServer(serveMemory(Buffer.alloc(SIZE_BYTES)), async (port) => {
    assert.equal((await generator.run(job(port, PREPARE, PASS))).ok, true);
  });
  await withServer(serveMemory(Buffer.alloc(2 * SIZE_BYTES)), async (port) => {
    const outcome = await generator.run(job(port, CHECK, PASS));
    assert.match(outcome.ok ? '' : outcome.message, /has 16777216 bytes here and 8388608 on other paths/);
  });
});

test.run();
