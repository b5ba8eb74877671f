// Storage nodes over TLS: nbdkit and qemu-nbd with certificates, client certificates and pre-shared keys, in TLS 1.2 and 1.3.
// A node that is not who it has to be, or that does not take us, is a reason in words and never served in plain.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { type ClientTls, plainestTls } from '../../config/tls.js';
import { SystemClock } from '../../gateway/clock.js';
import { probeExport } from '../../gateway/fleet/probe.js';
import { NetDialer } from '../../gateway/net-wire.js';
import { loadClientCredentials } from '../../gateway/tls/client-credentials.js';
import { ClientSecurity } from '../../gateway/tls/client-security.js';
import { blankImage } from '../support/blank-image.js';
import { untilListening } from '../support/listening.js';
import { freePort } from '../support/peers.js';
import { type Site, siteTest } from '../support/site.js';
import { StartedProgram } from '../support/started-program.js';
import { TestAuthority } from '../support/test-authority.js';

const test = suite('tls nodes interop');
const MIB = 1024 * 1024;
const KEY = 'f0e1d2c3b4a5968778695a4b3c2d1e0f';

interface Means {
  authority: TestAuthority;
  stranger: TestAuthority;
  /** What a server needs, in a directory as nbdkit and QEMU want it. */
  server: string;
  /** What we need. */
  client: string;
  /** A directory with `keys.psk`. */
  keys: string;
}

async function makeMeans(site: Site): Promise<Means> {
  const authority = new TestAuthority(site.path('ca'));
  const stranger = new TestAuthority(site.path('other'), 'Somebody Else');
  const server = authority.issue({ commonName: 'node', names: ['DNS:node.example', 'IP:127.0.0.1'] });
  const client = authority.issue({ commonName: 'gateway', use: 'client' });
  const means = {
    authority,
    stranger,
    server: authority.directoryFor('server', { server }),
    client: authority.directoryFor('client', { client }),
    keys: authority.directoryFor('keys', {}),
  };
  await writeFile(`${means.keys}/keys.psk`, `gateway:${KEY}\n`, { mode: 0o600 });
  return means;
}

/** A server that lets GnuTLS speak but one version. */
async function startServer(site: Site, program: string, args: string[], version: string, port: number): Promise<void> {
  const file = site.path(`gnutls-${version}-only`);
  const others = ['1.0', '1.1', '1.2', '1.3'].filter((other) => other !== version);
  await writeFile(file, ['[overrides]', ...others.map((other) => `disabled-version = tls${other}`), ''].join('\n'));
  await untilListening(StartedProgram.start(site, 'env', [`GNUTLS_SYSTEM_PRIORITY_FILE=${file}`, program, ...args]), port);
}

type Mode = 'certificates' | 'client certificates' | 'keys';

const SERVERS: Record<string, (site: Site, means: Means, mode: Mode, version: string) => Promise<number>> = {
  async nbdkit(site, { server, keys }, mode, version) {
    const port = await freePort();
    const tls = {
      certificates: [`--tls-certificates=${server}`],
      'client certificates': [`--tls-certificates=${server}`, '--tls-verify-peer'],
      keys: [`--tls-psk=${keys}/keys.psk`],
    }[mode];
    const args = ['-f', '--exit-with-parent', '-i', '127.0.0.1', '-p', `${port}`, '--tls=require', ...tls, 'memory', '1M'];
    await startServer(site, 'nbdkit', args, version, port);
    return port;
  },
  async 'qemu-nbd'(site, { server, keys }, mode, version) {
    const port = await freePort();
    const image = site.path(`${port}.img`);
    await blankImage(image, MIB);
    const verify = mode === 'client certificates' ? 'yes' : 'no';
    const creds =
      mode === 'keys'
        ? `tls-creds-psk,id=t,endpoint=server,dir=${keys}`
        : `tls-creds-x509,id=t,endpoint=server,dir=${server},verify-peer=${verify}`;
    const args = ['--object', creds, '--tls-creds', 't', '-f', 'raw', '-x', '', '-b', '127.0.0.1', '-p', `${port}`, '-t', image];
    await startServer(site, 'qemu-nbd', args, version, port);
    return port;
  },
};

/** What comes of asking for the default export: its size, or the reason why not. */
async function ask(port: number, wishes: Partial<ClientTls> | null): Promise<number | string> {
  const host = '127.0.0.1';
  let security: ClientSecurity | undefined;
  if (wishes !== null) {
    const loaded = await loadClientCredentials({ ...plainestTls, ...wishes }, host);
    assert(loaded.ok, loaded.ok ? '' : loaded.message);
    security = new ClientSecurity(loaded.value);
  }
  const found = await probeExport(new NetDialer(), new SystemClock(), { host, port, security }, '');
  return found.ok ? found.value.sizeBytes : found.message;
}

for (const [name, start] of Object.entries(SERVERS)) {
  for (const version of ['1.2', '1.3']) {
    siteTest(test, [name, 'openssl'], `${name} with TLS ${version} is reached in every mode`, async (site) => {
      const means = await makeMeans(site);
      const open = await start(site, means, 'certificates', version);
      assert.equal(await ask(open, { authority: means.authority.certificate }), MIB);
      assert.equal(await ask(open, { authority: means.authority.certificate, serverName: 'node.example' }), MIB);
      assert.equal(await ask(open, { verifyPeer: false }), MIB);
      const closed = await start(site, means, 'client certificates', version);
      assert.equal(await ask(closed, { directory: means.client }), MIB);
      const keyed = await start(site, means, 'keys', version);
      assert.equal(await ask(keyed, { psk: `${means.keys}/keys.psk` }), MIB);
    });

    siteTest(test, [name, 'openssl'], `${name} with TLS ${version}: what does not fit is a reason in words`, async (site) => {
      const means = await makeMeans(site);
      const { authority, stranger, client } = means;
      const open = await start(site, means, 'certificates', version);
      const reasons: [string, string | number, RegExp][] = [
        ['no TLS', await ask(open, null), /requires TLS/],
        [
          'another authority',
          await ask(open, { authority: stranger.certificate }),
          /^TLS: its certificate is of an authority that is not trusted here/,
        ],
        [
          'another name',
          await ask(open, { authority: authority.certificate, serverName: 'other' }),
          /^TLS: Hostname\/IP does not match certificate's altnames/,
        ],
        [
          'keys before certificates',
          await ask(open, { psk: `${means.keys}/keys.psk` }),
          version === '1.3' ? /shows a certificate instead/ : /may not take our/,
        ],
      ];
      const closed = await start(site, means, 'client certificates', version);
      const foreign = stranger.issue({ commonName: 'gateway', use: 'client' });
      reasons.push(
        ['no certificate of ours', await ask(closed, { authority: authority.certificate }), /may not take our certificate/],
        [
          'a certificate of ours by another',
          await ask(closed, { authority: authority.certificate, ...foreign }),
          /may not take our certificate/,
        ],
      );
      const keyed = await start(site, means, 'keys', version);
      await writeFile(site.path('wrong.psk'), `gateway:${KEY.replace('f', 'e')}\nnobody:${KEY}\n`);
      reasons.push(
        [
          'another key',
          await ask(keyed, { psk: site.path('wrong.psk'), identity: 'gateway' }),
          /^TLS: .* may not take our certificate or key/,
        ],
        [
          'another identity',
          await ask(keyed, { psk: site.path('wrong.psk'), identity: 'nobody' }),
          /^TLS: .* may not take our certificate or key/,
        ],
        ['certificates before keys', await ask(keyed, { directory: client }), /^TLS: /],
      );
      for (const [what, said, reason] of reasons) {
        assert.match(String(said), reason, what);
      }
    });
  }
}

siteTest(test, ['nbdkit', 'openssl'], 'a node without TLS is not gone on with in plain', async (site) => {
  const means = await makeMeans(site);
  const port = await freePort();
  await untilListening(
    StartedProgram.start(site, 'nbdkit', ['-f', '--exit-with-parent', '-i', '127.0.0.1', '-p', `${port}`, 'memory', '1M']),
    port,
  );
  assert.match(String(await ask(port, { directory: means.client })), /does not speak TLS, and without it nothing is said/);
});

test.run();
