// The server over TLS on real sockets: who a client is taken for, and what becomes of clients that mean harm. Certificates are
// made at run time; the TLS of the clients here is node:tls, that of GnuTLS is in test/interop.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectPlain, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { suite } from 'uvu';
import { type ServerTls, serverTlsOff } from '../../config/tls.js';
import type { Client } from '../../gateway/nbd/export.js';
import { certificateNames } from '../../gateway/tls/certificate-names.js';
import { loadServerCredentials } from '../../gateway/tls/server-credentials.js';
import { eventually } from '../support/eventually.js';
import { MemoryDevice } from '../support/memory-device.js';
import { MemoryExports, memoryExport } from '../support/memory-exports.js';
import { hex, infoData, optionBytes, parseOptionReplies, requestBytes } from '../support/nbd-bytes.js';
import { NbdTestbed } from '../support/nbd-testbed.js';
import { havePeer, skipped } from '../support/peers.js';
import { TestAuthority } from '../support/test-authority.js';

const test = suite('tls server');
const FLAGS = hex('00000003');
const STARTTLS = optionBytes(5);
const INFO_DISK = optionBytes(6, infoData('disk'));
const GO_DISK = optionBytes(7, infoData('disk'));
const POLICY = 0x80000002;
const KEY = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const MIB = 1024 * 1024;

test('names in a certificate are taken as the authority signed them, and nothing that is ambiguous', () => {
  const expected: [{ subject?: object; subjectaltname?: string }, string[]][] = [
    [{ subject: { CN: 'host' } }, ['host']],
    [
      { subject: { CN: 'host' }, subjectaltname: 'DNS:a.example, IP Address:10.0.0.1, email:a@b, URI:spiffe://x/y' },
      ['a.example', '10.0.0.1', 'a@b', 'spiffe://x/y', 'host'],
    ],
    [{ subject: { CN: ['one', 'two'] } }, []],
    [{ subject: { O: 'host' } }, []],
    [{ subject: { CN: '' } }, []],
    [{ subject: { CN: 'host\0.evil' } }, ['host\0.evil']],
    [{ subjectaltname: 'DNS:"evil.example, DNS:host"' }, ['evil.example, DNS:host']],
    [{ subjectaltname: 'DNS:"a\\u0000b", othername:<unsupported>, DNS:c' }, ['a\0b', 'c']],
    [{ subjectaltname: 'DNS:*.example' }, ['*.example']],
    [{ subjectaltname: 'DirName:"CN=host", DNS:x' }, ['x']],
    [{ subjectaltname: 'nonsense' }, []],
    [{ subjectaltname: 'DNS:a,DNS:b' }, []],
    [{}, []],
  ];
  for (const [certificate, names] of expected)
    assert.deepEqual(certificateNames(certificate as Parameters<typeof certificateNames>[0]), names, JSON.stringify(certificate));
});

/** Exports that remember who asked. */
class CuriousExports extends MemoryExports {
  readonly seen: Client[] = [];

  override find(name: string, client?: Client): ReturnType<MemoryExports['find']> {
    if (client !== undefined) this.seen.push(client);
    return super.find(name);
  }
}

function withCertificates(): void {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-tls-'));
  const authority = new TestAuthority(join(directory, 'ca'));
  const stranger = new TestAuthority(join(directory, 'other'), 'Somebody Else');
  const server = authority.issue({ commonName: 'gateway', names: ['IP:127.0.0.1', 'DNS:localhost'] });
  const psk = join(directory, 'keys.psk');
  writeFileSync(psk, `alice:${KEY.toString('hex')}\nmallory:${KEY.toString('hex').replace('0', '1')}\n`);
  test.after(() => rmSync(directory, { recursive: true }));

  const required: ServerTls = { ...serverTlsOff, mode: 'required', certificate: server.certificate, key: server.key };
  const mutual: ServerTls = { ...required, authority: authority.certificate, clientCertificates: 'required' };
  const trusting: ConnectionOptions = { ca: readFileSync(authority.certificate), servername: 'localhost' };

  function showing(files: { certificate: string; key: string }): ConnectionOptions {
    return { ...trusting, cert: readFileSync(files.certificate), key: readFileSync(files.key) };
  }

  interface Stage {
    bed: NbdTestbed;
    exports: CuriousExports;
    device: MemoryDevice;
  }

  async function onStage(tls: ServerTls, body: (stage: Stage) => Promise<void>, options: { handshakeMs?: number } = {}): Promise<void> {
    const loaded = await loadServerCredentials(tls, Date.now());
    assert(loaded.ok, loaded.ok ? '' : loaded.message);
    const device = new MemoryDevice(40 * MIB, { completion: 'later' });
    const exports = new CuriousExports(memoryExport('disk', device));
    const bed = await NbdTestbed.start([], { exports, tls: loaded.value.served, ...options });
    try {
      await body({ bed, exports, device });
    } finally {
      await bed.stop();
    }
    assert.equal(bed.server.connections, 0);
  }

  /** A client that has its ACK to STARTTLS. */
  async function starttls({ bed }: Stage): Promise<Socket> {
    const socket = connectPlain(bed.port, '127.0.0.1');
    socket.on('error', () => {});
    let heard = Buffer.alloc(0);
    const acknowledged = new Promise<void>((resolve) => {
      socket.on('data', (chunk: Buffer) => {
        heard = Buffer.concat([heard, chunk]);
        if (heard.length >= 18 + 20) resolve();
      });
    });
    socket.write(Buffer.concat([FLAGS, STARTTLS]));
    await acknowledged;
    assert.equal(heard.length, 38, 'nothing but greeting and ACK is said in plain');
    socket.removeAllListeners('data');
    return socket;
  }

  function closed(socket: Socket): Promise<void> {
    return new Promise((resolve) => socket.resume().once('close', () => resolve()));
  }

  /** One in TLS. */
  async function secure(stage: Stage, options: ConnectionOptions): Promise<TLSSocket> {
    const tls = connect({ ...options, socket: await starttls(stage) });
    await once(tls, 'secureConnect');
    tls.on('error', () => {});
    return tls;
  }

  async function until(socket: Socket, bytes: number): Promise<Buffer> {
    const heard: Buffer[] = [];
    let heardBytes = 0;
    for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      heard.push(chunk);
      heardBytes += chunk.length;
      if (heardBytes >= bytes) break;
    }
    return Buffer.concat(heard);
  }

  /** What the server answers to INFO: types of the replies. */
  async function info(tls: TLSSocket): Promise<number[]> {
    tls.write(INFO_DISK);
    const heard = await until(tls, 20);
    tls.destroy();
    return parseOptionReplies(heard).map(({ type }) => type);
  }

  test('a client is known by its certificate: the names in it, and only if the authority vouches for it', () =>
    onStage(mutual, async (stage) => {
      const { exports, bed } = stage;
      const client = authority.issue({ commonName: 'host-1', names: ['DNS:host-1.example'], use: 'client' });
      assert.deepEqual(await info(await secure(stage, showing(client))), [3, 1]);
      assert.deepEqual(exports.seen.at(-1)?.tls?.names, ['host-1.example', 'host-1']);
      assert.equal(exports.seen.at(-1)?.tls?.flaw, null);
      assert.deepEqual(await info(await secure(stage, { ...showing(client), maxVersion: 'TLSv1.2' })), [3, 1]);
      assert.equal(exports.seen.at(-1)?.tls?.protocol, 'TLSv1.2');
      exports.seen.length = 0;
      const wrong: [string, ConnectionOptions][] = [
        ['none', trusting],
        ["a stranger's", showing(stranger.issue({ commonName: 'host-1', use: 'client' }))],
        ['one that has expired', showing(authority.issue({ commonName: 'host-1', use: 'client', days: -1 }))],
        ["a server's", showing(authority.issue({ commonName: 'host-1', use: 'server' }))],
      ];
      for (const [what, options] of wrong)
        for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const)
          assert.deepEqual(await info(await secure(stage, { ...options, maxVersion })), [POLICY], `${what} in ${maxVersion}`);
      assert.deepEqual(exports.seen, [], 'no export was looked at for them');
      assert.equal(bed.server.counters.refused, 2 * wrong.length);
    }));

  test('a name with a comma, a wildcard or an address in a certificate stays one name', () =>
    onStage(mutual, async (stage) => {
      const names = ['DNS:evil.example, DNS:host-1', 'DNS:*.example', 'IP:10.0.0.1', 'URI:spiffe://a/b,DNS:host-1', 'email:host-1@b'];
      const tricky = authority.issue({ commonName: 'evil, CN=host-1', names, use: 'client' });
      assert.deepEqual(await info(await secure(stage, showing(tricky))), [3, 1]);
      const seen = stage.exports.seen.at(-1)?.tls?.names;
      const expected = ['evil.example, DNS:host-1', '*.example', '10.0.0.1', 'spiffe://a/b,DNS:host-1', 'host-1@b', 'evil, CN=host-1'];
      assert.deepEqual(seen, expected);
    }));

  test('optional client certificates: none is nobody, a bad one is refused', () =>
    onStage({ ...mutual, clientCertificates: 'optional' }, async (stage) => {
      assert.deepEqual(await info(await secure(stage, trusting)), [3, 1]);
      assert.equal(stage.exports.seen.at(-1)?.tls?.names, null);
      assert.deepEqual(await info(await secure(stage, showing(stranger.issue({ commonName: 'x', use: 'client' })))), [POLICY]);
    }));

  const keyed = (identity: string, key: Buffer): ConnectionOptions => ({
    ...trusting,
    pskCallback: () => ({ psk: key, identity }),
    ciphers: 'PSK:TLS_AES_128_GCM_SHA256',
    checkServerIdentity: () => undefined,
  });

  test('a client is known by its pre-shared key, beside certificates', () =>
    onStage({ ...mutual, psk }, async (stage) => {
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        assert.deepEqual(await info(await secure(stage, { ...keyed('alice', KEY), maxVersion })), [3, 1], maxVersion);
        assert.equal(stage.exports.seen.at(-1)?.tls?.identity, 'alice');
        for (const key of [Buffer.alloc(16), KEY.subarray(1)])
          await assert.rejects(() => secure(stage, { ...keyed('alice', key), maxVersion }), `another key in ${maxVersion}`);
        for (const identity of ['Alice', 'bob', 'alice ', 'x'.repeat(100)]) {
          const unknown = { ...keyed(identity, KEY), maxVersion };
          // In TLS 1.3 the handshake goes on with our certificate, and the client is nobody.
          if (maxVersion === 'TLSv1.2') await assert.rejects(() => secure(stage, unknown), identity);
          else assert.deepEqual(await info(await secure(stage, unknown)), [POLICY], identity);
        }
      }
    }));

  test('to name an identity without proving its key is nothing', () =>
    onStage({ ...required, psk }, async (stage) => {
      // A suite whose hash does not fit the key makes OpenSSL go on with the certificate.
      const naming = { ...keyed('alice', Buffer.alloc(16)), ciphers: 'TLS_AES_256_GCM_SHA384', minVersion: 'TLSv1.3' as const };
      assert.deepEqual(await info(await secure(stage, naming)), [3, 1]);
      assert.equal(stage.exports.seen.at(-1)?.tls?.identity, null);
    }));

  test('no session is resumed', () =>
    onStage({ ...mutual, psk }, async (stage) => {
      const client = showing(authority.issue({ commonName: 'host-1', use: 'client' }));
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        const sessions: Buffer[] = [];
        const first = await secure(stage, { ...client, maxVersion });
        first.on('session', (session: Buffer) => sessions.push(session));
        first.write(INFO_DISK);
        await until(first, 20);
        sessions.push(first.getSession()!);
        first.destroy();
        for (const session of sessions) {
          const again = await secure(stage, { ...client, maxVersion, session });
          assert.equal(again.isSessionReused(), false, maxVersion);
          again.destroy();
        }
      }
    }));

  test('the least version holds', () =>
    onStage({ ...required, minimum: '1.3' }, async (stage) => {
      await assert.rejects(() => secure(stage, { ...trusting, maxVersion: 'TLSv1.2' }));
      await assert.rejects(() => secure(stage, { ...trusting, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }));
      (await secure(stage, trusting)).destroy();
    }));

  test('plaintext after the ACK is garbage to TLS: the connection ends and no export is touched', () =>
    onStage(required, async (stage) => {
      for (const garbage of [
        GO_DISK,
        Buffer.alloc(100_000, 0x16),
        Buffer.from('GET / HTTP/1.0\r\n\r\n'),
        requestBytes({ command: 1, length: 4096 }),
      ]) {
        const socket = await starttls(stage);
        socket.write(garbage);
        await closed(socket);
      }
      assert.deepEqual(stage.exports.log, []);
      assert.deepEqual(stage.exports.seen, []);
    }));

  test('plaintext behind STARTTLS in one piece gets no answer at all (CVE-2021-3716)', () =>
    onStage({ ...required, mode: 'optional' }, async (stage) => {
      const socket = connectPlain(stage.bed.port, '127.0.0.1');
      socket.write(Buffer.concat([FLAGS, STARTTLS, GO_DISK]));
      assert.equal((await until(socket, 1000)).length, 18, 'the greeting alone');
      assert.deepEqual(stage.exports.log, []);
    }));

  test('a client that stalls in the TLS handshake is gone at the deadline, and a hundred of them do not keep out an honest one', () =>
    onStage(
      required,
      async (stage) => {
        const stalled = await Promise.all(Array.from({ length: 100 }, () => starttls(stage)));
        // Half a ClientHello for every other one: the handshake has begun.
        for (const [at, socket] of stalled.entries()) if (at % 2 === 0) socket.write(hex('1603010200 010001fc0303'));
        const gone = stalled.map(closed);
        assert.deepEqual(await info(await secure(stage, trusting)), [3, 1]);
        await Promise.all(gone);
        await eventually(
          'all are forgotten',
          async () => stage.bed.server.connections,
          (connections) => connections === 0,
        );
      },
      { handshakeMs: 2000 },
    ));

  test('a client that ends its side in the middle of the TLS handshake is gone at once', () =>
    onStage(
      required,
      async (stage) => {
        const socket = await starttls(stage);
        socket.end(hex('1603010200 010001fc0303'));
        await closed(socket);
      },
      { handshakeMs: 60_000 },
    ));

  test('nobody negotiates anew', () =>
    onStage(mutual, async (stage) => {
      const client = showing(authority.issue({ commonName: 'host-1', use: 'client' }));
      const tls = await secure(stage, { ...client, maxVersion: 'TLSv1.2' });
      const answer = new Promise<string>((resolve) => {
        tls.once('close', () => resolve('closed'));
        tls.renegotiate({ rejectUnauthorized: false }, (error) => resolve(error === null ? 'renegotiated' : 'refused'));
      });
      tls.resume();
      assert.notEqual(await answer, 'renegotiated');
      tls.destroy();
    }));

  /** One that has attached. */
  async function attach(stage: Stage): Promise<TLSSocket> {
    const tls = await secure(stage, trusting);
    tls.write(GO_DISK);
    assert.equal((await until(tls, 52)).length, 52);
    return tls;
  }

  test('garbage in the middle of a session ends it at once, and its export is let go', () =>
    onStage(required, async (stage) => {
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        const plain = await starttls(stage);
        const tls = connect({ ...trusting, maxVersion, socket: plain });
        tls.on('error', () => {});
        await once(tls, 'secureConnect');
        tls.write(GO_DISK);
        await until(tls, 52);
        assert.equal(stage.bed.server.clients().length, 1);
        plain.write(Buffer.alloc(100, 0x17));
        await eventually(
          `the session is over in ${maxVersion}`,
          async () => stage.bed.server.clients().length,
          (sessions) => sessions === 0,
          10_000,
        );
        tls.destroy();
      }
      assert.equal(stage.exports.log.filter((line) => line.startsWith('detach')).length, 2);
    }));

  test('large and small replies come whole and in order, and DISC ends with close_notify', () =>
    onStage(required, async (stage) => {
      for (let at = 0; at < stage.device.bytes.length; at += 4096) stage.device.bytes.writeUInt32BE(at, at);
      const tls = await attach(stage);
      const lengths = [32 * MIB, 512, 4096, 3 * MIB, 16_384, 1, 65_536];
      for (const [at, length] of lengths.entries()) tls.write(requestBytes({ command: 0, cookie: BigInt(at), length }));
      tls.write(requestBytes({ command: 2 }));
      const heard = await until(tls, Number.POSITIVE_INFINITY);
      assert.equal(
        heard.length,
        lengths.reduce((sum, length) => sum + 16 + length, 0),
      );
      let at = 0;
      for (const [cookie, length] of lengths.entries()) {
        assert.equal(heard.readUInt32BE(at), 0x67446698);
        assert.equal(heard.readBigUInt64BE(at + 8), BigInt(cookie));
        assert(heard.subarray(at + 16, at + 16 + length).equals(stage.device.bytes.subarray(0, length)), `reply ${cookie}`);
        at += 16 + length;
      }
      assert(tls.readableEnded, 'the stream has ended, not broken off');
    }));

  test('a client that does not read is not read from any more, and holds a bounded amount', () =>
    onStage(required, async (stage) => {
      const tls = await attach(stage);
      tls.pause();
      const requests = Buffer.concat(
        Array.from({ length: 1000 }, (_, at) => requestBytes({ command: 0, cookie: BigInt(at), length: MIB })),
      );
      tls.write(requests);
      await eventually(
        'it is stalled',
        async () => stage.device.asked.length,
        (asked) => asked > 4,
      );
      let before = -1;
      // As long as it goes on it will not stand still for so long.
      for (let asked = stage.device.asked.length; asked !== before; asked = stage.device.asked.length) {
        before = asked;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      assert(stage.device.asked.length < 200, `${stage.device.asked.length} requests were carried out`);
      tls.resume();
      await eventually(
        'it goes on',
        async () => stage.device.asked.length,
        (asked) => asked === 1000,
      );
      tls.destroy();
    }));
}

if (havePeer('openssl')) withCertificates();
else skipped('tls server: everything with certificates', 'openssl');

test.run();
