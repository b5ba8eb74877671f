// deadline: 400s
// Real clients over TLS to our server: each with a certificate and with a pre-shared key, in TLS 1.2 and 1.3, where the
// client can; and what clients say that are refused.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFileSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { type ServerTls, serverTlsOff } from '../../config/tls.js';
import { loadServerCredentials } from '../../gateway/tls/server-credentials.js';
import { MemoryDevice } from '../support/memory-device.js';
import { memoryExport } from '../support/memory-exports.js';
import { NbdTestbed, type Ran, runPeer } from '../support/nbd-testbed.js';
import { type Site, siteTest } from '../support/site.js';
import { type CertificateFiles, TestAuthority } from '../support/test-authority.js';

const test = suite('tls clients interop');
const MIB = 1024 * 1024;
const KEY = '00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef';
const VERSIONS = ['1.2', '1.3'] as const;
type Version = (typeof VERSIONS)[number];

/** How a client proves who it is, in the words of libnbd's URIs and of QEMU's options. */
interface Proof {
  query: string;
  user: string;
  qemu: string;
}

class Scene {
  readonly #site: Site;
  readonly bed: NbdTestbed;
  readonly device: MemoryDevice;
  readonly authority: TestAuthority;
  readonly client: CertificateFiles;
  readonly proofs: Record<'certificate' | 'key' | 'nothing' | 'stranger', Proof>;
  readonly pskFile: string;
  readonly certificates: string;

  private constructor(site: Site, bed: NbdTestbed, device: MemoryDevice, authority: TestAuthority) {
    this.#site = site;
    this.bed = bed;
    this.device = device;
    this.authority = authority;
    this.client = authority.issue({ commonName: 'host-1', use: 'client' });
    this.certificates = authority.directoryFor('client', { client: this.client });
    this.pskFile = site.path('ca', 'keys', 'keys.psk');
    const other = new TestAuthority(site.path('other'), 'Somebody Else');
    const strangers = authority.directoryFor('stranger', { client: other.issue({ commonName: 'host-1', use: 'client' }) });
    // QEMU looks whether it could verify its own certificate.
    appendFileSync(`${strangers}/ca-cert.pem`, readFileSync(other.certificate));
    const byCertificate = (directory: string): Proof => ({
      query: `tls-certificates=${directory}`,
      user: '',
      qemu: `tls-creds-x509,id=t,endpoint=client,dir=${directory}`,
    });
    this.proofs = {
      certificate: byCertificate(this.certificates),
      key: {
        query: `tls-psk-file=${this.pskFile}`,
        user: 'alice@',
        qemu: `tls-creds-psk,id=t,endpoint=client,dir=${site.path('ca', 'keys')},username=alice`,
      },
      nothing: byCertificate(authority.directoryFor('nothing', {})),
      stranger: byCertificate(strangers),
    };
  }

  static async open(site: Site, wishes: Partial<ServerTls> = {}): Promise<Scene> {
    const authority = new TestAuthority(site.path('ca'));
    const server = authority.issue({ commonName: 'localhost', names: ['DNS:localhost', 'IP:127.0.0.1'] });
    const keys = authority.directoryFor('keys', {});
    await writeFile(`${keys}/keys.psk`, `alice:${KEY}\n`, { mode: 0o600 });
    for (const version of VERSIONS) {
      const others = ['1.0', '1.1', '1.2', '1.3'].filter((other) => other !== version);
      await writeFile(
        site.path(`only-${version}`),
        ['[overrides]', ...others.map((other) => `disabled-version = tls${other}`), ''].join('\n'),
      );
    }
    const loaded = await loadServerCredentials(
      {
        ...serverTlsOff,
        mode: 'required',
        certificate: server.certificate,
        key: server.key,
        authority: authority.certificate,
        clientCertificates: 'required',
        psk: `${keys}/keys.psk`,
        ...wishes,
      },
      Date.now(),
    );
    assert(loaded.ok, loaded.ok ? '' : loaded.message);
    const device = new MemoryDevice(8 * MIB, { completion: 'later' });
    const bed = await NbdTestbed.start([memoryExport('disk', device)], { tls: loaded.value.served });
    site.onClose(() => bed.stop());
    return new Scene(site, bed, device, authority);
  }

  path(name: string): string {
    return this.#site.path(name);
  }

  uri({ user, query }: Proof): string {
    return `nbds://${user}localhost:${this.bed.port}/disk?${query}`;
  }

  qemu({ qemu }: Proof): string[] {
    return ['--object', qemu, '--image-opts', `driver=nbd,host=localhost,port=${this.bed.port},export=disk,tls-creds=t`];
  }

  /** With GnuTLS held to one version. */
  run(version: Version | null, program: string, args: string[]): Promise<Ran> {
    if (version === null) return runPeer(program, args, { timeoutMs: 60_000 });
    return runPeer('env', [`GNUTLS_SYSTEM_PRIORITY_FILE=${this.#site.path(`only-${version}`)}`, program, ...args], { timeoutMs: 60_000 });
  }

  async succeed(version: Version, program: string, args: string[]): Promise<string> {
    const before = this.bed.server.counters.secured;
    const { status, stdout, stderr } = await this.run(version, program, args);
    assert.equal(status, 0, `TLS ${version}: ${program} ${args.join(' ')}: ${stderr}${stdout}`);
    assert(this.bed.server.counters.secured > before, 'it was over TLS');
    return stdout + stderr;
  }
}

/** Every combination in which a client works. */
function forEach(
  programs: string[],
  name: string,
  body: (scene: Scene, proof: Proof, version: Version, kind: 'certificate' | 'key') => Promise<void>,
): void {
  siteTest(test, [...programs, 'openssl'], name, async (site) => {
    const scene = await Scene.open(site);
    for (const version of VERSIONS)
      for (const kind of ['certificate', 'key'] as const) await body(scene, scene.proofs[kind], version, kind);
  });
}

forEach(['nbdinfo'], 'nbdinfo sees and lists the export', async (scene, proof, version) => {
  assert.equal((await scene.succeed(version, 'nbdinfo', ['--size', scene.uri(proof)])).trim(), String(8 * MIB));
  assert.match(await scene.succeed(version, 'nbdinfo', ['--list', scene.uri(proof)]), /export="disk"/);
  assert.match(await scene.succeed(version, 'nbdinfo', [scene.uri(proof)]), /^protocol: newstyle-fixed with TLS/);
});

forEach(['nbdinfo'], 'nbdinfo over the Unix socket', async (scene, { user, query }, version) => {
  const socket = 'path' in scene.bed.unix ? scene.bed.unix.path : '';
  const uri = `nbds+unix://${user}/disk?socket=${socket}&${query}`;
  assert.equal((await scene.succeed(version, 'nbdinfo', ['--size', uri])).trim(), String(8 * MIB));
});

forEach(['nbdcopy'], 'nbdcopy copies there and back, over several connections', async (scene, proof, version) => {
  const bytes = randomBytes(8 * MIB);
  const [from, to] = [scene.path('from'), scene.path('to')];
  await writeFile(from, bytes);
  await scene.succeed(version, 'nbdcopy', [from, scene.uri(proof)]);
  assert(scene.device.bytes.equals(bytes));
  await scene.succeed(version, 'nbdcopy', [scene.uri(proof), to]);
  assert((await readFile(to)).equals(bytes));
});

siteTest(test, ['nbdsh', 'openssl'], 'nbdsh speaks TLS by hand, and structured replies after it', async (site) => {
  const scene = await Scene.open(site);
  for (const version of VERSIONS) {
    const script = [
      'h.set_tls(nbd.TLS_REQUIRE)',
      `h.set_tls_psk_file("${scene.pskFile}")`,
      'h.set_tls_username("alice")',
      'h.set_export_name("disk")',
      `h.connect_tcp("localhost", "${scene.bed.port}")`,
      'assert h.get_tls_negotiated()',
      'assert h.get_structured_replies_negotiated()',
      `h.pwrite(b"${version}" * 1024, 4096)`,
      'h.flush()',
      `assert h.pread(3072, 4096) == b"${version}" * 1024`,
      'h.shutdown()',
    ].join('\n');
    await scene.succeed(version, '/usr/bin/python3', ['-c', `import nbd\nh = nbd.NBD()\n${script}`]);
  }
});

forEach(['qemu-io', 'qemu-img'], 'qemu-io and qemu-img write, read and look', async (scene, proof, version) => {
  await scene.succeed(version, 'qemu-io', [...scene.qemu(proof), '-c', 'write -P 7 0 1M', '-c', 'read -P 7 0 1M', '-c', 'flush']);
  assert(scene.device.bytes.subarray(0, MIB).every((byte) => byte === 7));
  assert.match(await scene.succeed(version, 'qemu-img', ['info', ...scene.qemu(proof)]), /virtual size: 8 MiB/);
});

forEach(['qemu-nbd'], 'qemu-nbd lists the exports', async (scene, { qemu }, version) => {
  const args = ['--list', '--object', qemu, '--tls-creds', 't', '-b', 'localhost', '-p', String(scene.bed.port)];
  assert.match(await scene.succeed(version, 'qemu-nbd', args), /export: 'disk'/);
});

forEach(['nbdkit', 'nbdinfo'], "nbdkit's nbd plugin is in between", async (scene, _proof, version, kind) => {
  const credentials =
    kind === 'certificate' ? [`tls-certificates=${scene.certificates}`] : [`tls-psk=${scene.pskFile}`, 'tls-username=alice'];
  const where = ['hostname=localhost', `port=${scene.bed.port}`, 'export=disk', 'tls=require'];
  const run = ['--run', 'nbdinfo --size "$uri"'];
  assert.match(
    await scene.succeed(version, 'nbdkit', ['-U', '-', 'nbd', ...where, ...credentials, ...run]),
    new RegExp(`^${8 * MIB}$`, 'm'),
  );
});

siteTest(
  test,
  ['fio', 'nbdkit', 'openssl'],
  'fio verifies what it wrote, by itself or behind nbdkit with its credentials',
  async (site) => {
    const job = ['--name=check', '--ioengine=nbd', '--rw=randwrite', '--bs=4k', '--iodepth=16', '--size=2M', '--verify=crc32c'];
    // fio lets libnbd take no files from a URI.
    const open = await Scene.open(site, { authority: null, clientCertificates: 'none' });
    for (const version of VERSIONS)
      assert.match(await open.succeed(version, 'fio', [...job, `--uri=nbds://localhost:${open.bed.port}/disk`]), /err= 0/);
    const scene = await Scene.open(site);
    for (const credentials of [`tls-certificates=${scene.certificates}`, `tls-psk=${scene.pskFile}`]) {
      const where = ['hostname=localhost', `port=${scene.bed.port}`, 'export=disk', 'tls=require', 'tls-username=alice', credentials];
      const run = ['--run', `fio ${job.join(' ')} --uri="$uri"`];
      for (const version of VERSIONS) assert.match(await scene.succeed(version, 'nbdkit', ['-U', '-', 'nbd', ...where, ...run]), /err= 0/);
    }
  },
);

siteTest(
  test,
  ['nbd-client', 'openssl'],
  'nbd-client lists the exports with a certificate, in the TLS 1.2 that it speaks',
  async (site) => {
    const scene = await Scene.open(site);
    const { certificate, key } = scene.client;
    const tls = ['-certfile', certificate, '-keyfile', key, '-cacertfile', scene.authority.certificate, '-tlshostname', 'localhost'];
    assert.match(await scene.succeed('1.2', 'nbd-client', ['-l', 'localhost', String(scene.bed.port), ...tls]), /^disk$/m);
  },
);

siteTest(test, ['nbdinfo', 'qemu-img', 'openssl'], 'clients that are refused say why', async (site) => {
  const scene = await Scene.open(site);
  const { nothing, stranger } = scene.proofs;
  const plain = `nbd://localhost:${scene.bed.port}/disk`;
  const said = async (program: string, args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await scene.run(null, program, args);
    assert.notEqual(status, 0, `${program} ${args.join(' ')}`);
    return stdout + stderr;
  };
  assert.match(await said('nbdinfo', ['--size', plain]), /server requires TLS encryption first/);
  assert.match(await said('qemu-img', ['info', plain]), /this server wants TLS first/);
  assert.match(await said('nbdinfo', ['--size', scene.uri(nothing)]), /server policy prevents/);
  assert.match(await said('qemu-img', ['info', ...scene.qemu(nothing)]), /you get nothing on this server: no certificate of an authority/);
  assert.match(await said('qemu-img', ['info', ...scene.qemu(stranger)]), /no certificate of an authority that is trusted here/);
  await writeFile(site.path('ca', 'keys', 'keys.psk'), `alice:${KEY.replace('0', '1')}\nbob:${KEY}\n`);
  assert.match(await said('nbdinfo', ['--size', scene.uri(scene.proofs.key)]), /fatal alert|handshake/);
  assert.match(await said('qemu-img', ['info', ...scene.qemu(scene.proofs.key)]), /TLS handshake failed/);
});

siteTest(test, ['nbdinfo', 'openssl'], 'where TLS is off, a client that wants it says that it was refused', async (site) => {
  const off = await Scene.open(site, { mode: 'off' });
  const { stderr, status } = await off.run(null, 'nbdinfo', ['--size', off.uri(off.proofs.certificate)]);
  assert.notEqual(status, 0);
  assert.match(stderr, /server refused TLS/);
});

test.run();
