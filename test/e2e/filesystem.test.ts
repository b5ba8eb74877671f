// deadline: 300s
// Real file systems on volumes, loop-mounted over nbdfuse: written to while their volumes are mirrored, flipped, failed over and flipped
// back, and while the gateway and a node with a volatile cache are killed. Every file must be what it was last made, each
// file system clean, and both copies alike.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { FileHost } from '../support/file-host.js';
import { FILE_SYSTEM_PROGRAMS, FILE_SYSTEMS, type FileSystem } from '../support/file-system.js';
import { FileTree } from '../support/file-tree.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { LoopMount, noLoopMount } from '../support/loop-mount.js';
import { runPeer } from '../support/nbd-testbed.js';
import { NbdkitNode, VOLATILE_CACHE } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { skippedBecause } from '../support/peers.js';
import { type Site, siteTest } from '../support/site.js';

const test = suite('e2e: file system');
const MIB = 1024 * 1024;
/** FORESTALL_SEED plays another one. */
const SEED = Number(process.env.FORESTALL_SEED ?? Date.now() % 1_000_000);
const POWER_LOSSES = 6;
/** Nothing but what the test does moves a volume, however slow this machine is. */
const PATIENT = { flip: { automatic: false, deadline: '30s' }, failover: { hangAfter: '60s' }, scrub: { afterMirror: false } };
const PROGRAMS = ['nbdkit', 'nbdfuse', 'busybox', ...FILE_SYSTEM_PROGRAMS];

/** An nbdkit with a file for the file system to come; the file and the node have its name. */
function diskNode(site: Site, { name, sizeMiB }: FileSystem, settings = {}): Promise<NbdkitNode> {
  return NbdkitNode.onFile(site, name, sizeMiB * MIB, settings);
}

const volumes = (policy: string) =>
  FILE_SYSTEMS.map(({ name, sizeMiB }) => ({ name, size: `${sizeMiB}MiB`, node: name, export: '', policy }));

function hostsOf(site: Site, gateway: GatewayProcess, durableShare: number): FileHost[] {
  return FILE_SYSTEMS.map((fileSystem) => {
    const tree = new FileTree({ random: new Random(SEED, fileSystem.name), bytesMax: 32 * MIB, durableShare });
    return new FileHost(fileSystem, tree, () => LoopMount.attach(site, gateway.uri(fileSystem.name), fileSystem, tree.pool));
  });
}

/** For each file system at the same time. */
const each = async <T>(things: T[], act: (thing: T) => Promise<unknown>): Promise<void> => void (await Promise.all(things.map(act)));

/** A test that mounts. */
function mountTest(name: string, body: (site: Site) => Promise<void>): void {
  const why = noLoopMount(FILE_SYSTEMS);
  if (why === null) siteTest(test, PROGRAMS, name, body);
  else skippedBecause(name, why);
}

mountTest(
  'ext4 and xfs that are written to while their volumes are mirrored, flipped, failed over and flipped back are whole, on both nodes',
  async (site) => {
    print(`seed ${SEED}`);
    const disks = await Promise.all(FILE_SYSTEMS.map((fileSystem) => diskNode(site, fileSystem)));
    const b = await NodeAgentProcess.start(site, 'b');
    const gateway = await GatewayProcess.start(site, {
      nodes: [
        ...FILE_SYSTEMS.map(({ name }, index) => ({ id: name, nbd: disks[index].uri, zone: 'rack-1', zombie: '1s' })),
        { id: 'b', agent: b.url, zone: 'rack-2' },
      ],
      volumes: volumes('manual'),
      policies: { manual: PATIENT },
    });
    const hosts = hostsOf(site, gateway, 0.3);
    await each(hosts, async (host) => {
      await host.start();
      await host.writer.progress(40);
    });
    const during = async (what: string, act: (name: string) => Promise<unknown>): Promise<void> => {
      await each(hosts, async ({ name, writer }) => {
        const before = writer.steps;
        await act(name);
        await writer.progress(25);
        print(`  ${name}: ${what}: ${writer.steps - before} steps meanwhile`);
      });
    };
    const untilActive = (name: string, node: string) =>
      gateway.untilVolume(name, `active on ${node}`, ({ active }) => active.node === node);
    await during('mirrored', async (name) => {
      await gateway.mirror(name, 'b');
      await gateway.untilSynced(name, 'b');
    });
    await during('flipped', async (name) => {
      await gateway.flip(name);
      await gateway.untilSynced(name, name);
    });
    await b.kill();
    await during('failed over', async (name) => untilActive(name, name));
    await b.start();
    await during('caught up', (name) => gateway.untilSynced(name, 'b'));
    await during('flipped back', (name) => gateway.flip(name));
    await each(hosts, async (host) => {
      await host.stop();
      const { active, epoch, mirrors } = await gateway.untilVolume(host.name, 'nothing is on its way', (volume) =>
        volume.mirrors.every(({ state, lagBytes, dirtyBytes }) => state === 'synced' && lagBytes + dirtyBytes === 0),
      );
      assert.deepEqual([active.node, epoch, mirrors.length], ['b', 3, 1]);
      const old = site.path(`${host.name}.img`);
      await host.inspect(old);
      const compared = await runPeer('cmp', [old, site.path('b', `${active.export}.img`)], { timeoutMs: 60_000 });
      assert.equal(compared.status, 0, `the copies are equal: ${compared.stdout}${compared.stderr}`);
    });
  },
);

mountTest(
  'what ext4 and xfs were told is on disk is there after the gateway, a node with a volatile cache, or both were killed',
  async (site) => {
    print(`seed ${SEED}`);
    const disks = await Promise.all(FILE_SYSTEMS.map((fileSystem) => diskNode(site, fileSystem, VOLATILE_CACHE)));
    const gateway = await GatewayProcess.start(site, {
      nodes: FILE_SYSTEMS.map(({ name }, index) => ({ id: name, nbd: disks[index].uri, zombie: '1s' })),
      volumes: volumes('alone'),
      policies: { alone: { mirror: { onPrediction: 0 } } },
    });
    const hosts = hostsOf(site, gateway, 1);
    await each(hosts, async (host) => {
      await host.start();
      await host.writer.progress(25);
    });
    const losePower = () => each(disks, (disk) => disk.kill());
    // Of this no host knows.
    for (let loss = 0; loss < POWER_LOSSES; loss += 1) {
      await losePower();
      await each(disks, (disk) => disk.start());
      await each(hosts, ({ writer }) => writer.progress(5));
    }
    const crashes: [string, () => Promise<unknown>][] = [
      ['the gateway', () => gateway.kill()],
      ['the gateway and the nodes', () => Promise.all([gateway.kill(), losePower()])],
      ['the nodes and then the gateway', () => losePower().then(() => gateway.kill())],
    ];
    for (const [what, crash] of crashes) {
      await crash();
      await each(
        disks.filter(({ program }) => !program.running),
        (disk) => disk.start(),
      );
      await gateway.start();
      print(`  killed: ${what}`);
      await each(hosts, async (host) => {
        await host.crash();
        await host.recover();
        await host.writer.progress(25);
      });
    }
    await each(hosts, async (host) => {
      await host.stop();
      await host.inspect();
    });
  },
);

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

test.run();
