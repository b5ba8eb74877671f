// deadline: 180s
// The store of a real gateway under bad circumstances, by the commands that an operator has: checked, written out, taken in
// elsewhere, lost, damaged, of another version. And the doctor, before and beside a gateway.
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import { LmdbRecords } from '../../gateway/store/lmdb-records.js';
import { runForestall } from '../support/forestall-program.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { NbdClient } from '../support/nbd-client.js';
import type { Ran } from '../support/nbd-testbed.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: store');
const SIZE = 8 * 1024 * 1024;
const WRITTEN = Buffer.alloc(4096, 7);

async function flipped(site: Site): Promise<GatewayProcess> {
  const [a, b] = [await NodeAgentProcess.start(site, 'a'), await NodeAgentProcess.start(site, 'b')];
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', agent: a.url, zone: 'one' },
      { id: 'b', agent: b.url, zone: 'two' },
    ],
    volumes: [{ name: 'vol0', size: SIZE, node: 'a' }],
  });
  const host = await NbdClient.connect(gateway.uri('vol0'));
  await host.write(0, WRITTEN, { fua: true });
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  await gateway.flip('vol0');
  await host.write(4096, WRITTEN, { fua: true });
  await host.disconnect();
  return gateway;
}

function saysOneLine({ status, stderr }: Ran, right: RegExp): void {
  assert.equal(status, 1, stderr);
  const lines = stderr.trim().split('\n');
  assert.equal(lines.length, 1, stderr);
  assert.match(lines[0], /^forestall: /);
  assert.match(lines[0], right);
  assert.doesNotMatch(stderr, /defect/);
}

siteTest(test, [], 'a store is checked, exported and imported elsewhere, and the gateway goes on from there', async (site) => {
  const gateway = await flipped(site);
  const data = gateway.dataDirectory;
  saysOneLine(
    await runForestall(['store', 'check', '--config', gateway.configFile]),
    new RegExp(`in use by process ${gateway.program.pid}`),
  );
  const file = site.path('store.jsonl');
  saysOneLine(await runForestall(['store', 'export', '--data', data, file]), /in use by process/);
  await gateway.kill();

  const checked = await runForestall(['store', 'check', '--config', gateway.configFile, '--json']);
  assert.equal(checked.status, 0, checked.stdout);
  const { sound, findings, volumes } = JSON.parse(checked.stdout);
  assert.ok(sound);
  assert.deepEqual(findings, []);
  assert.deepEqual(volumes[0].active, { node: 'b', export: volumes[0].active.export });
  assert.equal(volumes[0].epoch, 1);
  assert.match((await runForestall(['store', 'check', '--data', data])).stdout, /The store is sound\./);

  assert.equal((await runForestall(['store', 'export', '--data', data, file])).status, 0);
  await rename(data, `${data}.old`);
  const imported = await runForestall(['store', 'import', file, '--data', data]);
  assert.equal(imported.status, 0, imported.stderr);
  assert.match(imported.stdout, /vol0 on b\S* at epoch 1/);
  await gateway.start();
  const host = await NbdClient.connect(gateway.uri('vol0'));
  assert.ok((await host.read(4096, 4096)).equals(WRITTEN), 'what was written after the flip is served');
  await host.disconnect();
  assert.equal((await gateway.volume('vol0')).epoch, 1);
  await gateway.stop();

  // The same once more, not to be trusted: every mirror is copied again.
  const outdated = await runForestall(['store', 'import', file, '--data', data, '--replace', '--outdated']);
  assert.equal(outdated.status, 0, outdated.stderr);
  assert.match(outdated.stdout, /kept as records\.mdb\.before-/);
  await gateway.start();
  const { mirrors } = await gateway.untilSynced('vol0', 'a');
  assert.equal(mirrors.length, 1);
  await gateway.stop();
});

siteTest(test, [], 'a store that is lost, damaged or of another version is one line and no new store', async (site) => {
  const gateway = await flipped(site);
  await gateway.stop();
  const data = gateway.dataDirectory;
  const path = join(data, 'records.mdb');
  const whole = site.path('whole.mdb');
  copyFileSync(path, whole);
  const spoiled: [string, () => unknown, RegExp][] = [
    ['cut off', () => truncateSync(path, 3 * 4096), /are damaged: .*cut off/],
    ['empty', () => truncateSync(path, 0), /are damaged: it is empty/],
    [
      'noise',
      () => writeFileSync(path, Buffer.from(readFileSync(whole).map((byte, at) => (at * 31 + byte) & 0xff))),
      /are damaged: its first pages/,
    ],
    ['a text', () => writeFileSync(path, 'text\n'), /are damaged: its first pages/],
    ['missing', () => rmSync(path), /are missing: .*docs\/store\.md/],
  ];
  for (const [what, spoil, right] of spoiled) {
    copyFileSync(whole, path);
    spoil();
    const before = readdirSync(data);
    const serving = await runForestall(['serve', '--config', gateway.configFile]);
    saysOneLine(serving, right);
    assert.deepEqual(readdirSync(data), before, `${what}: nothing was made`);
  }
  saysOneLine(await runForestall(['store', 'check', '--data', data]), /are missing/);
  copyFileSync(whole, path);
  truncateSync(path, 3 * 4096);
  const checked = await runForestall(['store', 'check', '--data', data]);
  assert.equal(checked.status, 1);
  assert.match(checked.stdout, /damage .*cut off/);
  const file = site.path('store.jsonl');
  saysOneLine(await runForestall(['store', 'export', '--data', data, file]), /cut off/);
  assert.ok(!existsSync(file));
  for (const [version, right] of [
    [2, /format 2; this Forestall knows formats up to 1/],
    [0, /format 0; this Forestall reads formats from 1 on/],
  ] as const) {
    copyFileSync(whole, path);
    const opened = await LmdbRecords.open(data);
    assert.ok(opened.ok);
    await opened.value.commit([{ put: 'meta/format', value: { product: 'forestall', version } }]);
    await opened.value.close();
    saysOneLine(await runForestall(['serve', '--config', gateway.configFile]), right);
  }
  copyFileSync(whole, path);
  await gateway.start();
  await gateway.stop();
});

interface Report {
  worst: string;
  findings: { level: string; subject: string; message: string; advice: string | null }[];
}

async function doctor(file: string): Promise<Report & { status: number | null }> {
  const { status, stdout, stderr } = await runForestall(['doctor', '--config', file, '--json']);
  assert.equal(stderr, '');
  return { status, ...(JSON.parse(stdout) as Report) };
}

siteTest(test, ['nbdkit'], 'the doctor says what is right and what is not, and changes nothing', async (site) => {
  const [a, b] = [await NbdkitNode.start(site, ['memory', String(SIZE)]), await NbdkitNode.start(site, ['memory', String(SIZE)])];
  const small = await NbdkitNode.start(site, ['memory', '1M']);
  const readOnly = await NbdkitNode.start(site, ['-r', 'memory', String(SIZE)]);
  const nodes = [
    { id: 'a', nbd: a.uri, zone: 'one' },
    { id: 'b', nbd: b.uri, zone: 'two', spares: [''] },
  ];
  const volumes = [{ name: 'vol0', size: SIZE, node: 'a' }];
  const gateway = await GatewayProcess.start(site, { nodes, volumes });
  const beside = await doctor(gateway.configFile);
  assert.equal(beside.status, 1, 'no health sources: warnings');
  assert.equal(beside.worst, 'warning');
  const said = (report: Report, level: string, subject: string, message: RegExp) =>
    assert.ok(
      report.findings.some((each) => each.level === level && each.subject === subject && message.test(each.message)),
      `${level} ${subject} ${message}: ${JSON.stringify(report.findings, null, 1)}`,
    );
  said(beside, 'ok', 'store', new RegExp(`process ${gateway.program.pid} uses it`));
  said(beside, 'ok', 'node a, export ""', /active of vol0/);
  said(beside, 'ok', 'node a, export ""', /writable for everyone who reaches it.*only programs of this machine/);
  said(beside, 'ok', 'volume vol0', /b is the best/);
  said(beside, 'warning', 'node b, health', /no health source/);
  await gateway.stop();

  const stopped = readdirSync(gateway.dataDirectory);
  await gateway.configure({
    nodes: [
      { ...nodes[0], health: [{ type: 'node_exporter', url: 'http://127.0.0.1:9/metrics' }] },
      { ...nodes[1], nbd: small.uri },
    ],
    volumes,
  });
  const tooSmall = await doctor(gateway.configFile);
  assert.equal(tooSmall.status, 2);
  said(tooSmall, 'ok', 'store', /sound, 1 volumes/);
  said(tooSmall, 'warning', 'node a, health', /cannot be read|did not answer/);
  said(tooSmall, 'problem', 'volume vol0', /spares that are too small/);
  assert.deepEqual(readdirSync(gateway.dataDirectory), stopped);

  await gateway.configure({ nodes: [{ ...nodes[0], nbd: readOnly.uri }, nodes[1]], volumes });
  said(await doctor(gateway.configFile), 'problem', 'node a, export ""', /read-only/);
  await a.kill();
  await gateway.configure({ nodes, volumes });
  said(await doctor(gateway.configFile), 'problem', 'node a, export ""', /cannot be attached/);
  rmSync(join(gateway.dataDirectory, 'records.mdb'));
  said(await doctor(gateway.configFile), 'problem', 'store', /records are missing/);
});

test.run();
