// What a node's view says when its exports are not as they must be: a node that breaks the protocol, or serves what no volume can
// use, is named with its reason, whether it is a plain NBD server or not.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { loadConfig } from '../../config/load.js';
import { loadNodeSecurities } from '../../gateway/tls/client-security.js';
import { Fleet } from '../../gateway/fleet/fleet.js';
import { probeExport } from '../../gateway/fleet/probe.js';
import { ManualClock } from '../support/manual-clock.js';
import { QuietLog } from '../support/quiet-log.js';
import { FLAG, ScriptedNode, turns } from '../support/scripted-node.js';

const test = suite('fleet node');

const CONFIG = `
server: { data: /tmp/nowhere }
nodes:
  - { id: a, nbd: 'nbd://127.0.0.1:10909' }
  - { id: b, nbd: 'nbd://127.0.0.1:10910', spares: [s], capacity: 1GiB }
volumes:
  - { name: vol0, size: 1MiB, node: a, export: disk }
`;

async function fleetOn(node: ScriptedNode) {
  const clock = new ManualClock();
  const fleet = new Fleet({ clock, log: new QuietLog(), dialer: node });
  const loaded = loadConfig(CONFIG, 'test.yaml');
  assert(loaded.ok, JSON.stringify(loaded));
  await fleet.configure(loaded.config, await loadNodeSecurities(loaded.config.nodes));
  const events = { connected: () => {}, lost: () => {}, blocked: () => {}, settled: () => {}, unlike: async () => false };
  const opened = fleet.connect({ node: 'a', export: 'disk' }, { sizeBytes: node.sizeBytes, blockMinimum: 1 }, events, null);
  assert(opened.ok);
  opened.value.start();
  await turns();
  const view = () => fleet.view(fleet.get('a')!, [], null, []);
  return { clock, fleet, view };
}

test('a node that breaks the protocol is down, for what it did, and counts it', async () => {
  const node = new ScriptedNode(1024 * 1024);
  const { clock, fleet, view } = await fleetOn(node);
  assert.deepEqual([view().state, view().reason], ['up', null]);
  node.greeting = Buffer.alloc(18, 0x41);
  node.cut();
  await turns();
  clock.advance(10);
  await turns();
  assert.equal(view().state, 'down');
  assert.match(view().reason!, /protocol error: wrong magic 4141414141414141: not an NBD server/);
  assert.equal(fleet.get('a')!.totals().violations.handshake, 1);
  await fleet.stop();
});

test('a node whose export no volume can use says so', async () => {
  const node = new ScriptedNode(1024 * 1024);
  node.flags |= FLAG.READ_ONLY;
  const { fleet, view } = await fleetOn(node);
  assert.match(view().reason!, /export disk: the export is read-only/);
  await fleet.stop();
});

test('an export is looked at also where the server hangs up when it is asked for extended headers', async () => {
  const node = new ScriptedNode(1024 * 1024);
  node.optionReply = (option) => {
    if (option !== 11) return null;
    setImmediate(() => node.cut());
    return Buffer.alloc(0);
  };
  const found = await probeExport(node, new ManualClock(), { host: 'a', port: 1 }, 'disk');
  assert(found.ok);
  assert.deepEqual([found.value.sizeBytes, found.value.extended, node.dials], [1024 * 1024, false, 2]);
});

test.run();
