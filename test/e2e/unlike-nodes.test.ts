// One volume goes in a ring over nodes that differ in all they can (rule 6): hosts of every kind stay attached meanwhile and trim,
// zero, write, read and ask for holes; none sees an error, a lost connection or a wrong byte, and after each flip both copies are
// alike. The hosts: our own with simple, structured and extended replies, qemu-io, nbdsh, fio, nbdcopy, and through nbdkit's nbd
// plugin and qemu-nbd as proxies.
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { eventually } from '../support/eventually.js';
import { FioJob } from '../support/fio-job.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { untilListening } from '../support/listening.js';
import { ModelHost } from '../support/model-host.js';
import { NbdClient } from '../support/nbd-client.js';
import { runPeer } from '../support/nbd-testbed.js';
import { freePort, havePeer, skipped } from '../support/peers.js';
import { QemuIoHost } from '../support/qemu-io-host.js';
import { type Site, siteTest } from '../support/site.js';
import { StartedProgram } from '../support/started-program.js';
import { type UnlikeServer, unlikeServers } from '../support/unlike-servers.js';

const test = suite('unlike nodes');
const MIB = 1024 * 1024;
const SIZE = 16 * MIB;
const RING = ['nbdkit file', 'nbd-server', 'qemu-nbd', 'nbdkit memory', 'agent'] as const;
/** What each host has of the volume. */
const PLACE = { simple: 0, structured: 1, extended: 2, qemuIo: 3, nbdsh: 4, fio: 6, nbdcopy: 8, nbdkit: 10, qemuNbd: 12 };

/** A host in libnbd's own shell: goes on until it is told to stop, then reads all once more. */
const NBDSH = `
import random, signal, sys
uri, offset, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(uri)
rng = random.Random(7)
model = bytearray(length)
going = [True]
signal.signal(signal.SIGTERM, lambda *_: going.clear())
steps = 0
while going:
    at = rng.randrange(length // 512) * 512
    size = min(length - at, (1 + rng.randrange(64)) * 512)
    what = rng.randrange(6)
    if what == 0:
        data = rng.randbytes(size)
        h.pwrite(data, offset + at, rng.choice([0, nbd.CMD_FLAG_FUA]))
        model[at:at + size] = data
    elif what == 1:
        h.zero(size, offset + at, rng.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA]))
        model[at:at + size] = bytes(size)
    elif what == 2:
        h.trim(size, offset + at)
        model[at:at + size] = bytes(size)
    elif what == 3:
        h.flush()
    elif what == 4:
        told = []
        h.block_status(size, offset + at, lambda name, start, entries, error: told.extend(entries) or 0)
        pos = at
        for i in range(0, len(told), 2):
            end = min(pos + told[i], at + size)
            assert not (told[i + 1] & 2) or model[pos:end] == bytes(end - pos), "data is said to be zero at %d" % pos
            pos = end
    else:
        assert h.pread(size, offset + at) == model[at:at + size], "wrong bytes at %d" % at
    steps += 1
    print(steps, flush=True)
assert h.pread(length, offset) == model, "wrong bytes at the end"
h.shutdown()
print("well", flush=True)
`;

class NbdshHost {
  readonly #program: StartedProgram;

  constructor(site: Site, uri: string, offset: number, length: number) {
    const script = ['/usr/bin/python3', '-c', `import nbd\n${NBDSH}`, uri, String(offset), String(length)];
    this.#program = StartedProgram.start(site, script[0], script.slice(1));
  }

  async progress(count: number): Promise<void> {
    const steps = (): number => Number(this.#program.stdout.trimEnd().split('\n').at(-1));
    const goal = steps() + count;
    await this.#program.until(() => steps() >= goal);
  }

  async stop(): Promise<void> {
    this.#program.signal('SIGTERM');
    assert.deepEqual(await this.#program.ended, { code: 0, signal: null }, this.#program.tail);
    assert(this.#program.stdout.endsWith('well\n'));
  }
}

/** nbdkit's nbd plugin in front of a part of the volume. */
async function nbdkitProxy(
  site: Site,
  uri: string,
  offset: number,
  length: number,
  filters: string[] = [],
  settings: string[] = [],
): Promise<string> {
  const port = await freePort();
  const args = ['-f', '-i', '127.0.0.1', '-p', `${port}`, ...filters, '--filter=offset', 'nbd', `uri=${uri}`];
  await untilListening(StartedProgram.start(site, 'nbdkit', [...args, `offset=${offset}`, `range=${length}`, ...settings]), port);
  return `nbd://127.0.0.1:${port}`;
}

/** qemu's NBD client behind its server, in front of a part of the volume. */
async function qemuProxy(site: Site, gateway: GatewayProcess, offset: number, length: number): Promise<string> {
  const port = await freePort();
  const file = `file.driver=nbd,file.host=127.0.0.1,file.port=${gateway.nbdPort},file.export=vol0,file.discard=unmap`;
  const image = `driver=raw,offset=${offset},size=${length},discard=unmap,${file}`;
  const args = ['-x', '', '-b', '127.0.0.1', '-p', `${port}`, '-t', '-e', '4', '--image-opts', image];
  await untilListening(StartedProgram.start(site, 'qemu-nbd', args), port);
  return `nbd://127.0.0.1:${port}`;
}

/** Copies new contents in and out again, slowly: both ways take longer than a flip. */
async function copyInAndOut(site: Site, uri: string, length: number, turn: number): Promise<void> {
  const [into, out] = [site.path(`in-${turn}`), site.path(`out-${turn}`)];
  const bytes = randomFillSync(Buffer.alloc(length));
  bytes.fill(0, length / 4, length / 2);
  await writeFile(into, bytes);
  for (const args of [
    ['--flush', into, uri],
    [uri, out],
  ]) {
    const { status, stderr } = await runPeer('nbdcopy', args, { timeoutMs: 60_000 });
    assert.equal(status, 0, `nbdcopy ${args.join(' ')}: ${stderr}`);
  }
  assert((await readFile(out)).equals(bytes), 'nbdcopy got out what it had put in');
}

async function everyByte(server: UnlikeServer, exportName: string): Promise<Buffer> {
  const client = await NbdClient.connect(server.uri(exportName), { blockStatus: false });
  const bytes = await client.read(0, SIZE);
  client.destroy();
  return bytes;
}

if (!havePeer('nbdsh')) skipped('unlike nodes: libnbd as a host', 'python3-libnbd');
else
  siteTest(
    test,
    ['nbdkit', 'qemu-nbd', 'nbd-server', 'qemu-io', 'fio', 'nbdcopy'],
    'a volume goes round over nbdkit, nbd-server, qemu-nbd and an agent, and no host of any kind notices',
    async (site) => {
      const start = unlikeServers(site, SIZE);
      const servers: UnlikeServer[] = [];
      for (const name of RING) servers.push(await start[name]());
      const gateway = await GatewayProcess.start(site, {
        nodes: servers.map(({ config }, index) => ({ id: `n${index}`, zone: `rack-${index}`, ...config })),
        volumes: [{ name: 'vol0', size: '16MiB', node: 'n0', export: servers[0].export }],
        policies: { default: { flip: { automatic: false, deadline: '2s' }, scrub: { afterMirror: false } } },
      });
      const uri = gateway.uri('vol0');
      const looks = await NbdClient.connect(uri);
      const { flags, block } = looks;
      looks.destroy();
      const model = async (name: string, at: string, place: number, wishes = {}): Promise<ModelHost> => {
        const host = await ModelHost.start({ name, uri: at, offset: place * MIB, length: MIB, random: new Random(5, name), wishes });
        site.onClose(() => host.abandon());
        return host;
      };
      const hosts = [
        await model('simple', uri, PLACE.simple, { structured: false }),
        await model('structured', uri, PLACE.structured),
        await model('extended', uri, PLACE.extended, { extended: true }),
        await model('through nbdkit', await nbdkitProxy(site, uri, PLACE.nbdkit * MIB, MIB), 0),
        await model('through qemu-nbd', await qemuProxy(site, gateway, PLACE.qemuNbd * MIB, MIB), 0),
        QemuIoHost.start(site, uri, { offset: PLACE.qemuIo * MIB, length: MIB, random: new Random(5, 'qemu-io') }),
        new NbdshHost(site, uri, PLACE.nbdsh * MIB, MIB),
      ];
      const slow = await nbdkitProxy(site, uri, PLACE.nbdcopy * MIB, MIB, ['--filter=rate'], ['rate=6M']);
      const fioOptions = [`--offset=${PLACE.fio * MIB}`, '--size=1m', '--bs=4k', '--iodepth=4', '--rate_iops=100', '--rw=randwrite'];
      const epochs: number[] = [];
      for (let turn = 1; turn <= RING.length; turn += 1) {
        const node = `n${turn % RING.length}`;
        const left = `n${turn - 1}`;
        const what = `${RING[turn - 1]} to ${RING[turn % RING.length]}`;
        // A spare that the volume has left is blank again before it is lent a second time.
        await eventually(what, () => gateway.mirror('vol0', node), Boolean);
        await gateway.untilSynced('vol0', node);
        const fio = FioJob.start(site, uri, [...fioOptions, '--verify=crc32c', '--verify_fatal=1', `--randseed=${turn}`]);
        const copying = copyInAndOut(site, slow, MIB, turn);
        copying.catch(() => {});
        await Promise.all(hosts.map((host) => host.progress(3)));
        const { epoch } = await gateway.post<{ epoch: number }>('/v1/volumes/vol0/flip', { node });
        epochs.push(epoch);
        await Promise.all(hosts.map((host) => host.progress(3)));
        const { errors, writes } = await fio.result();
        assert.deepEqual([errors, writes], [0, 256], `fio, ${what}`);
        await copying;
        await gateway.untilSynced('vol0', left);
        const { mismatches, comparedBytes } = await gateway.scrub('vol0');
        assert.deepEqual([mismatches, comparedBytes], [[], SIZE], `the copies are alike, ${what}`);
        if (turn === RING.length) break;
        assert.equal((await gateway.ask('DELETE', `/v1/volumes/vol0/mirrors/${left}`)).status, 200);
      }
      assert.deepEqual(epochs, [1, 2, 3, 4, 5]);
      for (const host of hosts) await host.stop();
      const again = await NbdClient.connect(uri);
      assert.deepEqual([again.flags, again.block, again.sizeBytes], [flags, block, SIZE], 'it looks as it did');
      await again.flush();
      const held = await again.read(0, SIZE);
      again.destroy();
      await gateway.untilSynced('vol0', `n${RING.length - 1}`);
      const { active } = await gateway.volume('vol0');
      assert((await everyByte(servers[0], active.export)).equals(held), `${RING[0]} itself holds it, byte for byte`);
      const metrics = await gateway.get<string>('/metrics');
      const violations = metrics
        .split('\n')
        .filter((line) => line.startsWith('forestall_node_protocol_errors_total') && !line.endsWith(' 0'));
      assert.deepEqual(violations, [], 'no node was thought to break the protocol');
    },
  );

test.run();
