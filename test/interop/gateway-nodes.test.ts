// The gateway in front of NBD servers that it does not know: nbdkit, qemu-nbd, nbd-server and an agent differ in what they
// can. A host sees one unchanging volume while it moves from each to the next, and every copy holds the same bytes.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { blankImage } from '../support/blank-image.js';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { untilListening } from '../support/listening.js';
import { ModelWriter } from '../support/model-writer.js';
import { NbdClient } from '../support/nbd-client.js';
import { runPeer } from '../support/nbd-testbed.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { freePort } from '../support/peers.js';
import { type Site, siteTest } from '../support/site.js';
import { StartedProgram } from '../support/started-program.js';

const test = suite('gateway nodes interop');
const MIB = 1024 * 1024;
const SIZE = 32 * MIB;

interface Server {
  /** What the configuration says of it. */
  config: Record<string, unknown>;
  export: string;
  /** Where a client attaches its copy. */
  uri(exportName: string): string;
}

async function image(site: Site, name: string): Promise<string> {
  const path = site.path(`${name}.img`);
  await blankImage(path, SIZE);
  return path;
}

function plain(port: number, exportName: string): Server {
  const address = `nbd://127.0.0.1:${port}`;
  return {
    config: { nbd: address, capacity: '1GiB', spares: [exportName], zombie: '500ms' },
    export: exportName,
    uri: () => `${address}/${exportName}`,
  };
}

const SERVERS: Record<string, (site: Site) => Promise<Server>> = {
  /** Everything, but in requests of at most 64 KiB and with blocks of 4 KiB only. */
  async nbdkit(site) {
    const policy = ['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=64K', 'blocksize-error-policy=error'];
    const node = await NbdkitNode.start(site, ['--filter=blocksize-policy', 'file', await image(site, 'nbdkit'), ...policy]);
    return plain(node.port, '');
  },
  /** No trim, no zeroes, no FUA, one connection. */
  async 'nbdkit that can little'(site) {
    const little = ['--filter=nozero', '--filter=fua', '--filter=multi-conn', '--filter=noextents'];
    const settings = ['zeromode=none', 'multi-conn-mode=disable'];
    const node = await NbdkitNode.start(site, ['--no-sr', ...little, 'file', await image(site, 'little'), ...settings]);
    return plain(node.port, '');
  },
  async 'qemu-nbd'(site) {
    const port = await freePort();
    const args = ['-f', 'raw', '-x', 'disk', '-b', '127.0.0.1', '-p', `${port}`, '-t', '-e', '16', '--discard=unmap'];
    await untilListening(StartedProgram.start(site, 'qemu-nbd', [...args, await image(site, 'qemu')]), port);
    return plain(port, 'disk');
  },
  async 'nbd-server'(site) {
    const port = await freePort();
    const file = site.path('nbd-server.conf');
    const config = [
      '[generic]',
      `port = ${port}`,
      'listenaddr = 127.0.0.1',
      '[disk]',
      `exportname = ${await image(site, 'nbd-server')}`,
      'flush = true',
      'fua = true',
      'trim = true',
    ];
    await writeFile(file, `${config.join('\n')}\n`);
    // It serves more than one client only as a daemon.
    const pidFile = site.path('nbd-server.pid');
    site.onClose(async () => {
      if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8')));
    });
    const { status, stderr } = await runPeer('nbd-server', ['-C', file, '-p', pidFile]);
    assert.equal(status, 0, stderr);
    await eventually('nbd-server wrote its pid', async () => Number(readFileSync(pidFile, 'utf8')) > 0, Boolean);
    return plain(port, 'disk');
  },
  async agent(site) {
    const agent = await NodeAgentProcess.start(site, 'agent');
    return { config: { agent: agent.url }, export: '', uri: (name) => agent.uri(name) };
  },
};

siteTest(
  test,
  ['nbdkit', 'qemu-nbd', 'nbd-server'],
  'a volume goes from server to server, unlike as they are, and hosts notice nothing',
  async (site) => {
    const names = Object.keys(SERVERS);
    const servers: Server[] = [];
    for (const name of names) servers.push(await SERVERS[name](site));
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
