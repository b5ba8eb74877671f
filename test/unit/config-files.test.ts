// The configuration by its files: every test/config/*.bad.yaml says in `# expect:` lines, in order, all that is wrong
// with it; every other file there and in config/ is right.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Config, PolicyConfig } from '../../config/config.js';
import { loadConfig, readConfig } from '../../config/load.js';
import { formatProblem } from '../../config/problem.js';
import { jsonSchema } from '../../config/schema.js';
import { plainestTls, serverTlsOff } from '../../config/tls.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

function yamlFiles(directory: string): string[] {
  return readdirSync(join(root, directory))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => `${directory}/${name}`);
}

function problemsOf(text: string): string[] {
  const loaded = loadConfig(text, 'file');
  return loaded.ok ? [] : loaded.problems.map((problem) => formatProblem(problem).slice('file:'.length));
}

function configOf(text: string): Config {
  const loaded = loadConfig(text, 'file');
  return loaded.ok ? loaded.config : (assert.unreachable(loaded.problems.map(formatProblem).join('\n')) as never);
}

function file(name: string): string {
  return readFileSync(join(root, name), 'utf8');
}

const bad = suite('configuration files that are wrong');

for (const name of yamlFiles('test/config').filter((path) => path.endsWith('.bad.yaml'))) {
  bad(`${name} is refused for exactly what it says`, () => {
    const text = file(name);
    const expected = [...text.matchAll(/^# expect: (.*)$/gm)].map(([, line]) => line);
    assert.equal(problemsOf(text), expected);
    assert.ok(expected.length > 0);
  });
}

bad('a file that cannot be read is a problem with a place, too', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-config-'));
  try {
    const latin = join(directory, 'latin.yaml');
    writeFileSync(latin, Buffer.from([0x6e, 0xe4, 0x0a]));
    const large = join(directory, 'large.yaml');
    writeFileSync(large, `#${'x'.repeat(5 * 2 ** 20)}`);
    const expected = {
      [join(directory, 'none.yaml')]: 'there is no such file',
      [directory]: 'is a directory: name the file in it',
      [latin]: 'is not UTF-8 text: save it as UTF-8',
      [large]: 'is longer than 4MiB: a configuration is shorter',
    };
    for (const [path, message] of Object.entries(expected)) {
      assert.equal(await readConfig(path), { ok: false, problems: [{ file: path, line: 1, column: 1, path: 'document', message }] });
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

bad('nesting without end is refused, not followed', () => {
  assert.ok(problemsOf(`nodes: ${'['.repeat(100_000)}`).length > 0);
  assert.ok(problemsOf(`nodes: ${'{a: '.repeat(50_000)}1${'}'.repeat(50_000)}`).length > 0);
});

bad('a file damaged anywhere is taken or refused with places in it, never an exception', () => {
  const whole = file('test/config/every-key.yaml');
  const piece = fc.constantFrom(
    '',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    ']',
    ':',
    ': ',
    '- ',
    '"',
    '*rack',
    '&x ',
    '!!int ',
    '~',
    '0',
    '-1',
    '1e400',
    '.nan',
    '\0',
    '\ud800',
    '__proto__: ',
  );
  fc.assert(
    fc.property(fc.nat(whole.length), fc.nat(40), piece, (at, cut, inserted) => {
      const damaged = whole.slice(0, at) + inserted + whole.slice(at + cut);
      const loaded = loadConfig(damaged, 'file');
      if (loaded.ok) return;
      assert.ok(loaded.problems.length > 0);
      const lines = damaged.split('\n').length;
      for (const { line, column, message } of loaded.problems) assert.ok(line >= 1 && line <= lines && column >= 1 && message.length > 0);
    }),
    { numRuns: 500 },
  );
});

bad.run();

const good = suite('configuration files that are right');

for (const name of [...yamlFiles('test/config').filter((path) => !path.endsWith('.bad.yaml')), ...yamlFiles('config')]) {
  good(`${name} is taken`, () => {
    assert.equal(problemsOf(file(name)), []);
  });
}

const defaults: PolicyConfig = {
  name: 'default',
  mirror: { standing: 0, onPrediction: 1, durability: 'async', queueBytes: 64 * 2 ** 20, whenFull: 'slow' },
  prediction: { threshold: 'adaptive', minimum: 0.5, horizonMs: 30 * 86_400_000 },
  flip: { automatic: true, deadlineMs: 250, deadlineMaxMs: 2000, afterSyncedMs: 0 },
  rollback: { observeMs: 86_400_000, onFalseAlarm: 'flip-back' },
  scrub: { afterMirror: true, everyMs: 7 * 86_400_000, bytesPerSecond: 100 * 2 ** 20 },
  copy: { bytesPerSecond: 500 * 2 ** 20, minimumBytesPerSecond: 8 * 2 ** 20, hostLatencyGuard: 2 },
  reads: { hedgeAfterMs: null },
  failover: { hangAfterMs: 5000, giveUpAfterMs: 300_000 },
};

good('what is left out has its documented default', () => {
  assert.equal(configOf(file('test/config/minimal.yaml')), {
    server: {
      nbd: {
        host: '127.0.0.1',
        port: 10809,
        unix: null,
        tls: serverTlsOff,
        connectionsMax: 1024,
        connectionsPerClientMax: 256,
        handshakeMs: 10_000,
      },
      api: { host: '127.0.0.1', port: 8080 },
      dataDirectory: './var/gateway',
      logLevel: 'info',
    },
    nodes: [
      {
        id: 'a',
        kind: 'embedded',
        directory: './a',
        zone: 'default',
        site: 'default',
        capacityBytes: null,
        health: [],
        connectionsMax: 4,
        zombieMs: 0,
        tls: null,
      },
      {
        id: 'b',
        kind: 'agent',
        url: 'http://[::1]:8091',
        zone: 'default',
        site: 'default',
        capacityBytes: null,
        health: [],
        connectionsMax: 4,
        zombieMs: 0,
        tls: null,
      },
    ],
    volumes: [
      {
        name: 'vol0',
        sizeBytes: 2 ** 30,
        node: 'a',
        export: 'vol0',
        policy: defaults,
        priority: 100,
        labels: {},
        readOnly: false,
        access: null,
      },
    ],
    policies: [defaults],
  });
});

good('a policy is complete however little of it is given, and takes nothing from the one named default', () => {
  const rest = 'nodes: [{ id: a, agent: "http://127.0.0.1:8091" }]\nvolumes: []\n';
  for (const policies of ['{}', '{ default: {} }', '{ default: { flip: {} } }']) {
    assert.equal(configOf(`${rest}policies: ${policies}`).policies, [defaults]);
  }
  const { policies } = configOf(`${rest}policies: { gold: {}, default: { mirror: { standing: 2 } } }`);
  assert.equal(policies, [
    { ...defaults, mirror: { ...defaults.mirror, standing: 2 } },
    { ...defaults, name: 'gold' },
  ]);
});

good('every key reaches the product in bytes and milliseconds', () => {
  const { server, nodes, volumes, policies } = configOf(file('test/config/every-key.yaml'));
  assert.equal(server, {
    nbd: {
      host: '0.0.0.0',
      port: 0,
      unix: '/run/forestall/nbd.sock',
      tls: {
        mode: 'required',
        certificate: '/etc/forestall/cert.pem',
        key: '/etc/forestall/key.pem',
        authority: '/etc/forestall/hosts.pem',
        clientCertificates: 'optional',
        psk: '/etc/forestall/keys.psk',
        minimum: '1.3',
      },
      connectionsMax: 16,
      connectionsPerClientMax: 256,
      handshakeMs: 2000,
    },
    api: { host: '::1', port: 8081 },
    dataDirectory: '/srv/forestall',
    logLevel: 'debug',
  });
  assert.equal(nodes, [
    {
      id: 'plain',
      kind: 'plain',
      address: { path: '/run/nbdkit.sock' },
      tls: { ...plainestTls, directory: '/etc/pki', serverName: 'node.example' },
      zone: 'rack-7',
      site: 'dc-2',
      capacityBytes: 3 * 2 ** 40,
      spares: ['one', 'two words', 'größe'],
      connectionsMax: 8,
      zombieMs: 5000,
      health: [
        { type: 'smartctl_exporter', url: 'http://node:9633/metrics', everyMs: 30_000 },
        { type: 'node_exporter', url: 'https://node:9100/metrics', everyMs: 15_000 },
      ],
    },
    {
      id: 'agent',
      kind: 'agent',
      url: 'https://storage-1.example:8443',
      zone: 'rack-7',
      site: 'default',
      capacityBytes: 500e9,
      connectionsMax: 4,
      zombieMs: 0,
      tls: { ...plainestTls, psk: '/etc/forestall/node.psk', identity: 'gateway' },
      health: [],
    },
    {
      id: 'third',
      kind: 'plain',
      address: { host: 'node-3', port: 10809 },
      zone: 'default',
      site: 'default',
      capacityBytes: null,
      spares: [],
      connectionsMax: 4,
      zombieMs: 30_000,
      tls: { ...plainestTls, authority: '/ca.pem', certificate: '/cert.pem', key: '/key.pem', verifyPeer: false },
      health: [],
    },
  ]);
  const gold: PolicyConfig = {
    name: 'gold',
    mirror: { standing: 1, onPrediction: 1, durability: 'sync', queueBytes: 2 ** 30, whenFull: 'fall-back' },
    prediction: { threshold: 0.8, minimum: 0.25, horizonMs: 7 * 86_400_000 },
    flip: { automatic: false, deadlineMs: 10, deadlineMaxMs: 1000, afterSyncedMs: 5_400_000 },
    rollback: { observeMs: 5_400_000, onFalseAlarm: 'stay' },
    scrub: { afterMirror: false, everyMs: 0, bytesPerSecond: 65_536 },
    copy: { bytesPerSecond: 2 ** 40, minimumBytesPerSecond: 2 ** 30, hostLatencyGuard: 1 },
    reads: { hedgeAfterMs: 20 },
    failover: { hangAfterMs: 250, giveUpAfterMs: 250 },
  };
  assert.equal(policies, [defaults, gold, { ...defaults, name: 'none', mirror: { ...defaults.mirror, onPrediction: 0 } }]);
  assert.equal(volumes, [
    {
      name: 'db.1',
      sizeBytes: 512,
      node: 'plain',
      export: 'zero',
      policy: gold,
      priority: 1000,
      labels: { program: 'billing-db', owner: '7' },
      readOnly: true,
      access: [
        { certificate: 'host-1.example', psk: null, address: '10.0.0.0/8', unix: false, readOnly: false },
        { certificate: null, psk: 'backup', address: null, unix: false, readOnly: true },
        { certificate: null, psk: null, address: null, unix: true, readOnly: false },
      ],
    },
    {
      name: 'db.2',
      sizeBytes: 1.5 * 2 ** 30,
      node: 'agent',
      export: 'other',
      policy: defaults,
      priority: 100,
      labels: {},
      readOnly: false,
      access: null,
    },
  ]);
});

good('the commented default shows every default of a policy as it is', () => {
  assert.equal(configOf(file('config/gateway.yaml')).policies, [defaults]);
});

good('what the commented default shows commented out can be taken in', () => {
  const uncommented = file('config/gateway.yaml').replace(
    /^( +)# (?=(unix|tls|mode|certificate|key|limits|connections|perClient|handshake|log|level|zombie|capacity|export|policy|priority|deadline|deadlineMax):| {2}\w+: )/gm,
    '$1',
  );
  assert.match(uncommented, /^ {4}unix: /m);
  assert.match(uncommented, /^ {6}connections: 1024/m);
  assert.match(uncommented, /^ {6}deadlineMax: 2s/m);
  const refused = problemsOf(uncommented).filter((line) => !line.includes('is for nbd nodes'));
  assert.equal(refused, []);
});

good('the JSON Schema names every key and allows no other', () => {
  const schema = jsonSchema() as { required: string[]; additionalProperties: boolean; properties: Record<string, object> };
  assert.equal(schema.required, ['nodes', 'volumes']);
  assert.is(schema.additionalProperties, false);
  assert.equal(Object.keys(schema.properties), ['server', 'nodes', 'volumes', 'policies']);
  assert.match(JSON.stringify(schema.properties.policies), '"hostLatencyGuard":{"default":2');
});

good.run();
