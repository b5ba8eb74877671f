// Rule 13 on the agent's side: a new connection is let in only once the requests of gone connections have ended; over a
// manual clock, and over real sockets with a request that hangs in the storage.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { suite } from 'uvu';
import { establishedPeers, parseTables, peerKey } from '../../gateway/agent/established-peers.js';
import type { ExportStore } from '../../gateway/agent/export-store.js';
import { AgentExportTable } from '../../gateway/agent/export-table.js';
import type { Attachment } from '../../gateway/nbd/export.js';
import { OP, PromisedRequest, perform } from '../../replication/device.js';
import { ManualClock } from '../support/manual-clock.js';
import { NbdClient } from '../support/nbd-client.js';
import { GatedLibc, Rig } from './agent-rig.js';

const SIZE_BYTES = 1024 * 1024;

interface Fence {
  rig: Rig;
  clock: ManualClock;
  store: ExportStore;
  table: AgentExportTable;
  /** Clients the kernel would call connected; null: it does not say. */
  standing: Set<string> | null;
}

const table = suite<Fence>('agent export table');
table.before.each(async (context) => {
  context.rig = new Rig();
  context.clock = new ManualClock();
  context.standing = null;
  context.store = await context.rig.store();
  for (const name of ['a', 'b']) await context.store.create({ name, sizeBytes: SIZE_BYTES, volume: 'v', epoch: 1 });
  const { store, clock, rig } = context;
  const established = async (): Promise<Set<string> | null> => context.standing;
  context.table = new AgentExportTable({ store, clock, log: rig.log, fenceMs: 1000, established });
});
table.after.each((context) => context.rig.remove());

let lanes = 0;
function attach(table: AgentExportTable, name: string, client: string): Promise<Attachment | undefined> {
  lanes += 1;
  return table.attach(name, { lane: lanes, client });
}

/** Whether it is settled once everything that can run has run. */
async function settled(work: Promise<unknown>): Promise<boolean> {
  let done = false;
  const mark = (): void => {
    done = true;
  };
  work.then(mark, mark);
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  return done;
}

/** A peer and its key as the kernel's table has it. */
function peer(port: number): { client: string; key: string } {
  const client = `127.0.0.1:${port}`;
  return { client, key: peerKey(client)! };
}

table('knows no export of another name, and shows those it has', async ({ table }) => {
  assert.equal(await attach(table, 'nope', 'c'), undefined);
  assert.deepEqual(table.names(), ['a', 'b']);
  assert.equal(table.find('a')?.sizeBytes, SIZE_BYTES);
  assert.equal(table.find('nope'), undefined);
});

table('lets connections that live side by side in, on one device', async ({ table }) => {
  const first = (await attach(table, 'a', 'c1'))!;
  const second = (await attach(table, 'a', 'c2'))!;
  assert.equal(first.export.device, second.export.device);
  await perform(first.export.device, new PromisedRequest(OP.WRITE, 0, 512, Buffer.alloc(512, 4)));
  const read = new PromisedRequest(OP.READ, 0, 512);
  await perform(second.export.device, read);
  assert(read.data!.every((byte) => byte === 4));
  first.detach();
  second.detach();
});

table('holds a newcomer until the last request of a gone connection has ended, on that export alone', async ({ table }) => {
  const gone = (await attach(table, 'a', 'c1'))!;
  const alsoGone = (await attach(table, 'a', 'c2'))!;
  const living = (await attach(table, 'a', 'c3'))!;
  gone.ended!();
  alsoGone.ended!();
  const newcomer = attach(table, 'a', 'c4');
  const elsewhere = attach(table, 'b', 'c5');
  assert.equal(await settled(newcomer), false);
  await elsewhere;
  gone.detach();
  assert.equal(await settled(newcomer), false);
  alsoGone.detach();
  const attachment = (await newcomer)!;
  for (const one of [attachment, living, (await elsewhere)!]) one.detach();
});

table('also waits for a connection that goes while the newcomer waits', async ({ table }) => {
  const first = (await attach(table, 'a', 'c1'))!;
  const second = (await attach(table, 'a', 'c2'))!;
  first.ended!();
  const newcomer = attach(table, 'a', 'c3');
  assert.equal(await settled(newcomer), false);
  second.ended!();
  first.detach();
  assert.equal(await settled(newcomer), false);
  second.detach();
  (await newcomer)!.detach();
});

table('refuses a newcomer at the deadline, naming whom it waited for', async ({ table, clock, store }) => {
  const gone = (await attach(table, 'a', 'c1'))!;
  gone.ended!();
  const newcomer = attach(table, 'a', 'c2');
  assert.equal(await settled(newcomer), false);
  clock.advance(1000);
  await assert.rejects(newcomer, /requests of earlier connections \(c1\) have not ended within 1000 ms/);
  assert.equal(clock.pending, 0);
  assert.deepEqual(store.get('a')!.clients, ['c1']);
  gone.detach();
  (await attach(table, 'a', 'c3'))!.detach();
});

table('takes a connection for gone when the kernel does, though its socket has not said so', async (context) => {
  const { table } = context;
  const [old, other, fresh] = [peer(5001), peer(5002), peer(5003)];
  context.standing = new Set([old.key, other.key, fresh.key]);
  const first = (await attach(table, 'a', old.client))!;
  const second = (await attach(table, 'a', other.client))!;
  context.standing = new Set([other.key, fresh.key]);
  const newcomer = attach(table, 'a', fresh.client);
  assert.equal(await settled(newcomer), false);
  first.detach();
  (await newcomer)!.detach();
  second.detach();
});

table('never takes a connection for gone that the kernel did not show when it came', async (context) => {
  context.standing = new Set();
  const first = (await attach(context.table, 'a', '127.0.0.1:5001'))!;
  const second = (await attach(context.table, 'a', 'unix'))!;
  const third = (await attach(context.table, 'a', '127.0.0.1:5002'))!;
  for (const one of [first, second, third]) one.detach();
});

table('keeps an export from being deleted while a connection uses it or waits for it', async ({ table, store, clock }) => {
  const gone = (await attach(table, 'a', 'c1'))!;
  gone.ended!();
  const waiting = attach(table, 'a', 'c2');
  assert.equal(await settled(waiting), false);
  const refused = await store.delete('a', { epoch: 1 });
  assert.equal(refused.ok ? '' : refused.code, 'export-in-use');
  gone.detach();
  (await waiting)!.detach();
  assert.equal((await store.delete('a', { epoch: 1 })).ok, true);
  assert.equal(table.find('a'), undefined);
  assert.equal(clock.pending, 0);
});

table.run();

const wire = suite<{ rig: Rig }>('agent fencing over sockets');
wire.before.each((context) => {
  context.rig = new Rig();
});
wire.after.each((context) => context.rig.remove());

wire('admits a new connection only after the hung request of a killed one has ended', async ({ rig }) => {
  const libc = new GatedLibc();
  const agent = await rig.agent({ libc });
  const uri = `nbd://127.0.0.1:${agent.nbdPort}/a`;
  await fetch(`http://127.0.0.1:${agent.apiPort}/v1/exports`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'a', sizeBytes: SIZE_BYTES, volume: 'v', epoch: 1 }),
  });
  const killed = await NbdClient.connect(uri);
  libc.open = false;
  const hung = killed.zeroes(0, 65536).catch(() => 'unanswered');
  await libc.held();
  killed.stream.socket.resetAndDestroy();
  assert.equal(await hung, 'unanswered');
  let admitted = false;
  const newcomer = NbdClient.connect(uri).then((client) => {
    admitted = true;
    return client;
  });
  await rig.log.seen('waiting for the requests');
  assert.equal(admitted, false);
  libc.release();
  const client = await newcomer;
  await client.write(0, Buffer.alloc(512, 1), { fua: true });
  await client.disconnect();
});

wire('refuses a new connection with the reason when a request of a killed one hangs for too long', async ({ rig }) => {
  const libc = new GatedLibc();
  const agent = await rig.agent({ libc, fenceMs: 30 });
  const uri = `nbd://127.0.0.1:${agent.nbdPort}/a`;
  await fetch(`http://127.0.0.1:${agent.apiPort}/v1/exports`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'a', sizeBytes: SIZE_BYTES }),
  });
  const killed = await NbdClient.connect(uri);
  libc.open = false;
  const hung = killed.zeroes(0, 65536).catch(() => 'unanswered');
  await libc.held();
  killed.destroy();
  await hung;
  await assert.rejects(NbdClient.connect(uri), /requests of earlier connections .* have not ended within 30 ms/);
  libc.release();
});

wire('finds its clients in the kernel table, and not those that closed', async ({ rig }) => {
  const agent = await rig.agent();
  const socket = connect(agent.nbdPort, '127.0.0.1');
  await new Promise((resolve) => socket.once('data', resolve));
  const standing = await establishedPeers(agent.nbdPort);
  if (process.platform === 'linux') assert(standing?.has(peerKey(`127.0.0.1:${socket.localPort}`)!));
  else assert.equal(standing, null);
  const key = peerKey(`127.0.0.1:${socket.localPort}`)!;
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.destroy();
  await closed;
  assert.equal((await establishedPeers(agent.nbdPort))?.has(key) ?? false, false);
});

wire('reads the kernel table: local port, state and both kinds of address', () => {
  const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  const v4 = little ? '0100007F' : '7F000001';
  const mapped = little ? '0000000000000000FFFF00000100007F' : '00000000000000000000FFFF7F000001';
  const tables = [
    [
      '  sl  local_address rem_address   st tx_queue rx_queue',
      `   0: ${v4}:2A9F ${v4}:A8F6 01 00000000:00000000`,
      `   1: ${v4}:2A9F ${v4}:A8F7 08 00000000:00000000`,
      `   2: ${v4}:2AA0 ${v4}:A8F8 01 00000000:00000000`,
    ].join('\n'),
    `   0: ${mapped}:2A9F ${mapped}:A8F9 01 00000000:00000000`,
  ];
  const peers = parseTables(tables, 0x2a9f);
  assert.deepEqual([...peers], [peerKey('127.0.0.1:43254'), peerKey('[::ffff:127.0.0.1]:43257')]);
  assert.equal(peerKey('unix'), null);
  assert.notEqual(peerKey('[::1]:5'), null);
});

wire.run();
