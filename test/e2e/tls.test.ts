// deadline: 300s
// A gateway that wants TLS: volumes that only some may see, read-only ones, certificates and keys that are replaced while hosts
// go on, and a node that is reached over TLS alone.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { connect as connectPlain } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { suite } from 'uvu';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { infoData, optionBytes, parseOptionReplies, hex } from '../support/nbd-bytes.js';
import { runPeer } from '../support/nbd-testbed.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { type Site, siteTest } from '../support/site.js';
import { type CertificateFiles, TestAuthority } from '../support/test-authority.js';

const test = suite('e2e: tls');
const KEY = '00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef';
const [UNKNOWN, SERVER] = [0x80000006, 2];

class Scene {
  readonly site: Site;
  readonly authority: TestAuthority;
  readonly psk: string;
  readonly certificate: string;
  readonly key: string;
  #gateway: GatewayProcess | null = null;

  constructor(site: Site) {
    this.site = site;
    this.authority = new TestAuthority(site.path('ca'));
    this.psk = site.path('keys.psk');
    this.certificate = site.path('server-cert.pem');
    this.key = site.path('server-key.pem');
  }

  get gateway(): GatewayProcess {
    assert(this.#gateway !== null);
    return this.#gateway;
  }

  /** Puts a new certificate in the place of the one in use. */
  async serveAs(commonName: string): Promise<void> {
    const made = this.authority.issue({ commonName, names: ['DNS:localhost', 'IP:127.0.0.1'] });
    await copyFile(made.certificate, this.certificate);
    await copyFile(made.key, this.key);
  }

  async configure(volumes: Record<string, unknown>[], nodes?: Record<string, unknown>[]): Promise<void> {
    const { certificate, key, psk, authority, site } = this;
    const config = {
      nodes: nodes ?? [{ id: 'a', embedded: { dir: site.path('node-a') } }],
      volumes: volumes.map((volume) => ({ size: '1MiB', node: 'a', ...volume })),
      policies: { default: { mirror: { onPrediction: 0 } } },
      nbd: {
        tls: { mode: 'required', certificate, key, psk, clientAuthority: authority.certificate, clientCertificates: 'optional' },
      },
    };
    if (this.#gateway === null) this.#gateway = await GatewayProcess.start(site, config);
    else await this.#gateway.configure(config);
  }

  reload(): Promise<{ status: number; body: { changes?: string[]; message?: string } }> {
    return this.gateway.ask('POST', '/v1/config/reload');
  }

  /** A client in TLS that has said nothing yet. */
  async secure(client?: CertificateFiles): Promise<TLSSocket> {
    const socket = connectPlain(this.gateway.nbdPort, '127.0.0.1');
    socket.write(Buffer.concat([hex('00000003'), optionBytes(5)]));
    await heard(socket, 18 + 20);
    const shown = client === undefined ? {} : { cert: await readFile(client.certificate), key: await readFile(client.key) };
    const tls = connect({ socket, ca: await readFile(this.authority.certificate), servername: 'localhost', ...shown });
    tls.on('error', () => {});
    await once(tls, 'secureConnect');
    return tls;
  }
}

async function heard(socket: NodeJS.ReadableStream, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  while (Buffer.concat(chunks).length < bytes) {
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) chunks.push(chunk);
    else await once(socket, 'readable');
  }
  return Buffer.concat(chunks);
}

/** The answers to one option; `last` says which is the last. */
async function ask(tls: TLSSocket, option: Buffer): Promise<{ type: number; text: string }[]> {
  tls.write(option);
  for (let all = Buffer.alloc(0); ; ) {
    all = Buffer.concat([all, await heard(tls, 1)]);
    try {
      const replies = parseOptionReplies(all);
      const last = replies.at(-1);
      if (last !== undefined && (last.type === 1 || last.type >= 0x80000000))
        return replies.map(({ type, data }) => ({ type, text: type === SERVER ? data.toString('utf8', 4) : data.toString() }));
    } catch {
      // Not all of it is here.
    }
  }
}

siteTest(
  test,
  ['openssl', 'nbdinfo', 'qemu-io'],
  'who may attach what: others learn of no volume, and readers cannot write',
  async (site) => {
    const scene = new Scene(site);
    await scene.serveAs('gateway');
    await writeFile(scene.psk, `backup:${KEY}\n`, { mode: 0o600 });
    const host = scene.authority.issue({ commonName: 'host-1', use: 'client' });
    await scene.configure([
      { name: 'secret', access: [{ certificate: 'host-1' }, { psk: 'backup', readOnly: true }] },
      { name: 'near', access: [{ address: '127.0.0.0/8' }], readOnly: true },
      { name: 'far', access: [{ address: '10.0.0.0/8' }] },
    ]);
    const nobody = await scene.secure();
    const somebody = await scene.secure(host);
    const list = async (tls: TLSSocket) => (await ask(tls, optionBytes(3))).filter(({ type }) => type === SERVER).map(({ text }) => text);
    assert.deepEqual(await list(nobody), ['near']);
    assert.deepEqual(await list(somebody), ['near', 'secret']);
    for (const option of [6, 7]) {
      const [unauthorised, unknown] = [
        await ask(nobody, optionBytes(option, infoData('secret'))),
        await ask(nobody, optionBytes(option, infoData('nonese'))),
      ];
      assert.equal(unknown[0].type, UNKNOWN);
      assert.deepEqual(
        JSON.parse(JSON.stringify(unauthorised).replace('secret', 'nonese')),
        unknown,
        'an unauthorised name is as an unknown one',
      );
    }
    nobody.write(optionBytes(1, Buffer.from('secret')));
    await once(nobody.resume(), 'close');
    assert.deepEqual((await scene.gateway.volume('secret')).clients, []);
    const metrics = String((await scene.gateway.ask('GET', '/metrics')).body);
    assert.match(metrics, /^forestall_nbd_clients_refused_total 3$/m);
    assert.match(metrics, /^forestall_nbd_tls_handshakes_total 2$/m);

    const uri = `nbds://backup@localhost:${scene.gateway.nbdPort}/secret?tls-psk-file=${scene.psk}`;
    assert.match((await runPeer('nbdinfo', [uri])).stdout, /is_read_only: true/);
    const keys = scene.authority.directoryFor('keys', {});
    await copyFile(scene.psk, `${keys}/keys.psk`);
    const image = `driver=nbd,host=localhost,port=${scene.gateway.nbdPort},export=secret,tls-creds=t`;
    const creds = `tls-creds-psk,id=t,endpoint=client,dir=${keys},username=backup`;
    const written = await runPeer('qemu-io', ['--object', creds, '--image-opts', image, '-c', 'write 0 4k']);
    assert.match(written.stderr + written.stdout, /read-only|Permission denied|not permitted/);
  },
);

siteTest(
  test,
  ['openssl'],
  'a reload takes up new certificates and keys, refuses bad ones, and ends only the sessions that lost their leave',
  async (site) => {
    const scene = new Scene(site);
    await scene.serveAs('first');
    await writeFile(scene.psk, `backup:${KEY}\n`, { mode: 0o600 });
    const host = scene.authority.issue({ commonName: 'host-1', use: 'client' });
    const mine = { name: 'mine', access: [{ certificate: 'host-1' }] };
    await scene.configure([mine, { name: 'ours' }]);
    const goDone = 20 + 12 + 20;
    const attach = async (name: string) => {
      const tls = await scene.secure(host);
      tls.write(optionBytes(7, infoData(name)));
      assert.equal((await heard(tls, goDone)).length, goDone);
      return tls;
    };
    const [mineSession, oursSession] = [await attach('mine'), await attach('ours')];
    const presented = async () => {
      const tls = await scene.secure();
      const { CN } = tls.getPeerCertificate().subject;
      tls.destroy();
      return CN;
    };
    assert.equal(await presented(), 'first');

    await scene.serveAs('second');
    assert.equal(await presented(), 'first', 'nothing changes before the reload');
    assert.deepEqual((await scene.reload()).body.changes, ['server: certificates or keys']);
    assert.equal(await presented(), 'second');
    assert.deepEqual((await scene.reload()).body.changes, []);

    const good = await readFile(scene.key);
    for (const [file, bytes, reason] of [
      [scene.key, Buffer.from('nonsense'), /server-key\.pem holds no private key/],
      [scene.key, await readFile(host.key), /server-key\.pem does not belong to the certificate/],
      [scene.psk, Buffer.from('backup\n'), /keys\.psk is wrong in line 1/],
    ] as const) {
      await writeFile(file, bytes);
      const refused = await scene.reload();
      assert(refused.status >= 400, 'refused');
      assert.match(JSON.stringify(refused.body), reason);
      assert.equal(await presented(), 'second', 'a bad file changes nothing');
      await writeFile(scene.key, good);
      await writeFile(scene.psk, `backup:${KEY}\n`);
    }

    // FLUSH: both sessions still stand, for all the reloads.
    const flush = Buffer.concat([hex('25609513 0000 0003 0000000000000007 0000000000000000 00000000')]);
    for (const session of [mineSession, oursSession]) {
      session.write(flush);
      assert.equal((await heard(session, 16)).readUInt32BE(4), 0);
    }
    await scene.configure([{ ...mine, access: [{ certificate: 'host-2' }] }, { name: 'ours' }]);
    const ended = once(mineSession.resume(), 'close');
    assert.deepEqual((await scene.reload()).body.changes, ['volume changed: mine']);
    await ended;
    oursSession.write(flush);
    assert.equal((await heard(oursSession, 16)).readUInt32BE(4), 0, 'the other session goes on');
    const again = await scene.secure(host);
    assert.equal((await ask(again, optionBytes(7, infoData('mine'))))[0].type, UNKNOWN);
    again.destroy();
    oursSession.destroy();
  },
);

siteTest(
  test,
  ['openssl', 'nbdkit', 'nbdinfo'],
  'a volume is served from a node over TLS; with a wrong certificate hosts wait and everyone is told why',
  async (site) => {
    const scene = new Scene(site);
    await scene.serveAs('gateway');
    await writeFile(scene.psk, `host:${KEY}\n`, { mode: 0o600 });
    const other = new TestAuthority(site.path('other'), 'Somebody Else');
    const node = scene.authority.issue({ commonName: 'node', names: ['DNS:node.example'] });
    const server = scene.authority.directoryFor('node', { server: node });
    const ours = scene.authority.issue({ commonName: 'gateway', use: 'client' });
    const nbdkit = await NbdkitNode.start(site, ['--tls=require', `--tls-certificates=${server}`, '--tls-verify-peer', 'memory', '4M']);
    const nodes = (tls: Record<string, unknown>) => [{ id: 'a', nbd: nbdkit.uri.replace('nbd:', 'nbds:'), tls }];
    const good = { authority: scene.authority.certificate, serverName: 'node.example', certificate: ours.certificate, key: ours.key };
    await scene.configure([{ name: 'vol0' }], nodes(good));
    const { gateway } = scene;
    const size = async () => runPeer('nbdinfo', ['--size', `nbds://host@localhost:${gateway.nbdPort}/vol0?tls-psk-file=${scene.psk}`]);
    assert.equal((await size()).stdout.trim(), String(1024 * 1024));
    assert.equal((await gateway.node('a')).state, 'up');

    await scene.configure([{ name: 'vol0' }], nodes({ ...good, authority: other.certificate }));
    assert.equal((await scene.reload()).status, 200);
    await nbdkit.kill();
    await nbdkit.start();
    await eventually(
      'the node is down, and why',
      () => gateway.node('a'),
      ({ state, reason }) => state === 'down' && /certificate is of an authority that is not trusted here/.test(reason ?? ''),
    );
    await scene.configure([{ name: 'vol0' }], nodes(good));
    assert.equal((await scene.reload()).status, 200);
    await eventually(
      'the node is up again',
      () => gateway.node('a'),
      ({ state }) => state === 'up',
    );
  },
);

test.run();
