// Our client's handshake with real servers, as full and as poor as they can be made: nbdkit without structured replies, without
// zeroes, without fixed newstyle; qemu-nbd; nbd-server.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import type { Outcome } from '../../gateway/control.js';
import { ClientHandshake, type ClientWishes, type Negotiated } from '../../gateway/nbd/client-handshake.js';
import { NetDialer } from '../../gateway/net-wire.js';
import { freePort, havePeer, skipped } from '../support/peers.js';

const test = suite('nbd client handshake interop');

const SIZE = 1024 * 1024;

/** Shakes hands with the server that `argv` starts; `{socket}`, `{disk}` and `{config}` stand for files of the test. */
async function negotiate(argv: string[], wishes: ClientWishes): Promise<Outcome<Negotiated>> {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-handshake-'));
  const socket = join(directory, 'socket');
  const disk = join(directory, 'disk');
  const config = join(directory, 'config');
  await writeFile(disk, Buffer.alloc(SIZE));
  const generic = `[generic]\nunixsock = ${socket}\nlistenaddr = 127.0.0.1\nport = ${await freePort()}\n`;
  await writeFile(config, `${generic}[disk]\nexportname = ${disk}\nflush = true\nfua = true\n`);
  const [program, ...args] = argv.map((arg) => arg.replace('{socket}', socket).replace('{disk}', disk).replace('{config}', config));
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  const server = spawn(program, args, { stdio: 'ignore', env: { ...process.env, PATH: path } });
  const gone = new Promise((resolve) => server.once('close', resolve));
  try {
    return await shakeOnceUp(socket, wishes);
  } finally {
    server.kill('SIGKILL');
    await gone;
    await rm(directory, { recursive: true, force: true });
  }
}

/** Tries again while the server is still starting, for at most ten seconds. */
async function shakeOnceUp(path: string, wishes: ClientWishes): Promise<Outcome<Negotiated>> {
  for (let tries = 0; ; tries++) {
    try {
      return await shake(path, wishes);
    } catch (error) {
      const starting = ['ENOENT', 'ECONNREFUSED'].includes((error as NodeJS.ErrnoException).code ?? '');
      if (!starting || tries === 1000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

function shake(path: string, wishes: ClientWishes): Promise<Outcome<Negotiated>> {
  const handshake = new ClientHandshake(wishes);
  return new Promise((resolve, reject) => {
    const wire = new NetDialer().dial(
      { path },
      {
        data: (chunk) => {
          const step = handshake.receive(chunk);
          for (const bytes of step.send) wire.write(bytes);
          if (step.outcome === null) return;
          resolve(step.outcome);
          wire.destroy();
        },
        drain: () => {},
        close: (error) => reject(error ?? new Error('closed before an outcome')),
      },
    );
  });
}

const NBDKIT = ['nbdkit', '-f', '-U', '{socket}'];
const FULL = { structured: true, context: true };
const PLAIN = { structured: false, context: false };
const servers: { name: string; packages: string; argv: string[]; exportName: string; gives: { structured: boolean; context: boolean } }[] =
  [
    { name: 'nbdkit', packages: 'nbdkit', argv: [...NBDKIT, 'memory', '1M'], exportName: '', gives: FULL },
    {
      name: 'nbdkit without structured replies',
      packages: 'nbdkit',
      argv: [...NBDKIT, '--no-sr', 'memory', '1M'],
      exportName: '',
      gives: PLAIN,
    },
    {
      name: 'nbdkit with zeroes',
      packages: 'nbdkit',
      argv: [...NBDKIT, '--mask-handshake=1', 'memory', '1M'],
      exportName: '',
      gives: FULL,
    },
    {
      name: 'nbdkit of plain newstyle',
      packages: 'nbdkit',
      argv: [...NBDKIT, '--mask-handshake=0', 'memory', '1M'],
      exportName: '',
      gives: PLAIN,
    },
    {
      name: 'qemu-nbd',
      packages: 'qemu-utils',
      argv: ['qemu-nbd', '-k', '{socket}', '-f', 'raw', '-x', 'disk', '-t', '{disk}'],
      exportName: 'disk',
      gives: FULL,
    },
    {
      name: 'nbd-server',
      packages: 'nbd-server',
      argv: ['nbd-server', '-d', '-C', '{config}'],
      exportName: 'disk',
      gives: PLAIN,
    },
  ];

for (const { name, packages, argv, exportName, gives } of servers) {
  if (!havePeer(argv[0])) {
    skipped(`our handshake with ${name}`, packages);
    continue;
  }
  test(`agrees with ${name}`, async () => {
    const outcome = await negotiate(argv, { exportName });
    assert(outcome.ok, outcome.ok ? '' : outcome.message);
    assert.equal(outcome.value.sizeBytes, SIZE);
    assert.deepEqual({ structured: outcome.value.structured, context: outcome.value.metaContextId !== null }, gives);
    assert.equal(outcome.value.leftover.length, 0);
  });
}

if (havePeer('qemu-nbd')) {
  test('is told by qemu-nbd that an export does not exist', async () => {
    const outcome = await negotiate(['qemu-nbd', '-k', '{socket}', '-f', 'raw', '-x', 'disk', '{disk}'], { exportName: 'other' });
    assert(!outcome.ok);
    assert.equal(outcome.code, 'export-unknown');
    assert.match(outcome.message, /export not known: "other"/);
  });
}

if (havePeer('nbdkit')) {
  test('is told by nbdkit that it has no oldstyle', async () => {
    const outcome = await negotiate(['nbdkit', '-f', '-o', '-U', '{socket}', 'memory', '1M'], { exportName: '' });
    assert(!outcome.ok);
    assert.equal(outcome.code, 'not-nbd');
    assert.match(outcome.message, /old style/);
  });
}

test.run();
