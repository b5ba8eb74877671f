// What a client needs for TLS, from files: each that is missing, unreadable or wrong is named with what would be right,
// and what is good makes connections that verify the server.
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer, type TlsOptions, type TLSSocket } from 'node:tls';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type ClientTls, plainestTls } from '../../config/tls.js';
import { loadClientCredentials } from '../../gateway/tls/client-credentials.js';
import { parsePskFile } from '../../gateway/tls/psk-file.js';
import { havePeer, skipped } from '../support/peers.js';
import { TestAuthority } from '../support/test-authority.js';

const KEY = '00112233445566778899aabbccddeeff';
const credentials = suite('tls credentials');

credentials('a PSK file gives its keys by identity', () => {
  const parsed = parsePskFile(`alice:${KEY}\r\n\n#626f62:${KEY.toUpperCase()}\n`, 'f');
  assert.ok(parsed.ok);
  assert.equal([...parsed.value.keys()], ['alice', 'bob']);
  assert.is(parsed.value.get('bob')?.toString('hex'), KEY);
});

credentials('what is wrong in a PSK file is said with its line', () => {
  const wrong: [string, RegExp][] = [
    ['', /holds no key: make one with psktool/],
    ['alice', /line 1: write identity:key/],
    [`alice:${KEY}\n:${KEY}`, /line 2: an identity has 1 to 255 bytes/],
    [`#zz:${KEY}`, /line 1: an identity/],
    [`#ff:${KEY}`, /line 1: an identity/],
    [`a\0b:${KEY}`, /line 1: an identity/],
    [`a\ufffd:${KEY}`, /line 1: an identity/],
    [`${'x'.repeat(256)}:${KEY}`, /line 1: an identity/],
    ['alice:secret', /no hexadecimal key/],
    [`a:b:${KEY}`, /no hexadecimal key/],
    ['alice:001', /no hexadecimal key/],
    ['alice:0011', /16 to 256 bytes, this one 2/],
    [`alice:${'00'.repeat(257)}`, /16 to 256 bytes, this one 257/],
    [`alice:${KEY}\nalice:${KEY}`, /line 2: "alice" is there already/],
  ];
  for (const [text, problem] of wrong) {
    const parsed = parsePskFile(text, 'keys.psk');
    assert.not(parsed.ok, text);
    if (!parsed.ok) assert.match(parsed.message, problem);
  }
});

function certificateTests(): void {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-tls-'));
  const authority = new TestAuthority(join(directory, 'ca'));
  const stranger = new TestAuthority(join(directory, 'other'), 'Somebody Else');
  const server = authority.issue({ commonName: 'node', names: ['DNS:node.example', 'IP:127.0.0.1'] });
  const client = authority.issue({ commonName: 'gateway', use: 'client' });
  const good = authority.directoryFor('client', { client });
  const psk = join(directory, 'keys.psk');
  writeFileSync(psk, `alice:${KEY}\nbob:${KEY}\n`);

  credentials.after(() => rmSync(directory, { recursive: true }));

  const refusals: [string, Partial<ClientTls>, RegExp][] = [
    ['a directory that is not there', { directory: join(directory, 'none') }, /certificate authority .*ca-cert\.pem does not exist/],
    ['a key that is not there', { certificate: client.certificate, key: '/nowhere' }, /client key \/nowhere does not exist/],
    ['a certificate without its key', { certificate: client.certificate }, /belong together/],
    ['the key of another', { certificate: client.certificate, key: server.key }, /client key .* does not belong to the certificate/],
    ['a certificate in the place of a key', { certificate: client.certificate, key: client.certificate }, /holds no private key/],
    ['a key in the place of a certificate', { certificate: client.key, key: client.key }, /holds no certificate/],
    ['a key in the place of an authority', { authority: client.key }, /certificate authority .* holds no certificate/],
    ['a directory in the place of a file', { authority: directory }, /is a directory/],
    ['two identities and none named', { psk }, /2 identities: say which/],
    ['an identity that is not in the file', { psk, identity: 'Alice' }, /has no identity "Alice"/],
  ];
  credentials('files that cannot be used are named, with the reason', async () => {
    for (const [what, wishes, reason] of refusals) {
      const loaded = await loadClientCredentials({ ...plainestTls, ...wishes }, 'h');
      assert.not(loaded.ok, what);
      if (!loaded.ok) assert.match(loaded.message, reason, what);
    }
    const broken = join(directory, 'broken.pem');
    writeFileSync(broken, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    const unreadable = await loadClientCredentials({ ...plainestTls, authority: broken }, 'h');
    assert.match(unreadable.ok ? '' : unreadable.message, /holds a certificate that cannot be read/);
    if (process.getuid?.() === 0) return;
    chmodSync(broken, 0);
    const forbidden = await loadClientCredentials({ ...plainestTls, authority: broken }, 'h');
    assert.match(forbidden.ok ? '' : forbidden.message, /may not be read by this user/);
  });

  /** What comes of a connection to a server with these options: `good` with the protocol and what the server knows of us, or the reason. */
  async function attempt(wishes: Partial<ClientTls>, options: TlsOptions, host: string | null = '127.0.0.1'): Promise<string> {
    const listening = createServer(options, (socket) => {
      socket.on('error', () => {});
      socket.end(`${socket.getProtocol()} ${socket.getPeerCertificate().subject?.CN ?? 'nobody'}`);
    }).listen(0, '127.0.0.1');
    listening.on('tlsClientError', () => {});
    await once(listening, 'listening');
    const loaded = await loadClientCredentials({ ...plainestTls, ...wishes }, host);
    assert.ok(loaded.ok, loaded.ok ? '' : loaded.message);
    const { port } = listening.address() as AddressInfo;
    const socket: TLSSocket = connect({ port, host: '127.0.0.1', ...loaded.value });
    try {
      let said = '';
      socket.on('data', (chunk) => {
        said += chunk;
      });
      await once(socket, 'close');
      return said;
    } catch (error) {
      return (error as Error).message;
    } finally {
      socket.destroy();
      listening.close();
    }
  }

  const serving: TlsOptions = {
    cert: readFileSync(server.certificate),
    key: readFileSync(server.key),
    ca: readFileSync(authority.certificate),
    requestCert: true,
    rejectUnauthorized: false,
  };

  credentials('the server is known by the name and the issuer of its certificate', async () => {
    assert.is(await attempt({ directory: good }, serving), 'TLSv1.3 gateway');
    assert.is(await attempt({ directory: good }, { ...serving, maxVersion: 'TLSv1.2' }), 'TLSv1.2 gateway');
    assert.is(await attempt({ authority: authority.certificate, serverName: 'node.example' }, serving), 'TLSv1.3 nobody');
    assert.match(await attempt({ directory: good, serverName: 'other.example' }, serving), /does not match certificate's altnames/);
    assert.match(await attempt({ directory: good }, serving, null), /Host: localhost\. is not in the cert's altnames/);
    assert.match(await attempt({ authority: stranger.certificate }, serving), /unable to verify the first certificate|self-signed/);
    assert.match(await attempt({}, serving), /unable to|self-signed/);
    assert.is(await attempt({ verifyPeer: false }, serving), 'TLSv1.3 nobody');
    const old = authority.issue({ commonName: 'node', names: ['IP:127.0.0.1'], days: -1 });
    const outdated = { ...serving, cert: readFileSync(old.certificate), key: readFileSync(old.key) };
    assert.match(await attempt({ directory: good }, outdated), /expired/);
  });

  credentials('with a pre-shared key the server is known by the key alone', async () => {
    const key = Buffer.from(KEY, 'hex');
    const knows = {
      pskCallback: (_: TLSSocket, identity: string) => (identity === 'alice' ? key : null),
      ciphers: 'PSK:TLS_AES_128_GCM_SHA256',
    };
    assert.is(await attempt({ psk, identity: 'alice' }, knows), 'TLSv1.3 nobody');
    assert.is(await attempt({ psk, identity: 'alice' }, { ...knows, maxVersion: 'TLSv1.2' }), 'TLSv1.2 nobody');
    assert.match(await attempt({ psk, identity: 'bob' }, { ...knows, maxVersion: 'TLSv1.2' }), /unknown psk|alert/i);
    // A server with a certificate of an authority that everyone knows, but without the key, is not the one meant.
    assert.not.match(await attempt({ psk, identity: 'alice' }, serving), /TLSv1/);
    assert.not.match(await attempt({ psk, identity: 'alice' }, { ...serving, maxVersion: 'TLSv1.2' }), /TLSv1/);
  });
}

if (havePeer('openssl')) certificateTests();
else skipped('tls credentials: certificates', 'openssl');

credentials.run();
