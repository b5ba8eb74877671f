// The gateway in front of NBD servers that it does not know: nbdkit, qemu-nbd, nbd-server and an agent differ in what they
// can. A host sees one unchanging volume while it moves from each to the next, and every copy holds the same bytes.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdClient } from '../support/nbd-client.js';
import { siteTest } from '../support/site.js';
import { type UnlikeServer, unlikeServers } from '../support/unlike-servers.js';

const test = suite('gateway nodes interop');
const MIB = 1024 * 1024;
const SIZE = 32 * MIB;

siteTest(
  test,
  ['nbdkit', 'qemu-nbd', 'nbd-server'],
  'a volume goes from server to server, unlike as they are, and hosts notice nothing',
  async (site) => {
    const start = unlikeServers(site, SIZE);
    const names = ['nbdkit with large blocks', 'nbdkit that can little', 'qemu-nbd', 'nbd-server', 'agent'] as const;
    const servers: UnlikeServer[] = [];
    for (const name of names) servers.push(await start[name]());
    const gateway = await GatewayProcess.start(site, {
      nodes: servers.map(({ config }, index) => ({ id: `n${index}`, zone: `rack-${index}`, ...config })),
      volumes: [{ name: 'vol0', size: '32MiB', node: 'n0', export: servers[0].export }],
      policies: { default: { flip: { automatic: false, deadline: '2s' }, scrub: { afterMirror: false } } },
    });
    const uri = gateway.uri('vol0');
    const host = await NbdClient.connect(uri);
    const { flags, block } = host;
    const bytes = randomFillSync(Buffer.alloc(SIZE / 2));
    const write = async (offset: number, length: number) => {
      randomFillSync(bytes, offset, length);
      await host.write(SIZE / 2 + offset, bytes.subarray(offset, offset + length));
    };
    for (let at = 0; at < bytes.length; at += 4 * MIB) await write(at, 4 * MIB);
    const writer = new ModelWriter({ uri, offset: 0, length: SIZE / 2, random: new Random(11, 'unlike'), connections: 3, depth: 4 });
    site.onClose(() => writer.abandon());
    writer.start();
    for (let index = 1; index < servers.length; index += 1) {
      const node = `n${index}`;
      await gateway.mirror('vol0', node);
      await gateway.untilSynced('vol0', node);
      // What only some of them can, on both copies at once.
      const at = index * MIB;
      await host.zeroes(SIZE / 2 + at, MIB, { noHole: index % 2 === 0 });
      bytes.fill(0, at, at + MIB);
      await write(at + 8192, 100 * 1024);
      await host.trim(SIZE / 2 + at + 512 * 1024, 64 * 1024);
      bytes.fill(0, at + 512 * 1024, at + 576 * 1024);
      await write(at + 512 * 1024, 64 * 1024);
      await writer.progress(100);
      const { to } = await gateway.post<{ to: { node: string; export: string } }>('/v1/volumes/vol0/flip', { node });
      assert.equal(to.node, node, names[index]);
      await write(at + 300 * 1024, 4096);
      await host.flush();
      await writer.progress(100);
      const left = `n${index - 1}`;
      await gateway.untilSynced('vol0', left);
      assert.equal((await gateway.ask('DELETE', `/v1/volumes/vol0/mirrors/${left}`)).status, 200);
      const direct = await NbdClient.connect(servers[index].uri(to.export)).catch((error: Error) => error);
      if (direct instanceof NbdClient) {
        const found = await direct.read(SIZE / 2 + at, MIB);
        assert(found.equals(bytes.subarray(at, at + MIB)), `${names[index]} itself holds it`);
        direct.destroy();
      }
    }
    await writer.stop();
    assert.deepEqual(writer.errors, []);
    assert.equal(writer.reconnects, 0);
    assert.deepEqual(await writer.check(), []);
    assert((await host.read(SIZE / 2, SIZE / 2)).equals(bytes), 'every byte is as it was written');
    const again = await NbdClient.connect(uri);
    assert.deepEqual([again.flags, again.block, again.sizeBytes], [flags, block, SIZE], 'the volume looks the same wherever it is');
    again.destroy();
    host.destroy();
  },
);

test.run();
