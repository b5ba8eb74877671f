// What a running gateway takes up of a changed file: the difference in an order that can be followed, what waits for a
// restart, and what is refused because data would be lost.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Config } from '../../config/config.js';
import { loadConfig } from '../../config/load.js';
import { type ConfigDiff, diffConfig, type InUse } from '../../config/reload.js';

const text = `
server: { nbd: { port: 10809 }, data: ./var/gateway }
nodes:
  - { id: a, nbd: "nbd://127.0.0.1:10911", zone: rack-1, spares: [one] }
  - { id: b, agent: "http://127.0.0.1:8091", zone: rack-2 }
  - { id: c, agent: "http://127.0.0.1:8092", zone: rack-3 }
volumes:
  - { name: vol0, size: 1GiB, node: a, priority: 100 }
  - { name: vol1, size: 1GiB, node: b, policy: gold }
policies:
  gold: { mirror: { standing: 1 } }
`;

const idle: InUse = { nodes: new Map(), attached: new Set() };
const busy: InUse = {
  nodes: new Map([
    ['a', ['vol0']],
    ['b', ['vol1', 'vol0']],
  ]),
  attached: new Set(['vol0']),
};

function configOf(yaml: string): Config {
  const loaded = loadConfig(yaml, 'file');
  if (loaded.ok) return loaded.config;
  throw new Error(JSON.stringify(loaded.problems));
}

/** The difference when each pair's first text is replaced by its second. */
function changed(inUse: InUse, ...replacements: [from: string, to: string][]): ConfigDiff {
  let after = text;
  for (const [from, to] of replacements) {
    assert.ok(after.includes(from), from);
    after = after.replace(from, to);
  }
  return diffConfig(configOf(text), configOf(after), inUse);
}

function summary(diff: ConfigDiff): Record<string, string[]> {
  const nameOf = (change: ConfigDiff['live'][number]) => {
    const keys = 'keys' in change ? ` (${change.keys.join(', ')})` : '';
    if ('node' in change) return `${change.type} ${change.node.id}${keys}`;
    if ('policy' in change) return `${change.type} ${change.policy.name}${keys}`;
    if ('volume' in change) return `${change.type} ${change.volume.name}${keys}`;
    if ('server' in change) return `${change.type}${keys}`;
    return `${change.type} ${'id' in change ? change.id : change.name}`;
  };
  const paths = (remarks: { path: string }[]) => remarks.map(({ path }) => path);
  return { refusals: paths(diff.refusals), restart: paths(diff.restart), ignored: paths(diff.ignored), live: diff.live.map(nameOf) };
}

const nothing = { refusals: [], restart: [], ignored: [], live: [] };
const reload = suite('reload');

reload('the same file changes nothing, and neither does writing a default out', () => {
  assert.equal(summary(changed(busy)), nothing);
  assert.equal(summary(changed(busy, ['port: 10809', 'port: 10809, host: 127.0.0.1'], ['size: 1GiB', 'size: 1024MiB'])), nothing);
});

reload('addresses and the data directory wait for a restart, and the running configuration keeps them', () => {
  const diff = changed(busy, ['port: 10809', 'port: 10810, unix: ./s'], ['./var/gateway }', './other, api: { host: "::1", port: 1 } }']);
  assert.equal(summary(diff), {
    ...nothing,
    restart: ['server.nbd.port', 'server.nbd.unix', 'server.api.host', 'server.api.port', 'server.data'],
  });
  assert.equal(diff.running, configOf(text));
});

reload("the server's TLS, a node's, and who may attach are taken up at once", () => {
  const diff = changed(
    busy,
    ['port: 10809', 'port: 10809, tls: { mode: optional, psk: /keys }'],
    ['agent: "http://127.0.0.1:8091"', 'agent: "http://127.0.0.1:8091", tls: { authority: /ca.pem }'],
    ['priority: 100 }', 'priority: 100, readOnly: true, access: [{ psk: me }] }'],
  );
  assert.equal(summary(diff), {
    ...nothing,
    live: ['server-changed (nbd.tls)', 'node-changed b (tls)', 'volume-changed vol0 (readOnly, access)'],
  });
  assert.is(diff.running.server.nbd.tls.mode, 'optional');
  assert.equal(diff.running.volumes[0].access?.[0].psk, 'me');
});

reload('limits and the log level are taken up at once', () => {
  const diff = changed(
    busy,
    ['port: 10809', 'port: 10809, limits: { connections: 7, perClient: 3, handshake: 1s, inFlight: 9, memory: 1GiB, stall: 5m }'],
    ['./var/gateway', './var/gateway, log: { level: debug }'],
  );
  assert.equal(summary(diff), {
    ...nothing,
    live: [
      'server-changed (nbd.connectionsMax, nbd.connectionsPerClientMax, nbd.handshakeMs, nbd.inFlightMax, nbd.memoryBytesMax, nbd.stallMs, logLevel)',
    ],
  });
  assert.is(diff.running.server.nbd.connectionsMax, 7);
  assert.is(diff.running.server.nbd.connectionsPerClientMax, 3);
  assert.is(diff.running.server.nbd.stallMs, 300_000);
  assert.is(diff.running.server.nbd.port, 10809);
  assert.is(diff.running.server.logLevel, 'debug');
});

reload('nodes, then policies, then volumes come, and what nothing refers to any more goes last', () => {
  const diff = changed(
    { nodes: new Map(), attached: new Set() },
    ['  - { id: c, agent: "http://127.0.0.1:8092", zone: rack-3 }', '  - { id: d, agent: "http://127.0.0.1:8093" }'],
    ['  - { name: vol1, size: 1GiB, node: b, policy: gold }', '  - { name: vol2, size: 1GiB, node: d, policy: silver }'],
    ['gold: { mirror: { standing: 1 } }', 'silver: {}'],
  );
  assert.equal(summary(diff), {
    ...nothing,
    live: ['node-added d', 'policy-added silver', 'volume-removed vol1', 'volume-added vol2', 'node-removed c', 'policy-removed gold'],
  });
});

reload('a node that holds a copy is not removed, one that holds none is', () => {
  const withoutC: [string, string] = ['  - { id: c, agent: "http://127.0.0.1:8092", zone: rack-3 }\n', ''];
  assert.equal(summary(changed(busy, withoutC)), { ...nothing, live: ['node-removed c'] });
  const diff = changed({ ...busy, nodes: new Map([['c', ['vol1']]]) }, withoutC);
  assert.equal(diff.refusals, [{ path: 'nodes.c', message: 'still holds a copy of vol1: move or remove the copies first, then the node' }]);
  assert.equal(diff.running, configOf(text), 'a refused file changes nothing');
});

reload("a node's zone changes at once; its address only while it holds no copy", () => {
  assert.equal(summary(changed(busy, ['rack-1', 'rack-9'])), { ...nothing, live: ['node-changed a (zone)'] });
  assert.equal(summary(changed(idle, [':8092', ':8099'])), { ...nothing, live: ['node-changed c (url)'] });
  const diff = changed(busy, [':10911", zone: rack-1', ':10999", zone: rack-9']);
  assert.equal(summary(diff), { ...nothing, restart: ['nodes.a'] });
  assert.equal(diff.running, configOf(text));
  const kind = changed(busy, ['nbd: "nbd://127.0.0.1:10911", zone: rack-1, spares: [one]', 'agent: "http://127.0.0.1:8090"']);
  assert.equal(summary(kind).restart, ['nodes.a']);
});

reload('a volume never shrinks, and a larger size is only its first: what makes it larger is said', () => {
  const smaller = changed(idle, ['size: 1GiB', 'size: 1023MiB']);
  assert.equal(summary(smaller), { ...nothing, refusals: ['volumes.vol0.size'] });
  assert.match(smaller.refusals[0].message, 'from 1GiB to 1023MiB');
  const larger = changed(idle, ['size: 1GiB', 'size: 2GiB']);
  assert.equal(summary(larger), { ...nothing, ignored: ['volumes.vol0.size'] });
  assert.match(larger.ignored[0].message, /first size only.*forestall grow/);
  assert.equal(larger.running, configOf(text));
});

reload('an attached volume is not removed', () => {
  const withoutVol0: [string, string] = ['  - { name: vol0, size: 1GiB, node: a, priority: 100 }\n', ''];
  assert.equal(summary(changed(busy, withoutVol0)), { ...nothing, refusals: ['volumes.vol0'] });
  assert.equal(summary(changed(idle, withoutVol0)), { ...nothing, live: ['volume-removed vol0'] });
});

reload("a volume's placement has no effect any more, its priority, labels and policy do", () => {
  assert.equal(summary(changed(busy, ['size: 1GiB, node: a', 'size: 1GiB, node: c'])), { ...nothing, ignored: ['volumes.vol0.node'] });
  assert.equal(summary(changed(busy, ['priority: 100', 'priority: 7, labels: { x: y }, policy: gold'])), {
    ...nothing,
    live: ['volume-changed vol0 (priority, labels, policy)'],
  });
});

reload('a changed policy is one change, not one of each volume that names it', () => {
  const diff = changed(busy, ['standing: 1', 'standing: 0']);
  assert.equal(summary(diff), { ...nothing, live: ['policy-changed gold (mirror)'] });
  assert.is(diff.running.volumes[1].policy.mirror.standing, 0);
});

reload.run();
