// deadline: 300s
// The kernel's own NBD client, in a virtual machine: the README's lines as they are printed, and file systems on /dev/nbd0 and
// /dev/nbd1 that are written to while their volumes move, a node dies and the gateway is killed.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { FileHost } from '../support/file-host.js';
import { FILE_SYSTEM_PROGRAMS, FILE_SYSTEMS } from '../support/file-system.js';
import { FileTree } from '../support/file-tree.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { GuestDisk } from '../support/guest-disk.js';
import { type GuestKernel, guestKernel } from '../support/guest-kernel.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import { havePeer, skippedBecause } from '../support/peers.js';
import type { Shell } from '../support/shell.js';
import { type Site, siteTest } from '../support/site.js';
import { HOST_ADDRESS, VirtualMachine } from '../support/virtual-machine.js';

const test = suite("e2e: file system on the kernel's client");
const MIB = 1024 * 1024;
const KIB = 1024;
/** FORESTALL_SEED plays another one. */
const SEED = Number(process.env.FORESTALL_SEED ?? Date.now() % 1_000_000);
const SMALL = 16 * MIB;
/** File system's changes between two events. */
const STEPS = 10;
/** Nothing but what the test does moves a volume, however slow this machine is. */
const PATIENT = { flip: { automatic: false, deadline: '30s' }, failover: { hangAfter: '60s' }, scrub: { afterMirror: false } };
const PROGRAMS = ['nbd-client', ...FILE_SYSTEM_PROGRAMS];
const EMULATOR = 'qemu-system-x86_64';
const kernel = havePeer(EMULATOR) ? await guestKernel().catch((error: Error) => error) : null;

/** A test in a virtual machine. */
function guestTest(name: string, body: (site: Site, kernel: GuestKernel) => Promise<void>): void {
  if (kernel instanceof Error) skippedBecause(name, `no kernel for it: ${kernel.message.trim()}`);
  else siteTest(test, ['nbdkit', EMULATOR, 'busybox', ...PROGRAMS], name, (site) => body(site, kernel!));
}

guestTest(
  "the kernel's client notices no flip and no failover, and after the gateway was killed all that was synced is there",
  async (site, kernel) => {
    print(`seed ${SEED}`);
    const trees = FILE_SYSTEMS.map(
      ({ name }) => new FileTree({ random: new Random(SEED, name), bytesMax: 8 * MIB, durableShare: 1, fileBytesMax: 128 * KIB }),
    );
    const files = Object.fromEntries(FILE_SYSTEMS.map(({ name }, index) => [`${name}.pool`, trees[index].pool]));
    const [machine, [gateway, b]] = await Promise.all([
      VirtualMachine.boot(site, { kernel, programs: PROGRAMS, files, shells: FILE_SYSTEMS.length + 1 }),
      startGateway(site),
    ]);
    const [control, ...shells] = machine.shells;
    await runReadme(control, gateway);
    const hosts = FILE_SYSTEMS.map((fileSystem, index) => {
      const disk = { device: `/dev/nbd${index}`, volume: fileSystem.name, port: gateway.nbdPort };
      return new FileHost(fileSystem, trees[index], () => GuestDisk.attach(shells[index], control, disk));
    });
    await each(hosts, async (host) => {
      await host.start();
      await gateway.mirror(host.name, 'b');
      await gateway.untilSynced(host.name, 'b');
      await host.writer.progress(STEPS);
      await gateway.flip(host.name);
      await gateway.untilSynced(host.name, host.name);
      await host.writer.progress(STEPS);
    });
    print('  flipped');
    await b.kill();
    await each(hosts, async (host) => {
      await gateway.untilVolume(host.name, 'failed over', ({ active }) => active.node === host.name);
      await host.writer.progress(STEPS);
    });
    print('  failed over');
    await gateway.kill();
    await each(hosts, (host) => host.crash());
    await gateway.start();
    print('  killed: the gateway');
    await each(hosts, async (host) => {
      await host.recover();
      await host.writer.progress(STEPS);
      await host.stop();
      await host.inspect();
    });
  },
);

/** Serves `vol0`, as the README has it, and a volume for each file system, which may go to agent `b`. */
async function startGateway(site: Site): Promise<[GatewayProcess, NodeAgentProcess]> {
  const small = await NbdkitNode.start(site, ['memory', String(SMALL)]);
  const b = await NodeAgentProcess.start(site, 'b');
  const nodes = [];
  for (const { name, sizeMiB } of FILE_SYSTEMS) {
    const { uri } = await NbdkitNode.onFile(site, name, sizeMiB * MIB);
    nodes.push({ id: name, nbd: uri, zone: 'rack-1', zombie: '1s' });
  }
  const volumes = FILE_SYSTEMS.map(({ name, sizeMiB }) => ({ name, size: `${sizeMiB}MiB`, node: name, export: '', policy: 'manual' }));
  const gateway = await GatewayProcess.start(site, {
    nodes: [...nodes, { id: 'small', nbd: small.uri }, { id: 'b', agent: b.url, zone: 'rack-2' }],
    volumes: [...volumes, { name: 'vol0', size: String(SMALL), node: 'small', export: '', policy: 'manual' }],
    policies: { manual: PATIENT },
  });
  return [gateway, b];
}

/** The README's lines for the kernel's client, as they are printed: its address leads to the gateway. */
async function runReadme(shell: Shell, gateway: GatewayProcess): Promise<void> {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const lines = [...readme.matchAll(/^ {4}((?:sudo )?nbd-client .*?) +#/gm)].map(([, line]) => line);
  assert.equal(lines.length, 2);
  await shell.run(`nc -ll -p 10809 -e busybox nc ${HOST_ADDRESS} ${gateway.nbdPort} >/dev/null 2>&1 & sudo() { "$@"; }`);
  assert.match(await shell.run(lines[0]), /^vol0$/m);
  assert.match(await shell.run(lines[1]), /Connected \/dev\/nbd0/);
  assert.equal((await shell.run('blockdev --getsize64 /dev/nbd0')).trim(), String(SMALL));
  await shell.run('dd if=/ext4.pool of=/dev/nbd0 bs=64k count=16 conv=fsync && cmp -n 1048576 /ext4.pool /dev/nbd0');
  await shell.run('nbd-client -d /dev/nbd0');
}

/** For each file system at the same time. */
const each = async <T>(things: T[], act: (thing: T) => Promise<unknown>): Promise<void> => void (await Promise.all(things.map(act)));

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

test.run();
