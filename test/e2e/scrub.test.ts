// deadline: 400s
// Damage that nobody reported: a wrong byte in one copy, put there behind everybody's back. A scrub finds it while hosts
// write elsewhere, and mends it from the copy that is right, whichever that is.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { suite } from 'uvu';
import type { ScrubReport } from '../../gateway/control.js';
import { Random } from '../sim/random.js';
import { blankImage } from '../support/blank-image.js';
import { runForestall } from '../support/forestall-program.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdClient } from '../support/nbd-client.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: scrub');
const MIB = 1024 * 1024;
const SIZE = 32 * MIB;
const HALF = SIZE / 2;
const SEED = 6_061_944;

async function damage(image: string, offset: number): Promise<void> {
  const file = await open(image, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, offset);
    byte[0] ^= 0x10;
    await file.write(byte, 0, 1, offset);
  } finally {
    await file.close();
  }
}

/** The blocks that are wrong in an image that must hold `bytes` from HALF on. */
async function wrongOffsets(image: string, bytes: Buffer): Promise<number[]> {
  const found = (await readFile(image)).subarray(HALF, SIZE);
  const wrong: number[] = [];
  for (let at = 0; at < HALF; at += 4096) if (found.compare(bytes, at, at + 4096, at, at + 4096) !== 0) wrong.push(HALF + at);
  return wrong;
}

interface Scene {
  gateway: GatewayProcess;
  images: { a: string; b: string };
  /** What the second half of the volume holds; hosts write to the first. */
  bytes: Buffer;
  writer: ModelWriter;
}

/** A volume on a, mirrored to b, with hosts that write. */
async function setScene(site: Site, kind: 'nbdkit' | 'agent'): Promise<Scene> {
  const images = { a: site.path('a.img'), b: site.path('b.img') };
  for (const image of Object.values(images)) {
    await blankImage(image, SIZE);
  }
  const a = await NbdkitNode.start(site, ['file', images.a]);
  const plain = async () => ({ nbd: (await NbdkitNode.start(site, ['file', images.b])).uri, capacity: '1GiB', spares: [''] });
  const agent = kind === 'agent' ? await NodeAgentProcess.start(site, 'b') : null;
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', nbd: a.uri, zone: 'rack-1', capacity: '1GiB', spares: [''] },
      { id: 'b', zone: 'rack-2', ...(agent === null ? await plain() : { agent: agent.url }) },
    ],
    volumes: [{ name: 'vol0', size: '32MiB', node: 'a', export: '' }],
    policies: { default: { scrub: { afterMirror: false } } },
  });
  const uri = gateway.uri('vol0');
  const bytes = randomFillSync(Buffer.alloc(HALF));
  const client = await NbdClient.connect(uri);
  for (let at = 0; at < HALF; at += 4 * MIB) await client.write(HALF + at, bytes.subarray(at, at + 4 * MIB));
  client.destroy();
  const writer = new ModelWriter({ uri, offset: 0, length: HALF, random: new Random(SEED, kind), connections: 2, depth: 2 });
  site.onClose(() => writer.abandon());
  writer.start();
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  if (agent !== null) {
    const image = readdirSync(agent.directory).find((file) => file.endsWith('.img'));
    assert(image !== undefined, 'the agent keeps its exports in its directory');
    images.b = `${agent.directory}/${image}`;
  }
  return { gateway, images, bytes, writer };
}

/** The offsets a report names, each said to be wrong on `node` and mended. */
function mended(report: ScrubReport, node: string): number[] {
  assert.equal(report.state, 'done');
  assert.equal(report.comparedBytes, SIZE);
  for (const mismatch of report.mismatches) {
    assert(mismatch.repaired, JSON.stringify(mismatch));
    assert.match(mismatch.wrong, new RegExp(`^${node}\\b`), JSON.stringify(mismatch));
  }
  return report.mismatches.map(({ offset }) => offset);
}

const covering = (offset: number, offsets: number[]) => offsets.filter((at) => at <= offset && offset < at + MIB).length === 1;

for (const kind of ['nbdkit', 'agent'] as const) {
  siteTest(
    test,
    ['nbdkit'],
    `with the copy on an ${kind} node: a wrong byte in the mirror, then one in the source, are found and mended`,
    async (site) => {
      const { gateway, images, bytes, writer } = await setScene(site, kind);
      const places = [HALF + 4_321, SIZE - 1];

      await damage(images.b, places[0]);
      const inMirror = mended(await gateway.scrub('vol0'), 'b');
      assert.equal(inMirror.length, 1);
      assert(covering(places[0], inMirror), `${inMirror} for ${places[0]}`);
      assert.deepEqual(await wrongOffsets(images.b, bytes), []);
      assert.deepEqual(await wrongOffsets(images.a, bytes), []);

      await damage(images.a, places[1]);
      const inSource = mended(await gateway.scrub('vol0'), 'a');
      assert.equal(inSource.length, 1);
      assert(covering(places[1], inSource), `${inSource} for ${places[1]}`);
      assert.deepEqual(await wrongOffsets(images.a, bytes), []);
      assert.deepEqual(await wrongOffsets(images.b, bytes), []);

      assert.deepEqual(mended(await gateway.scrub('vol0'), 'nobody'), []);
      await writer.progress(50);
      await writer.stop();
      assert.deepEqual(writer.errors, []);
      assert.deepEqual(await writer.check(), []);
      await gateway.flip('vol0');
      assert.deepEqual(await writer.check(), [], 'on the other copy');
    },
  );
}

siteTest(test, ['nbdkit'], 'damage of both copies in several places is mended after a restart of the gateway too', async (site) => {
  const { gateway, images, bytes, writer } = await setScene(site, 'nbdkit');
  await writer.stop();
  // Reads both copies: from now on a checksum is known of every region.
  assert.deepEqual(mended(await gateway.scrub('vol0'), 'nobody'), []);
  await gateway.stop();
  await gateway.start();
  await gateway.untilSynced('vol0', 'b');
  const inMirror = [HALF, HALF + 5 * MIB + 17, HALF + 5 * MIB + 18];
  const inSource = [HALF + 3 * MIB, SIZE - 4096];
  for (const offset of inMirror) await damage(images.b, offset);
  for (const offset of inSource) await damage(images.a, offset);
  const scrubbed = await runForestall(['scrub', 'vol0', '--wait', '--json', '--api', gateway.apiUrl]);
  assert.equal(scrubbed.status, 0, scrubbed.stderr);
  const { mismatches } = JSON.parse(scrubbed.stdout) as ScrubReport;
  const shown = mismatches.map(({ wrong, repaired }) => `${wrong.slice(0, 1)} ${repaired}`).sort();
  assert.deepEqual(shown, ['a true', 'a true', 'b true', 'b true']);
  assert.deepEqual(await wrongOffsets(images.a, bytes), []);
  assert.deepEqual(await wrongOffsets(images.b, bytes), []);
  assert.deepEqual(await writer.check(), []);
});

siteTest(test, [], 'whoever asks for a scrub while one is under way joins it', async (site) => {
  const gateway = await GatewayProcess.start(site, {
    nodes: ['a', 'b'].map((id) => ({ id, embedded: { dir: site.path(`node-${id}`) } })),
    volumes: [{ name: 'vol0', size: '64MiB', node: 'a' }],
    policies: { default: { scrub: { afterMirror: false, bandwidth: '32MiB' } } },
  });
  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  const begun = await gateway.post<ScrubReport>('/v1/volumes/vol0/scrub');
  const joined = runForestall(['scrub', 'vol0', '--wait', '--json', '--api', gateway.apiUrl]);
  const again = await gateway.post<ScrubReport>('/v1/volumes/vol0/scrub');
  assert.deepEqual([again.state, again.startedAt], ['running', begun.startedAt]);
  const { status, stdout, stderr } = await joined;
  assert.equal(status, 0, stderr);
  const report = JSON.parse(stdout) as ScrubReport;
  assert.deepEqual([report.state, report.startedAt, report.comparedBytes], ['done', begun.startedAt, 64 * MIB]);
});

siteTest(test, [], 'SIGTERM while copies are compared ends the gateway in good order, however often', async (site) => {
  const names = ['vol0', 'vol1', 'vol2'];
  const gateway = await GatewayProcess.start(site, {
    nodes: ['a', 'b'].map((id) => ({ id, embedded: { dir: site.path(`node-${id}`) } })),
    volumes: names.map((name) => ({ name, size: '64MiB', node: 'a' })),
    policies: { default: { scrub: { afterMirror: false, bandwidth: '100GiB' } } },
  });
  for (const name of names) {
    await gateway.mirror(name, 'b');
    await gateway.untilSynced(name, 'b');
  }
  for (let round = 0; round < 4; round += 1) {
    await Promise.all(
      names.map(async (name) => {
        const { state } = await gateway.post<ScrubReport>(`/v1/volumes/${name}/scrub`);
        assert.equal(state, 'running');
      }),
    );
    await gateway.stop();
    assert.doesNotMatch(gateway.program.stderr, /Terminating worker thread|UnhandledPromiseRejection/);
    await gateway.start();
    for (const name of names) await gateway.untilSynced(name, 'b');
  }
});

test.run();
