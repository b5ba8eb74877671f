// deadline: 240s
// A disk that cannot read some of its sectors any more is left behind while hosts write: everything that it can read goes along,
// and in place of the rest a host gets an error, also after a restart, until it writes there.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { runForestall } from '../support/forestall-program.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdClient } from '../support/nbd-client.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: bad sectors');
const MIB = 1024 * 1024;
const SIZE = 8 * MIB;
/** Hosts write to the rest. */
const QUIET = 4 * MIB;
const SECTOR = 512;
const BAD = [SECTOR * 3, MIB + 65_536 - SECTOR, MIB + 65_536, 3 * MIB + 8 * SECTOR];

/** An nbdkit that refuses to read the sectors in BAD, a program for each request. */
function brokenNode(site: Site, image: string): Promise<NbdkitNode> {
  const touches = BAD.map((at) => `[ $4 -lt ${at + SECTOR} -a $(($4 + $3)) -gt ${at} ]`).join(' || ');
  return NbdkitNode.start(site, [
    '--threads=16',
    'eval',
    'thread_model=echo parallel',
    `get_size=echo ${SIZE}`,
    'can_write=exit 0',
    'can_flush=exit 0',
    'can_multi_conn=exit 0',
    'flush=exit 0',
    `pread=if ${touches}; then echo 'EIO a bad sector' >&2; exit 1; fi; dd if="${image}" skip=$4 count=$3 iflag=skip_bytes,count_bytes,fullblock bs=1M status=none`,
    `pwrite=dd of="${image}" seek=$4 oflag=seek_bytes conv=notrunc bs=1M status=none`,
  ]);
}

function isBad(offset: number): boolean {
  return BAD.includes(offset);
}

siteTest(test, ['nbdkit'], 'a disk with bad sectors is left behind, and nobody reads anything in their place', async (site) => {
  const image = site.path('a.img');
  const contents = Buffer.alloc(SIZE);
  randomFillSync(contents, 0, QUIET);
  await writeFile(image, contents);
  const a = await brokenNode(site, image);
  const copy = site.path('b.img');
  await writeFile(copy, Buffer.alloc(SIZE));
  const b = await NbdkitNode.start(site, ['file', copy]);
  const gateway = await GatewayProcess.start(site, {
    nodes: [
      { id: 'a', nbd: a.uri, capacity: '1GiB', spares: [''] },
      { id: 'b', nbd: b.uri, capacity: '1GiB', spares: [''] },
    ],
    volumes: [{ name: 'vol0', size: '8MiB', node: 'a', export: '' }],
    policies: { default: { scrub: { afterMirror: false } } },
  });
  const uri = gateway.uri('vol0');
  const random = new Random(8_512, 'bad sectors');
  const writer = new ModelWriter({ uri, offset: QUIET, length: SIZE - QUIET, random, connections: 1, depth: 2, pauseMs: 20 });
  site.onClose(() => writer.abandon());
  writer.start();

  await gateway.mirror('vol0', 'b');
  await gateway.untilSynced('vol0', 'b');
  const copied = await readFile(copy);
  for (let at = 0; at < QUIET; at += SECTOR) {
    const expected = isBad(at) ? Buffer.alloc(SECTOR) : contents.subarray(at, at + SECTOR);
    assert(copied.subarray(at, at + SECTOR).equals(expected), `sector at ${at}`);
  }
  const events = await gateway.events();
  const lost = events.filter(({ type }) => type === 'volume.lost');
  assert.equal(
    lost.reduce((sum, { details }) => sum + (details.lengthBytes as number), 0),
    BAD.length * SECTOR,
  );
  assert(lost.every(({ level, volume }) => level === 'alert' && volume === 'vol0'));

  await gateway.flip('vol0');
  await writer.stop();
  assert.deepEqual(writer.errors, []);
  assert.deepEqual(await writer.check(), []);
  assert.equal((await gateway.volume('vol0')).lostBytes, BAD.length * SECTOR);
  const shown = await runForestall(['volumes', 'vol0', '--api', gateway.apiUrl]);
  assert.match(shown.stdout, /lost +2KiB that no copy can give/);

  const readsAllBut = async (missing: number[], told: (at: number) => Buffer): Promise<void> => {
    const client = await NbdClient.connect(uri);
    for (let at = 0; at < QUIET; at += SECTOR) {
      if (missing.includes(at)) await assert.rejects(client.read(at, SECTOR), /input\/output error/);
      else assert((await client.read(at, SECTOR)).equals(told(at)), `sector at ${at}`);
    }
    client.destroy();
  };
  await readsAllBut(BAD, (at) => contents.subarray(at, at + SECTOR));
  await gateway.kill();
  await gateway.start();
  await readsAllBut(BAD, (at) => contents.subarray(at, at + SECTOR));

  const [first, ...others] = BAD;
  const client = await NbdClient.connect(uri);
  await client.write(first, Buffer.alloc(SECTOR, 7));
  client.destroy();
  await gateway.kill();
  await gateway.start();
  await readsAllBut(others, (at) => (at === first ? Buffer.alloc(SECTOR, 7) : contents.subarray(at, at + SECTOR)));
  assert.equal((await gateway.volume('vol0')).lostBytes, others.length * SECTOR);
});

test.run();
